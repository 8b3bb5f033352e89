"""Small NequIP models and what nequip says about test structures.

Needs nequip: ``python tests/reference/make_nequip.py`` trains for two epochs on random labels and
writes the checkpoints, packages of them without their Python code, and ``nequip.json`` beside this
file. With names of variants only these are made anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
import yaml
from ase.calculators.singlepoint import SinglePointCalculator

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

CONFIG = """
run: [train]
cutoff_radius: 4.5
types: [H, O, Na, Si, Cl]
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  split_dataset: {file_path: random.xyz, train: 6, val: 2, test: 2}
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: ${types}
    - _target_: nequip.data.transforms.NeighborListTransform
      r_max: ${cutoff_radius}
  train_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 1}
  val_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 1}
  stats_manager:
    _target_: nequip.data.CommonDataStatisticsManager
    type_names: ${types}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 2
  logger: false
  enable_progress_bar: false
  callbacks:
    - {_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: ., filename: best}
training_module:
  _target_: nequip.train.EMALightningModule
  loss:
    _target_: nequip.train.EnergyForceLoss
    per_atom_energy: true
    coeffs: {total_energy: 1.0, forces: 1.0}
  val_metrics:
    _target_: nequip.train.EnergyForceMetrics
    coeffs: {per_atom_energy_mae: 1.0, forces_mae: 1.0}
  optimizer: {_target_: torch.optim.Adam, lr: 0.01}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 4
    model_dtype: float64
    type_names: ${types}
    r_max: ${cutoff_radius}
    num_bessels: 6
    bessel_trainable: true
    polynomial_cutoff_p: 6
    num_layers: 3
    l_max: 2
    parity: true
    num_features: [5, 4, 2]
    type_embed_num_features: 6
    radial_mlp_depth: 2
    radial_mlp_width: 8
    readout_mlp_hidden_layers_depth: 1
    readout_mlp_hidden_layers_width: 7
    avg_num_neighbors: ${training_data_stats:per_type_num_neighbors_mean}
    per_type_energy_shifts: ${training_data_stats:per_atom_energy_mean}
    per_type_energy_scales: ${training_data_stats:forces_rms}
    per_type_energy_scales_trainable: true
    pair_potential:
      _target_: nequip.nn.pair_potential.ZBL
      units: metal
      chemical_species: ${types}
global_options: {allow_tf32: false}
"""

# name -> settings of the model that differ from those above; None: without it
VARIANTS: dict[str, dict[str, Any]] = {
    "parity": {},
    # other activation functions in the gates, and a readout of matrices alone
    "linear": {
        "_target_": "nequip.model.FullNequIPGNNModel",
        **dict.fromkeys(["num_layers", "l_max", "parity", "num_features", "pair_potential"]),
        "irreps_edge_sh": "1x0e+1x1o",
        "feature_irreps_hidden": ["3x0e+2x0o+3x1o+2x1e", "4x0e"],
        "radial_mlp_depth": [1, 1],
        "radial_mlp_width": [6, 6],
        "convnet_nonlinearity_scalars": {"e": "ssp", "o": "tanh"},
        "convnet_nonlinearity_gates": {"e": "tanh", "o": "tanh"},
        "readout_mlp_nonlinearity": "null",
        "readout_mlp_hidden_layers_depth": 2,
    },
}


def main() -> None:
    """Write the files and the numbers."""
    numbers_file = HERE / "nequip.json"
    numbers = json.loads(numbers_file.read_text()) if numbers_file.is_file() else {}
    for name in sys.argv[1:] or VARIANTS:
        numbers[name] = make_variant(name)
    numbers_file.write_text(json.dumps(numbers, indent=0) + "\n")


def make_variant(name: str) -> dict[str, Any]:
    """Write the files of one model and return its numbers."""
    config = yaml.safe_load(CONFIG)
    model = config["training_module"]["model"]
    for key, value in VARIANTS[name].items():
        if value is None:
            model.pop(key)
        else:
            model[key] = None if value == "null" else value
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_random_data(work / "random.xyz")
        (work / "config.yaml").write_text(yaml.safe_dump(config))
        run("nequip-train", "-cp", str(work), "-cn", "config", cwd=work)
        run("nequip-package", "build", "best.ckpt", "best.nequip.zip", cwd=work)
        full = torch.load(work / "best.ckpt", weights_only=False)
        kept = {key: full[key] for key in ("state_dict", "hyper_parameters")}
        kept["hyper_parameters"] = {"model": kept["hyper_parameters"]["model"]}
        torch.save(kept, HERE / f"nequip_{name}.ckpt")
        copy_data(work / "best.nequip.zip", HERE / f"nequip_{name}.nequip.zip")
        return evaluate(work / "best.nequip.zip")


def run(command: str, *arguments: str, cwd: Path) -> None:
    """Run a command of nequip, which sits beside this interpreter."""
    subprocess.run([Path(sys.executable).parent / command, *arguments], cwd=cwd, check=True)


def write_random_data(path: Path) -> None:
    """Write the test structures, displaced, with random energies and forces."""
    from structures import structures

    frames = []
    rng = np.random.default_rng(1)
    for atoms in structures().values():
        for _ in range(2):
            frame = atoms.copy()
            frame.info.clear()
            frame.rattle(0.02, rng=rng)
            if not frame.pbc.any():
                frame.set_cell([12.0, 12.0, 12.0])
            frame.pbc = True
            frame.calc = SinglePointCalculator(
                frame,
                energy=-4.0 * len(frame) + rng.normal(),
                forces=rng.normal(size=(len(frame), 3)),
                stress=np.zeros(6),
            )
            frames.append(frame)
    ase.io.write(path, frames)


def copy_data(source: Path, target: Path) -> None:
    """Copy a package without code and example."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            member = item.filename.partition("/")[2]
            if member.startswith(".data/") or member == "model/eager_model.pkl":
                new.writestr(item, old.read(item))


def evaluate(package: Path) -> dict[str, Any]:
    """Return energies (eV), forces (eV/A) and stresses of crystals (3x3, eV/A^3)."""
    from nequip.integrations.ase import NequIPCalculator
    from structures import structures

    calculator = NequIPCalculator._from_saved_model(
        str(package), device="cpu", chemical_species_to_atom_type_map=True
    )
    numbers = {}
    for kind, atoms in structures().items():
        atoms.calc = calculator
        numbers[kind] = {
            "energy": float(atoms.get_potential_energy()),
            "forces": atoms.get_forces().tolist(),
        }
        if all(atoms.pbc):
            numbers[kind]["stress"] = atoms.get_stress(voigt=False).tolist()
    return numbers


if __name__ == "__main__":
    main()
