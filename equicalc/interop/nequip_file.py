"""Reading checkpoints and packages of nequip into one description."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from e3nn.o3 import Irreps

from equicalc.errors import ModelFileError
from equicalc.interop.mace_weights import activation_of
from equicalc.interop.pickled import StandIn, load_package_pickle, load_pickled, tensors_of

BUILDERS = ("NequIPGNNModel", "FullNequIPGNNModel")
# arguments of the builders that change the architecture, and the values that can be imported
FIXED = {
    "convnet_sc": True,
    "learnable_shift": False,
    "convnet_resnet": False,
    "convnet_nonlinearity_type": "gate",
    "per_edge_type_cutoff": None,
    "categorical_graph_field_embed": None,
}
# activation functions of gates by parity, as nequip chooses them where nothing else is said
GATE = {"e": "silu", "o": "tanh"}
# classes of activation functions of perceptrons -> our names; None: there is none
READOUT = {
    "SiLU": "silu",
    "Mish": "mish",
    "GELU": "gelu",
    "ShiftedSoftplus": "ssp",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Identity": None,
}
# the constants of nequip's ZBL term, which are those of LAMMPS; half of each pair on both edges
ZBL = {
    "energy": 14.399645,
    "length": 0.46850,
    "exponent": 0.23,
    "coefficients": [0.02817, 0.28022, 0.50986, 0.18175],
    "decays": [0.20162, 0.40290, 0.94229, 3.19980],
}


@dataclass
class NequipModel:
    """What a file of nequip says about its network.

    Parameters
    ----------
    path : str or Path
    type_names : list of str
    cutoff : float
        Angstrom.
    l_max : int
        Of the harmonics.
    hidden : list of Irreps
        Hidden features asked for in each layer.
    neighbours : list of float
        Average number of neighbours, for all types or for each.
    cutoff_order : float
    scalars, gates : dict of str to str
        Activation functions of even (``e``) and odd (``o``) scalars and gates.
    readout_activation : str or None
    repulsion : dict or None
        Settings of `equicalc.nn.screened_repulsion`.
    weights : dict
        By name in nequip's module.
    """

    path: str | Path
    type_names: list[str]
    cutoff: float
    l_max: int
    hidden: list[Irreps]
    neighbours: list[float]
    cutoff_order: float
    scalars: dict[str, str]
    gates: dict[str, str]
    readout_activation: str | None
    repulsion: dict[str, Any] | None
    weights: dict[str, torch.Tensor] = field(repr=False)

    def has(self, name: str) -> bool:
        """Whether there is a weight of a name."""
        return name in self.weights

    def weight(self, name: str) -> torch.Tensor:
        """Return a weight in float64; an error says which is missing."""
        if name not in self.weights:
            raise ModelFileError(
                f"'{self.path}' has no weights {name!r}; expected those of nequip 0.19"
            )
        return self.weights[name].detach().double()

    def has_own(self, index: int) -> bool:
        """Whether a layer has a self-connection."""
        return self.has(f"layer{index}_convnet.conv.sc.weight")

    def of_types(self, name: str, default: float) -> torch.Tensor:
        """Return one number for each type, from one for each or one for all."""
        n_types = len(self.type_names)
        values = self.weights.get(name, torch.zeros(0)).detach().double().flatten()
        if values.numel() == 0:
            values = torch.tensor([default], dtype=torch.float64)
        return values.expand(n_types) if values.numel() == 1 else values

    def sender_scale(self) -> torch.Tensor:
        """Return the factor of what atoms of each type send."""
        numbers = torch.tensor(self.neighbours, dtype=torch.float64)
        return numbers.rsqrt().expand(len(self.type_names))


def read_nequip(source: str | Path) -> NequipModel:
    """Return the network in a ``.ckpt`` or ``.nequip.zip`` file.

    Raises
    ------
    ModelFileError
        The file is missing, not of nequip, or of a variant that cannot be imported.
    """
    path = Path(source)
    if not path.is_file():
        raise ModelFileError(
            f"no file '{source}'; expected a checkpoint (.ckpt) or package (.nequip.zip) of nequip"
        )
    if str(path).endswith(".nequip.zip"):
        return _from_package(path)
    return _from_checkpoint(path)


def _refuse(path: Path, found: str, expected: str) -> ModelFileError:
    return ModelFileError(
        f"'{path}' has {found}, which equicalc cannot import; expected {expected}"
    )


def _from_checkpoint(path: Path) -> NequipModel:
    content = load_pickled(path)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise _refuse(path, "no weights of a training of nequip", "a .ckpt of nequip-train")
    if "schedulefree_optimizer_state_dict" in content:
        raise _refuse(
            path,
            "weights of a schedule-free optimizer, which are not those that nequip evaluates",
            f"a package: nequip-package build {path} NAME.nequip.zip",
        )
    config = dict(content.get("hyper_parameters", {}).get("model", {}))
    builder = str(config.get("_target_", "")).rpartition(".")[2]
    if builder not in BUILDERS:
        raise _refuse(
            path,
            f"a model from {config.get('_target_')!r}",
            f"one of {', '.join(BUILDERS)}; for others write nequip-package build {path} "
            "NAME.nequip.zip and import that",
        )
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise _refuse(path, f"{name}: {config[name]}", f"{value}")
    names = list(config["type_names"])
    neighbours = config["avg_num_neighbors"]
    readout = config.get("readout_mlp_nonlinearity", "silu")
    if isinstance(neighbours, dict):
        if set(neighbours) != set(names):
            raise _refuse(path, "other types in avg_num_neighbors", "the types of the model")
        neighbours = [neighbours[name] for name in names]
    else:
        neighbours = [neighbours]
    return NequipModel(
        path=path,
        type_names=names,
        cutoff=float(config["r_max"]),
        l_max=_l_max(path, config, builder),
        hidden=_hidden(path, config, builder),
        neighbours=[float(n) for n in neighbours],
        cutoff_order=float(config.get("polynomial_cutoff_p", 6)),
        scalars=dict(config.get("convnet_nonlinearity_scalars", GATE)),
        gates=dict(config.get("convnet_nonlinearity_gates", GATE)),
        readout_activation=None if readout in (None, "None", "null") else str(readout),
        repulsion=_repulsion(path, config),
        weights=_evaluation_weights(path, content["state_dict"], config),
    )


def _l_max(path: Path, config: dict[str, Any], builder: str) -> int:
    if builder == "NequIPGNNModel":
        return int(config.get("l_max", 1))
    harmonics = config["irreps_edge_sh"]
    return harmonics if isinstance(harmonics, int) else _degree(path, harmonics)


def _degree(path: Path, harmonics: Any) -> int:
    """Highest degree of harmonics, which must be those of vectors."""
    found = Irreps(str(harmonics))
    expected = Irreps.spherical_harmonics(found.lmax)
    if found != expected:
        raise _refuse(path, f"the harmonics {found}", f"{expected}")
    return int(found.lmax)


def _hidden(path: Path, config: dict[str, Any], builder: str) -> list[Irreps]:
    """Hidden features of each layer, as the builders of nequip choose them."""
    if builder == "FullNequIPGNNModel":
        return [Irreps(irreps) for irreps in config["feature_irreps_hidden"]]
    l_max, n_layers = int(config.get("l_max", 1)), int(config.get("num_layers", 4))
    widths = config.get("num_features", 32)
    widths = [widths] * (l_max + 1) if isinstance(widths, int) else list(widths)
    if len(widths) != l_max + 1:
        raise _refuse(path, f"num_features {widths}", f"one for each degree up to {l_max}")
    parities = {
        degree: (1, -1) if config.get("parity", True) else ((-1) ** degree,)
        for degree in range(l_max + 1)
    }
    full = Irreps([(widths[k], (k, p)) for k in range(l_max + 1) for p in parities[k]])
    return [full] * (n_layers - 1) + [Irreps(f"{widths[0]}x0e")]


def _repulsion(path: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    term = config.get("pair_potential")
    if term is None:
        return None
    kind = str(term.get("_target_", "")).rpartition(".")[2]
    if kind != "ZBL" or term.get("units") != "metal":
        raise _refuse(path, f"the pair potential {kind} ({term.get('units')})", "ZBL, metal units")
    if list(term["chemical_species"]) != list(config["type_names"]):
        raise _refuse(path, "other species in its pair potential", "the types of the model")
    order = float(term.get("polynomial_cutoff_p", 6.0))
    return {**ZBL, "order": order, "reach": float(config["r_max"])}


def _evaluation_weights(
    path: Path, state: dict[str, Any], config: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Weights of the network that nequip evaluates: averaged over the training where it did so."""
    prefix = "model.sole_model.model.func."
    found = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    if not found:
        raise _refuse(path, "no weights of one model", "a checkpoint with one model")
    averaged = [value for key, value in state.items() if key.startswith("ema.ema_weight_")]
    if not averaged:
        return found
    trained = [name for name in found if _is_trained(name, found[name], config)]
    if [found[name].shape for name in trained] != [value.shape for value in averaged]:
        raise _refuse(
            path,
            f"{len(averaged)} averaged weights that do not fit its {len(trained)} weights",
            f"one for each; try nequip-package build {path} NAME.nequip.zip",
        )
    return {**found, **dict(zip(trained, averaged, strict=True))}


