"""Small random MACE models and what mace-torch says about test structures.

Needs mace-torch: ``python tests/reference/make_mace.py`` writes ``mace_*.model`` and ``mace.json``
beside this file; with names of variants only these are made anew. Models are saved as the package
saves them, without the code that it generates, and one of them in float32; numbers are those of
their weights in float64. The package itself needs ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

NUMBERS = [1, 8, 11, 14, 17]
VARIANTS: dict[str, dict[str, Any]] = {
    # as published, with products of three
    "vectors": {
        "dtype": torch.float32,
        "first": "RealAgnosticInteractionBlock",
        "further": "RealAgnosticResidualInteractionBlock",
        "hidden_irreps": "6x0e+6x1o",
        "max_ell": 2,
        "correlation": 3,
        "num_interactions": 2,
    },
    # as in models for all elements: own features from the first layer on, a repulsive core, heads
    "heads": {
        "first": "RealAgnosticResidualInteractionBlock",
        "further": "RealAgnosticResidualInteractionBlock",
        "hidden_irreps": "4x0e+4x1o+4x2e",
        "max_ell": 3,
        "correlation": 2,
        "num_interactions": 3,
        "pair_repulsion": True,
        "heads": ["one", "two"],
    },
    "density": {
        "first": "RealAgnosticDensityInteractionBlock",
        "further": "RealAgnosticDensityResidualInteractionBlock",
        "hidden_irreps": "7x0e",
        "max_ell": 1,
        "correlation": [3, 1],
        "num_interactions": 2,
        "use_last_readout_only": True,
    },
    # readouts with another activation function, and without any
    "tanh": {
        "first": "RealAgnosticResidualInteractionBlock",
        "further": "RealAgnosticInteractionBlock",
        "hidden_irreps": "3x0e+3x1o",
        "max_ell": 1,
        "correlation": 2,
        "num_interactions": 2,
        "gate": torch.tanh,
        "keep_last_layer_irreps": True,
    },
    "no_gate": {
        "first": "RealAgnosticResidualInteractionBlock",
        "further": "RealAgnosticResidualInteractionBlock",
        "hidden_irreps": "3x0e",
        "max_ell": 1,
        "correlation": 2,
        "num_interactions": 2,
        "gate": None,
        "heads": ["one", "two"],
    },
}


def main() -> None:
    """Write the models and the numbers."""
    from structures import structures

    numbers_file = HERE / "mace.json"
    numbers = json.loads(numbers_file.read_text()) if numbers_file.is_file() else {}
    for name in sys.argv[1:] or VARIANTS:
        settings = VARIANTS[name]
        file = HERE / f"mace_{name}.model"
        model = make_model(**settings)
        for head in settings.get("heads", [None]):
            numbers[name if head is None else f"{name}:{head}"] = {
                kind: evaluate(model, atoms, head) for kind, atoms in structures().items()
            }
        torch.save(without_code(model.to(settings.get("dtype", torch.float64))), file)
    numbers_file.write_text(json.dumps(numbers, indent=0) + "\n")


def make_model(
    first: str,
    further: str,
    hidden_irreps: str,
    dtype: torch.dtype = torch.float64,
    gate: Any = torch.nn.functional.silu,
    **settings: Any,
) -> torch.nn.Module:
    """Build a random network whose weights are exact in its type."""
    from e3nn import o3
    from mace import modules

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(2)
    rng = np.random.default_rng(4)
    n_heads = len(settings.get("heads", ["Default"]))
    energies = rng.normal(-4.0, 1.0, size=(n_heads, len(NUMBERS)))
    model = modules.ScaleShiftMACE(
        r_max=4.5,
        num_bessel=6,
        num_polynomial_cutoff=5,
        interaction_cls=modules.interaction_classes[further],
        interaction_cls_first=modules.interaction_classes[first],
        num_elements=len(NUMBERS),
        hidden_irreps=o3.Irreps(hidden_irreps),
        MLP_irreps=o3.Irreps("5x0e"),
        gate=gate,
        atomic_energies=energies if n_heads > 1 else energies[0],
        avg_num_neighbors=11.0,
        atomic_numbers=NUMBERS,
        radial_MLP=[9, 9],
        atomic_inter_scale=rng.normal(1.5, 0.2, size=n_heads) if n_heads > 1 else 1.3,
        atomic_inter_shift=rng.normal(-0.3, 0.2, size=n_heads) if n_heads > 1 else -0.2,
        **settings,
    )
    with torch.no_grad():
        for parameter in model.products.parameters():
            parameter.mul_(3.0)  # forces of eV/A: products of small numbers are smaller
    return model.to(dtype).to(torch.float64)


def evaluate(model: torch.nn.Module, atoms: Any, head: str | None) -> dict[str, Any]:
    """Return energy (eV), forces (eV/A) and, in crystals, stress (3x3, eV/A^3)."""
    from mace.calculators import MACECalculator

    calculator = MACECalculator(
        models=[model], device="cpu", default_dtype="float64", **({"head": head} if head else {})
    )
    atoms = atoms.copy()
    atoms.calc = calculator
    result = {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces().tolist()}
    if all(atoms.pbc):
        result["stress"] = atoms.get_stress(voigt=False).tolist()
    return result


def without_code(model: torch.nn.Module) -> torch.nn.Module:
    """Drop generated code, which makes files large and which no importer reads."""
    from e3nn.util.codegen import CodeGenMixin

    for module in model.modules():
        for name in ("graph_opt_main", "contractions_weighting", "contractions_features"):
            if name in module._modules:
                delattr(module, name)

    def state(self: Any) -> dict[str, Any]:
        kept = self.__dict__.copy()
        kept["_modules"] = {
            name: child for name, child in self._modules.items() if "compiled" not in name
        }
        kept.pop("__codegen__", None)
        return kept

    CodeGenMixin.__getstate__ = state
    return model


if __name__ == "__main__":
    main()
