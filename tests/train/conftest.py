"""Small data and small networks for training."""

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from equicalc.data import from_atoms, make_sample
from equicalc.nn import EquiNetwork, NetworkConfig

SMALL = {
    "cutoff": 4.0,
    "channels": 4,
    "l_max": 1,
    "correlation": 2,
    "n_bessel": 4,
    "n_radial": 4,
    "radial_hidden": 8,
    "readout_hidden": 4,
}


def crystal(seed: int, strain: float = 0.02, rattle: float = 0.12):
    """Eight rattled, sheared atoms of KCl with Lennard-Jones labels."""
    rng = np.random.default_rng(seed)
    atoms = bulk("KCl", "rocksalt", a=6.2, cubic=True)
    deformation = np.eye(3) + strain * rng.normal(size=(3, 3))
    atoms.set_cell(atoms.cell @ deformation, scale_atoms=True)
    atoms.positions += rattle * rng.normal(size=(8, 3))
    atoms.calc = LennardJones(sigma=2.7, epsilon=0.3, rc=7.0, smooth=True)
    results = {
        "energy": atoms.get_potential_energy() - 3.0 * len(atoms),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="session")
def frames():
    """Ten labelled structures."""
    return [crystal(seed) for seed in range(10)]


@pytest.fixture
def data_file(tmp_path, frames):
    """The same in a file."""
    path = tmp_path / "data.xyz"
    ase.io.write(path, frames)
    return path


@pytest.fixture
def write_config(tmp_path, data_file, monkeypatch):
    """Return a function that writes a configuration with changes, by dotted name."""
    monkeypatch.chdir(tmp_path)

    def write(name="config", **changes):
        raw = {
            "model": {**SMALL, "initial_charges": {"K": 0.7, "Cl": -0.7}},
            "data": {"train": data_file.name, "validation_fraction": 0.2},
            "loss": {"energy": 1.0, "forces": 1.0, "stress": 0.1},
            "training": {"max_epochs": 4, "batch_size": 3, "learning_rate": 0.01},
            "run": {"progress": False, "plots": False, "threads": 1},
        }
        for dotted, value in changes.items():
            section, key = dotted.split("__")
            raw[section][key] = value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


@pytest.fixture
def small_network():
    """Return a function that makes a small float64 network with statistics."""

    def make(**changes):
        torch.manual_seed(5)
        settings = {**SMALL, "elements": ["K", "Cl"], **changes}
        network = EquiNetwork(NetworkConfig(**settings)).to(torch.float64)
        network.set_statistics({"K": -1.0, "Cl": -2.0}, 0.5, 12.0, {"K": 0.6, "Cl": -0.5})
        return network

    return make


@pytest.fixture
def samples(frames):
    """Three graphs: two crystals and a charged molecule."""
    molecule = frames[2][:3]
    molecule.pbc = False
    molecule.calc = SinglePointCalculator(molecule, energy=-3.0, forces=np.ones((3, 3)))
    molecule.info["charge"] = 1.0
    structures = from_atoms([frames[0], frames[1], molecule])
    return [make_sample(s, ["K", "Cl"], SMALL["cutoff"]) for s in structures]