def _is_trained(name: str, value: torch.Tensor, config: dict[str, Any]) -> bool:
    """Whether an entry of a state is a parameter and not a constant."""
    last = name.rpartition(".")[2]
    if last == "bessel_weights":
        return bool(config.get("bessel_trainable", False))
    if last in ("scales", "shifts"):
        return bool(config.get(f"per_type_energy_{last}_trainable", False))
    return (last == "weight" or ".mlp.weights." in name) and value.numel() > 0


def _from_package(path: Path) -> NequipModel:
    try:
        model = load_package_pickle(path, "model/eager_model.pkl")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelFileError(
            f"'{path}' cannot be read ({error}); expected a file of nequip-package"
        ) from error
    network = model.get("sole_model.model.func") if isinstance(model, StandIn) else None
    if network is None:
        raise _refuse(path, "no single model", "a package with one model")
    if network.get("type_embed.do_categorical_graph_field_embed", False):
        raise _refuse(path, "embeddings of further quantities", "none")
    layers = [layer for name, layer in network.get("_modules").items() if "_convnet" in name]
    edges, bessel = network.get("edge_norm"), network.get("bessel_encode")
    if edges.get("_per_edge_type", False):
        raise _refuse(path, "cutoffs for pairs of types", "one cutoff (per_edge_type_cutoff: null)")
    for layer in layers:
        if layer.get("resnet", False) or layer.get("equivariant_nonlin").kind != "Gate":
            raise _refuse(path, "layers with residuals or without gates", "gates")
    norm = layers[0].get("conv.avg_num_neighbors_norm").tensor("norm_const").flatten()
    repulsion = None
    names = [str(name) for name in model.get("sole_model").get("type_names")]
    term = network.get("pair_potential")
    if term is not None:
        if term.kind != "ZBL" or not math.isclose(float(term.tensor("_qqr2exesquare")), 7.1998225):
            raise _refuse(path, f"the pair potential {term.kind}", "ZBL in metal units")
        if term.tensor("atomic_numbers").tolist() != [atomic_numbers.get(n) for n in names]:
            raise _refuse(path, "other species in its pair potential", "the types of the model")
        order = float(term.get("cutoff").get("p"))
        repulsion = {**ZBL, "order": order, "reach": float(edges.get("r_max"))}
    return NequipModel(
        path=path,
        type_names=names,
        cutoff=float(edges.get("r_max")),
        l_max=_degree(path, network.get("spharm").get("irreps_edge_sh")),
        hidden=[Irreps(str(layer.get("feature_irreps_hidden"))) for layer in layers],
        neighbours=norm.pow(-2).tolist(),
        cutoff_order=float(bessel.get("cutoff").get("p")),
        scalars=_gate_activations(layers, "act_scalars"),
        gates=_gate_activations(layers, "act_gates"),
        readout_activation=_readout_activation(path, network),
        repulsion=repulsion,
        weights=tensors_of(network),
    )


def _gate_activations(layers: list[StandIn], which: str) -> dict[str, str]:
    """Activation functions of the scalars or gates of a network by parity."""
    found = dict(GATE)
    for layer in layers:
        activation = layer.get(f"equivariant_nonlin.{which}")
        functions = activation.get("acts").children()
        for (_, ir), function in zip(activation.get("irreps_in"), functions, strict=True):
            name, _ = activation_of(function)
            found["e" if ir.p == 1 else "o"] = name
    return found


def _readout_activation(path: Path, network: StandIn) -> str | None:
    """Activation function between the layers of the readout; None without one."""
    hidden = network.get("per_atom_energy_readout.mlp_module.mlp").children()[1::2]
    kinds = {function.kind for function in hidden if isinstance(function, StandIn)}
    unknown = kinds - {*READOUT, "ScalarLinearLayer"}
    if unknown:
        raise _refuse(path, f"the readout activation {unknown.pop()}", f"{', '.join(READOUT)}")
    return READOUT.get(kinds.pop()) if kinds else None
