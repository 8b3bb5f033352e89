"""The self-check of model files, which every calculator repeats when it loads one."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from equicalc import EquiCalculator
from equicalc.calculator_checks import compare_with_stored
from equicalc.deploy import export_network
from equicalc.deploy.self_check import reference_properties
from equicalc.errors import SelfCheckError
from equicalc.models import shipped
from equicalc.nn import EquiNetwork, NetworkConfig

# the same numbers by another code, eV/angstrom
ROUNDING = 1e-10


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_model_reproduces_its_own(name):
    EquiCalculator(name)  # SelfCheckError if not


def test_networks_trained_in_float32_have_the_same_radial_functions_in_every_code(tmp_path):
    """What follows from the settings is not rounded with the weights."""
    torch.manual_seed(3)
    network = EquiNetwork(NetworkConfig(elements=["Na", "Cl"], n_radial=12))
    network.set_statistics({"Na": 0.0, "Cl": 0.0}, 10.0, 5.0, {"Na": 0.7, "Cl": -0.7})
    trained = EquiNetwork(network.config)
    trained.load_state_dict(network.float().state_dict())
    path = export_network(trained, tmp_path / "model.pt")
    atoms = bulk("NaCl", "rocksalt", a=5.2, cubic=True)
    atoms.rattle(0.2, seed=1)
    atoms.calc = EquiCalculator(str(path), kspace="ewald", kspace_accuracy=1e-11)
    forces = atoms.get_forces()
    trained.set_fused(False)
    expected = np.array(reference_properties(trained.double(), atoms)["forces"])
    assert np.abs(expected).max() > 1.0
    assert np.abs(forces - expected).max() < ROUNDING * np.abs(expected).max()


def test_state_dicts_that_hold_bessel_frequencies_are_read():
    network = EquiNetwork(NetworkConfig(elements=["Na", "Cl"]))
    exact = network.first.radial.frequencies.clone()
    state = network.state_dict()
    state["first.radial.frequencies"] = exact.float().double()
    state["first.radial.cutoff"] = torch.tensor(5.0)
    network.load_state_dict(state)
    assert torch.equal(network.first.radial.frequencies, exact)


def test_tables_may_be_as_far_off_as_export_accepts():
    block = {"symbols": ["K"], "energy": -1.0, "forces": [[0.1, 0.0, 0.0]], "stress": None}
    results = {"energy": -1.0, "forces": np.array([[0.1 + 5e-6, 0.0, 0.0]]), "charges": None}
    compare_with_stored("name", results, block, "float64", tabulated=True)
    with pytest.raises(SelfCheckError, match="forces differ by 5"):
        compare_with_stored("name", results, block, "float64")
