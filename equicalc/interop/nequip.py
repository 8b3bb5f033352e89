"""NequIP networks (Batzner et al., Nat. Commun. 13, 2453 (2022)) as networks of ours.

Checkpoints (``.ckpt``) and packages (``.nequip.zip``), as nequip 0.19 writes them, are read without
that package, see `equicalc.interop.pickled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from ase.data import atomic_numbers
from e3nn.o3 import Irreps

from equicalc.errors import ModelFileError, UnsupportedElementError
from equicalc.interop.imported import Imported
from equicalc.interop.nequip_file import NequipModel, read_nequip
from equicalc.interop.nequip_weights import (
    layer_features,
    load_layer,
    load_messages,
    own_matrices,
    perceptron,
    readout_matrices,
)
from equicalc.interop.sevennet_weights import factor_of, gate_columns, linear_matrices
from equicalc.nn.gated_config import GatedNetworkConfig
from equicalc.nn.gated_network import GatedNetwork, SpeciesLayer
from equicalc.nn.radial_network import ACTIVATIONS

CITATION = (
    "S. Batzner, A. Musaelian, L. Sun, M. Geiger, J. P. Mailoa, M. Kornbluth, N. Molinari, "
    "T. E. Smidt, B. Kozinsky, Nat. Commun. 13, 2453 (2022); imported from a model of nequip"
)


def import_nequip(source: str | Path, elements: Sequence[str] | None = None) -> Imported:
    """Read a checkpoint or package of nequip into a float64 network.

    Parameters
    ----------
    source : str or Path
        Path of a ``.ckpt`` or ``.nequip.zip`` file.
    elements : sequence of str, optional
        Chemical symbols to keep; all of the network's by default.

    Raises
    ------
    ModelFileError
        The file is missing, not of nequip, or of a variant that cannot be imported.
    UnsupportedElementError
        The network does not know one of the elements.
    """
    model = read_nequip(source)
    symbols, species = _species(model, elements)
    features = layer_features(model)
    try:
        network = GatedNetwork(_network_config(model, symbols, features))
    except ValueError as error:
        raise ModelFileError(f"'{source}' cannot be imported: {error}") from None
    with torch.no_grad():
        _load_first(network.first, model, features, species)
        for index, layer in enumerate(network.layers, start=1):
            load_layer(layer, model, features, index, species)
        for parameter, matrix in zip(network.readout.weights, readout_matrices(model), strict=True):
            parameter.copy_(matrix)
        shift, scale = (
            model.of_types(f"per_type_energy_scale_shift.{name}", default)[species]
            for name, default in (("shifts", 0.0), ("scales", 1.0))
        )
        network.set_reference(shift, scale)
        network.prepare()
    return Imported(
        network,
        {
            "origin": f"NequIP model '{Path(source).name}'",
            "level_of_theory": "not stated",
            "licence": "not stated",
            "citation": CITATION,
            "authors": [],
        },
    )


def _species(model: NequipModel, elements: Sequence[str] | None) -> tuple[list[str], list[int]]:
    """Return the symbols that are kept, by atomic number, and their indices in the model."""
    names = model.type_names
    if unknown := [name for name in names if name not in atomic_numbers]:
        raise ModelFileError(
            f"'{model.path}' has the type {unknown[0]!r}; expected chemical symbols for types"
        )
    kept = list(names)
    if elements is not None:
        if unknown := [e for e in elements if e not in names]:
            raise UnsupportedElementError(
                f"'{model.path}' does not know {', '.join(unknown)}; it knows {', '.join(names)}"
            )
        kept = list(dict.fromkeys(elements))
    kept.sort(key=lambda symbol: atomic_numbers[symbol])
    return kept, [names.index(symbol) for symbol in kept]


def _network_config(
    model: NequipModel, symbols: list[str], features: list[Irreps]
) -> GatedNetworkConfig:
    _check_activations(model)
    radial = [
        perceptron(model, f"layer{index}_convnet.conv.edge_mlp")[:-1]
        for index in range(len(features) - 1)
    ]
    hidden = [[matrix.shape[1] for matrix in layer] for layer in radial]
    if any(widths != hidden[0] for widths in hidden):
        raise ModelFileError(
            f"'{model.path}' has radial networks with the hidden widths {hidden}, which equicalc "
            "cannot import; expected the same in each layer"
        )
    readout = readout_matrices(model)
    return GatedNetworkConfig(
        elements=symbols,
        cutoff=model.cutoff,
        l_max=model.l_max,
        parity=True,
        features=[str(irreps) for irreps in features],
        own=["none", *(["species"] * (len(features) - 2))],
        scalars={parity: [name, factor_of(name)] for parity, name in model.scalars.items()},
        gates={parity: [name, factor_of(name)] for parity, name in model.gates.items()},
        cutoff_function="polynomial",
        cutoff_parameter=model.cutoff_order,
        n_bessel=model.weight("bessel_encode.bessel_weights").numel(),
        bessel_prefactor=2.0 / model.cutoff,
        radial_hidden=hidden[0],
        readout_hidden=[matrix.shape[1] for matrix in readout[:-1]],
        readout_activation=(model.readout_activation if len(readout) > 1 else None) or "silu",
        sender_scale=len(set(model.neighbours)) > 1,
        repulsion=model.repulsion,
    )


def _check_activations(model: NequipModel) -> None:
    """Raise for activation functions of gates that are not known."""
    for name in (*model.scalars.values(), *model.gates.values()):
        if name not in ACTIVATIONS:
            raise ModelFileError(
                f"'{model.path}' has the activation function {name!r}, which equicalc cannot "
                f"import; expected one of {', '.join(ACTIVATIONS)}"
            )
    if model.scalars["o"] != "tanh":
        raise ModelFileError(
            f"'{model.path}' has the activation {model.scalars['o']!r} on odd scalars, which "
            "equicalc cannot import; expected 'tanh'"
        )


def _load_first(
    first: SpeciesLayer, model: NequipModel, features: list[Irreps], species: list[int]
) -> None:
    """Embedding and linear layer of the first layer become tables by species."""
    embedding = model.weight("type_embed.embed_module.weight")[species]
    linear = linear_matrices(
        model.weight("layer0_convnet.conv.linear_1.weight"), features[0], features[0]
    )
    first.senders.copy_(embedding @ linear[0, 0] * model.sender_scale()[species].unsqueeze(1))
    load_messages(first.messages, model, features, 0, 1.0)
    first.own.zero_()
    columns = gate_columns(features[1], first.gate.irreps_in)
    if model.has_own(0):
        found = own_matrices(model, features, 0, columns, species)
        start = 0
        for o, (mul, degree, _) in enumerate(first.gate.irreps_in):
            if (0, o) in found:
                rows = torch.einsum("si,sij->sj", embedding, found[0, o])
                first.own[:, start : start + mul] = rows
            start += mul * (2 * degree + 1)
