"""Writes models of other codes with random weights; run by the interpreter that has the code.

``python random_peers.py mace FOLDER`` writes ``mace.model``; ``python random_peers.py symmetrix
FOLDER`` writes the same MACE as ``symmetrix.json`` and needs mace-torch beside symmetrix; ``python
random_peers.py nequip FOLDER [cpu|cuda [MODIFIER]]`` writes ``nequip.ckpt`` and, compiled by
AOTInductor, ``nequip.nequip.pt2``, with ``_cuda`` and the name of the modifier, such as
``enable_OpenEquivariance``, behind the first ``nequip``. Speed does not depend on the weights.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ELEMENTS = ["H", "O", "Na", "Cl"]
NUMBERS = [1, 8, 11, 17]
CUTOFF = 5.0  # angstrom
NEIGHBOURS = 26.0
# in names of compiled files
SUFFIXES = {"cpu": "", "cuda": "_cuda"}

CONFIG = f"""
run: [train]
types: {ELEMENTS}
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: random.xyz
  val_file_path: random.xyz
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: ${{types}}
    - _target_: nequip.data.transforms.NeighborListTransform
      r_max: {CUTOFF}
  train_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 1}}
  val_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 1}}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_progress_bar: false
  callbacks:
    - {{_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: ., filename: best}}
training_module:
  _target_: nequip.train.NequIPLightningModule
  loss:
    _target_: nequip.train.EnergyForceLoss
    per_atom_energy: true
    coeffs: {{total_energy: 1.0, forces: 1.0}}
  val_metrics:
    _target_: nequip.train.EnergyForceMetrics
    coeffs: {{per_atom_energy_mae: 1.0, forces_mae: 1.0}}
  optimizer: {{_target_: torch.optim.Adam, lr: 0.001}}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 4
    model_dtype: float32
    type_names: ${{types}}
    r_max: {CUTOFF}
    num_layers: 2
    l_max: 1
    parity: true
    num_features: 64
    radial_mlp_depth: 2
    radial_mlp_width: 64
    avg_num_neighbors: {NEIGHBOURS}
    per_type_energy_shifts: 0.0
    per_type_energy_scales: 1.0
global_options: {{allow_tf32: false}}
"""


def mace(folder: Path) -> None:
    """Write a MACE of 128x0e+128x1o, harmonics to degree 3, products of three."""
    import torch
    from mace import modules
    from mace.modules import interaction_classes  # first: it lets e3nn load its constants

    from e3nn import o3  # isort: skip

    torch.manual_seed(0)
    # as in MACE-MP-0; symmetrix reads no other pair of them
    first = interaction_classes["RealAgnosticInteractionBlock"]
    further = interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=further,
        interaction_cls_first=first,
        num_interactions=2,
        num_elements=len(NUMBERS),
        hidden_irreps=o3.Irreps("128x0e+128x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(NUMBERS)),
        avg_num_neighbors=NEIGHBOURS,
        atomic_numbers=NUMBERS,
        correlation=3,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    torch.save(model, folder / "mace.model")


def symmetrix(folder: Path) -> None:
    """Write the network of `mace` as symmetrix reads it."""
    import torch
    from symmetrix.extract_mace_data import extract_mace_data

    if not (folder / "mace.model").is_file():
        mace(folder)
    torch.set_default_dtype(torch.float64)  # of its tables of radial functions
    content = extract_mace_data(folder / "mace.model", NUMBERS)
    (folder / "symmetrix.json").write_text(json.dumps(content))


def nequip(folder: Path, device: str = "cpu", modifier: str = "") -> None:
    """Write a NequIP of 2 layers, l_max 1, 64 channels: one step of training, then compiled."""
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_random_structure(work / "random.xyz")  # read again when a checkpoint is loaded
        if not (folder / "nequip.ckpt").is_file():
            (work / "config.yaml").write_text(CONFIG)
            train = [tools / "nequip-train", "-cp", str(work), "-cn", "config"]
            subprocess.run(train, cwd=work, check=True)
            shutil.copy(work / "best.ckpt", folder / "nequip.ckpt")
        shutil.copy(folder / "nequip.ckpt", work / "best.ckpt")
        options = ["--mode", "aotinductor", "--device", device, "--target", "ase"]
        options += ["--modifiers", modifier] if modifier else []
        compiler = [tools / "nequip-compile", "best.ckpt", "compiled.nequip.pt2", *options]
        subprocess.run(compiler, cwd=work, check=True)
        suffix = SUFFIXES[device] + (f"_{modifier}" if modifier else "")
        shutil.copy(work / "compiled.nequip.pt2", folder / f"nequip{suffix}.nequip.pt2")


def write_random_structure(path: Path) -> None:
    """Write eight atoms with random forces."""
    import ase.io
    from ase.build import bulk
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.1, seed=0)
    forces = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces, stress=np.zeros(6))
    ase.io.write(path, [atoms])


if __name__ == "__main__":
    makers = {"mace": mace, "symmetrix": symmetrix, "nequip": nequip}
    makers[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
