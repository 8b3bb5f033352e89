"""SevenNet networks (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)) as networks of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from e3nn.o3 import Irreps

from equicalc.errors import ModelFileError
from equicalc.interop.imported import Imported, kept_elements
from equicalc.interop.sevennet_checkpoint import Checkpoint, read_checkpoint
from equicalc.interop.sevennet_weights import (
    Constants,
    LayerWeights,
    Matrices,
    bessel_frequencies,
    edge_irreps,
    factor_of,
    feature_irreps,
    has_constants,
    layer_weights,
    linear_layer,
    own_kind,
)
from equicalc.nn.gated_config import GatedNetworkConfig
from equicalc.nn.gated_network import GatedNetwork, OwnLinear, SpeciesLinear
from equicalc.nn.irreps_linear import IrrepsLinear

CITATION = (
    "Y. Park, J. Kim, S. Hwang, S. Han, J. Chem. Theory Comput. 20, 4857 (2024); "
    "imported from a checkpoint of SevenNet"
)
MODAL_CITATION = "J. Kim et al., J. Am. Chem. Soc. (2024), doi 10.1021/jacs.4c14455"


@dataclass(frozen=True)
class Shipped:
    """What is known of weights that the package sevenn ships: data, level of theory by mode."""

    data: str
    theory: dict[str | None, str]


_PBE = "PBE and PBE+U (Materials Project, VASP)"
_SINGLE = Shipped("MPtrj (Materials Project trajectories)", {None: _PBE})
# SHA-256 of a checkpoint -> what is known of it
SHIPPED = {
    # 7net-0, 7net-l3i5
    "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36": _SINGLE,
    "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d": _SINGLE,
    # 7net-mf-0
    "81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd": Shipped(
        "PBE(+U) and r2SCAN trajectories of the Materials Project",
        {"PBE": _PBE, "R2SCAN": "r2SCAN (Materials Project, VASP)"},
    ),
}
SHIPPED_LICENCE = "MIT (SevenNet, copyright Yutack Park)"


def import_sevennet(
    source: str | Path, elements: Sequence[str] | None = None, modal: str | None = None
) -> Imported:
    """Read a SevenNet checkpoint into a float64 network.

    Parameters
    ----------
    source : str or Path
        A name such as ``7net-0``, whose weights are in the package sevenn, or the path of a
        checkpoint, which needs no package.
    elements : sequence of str, optional
        Chemical symbols to keep; all of the network's by default.
    modal : str, optional
        Which mode of a network with several, such as ``PBE``. It is a constant input of linear
        layers, and becomes part of their biases.

    Raises
    ------
    ModelFileError
        The checkpoint is missing, damaged, or of a variant that cannot be imported; or it has
        modes and none of them is chosen.
    UnsupportedElementError
        The network does not know one of the elements.
    """
    checkpoint = read_checkpoint(source, modal)
    types = {int(z): int(index) for z, index in checkpoint.config["_type_map"].items()}
    # networks for all elements count a placeholder of number 0 among them
    known = {z: index for z, index in types.items() if z > 0}
    symbols, species = kept_elements(known, elements, checkpoint.name)
    try:
        network = GatedNetwork(_network_config(checkpoint, symbols))
    except ValueError as error:
        raise ModelFileError(f"'{checkpoint.path}' cannot be imported: {error}") from None
    with torch.no_grad():
        _load_first(network, checkpoint, species)
        x = feature_irreps(checkpoint.config)
        layer: Any
        for index, layer in enumerate(network.layers, start=1):
            found = layer_weights(
                checkpoint, index, x[index], x[index + 1], layer.gate.irreps_in, species
            )
            _load_linear(layer.linear, found.linear)
            _load_bias(layer.linear, found.linear_constants)
            _load_messages(layer.messages, found)
            _load_bias(layer.messages.mix, found.mix_constants)
            if isinstance(layer.own, OwnLinear):
                _load_linear(layer.own.linear, found.own)
            elif isinstance(layer.own, SpeciesLinear):
                linears: Any = layer.own.linears
                for k, linear in enumerate(linears):
                    _load_linear(linear, {key: value[k] for key, value in found.own.items()})
        constant = _load_readout(network, checkpoint, x[-1])
        _set_scale_and_shift(network, checkpoint, species, constant)
    network.prepare()
    return Imported(network, _about(checkpoint))


def _network_config(checkpoint: Checkpoint, symbols: list[str]) -> GatedNetworkConfig:
    config = checkpoint.config
    features = feature_irreps(config)
    if any(irreps != irreps.simplify() for irreps in features):
        raise ModelFileError(
            f"'{checkpoint.path}' has features {[str(f) for f in features]}, which equicalc cannot "
            "import; expected each kind of feature once"
        )
    cutoff = float(config["cutoff"])
    is_xplor = config["cutoff_function"]["cutoff_function_name"] == "XPLOR"
    parameter = "cutoff_on" if is_xplor else "poly_cut_p_value"
    n_layers = config["num_convolution_layer"]
    as_fcn = config["readout_as_fcn"]

    def activations(name: str) -> dict[str, list[Any]]:
        return {parity: [a, factor_of(a)] for parity, a in config[name].items()}

    return GatedNetworkConfig(
        elements=symbols,
        cutoff=cutoff,
        l_max=edge_irreps(config).lmax,
        parity=config["is_parity"],
        features=[str(irreps) for irreps in features],
        own=[own_kind(config, layer) for layer in range(n_layers)],
        scalars=activations("act_scalar"),
        gates=activations("act_gate"),
        cutoff_function="xplor" if is_xplor else "polynomial",
        cutoff_parameter=float(config["cutoff_function"].get(parameter, 6.0)),
        n_bessel=bessel_frequencies(checkpoint).numel(),
        bessel_prefactor=2.0 / cutoff,
        radial_hidden=list(config["weight_nn_hidden_neurons"]),
        radial_activation=config["act_radial"],
        readout_hidden=list(config["readout_fcn_hidden_neurons"]) if as_fcn else [],
        readout_activation=config["readout_fcn_activation"] if as_fcn else "silu",
        biases=has_constants(checkpoint),
    )


def _load_linear(linear: IrrepsLinear, matrices: Matrices) -> None:
    """Put matrices (block in, block out) into a linear layer, whose blocks must be the same."""
    parts = [
        matrices[i, o].flatten()
        for i, kind_in in enumerate(linear.irreps_in)
        for o, kind_out in enumerate(linear.irreps_out)
        if kind_in[1:] == kind_out[1:]
    ]
    assert len(parts) == len(matrices)
    linear.weight.copy_(torch.cat(parts))


def _load_bias(linear: IrrepsLinear, constants: Constants) -> None:
    """Put what a layer adds to even scalars into its bias; scalars without it get nothing."""
    if linear.has_bias:
        parts = [
            constants.get(o, torch.zeros(mul))
            for o, (mul, degree, parity) in enumerate(linear.irreps_out)
            if (degree, parity) == (0, 1)
        ]
        linear.bias.copy_(torch.cat(parts))


def _load_messages(messages: Any, found: LayerWeights) -> None:
    """Load radial network and mixing; messages of one kind are one block of rows."""
    for parameter, matrix in zip(messages.radial.weights, found.radial, strict=True):
        parameter.copy_(matrix)
    merged: Matrices = {}
    path = 0
    for block, n_paths in enumerate(messages.convolution.paths_per_block):
        for o in range(len(messages.mix.irreps_out)):
            rows = [found.mix[p, o] for p in range(path, path + n_paths) if (p, o) in found.mix]
            if rows:
                merged[block, o] = torch.cat(rows)
        path += n_paths
    _load_linear(messages.mix, merged)


def _load_first(network: GatedNetwork, checkpoint: Checkpoint, species: list[int]) -> None:
    """Embedding, linear layers and self-connection of the first layer become tables by species."""
    first: Any = network.first
    layers: Any = network.layers
    x = feature_irreps(checkpoint.config)
    n_species = checkpoint.config["_number_of_species"]
    matrices, added = linear_layer(
        checkpoint, "onehot_to_feature_x", Irreps(f"{n_species}x0e"), x[0]
    )
    embedding = matrices[0, 0][species] + added[0]
    found = layer_weights(checkpoint, 0, x[0], x[1], first.gate.irreps_in, species)
    _load_messages(first.messages, found)
    first.senders.copy_(embedding @ found.linear[0, 0] + found.linear_constants[0])
    first.own.zero_()
    start = 0
    for o, (mul, degree, _) in enumerate(first.gate.irreps_in):
        if o in found.mix_constants:
            first.own[:, start : start + mul] = found.mix_constants[o]
        if (0, o) in found.own:
            matrix = found.own[0, o]
            each = "ni,nij->nj" if matrix.dim() == 3 else "ni,ij->nj"
            first.own[:, start : start + mul] += torch.einsum(each, embedding, matrix)
        start += mul * (2 * degree + 1)
    for radial in [first.messages.radial, *(layer.messages.radial for layer in layers)]:
        radial.frequencies.copy_(bessel_frequencies(checkpoint))


def _load_readout(network: GatedNetwork, checkpoint: Checkpoint, x: Irreps) -> float:
    """Load the readout; return what is added to its energy of every atom, before scaling."""
    config, weights = checkpoint.config, checkpoint.weights
    if config["readout_as_fcn"]:
        factor = factor_of(config["readout_fcn_activation"])
        for index, parameter in enumerate(network.readout.weights):
            matrix = weights[f"readout_FCN.fcn.layer{index}.weight"]
            scale = 1.0 / matrix.shape[0] ** 0.5
            parameter.copy_(matrix * (scale * factor if index else scale))
        return 0.0
    hidden = Irreps(f"{x.dim // 2}x0e")
    first, added = linear_layer(checkpoint, "reduce_input_to_hidden", x, hidden)
    second, last = linear_layer(checkpoint, "reduce_hidden_to_energy", hidden, Irreps("1x0e"))
    network.readout.weights[0].copy_(first[0, 0] @ second[0, 0])
    return float(added[0] @ second[0, 0] + last[0])


def _set_scale_and_shift(
    network: GatedNetwork, checkpoint: Checkpoint, species: list[int], constant: float
) -> None:
    """Set energies of elements and scales; `constant` is added to what is scaled."""
    values = []
    for name in ("shift", "scale"):
        stored = checkpoint.weights[f"rescale_atomic_energy.{name}"]
        if stored.dim() == 2:  # by mode and element
            stored = stored[checkpoint.mode]
        n_species = checkpoint.config["_number_of_species"]
        values.append(stored.flatten().expand(n_species)[species])
    shift, scale = values
    network.set_reference(shift + constant * scale, scale)


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the metadata say: licence and level of theory are known for shipped weights only."""
    digest = hashlib.sha256(checkpoint.path.read_bytes()).hexdigest()
    shipped = SHIPPED.get(digest)
    training: dict[str, Any] = {"checkpoint_sha256": digest}
    if shipped:
        training["data"] = shipped.data
    version = checkpoint.config["version"]
    origin = f"SevenNet {version} checkpoint '{Path(checkpoint.name).name}'"
    theory = shipped.theory[checkpoint.modal] if shipped else "not stated"
    citation = CITATION
    if checkpoint.modal is not None:
        training["mode"] = checkpoint.modal
        origin = f"{origin}, mode {checkpoint.modal}"
        citation = f"{CITATION}; {MODAL_CITATION}"
    return {
        "training": training,
        "training_dtype": "float32",
        "origin": origin,
        "level_of_theory": theory,
        "licence": SHIPPED_LICENCE if shipped else "not stated",
        "citation": citation,
        "authors": ["SevenNet developers"] if shipped else [],
    }
