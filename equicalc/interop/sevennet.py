"""SevenNet networks (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)) as networks of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from e3nn.o3 import Irreps

from equicalc.errors import ModelFileError, UnsupportedElementError
from equicalc.interop.imported import Imported
from equicalc.interop.sevennet_checkpoint import Checkpoint, read_checkpoint
from equicalc.interop.sevennet_weights import (
    LayerWeights,
    Matrices,
    edge_irreps,
    factor_of,
    feature_irreps,
    layer_weights,
    linear_matrices,
    own_kind,
)
from equicalc.nn.gated_config import GatedNetworkConfig
from equicalc.nn.gated_network import GatedNetwork, OwnLinear, SpeciesLinear
from equicalc.nn.irreps_linear import IrrepsLinear

CITATION = (
    "Y. Park, J. Kim, S. Hwang, S. Han, J. Chem. Theory Comput. 20, 4857 (2024); "
    "imported from a checkpoint of SevenNet"
)
# SHA-256 of the checkpoints that the package sevenn ships, whose data and licence are known
SHIPPED_SHA256 = {
    "7net-0": "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
    "7net-l3i5": "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
}
SHIPPED_LICENCE = "MIT (SevenNet, copyright Yutack Park)"
SHIPPED_THEORY = "PBE and PBE+U (Materials Project, VASP)"


def import_sevennet(source: str | Path, elements: Sequence[str] | None = None) -> Imported:
    """Read a SevenNet checkpoint into a float64 network.

    Parameters
    ----------
    source : str or Path
        A name such as ``7net-0``, whose weights are in the package sevenn, or the path of a
        checkpoint, which needs no package.
    elements : sequence of str, optional
        Chemical symbols to keep; all of the network's by default.

    Raises
    ------
    ModelFileError
        The checkpoint is missing, damaged, or of a variant that cannot be imported.
    UnsupportedElementError
        The network does not know one of the elements.
    """
    checkpoint = read_checkpoint(source)
    symbols, species = _species(checkpoint, elements)
    config = _network_config(checkpoint, symbols)
    network = GatedNetwork(config)
    with torch.no_grad():
        _load_first(network, checkpoint, species)
        x = feature_irreps(checkpoint.config)
        layer: Any
        for index, layer in enumerate(network.layers, start=1):
            found = layer_weights(
                checkpoint, index, x[index], x[index + 1], layer.gate.irreps_in, species
            )
            _load_linear(layer.linear, found.linear)
            _load_messages(layer.messages, found)
            if isinstance(layer.own, OwnLinear):
                _load_linear(layer.own.linear, found.own)
            elif isinstance(layer.own, SpeciesLinear):
                linears: Any = layer.own.linears
                for k, linear in enumerate(linears):
                    _load_linear(linear, {key: value[k] for key, value in found.own.items()})
        _load_readout(network, checkpoint, x[-1])
        _set_scale_and_shift(network, checkpoint, species)
    network.prepare()
    return Imported(network, _about(checkpoint))


def _species(checkpoint: Checkpoint, elements: Sequence[str] | None) -> tuple[list[str], list[int]]:
    """Return the symbols that are kept, by atomic number, and their indices in the checkpoint."""
    known = {int(z): int(index) for z, index in checkpoint.config["_type_map"].items()}
    numbers = sorted(known)
    if elements is not None:
        unknown = [e for e in elements if atomic_numbers.get(e) not in known]
        if unknown:
            raise UnsupportedElementError(
                f"'{checkpoint.name}' does not know {', '.join(unknown)}; it knows "
                f"{', '.join(chemical_symbols[z] for z in numbers)}"
            )
        numbers = sorted({atomic_numbers[e] for e in elements})
    return [chemical_symbols[z] for z in numbers], [known[z] for z in numbers]


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

    try:
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
            n_bessel=checkpoint.weights["edge_embedding.basis_function.coeffs"].numel(),
            bessel_prefactor=2.0 / cutoff,
            radial_hidden=list(config["weight_nn_hidden_neurons"]),
            radial_activation=config["act_radial"],
            readout_hidden=list(config["readout_fcn_hidden_neurons"]) if as_fcn else [],
            readout_activation=config["readout_fcn_activation"] if as_fcn else "silu",
        )
    except ValueError as error:
        raise ModelFileError(f"'{checkpoint.path}' cannot be imported: {error}") from None


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
    weights = checkpoint.weights
    first: Any = network.first
    layers: Any = network.layers
    x = feature_irreps(checkpoint.config)
    n_species = checkpoint.config["_number_of_species"]
    embedding = linear_matrices(
        weights["onehot_to_feature_x.linear.weight"], Irreps(f"{n_species}x0e"), x[0]
    )[0, 0][species]
    found = layer_weights(checkpoint, 0, x[0], x[1], first.gate.irreps_in, species)
    _load_messages(first.messages, found)
    first.senders.copy_(embedding @ found.linear[0, 0])
    first.own.zero_()
    start = 0
    for o, (mul, degree, _) in enumerate(first.gate.irreps_in):
        if (0, o) in found.own:
            matrix = found.own[0, o]
            each = "ni,nij->nj" if matrix.dim() == 3 else "ni,ij->nj"
            first.own[:, start : start + mul] = torch.einsum(each, embedding, matrix)
        start += mul * (2 * degree + 1)
    for radial in [first.messages.radial, *(layer.messages.radial for layer in layers)]:
        radial.frequencies.copy_(weights["edge_embedding.basis_function.coeffs"])


def _load_readout(network: GatedNetwork, checkpoint: Checkpoint, x: Irreps) -> None:
    config, weights = checkpoint.config, checkpoint.weights
    if config["readout_as_fcn"]:
        factor = factor_of(config["readout_fcn_activation"])
        for index, parameter in enumerate(network.readout.weights):
            matrix = weights[f"readout_FCN.fcn.layer{index}.weight"]
            scale = 1.0 / matrix.shape[0] ** 0.5
            parameter.copy_(matrix * (scale * factor if index else scale))
        return
    hidden = Irreps(f"{x.dim // 2}x0e")
    first = linear_matrices(weights["reduce_input_to_hidden.linear.weight"], x, hidden)
    second = linear_matrices(
        weights["reduce_hidden_to_energy.linear.weight"], hidden, Irreps("1x0e")
    )
    network.readout.weights[0].copy_(first[0, 0] @ second[0, 0])


def _set_scale_and_shift(network: GatedNetwork, checkpoint: Checkpoint, species: list[int]) -> None:
    values = []
    for name in ("shift", "scale"):
        stored = checkpoint.weights[f"rescale_atomic_energy.{name}"]
        n_species = checkpoint.config["_number_of_species"]
        values.append(stored.flatten().expand(n_species)[species])
    network.set_reference(*values)


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the metadata say: licence and level of theory are known for shipped weights only."""
    digest = hashlib.sha256(checkpoint.path.read_bytes()).hexdigest()
    shipped = digest in SHIPPED_SHA256.values()
    training: dict[str, Any] = {"checkpoint_sha256": digest}
    if shipped:
        training["data"] = "MPtrj (Materials Project trajectories)"
    version = checkpoint.config["version"]
    theory = SHIPPED_THEORY if shipped else "not stated"
    return {
        "training": training,
        "training_dtype": "float32",
        "origin": f"SevenNet {version} checkpoint '{Path(checkpoint.name).name}'",
        "level_of_theory": theory,
        "licence": SHIPPED_LICENCE if shipped else "not stated",
        "citation": CITATION,
        "authors": ["SevenNet developers"] if shipped else [],
    }
