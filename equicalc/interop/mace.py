"""MACE networks (Batatia et al., NeurIPS 35, 11423 (2022)) as networks of ours.

A model file of mace-torch is a pickled module; it is read without that package, see
`equicalc.interop.pickled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from e3nn.o3 import Irreps

from equicalc.errors import ModelFileError
from equicalc.interop.imported import Imported, kept_elements
from equicalc.interop.mace_weights import (
    activation_of,
    contraction_weights,
    linear_matrix,
    load_messages,
    load_species_linear,
    perceptron,
    readout_weights,
    species_matrices,
)
from equicalc.interop.pickled import StandIn, load_pickled
from equicalc.nn.gated_network import SpeciesLinear
from equicalc.nn.mace_config import MaceConfig, MaceLayerConfig
from equicalc.nn.mace_network import MaceBody, MaceNetwork, NeighbourDensity

CITATION = (
    "I. Batatia, D. P. Kovacs, G. N. C. Simm, C. Ortner, G. Csanyi, Advances in Neural Information "
    "Processing Systems 35, 11423 (2022); imported from a model of mace-torch"
)
# class of an interaction -> (mix_by_species, own, density)
INTERACTIONS = {
    "RealAgnosticInteractionBlock": (True, False, False),
    "RealAgnosticResidualInteractionBlock": (False, True, False),
    "RealAgnosticDensityInteractionBlock": (True, False, True),
    "RealAgnosticDensityResidualInteractionBlock": (False, True, True),
}


def import_mace(
    source: str | Path, elements: Sequence[str] | None = None, head: str | None = None
) -> Imported:
    """Read a model file of mace-torch into a float64 network.

    Parameters
    ----------
    source : str or Path
        Path of a ``.model`` file.
    elements : sequence of str, optional
        Chemical symbols to keep; all of the network's by default.
    head : str, optional
        Which head of a network with several; the only one by default.

    Raises
    ------
    ModelFileError
        The file is missing, not of mace-torch, or of a variant that cannot be imported.
    UnsupportedElementError
        The network does not know one of the elements.
    """
    model = load_pickled(source)
    _check_supported(model, source)
    head_index = _head(model, head, source)
    known = {int(z): index for index, z in enumerate(model.get("atomic_numbers").tolist())}
    symbols, species = kept_elements(known, elements, source)
    try:
        network = MaceNetwork(_network_config(model, symbols))
    except ValueError as error:
        raise ModelFileError(f"'{source}' cannot be imported: {error}") from None
    with torch.no_grad():
        _load_layers(network, model, species)
        _load_readouts(network, model, head_index)
        _set_energies(network, model, species, head_index)
        network.prepare()
    return Imported(
        network,
        {
            "origin": f"MACE model '{Path(source).name}'",
            "level_of_theory": "not stated",
            "licence": "not stated",
            "citation": CITATION,
            "authors": [],
        },
    )


def _check_supported(model: Any, source: str | Path) -> None:
    """Raise for files of other origin and for variants of the architecture."""

    def require(holds: bool, found: str, expected: str) -> None:
        if not holds:
            raise ModelFileError(
                f"'{source}' has {found}, which equicalc cannot import; expected {expected}"
            )

    is_module = isinstance(model, StandIn)
    require(
        is_module and model.kind in ("MACE", "ScaleShiftMACE"),
        f"an object of class {model.origin if is_module else type(model).__name__}",
        "a MACE or ScaleShiftMACE, as mace_run_train writes into NAME.model",
    )
    require(not model.get("use_so3", False), "harmonics without parity (use_so3)", "use_so3=False")
    require(not model.has("joint_embedding"), "embeddings of further quantities", "none")
    radial = model.get("radial_embedding")
    basis = radial.get("bessel_fn").kind
    require(basis == "BesselBasis", f"the radial basis {basis}", "BesselBasis")
    require(
        not radial.has("distance_transform"),
        "a distance transform, so that radial functions differ between pairs of elements",
        "distance_transform='None'",
    )
    require(
        radial.get("apply_cutoff", True), "the cutoff outside the radial network", "apply_cutoff"
    )
    for interaction in model.get("interactions").children():
        require(
            interaction.kind in INTERACTIONS,
            f"interactions of class {interaction.kind}",
            f"one of {', '.join(INTERACTIONS)}",
        )
        fused = interaction.get("cueq_config") or interaction.get("oeq_config")
        require(
            fused is None or not fused.get("enabled", False),
            "weights laid out for cuEquivariance or OpenEquivariance",
            "those of e3nn; convert with mace_cueq_to_e3nn",
        )


def _head(model: StandIn, head: str | None, source: str | Path) -> int:
    heads = list(model.get("heads", ["Default"]))
    if head is None and len(heads) == 1:
        return 0
    if head not in heads:
        raise ModelFileError(
            f"'{source}' has the heads {', '.join(heads)}, found head {head}; choose one with "
            "--head"
        )
    return heads.index(head)


def _network_config(model: StandIn, symbols: list[str]) -> MaceConfig:
    interactions = model.get("interactions").children()
    products = model.get("products").children()
    layers = []
    for interaction, product in zip(interactions, products, strict=True):
        mix_by_species, own, density = INTERACTIONS[interaction.kind]
        contraction = product.get("symmetric_contractions.contractions").children()[0]
        layers.append(
            MaceLayerConfig(
                sent=str(interaction.get("linear_up").get("irreps_out")),
                features=str(product.get("linear").get("irreps_out")),
                correlation=int(contraction.get("correlation")),
                mix_by_species=mix_by_species,
                own=own and bool(product.get("use_sc")),
                density=density,
            )
        )
    l_max = model.get("spherical_harmonics").get("irreps_out").lmax
    contracted = Irreps(str(interactions[0].get("irreps_out")))
    if contracted.lmax != l_max or len(contracted) != l_max + 1:
        raise ValueError(f"messages are {contracted}; expected degrees 0 to {l_max}, each once")
    frequencies = model.tensor("radial_embedding.bessel_fn.bessel_weights")
    last = model.get("readouts").children()[-1]
    hidden, activation = [], "silu"
    if last.kind == "NonLinearReadoutBlock":
        heads = len(model.get("heads", ["Default"]))
        function = last.get("non_linearity.acts").children()[0]
        if function is not None:  # without one both matrices are one
            hidden = [last.get("linear_2").get("irreps_in").dim // heads]
            activation, _ = activation_of(function)
    return MaceConfig(
        elements=symbols,
        cutoff=float(model.tensor("r_max")),
        l_max=l_max,
        channels=contracted[0].mul,
        layers=layers,
        cutoff_parameter=float(model.tensor("radial_embedding.cutoff_fn.p")),
        n_bessel=frequencies.numel(),
        bessel_prefactor=float(model.tensor("radial_embedding.bessel_fn.prefactor")),
        radial_hidden=[int(h) for h in interactions[0].get("conv_tp_weights").get("hs")[1:-1]],
        readout_hidden=hidden,
        readout_activation=activation,
        repulsion=_repulsion(model),
    )


def _repulsion(model: StandIn) -> dict[str, Any] | None:
    found = model.get("pair_repulsion_fn")
    if found is None:
        return None
    return {
        # the numbers are constants in the code of mace-torch
        "energy": 14.3996,
        "length": 0.529 * float(found.tensor("a_prefactor")),
        "exponent": float(found.tensor("a_exp")),
        "coefficients": found.tensor("c").tolist(),
        "decays": [3.2, 0.9423, 0.4028, 0.2016],
        "order": float(found.tensor("p")),
    }


def _load_layers(network: MaceNetwork, model: StandIn, species: list[int]) -> None:
    """Load embedding, interactions and products."""
    interactions = model.get("interactions").children()
    products = model.get("products").children()
    frequencies = model.tensor("radial_embedding.bessel_fn.bessel_weights").flatten()
    embedding = linear_matrix(model.get("node_embedding.linear"), 0, 0)[species]
    for index, layer in enumerate([network.first, *network.layers]):
        interaction, product = interactions[index], products[index]
        up = interaction.get("linear_up")
        if index == 0:
            layer.senders.copy_(embedding @ linear_matrix(up, 0, 0))
            if network.config.layers[0].own:
                own = species_matrices(interaction.get("skip_tp"), species)[0, 0]
                layer.own[:, : own.shape[2]] = torch.einsum("si,sij->sj", embedding, own)
        else:
            layer.linear.load_e3nn(up.tensor("weight"))
            if isinstance(layer.own, SpeciesLinear):
                load_species_linear(
                    layer.own, species_matrices(interaction.get("skip_tp"), species)
                )
        _load_body(layer.body, interaction, product, species, frequencies, network.config.l_max)


def _load_body(
    body: MaceBody,
    interaction: StandIn,
    product: StandIn,
    species: list[int],
    frequencies: torch.Tensor,
    l_max: int,
) -> None:
    scale = 1.0
    if isinstance(body.density, NeighbourDensity):
        body.density.radial.frequencies.copy_(frequencies)
        body.density.radial.weights[0].copy_(perceptron(interaction.get("density_fn"))[0])
    else:
        scale = 1.0 / float(torch.as_tensor(interaction.get("avg_num_neighbors")))
    body.messages.radial.frequencies.copy_(frequencies)
    load_messages(body.messages, interaction, l_max, scale)
    if isinstance(body.species_mix, SpeciesLinear):
        load_species_linear(body.species_mix, species_matrices(interaction.get("skip_tp"), species))
    body.contraction.weight.copy_(
        contraction_weights(product.get("symmetric_contractions"), body.contraction, species)
    )
    body.mix.load_e3nn(product.get("linear").tensor("weight"))


def _load_readouts(network: MaceNetwork, model: StandIn, head: int) -> None:
    n_heads = len(model.get("heads", ["Default"]))
    found = [readout_weights(r, head, n_heads) for r in model.get("readouts").children()]
    n_layers = network.config.n_layers
    if len(found) not in (1, n_layers):
        raise ModelFileError(f"found {len(found)} readouts of {n_layers} layers")
    for parameter, matrix in zip(network.last_readout.weights, found[-1], strict=True):
        parameter.copy_(matrix)
    readout: Any
    for index, readout in enumerate(network.readouts):
        # with use_last_readout_only others have no share in the energy
        readout.weights[0].zero_()
        if len(found) == n_layers:
            (matrix,) = found[index]
            readout.weights[0].copy_(matrix)


def _set_energies(network: MaceNetwork, model: StandIn, species: list[int], head: int) -> None:
    def of_head(values: torch.Tensor) -> torch.Tensor:
        values = values.flatten()
        return values[head] if values.numel() > 1 else values[0]

    energies = torch.atleast_2d(model.tensor("atomic_energies_fn.atomic_energies"))
    energies = energies[head if energies.shape[0] > 1 else 0][species]
    scale = torch.ones((), dtype=torch.float64)
    if model.has("scale_shift"):
        scale = of_head(model.tensor("scale_shift.scale"))
        energies = energies + of_head(model.tensor("scale_shift.shift"))
    network.set_reference(energies, scale)
