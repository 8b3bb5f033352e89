"""Small random SevenNet checkpoints and what the package sevenn says about test structures.

Needs sevenn: ``python tests/reference/make_sevennet.py`` writes ``sevennet_*.pth`` and
``sevennet.json`` beside this file. Numbers are float64, with couplings in float64 too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from e3nn.o3 import wigner_3j

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

COMMON: dict[str, Any] = {
    "version": "0.11.0",
    "chemical_species": ["Cl", "H", "Na", "O", "Si"],
    "cutoff": 4.5,
    "channel": 4,
    "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 6},
    "conv_denominator": 11.0,
    "weight_nn_hidden_neurons": [12, 12],
    "use_modality": False,
}
MODES: dict[str, Any] = {
    "use_modality": True,
    "_modal_map": {"pbe": 0, "r2scan": 1},
    "_number_of_modalities": 2,
}
VARIANTS: dict[str, dict[str, Any]] = {
    # rotations only, irregular multiplicities, as the networks for all elements
    "rotations": {
        "lmax": 2,
        "is_parity": False,
        "num_convolution_layer": 3,
        "irreps_manual": ["10x0e", "10x0e+6x1e+3x2e", "7x0e+5x1e+4x2e", "8x0e"],
        "self_connection_type": "linear",
        "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 3.9},
    },
    # reflections, matrices by species, a readout with hidden layers
    "parity": {
        "lmax": 1,
        "lmax_edge": 2,
        "is_parity": True,
        "num_convolution_layer": 2,
        "self_connection_type": ["nequip", "nequip"],
        "cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6},
        "readout_as_fcn": True,
        "readout_fcn_hidden_neurons": [9],
        "readout_fcn_activation": "ssp",
    },
    "degree_3": {
        "lmax": 3,
        "is_parity": False,
        "num_convolution_layer": 2,
        "irreps_manual": ["4x0e", "4x0e+2x1e+3x2e+2x3e", "6x0e"],
        "self_connection_type": "linear",
        "cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 5},
    },
    # two modes wherever a network can have them; kinds of features as in SevenNet-MF-ompa
    "modes": {
        "lmax": 3,
        "is_parity": True,
        "num_convolution_layer": 3,
        "irreps_manual": [
            "6x0e",
            "6x0e+3x1o+2x2e+2x3o",
            "3x0o+5x0e+3x1o+2x1e+2x2o+2x2e+1x3o+1x3e",
            "6x0e",
        ],
        "self_connection_type": "nequip",
        "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 4.0},
        **MODES,
        "use_modal_node_embedding": True,
        "use_modal_self_inter_intro": True,
        "use_modal_self_inter_outro": True,
        "use_modal_output_block": True,
        "use_modal_wise_shift": True,
    },
    # biases in all linear layers, two modes in some, degrees of nodes lower than those of edges
    "biases": {
        "lmax": 2,
        "lmax_node": 1,
        "is_parity": False,
        "num_convolution_layer": 3,
        "self_connection_type": ["nequip", "linear", "linear"],
        "cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6},
        "use_bias_in_linear": True,
        **MODES,
        "use_modal_self_inter_intro": True,
        "use_modal_wise_scale": True,
    },
}


def main() -> None:
    """Write the checkpoints and the numbers."""
    from structures import structures

    numbers: dict[str, Any] = {}
    for name in VARIANTS:
        file = HERE / f"sevennet_{name}.pth"
        if "--keep" not in sys.argv:
            torch.save(make_checkpoint(name), file)
        model, cutoff = load_double(str(file))
        for modal in VARIANTS[name].get("_modal_map", {None: 0}):
            numbers[name if modal is None else f"{name}:{modal}"] = {
                kind: evaluate(model, cutoff, atoms, modal) for kind, atoms in structures().items()
            }
    (HERE / "sevennet.json").write_text(json.dumps(numbers, indent=0) + "\n")


def make_checkpoint(name: str) -> dict[str, Any]:
    """Build a random network and return it as sevenn stores networks."""
    from ase.data import atomic_numbers
    from sevenn import _const
    from sevenn.model_build import build_E3_equivariant_model

    species = COMMON["chemical_species"]
    rng = np.random.default_rng(3)
    config = {
        **_const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
        **COMMON,
        **VARIANTS[name],
        "_number_of_species": len(species),
        "_type_map": {atomic_numbers[symbol]: i for i, symbol in enumerate(species)},
        "shift": rng.normal(-4.0, 1.0, size=len(species)).tolist(),
        "scale": rng.normal(1.5, 0.2, size=len(species)).tolist(),
    }
    if config["use_modality"]:
        for kind in ("shift", "scale"):
            config.setdefault(f"use_modal_wise_{kind}", False)
            if config[f"use_modal_wise_{kind}"]:
                config[kind] = [config[kind], [1.1 * value for value in config[kind]]]
    torch.manual_seed(1)
    model = build_E3_equivariant_model(dict(config))
    with torch.no_grad():
        # trained frequencies are not multiples of the first
        coefficients = model.edge_embedding.basis_function.coeffs
        coefficients.mul_(1.0 + 0.02 * torch.randn_like(coefficients))
        # nor are trained biases zero
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith(".bias"):
                parameter.copy_(0.5 * torch.randn_like(parameter))
    return {"model_state_dict": model.state_dict(), "config": config, "epoch": 0}


def load_double(source: str) -> tuple[torch.nn.Module, float]:
    """Load a network by name or file and cast it to float64 with exact couplings."""
    from sevenn import util
    from sevenn.nn.node_embedding import OnehotEmbedding

    checkpoint = util.load_checkpoint(source)
    model = checkpoint.build_model().to(torch.float64)
    model.set_is_batch_data(False)
    for name, buffer in model.named_buffers():
        if "_w3j_" in name:
            degrees = [int(part) for part in name.rsplit("_w3j_", 1)[1].split("_")]
            exact = wigner_3j(*degrees, dtype=torch.float64)
            sign = 1.0 if torch.allclose(exact, buffer, atol=1e-5) else -1.0
            buffer.copy_(sign * exact)

    def one_hot(self: Any, data: Any) -> Any:  # the original casts to float32
        indices = data[self.key_x]
        data[self.key_output] = torch.nn.functional.one_hot(indices, self.num_classes).double()
        if self.key_additional_output is not None:
            data[self.key_additional_output] = data[self.key_output]
        if self.key_save is not None:
            data[self.key_save] = indices
        return data

    OnehotEmbedding.forward = one_hot
    return model, checkpoint.config["cutoff"]


def evaluate(model: Any, cutoff: float, atoms: Atoms, modal: str | None = None) -> dict[str, Any]:
    """Return energy (eV), forces (eV/A) and, in crystals, stress (3x3, eV/A^3), of a mode."""
    receivers, senders, vectors = neighbor_list("ijD", atoms, cutoff)
    order = np.argsort(receivers, kind="stable")
    edges = torch.tensor(vectors[order], dtype=torch.float64, requires_grad=True)
    index = torch.tensor(np.stack([receivers[order], senders[order]]))
    data = {
        "atomic_numbers": torch.tensor(atoms.numbers, dtype=torch.int64),
        "edge_vec": edges,
        "edge_index": index,
        "num_atoms": torch.tensor(len(atoms)),
    }
    if modal is not None:
        data["modal_type"] = torch.tensor(model.modal_map[modal])
    data["x"] = model._atomic_numbers_to_onehot(data["atomic_numbers"])
    for name, module in model._modules.items():
        if name != "force_output":
            data = module(data)
    energy = data["inferred_total_energy"]
    (gradient,) = torch.autograd.grad(energy, edges)
    forces = torch.zeros(len(atoms), 3, dtype=torch.float64)
    forces = forces.index_add(0, index[0], gradient).index_add(0, index[1], -gradient)
    result = {"energy": energy.item(), "forces": forces.tolist()}
    if all(atoms.pbc):
        virial = edges.detach().T @ gradient
        result["stress"] = (0.5 * (virial + virial.T) / atoms.cell.volume).tolist()
    return result


if __name__ == "__main__":
    main()
