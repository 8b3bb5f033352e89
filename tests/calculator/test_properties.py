"""The ASE calculator: properties and what they add up to."""

import copy

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from equicalc import EquiCalculator
from tests.calculator.structures import (
    EXACT,
    FLOAT32_FORCES,
    TIGHT,
    crystal,
    molecule,
    results,
    slab,
)


def test_atomic_energies_sum_to_the_energy(calculator, structure):
    found = results(calculator, structure)
    assert found["energies"].sum() == pytest.approx(found["energy"], abs=EXACT)
    assert found["free_energy"] == found["energy"]


def test_atomic_stresses_sum_to_the_stress(calculator):
    atoms = crystal()
    atoms.calc = calculator
    stresses = calculator.get_property("stresses", atoms)
    assert stresses.shape == (8, 6)
    assert np.abs(stresses.sum(axis=0) - atoms.get_stress()).max() < EXACT
    assert np.ptp(stresses, axis=0).min() > 1e-4


def test_mesh_agrees_with_the_exact_sum_and_still_gives_atomic_stresses(calculator, tiny_model):
    accuracy = 1e-6
    mesh = EquiCalculator(tiny_model, kspace="p3m", kspace_accuracy=accuracy)
    atoms = crystal()
    exact = copy.deepcopy(results(calculator, atoms))
    found = results(mesh, atoms)
    # Charges below 1 e and sigma = 1 A: the accuracy is about the error of forces in eV/A.
    assert 0 < np.abs(found["forces"] - exact["forces"]).max() < 10 * accuracy
    assert np.abs(found["stress"] - exact["stress"]).max() < 10 * accuracy
    stresses = mesh.get_property("stresses", atoms)
    assert np.abs(stresses.sum(axis=0) - exact["stress"]).max() < 10 * accuracy


@pytest.mark.parametrize("charge", [0.0, 1.0, -0.5])
def test_charges_sum_to_the_total_charge(calculator, charge):
    atoms = crystal()
    atoms.info["charge"] = charge
    assert results(calculator, atoms)["charges"].sum() == pytest.approx(charge, abs=EXACT)


def test_changing_the_total_charge_changes_the_results(calculator):
    atoms = crystal()
    atoms.calc = calculator
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1.0
    assert abs(atoms.get_potential_energy() - neutral) > 1e-3
    del atoms.info["charge"]
    assert atoms.get_potential_energy() == pytest.approx(neutral, abs=EXACT)


def test_structure_of_the_calculator_is_the_one_that_was_calculated(calculator):
    atoms = crystal()
    atoms.calc = calculator
    atoms.get_potential_energy()
    first = calculator.atoms
    assert first == atoms
    atoms.positions[0] += 0.01
    atoms.set_cell(atoms.cell[:] * 1.01)
    atoms.info["charge"] = 0.5
    atoms.get_potential_energy()
    assert first == crystal()
    assert calculator.atoms is not atoms
    assert calculator.atoms == atoms
    assert calculator.atoms.info == {"charge": 0.5}
    atoms.set_pbc(False)
    atoms.get_potential_energy()
    assert calculator.atoms == atoms


def test_copies_of_a_calculator_do_not_see_its_later_structures(calculator):
    atoms = crystal()
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    other = copy.copy(calculator)
    atoms.positions[0] += 0.1
    moved = atoms.get_potential_energy()
    assert abs(moved - before) > 1e-4
    assert other.get_potential_energy(crystal()) == pytest.approx(before, abs=EXACT)
    assert other.get_potential_energy(atoms) == pytest.approx(moved, abs=EXACT)
    assert calculator.get_potential_energy(crystal()) == pytest.approx(before, abs=EXACT)


def test_results_are_kept_until_something_changes(calculator, monkeypatch):
    atoms = crystal()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    monkeypatch.setattr(calculator, "calculate", None)
    atoms.set_initial_charges(np.ones(8))  # plays no role
    assert atoms.get_potential_energy() == energy
    assert atoms.get_forces().shape == (8, 3)
    assert atoms.get_charges().shape == (8,)
    monkeypatch.undo()


def test_dipole_is_the_first_moment_of_the_charges(calculator):
    atoms = molecule()
    atoms.calc = calculator
    assert np.allclose(atoms.get_dipole_moment(), atoms.get_charges() @ atoms.positions, rtol=0)


@pytest.mark.parametrize("atoms", [crystal(), slab()])
def test_dipole_of_a_periodic_structure_is_refused(calculator, atoms):
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="depends on the choice of the cell"):
        atoms.get_dipole_moment()


@pytest.mark.parametrize(
    ("atoms", "text"), [(molecule(), "three periodic directions"), (slab(), "give it a height")]
)
def test_stress_without_a_volume_is_refused(calculator, atoms, text):
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match=text):
        atoms.get_stress()
    assert np.isfinite(atoms.get_potential_energy())


def test_single_precision_agrees_with_double(calculator, tiny_model, structure):
    single = EquiCalculator(tiny_model, dtype="float32", kspace="auto", kspace_accuracy=TIGHT)
    double = results(calculator, structure)
    found = results(single, structure)
    assert found["forces"].dtype == np.float64
    assert 0 < np.abs(found["forces"] - double["forces"]).max() < FLOAT32_FORCES


@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-6), ("float32", 1e-5)])
def test_default_accuracy_of_the_coulomb_forces_follows_the_precision(tiny_model, dtype, accuracy):
    default = results(EquiCalculator(tiny_model, dtype=dtype, kspace="p3m"), crystal())
    named = EquiCalculator(tiny_model, dtype=dtype, kspace="p3m", kspace_accuracy=accuracy)
    assert np.array_equal(default["forces"], results(named, crystal())["forces"])
    other = EquiCalculator(tiny_model, dtype=dtype, kspace="p3m", kspace_accuracy=0.1 * accuracy)
    assert not np.array_equal(default["forces"], results(other, crystal())["forces"])


def test_model_without_charges_has_short_range_only(tiny_model_without_charges):
    calculator = EquiCalculator(tiny_model_without_charges)
    atoms = Atoms("KCl", [[0, 0, 0], [0, 0, 9.0]])
    found = results(calculator, atoms)
    assert np.abs(found["forces"]).max() == 0.0
    assert found["charges"].tolist() == [0.0, 0.0]
    atoms = crystal()
    atoms.calc = calculator
    stresses = calculator.get_property("stresses", atoms)
    assert np.abs(stresses.sum(axis=0) - atoms.get_stress()).max() < EXACT
