"""Relaxation with a cheap calculator whose answers are known."""

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.emt import EMT

from equicalc.errors import ConfigError, DataError, ExplosionError
from equicalc.relaxation import relax
from tests.copper import EMT_COPPER, Exploding, copper

LATTICE_TOLERANCE = 5e-3  # angstrom, of EMT_COPPER


def test_cell_relaxation_finds_the_lattice_constant():
    result = relax(copper(1, strain=0.03), cell=True, fmax=1e-3)
    assert result.converged
    assert result.max_stress < 1e-3
    assert result.atoms.cell.lengths() == pytest.approx([EMT_COPPER] * 3, abs=LATTICE_TOLERANCE)


def test_pressure_is_balanced_by_the_stress_of_the_relaxed_cell():
    result = relax(copper(1), cell=True, hydrostatic=True, pressure_gpa=5.0, fmax=1e-3)
    stress = result.atoms.get_stress(voigt=False)
    assert np.trace(stress) / 3 / units.GPa == pytest.approx(-5.0, abs=0.05)


def test_relaxation_leaves_the_argument_alone_and_lowers_the_energy():
    atoms = copper()
    atoms.rattle(0.1, seed=3)
    before = atoms.positions.copy()
    result = relax(atoms, fmax=0.01)
    assert np.array_equal(atoms.positions, before)
    assert result.energy < atoms.get_potential_energy()
    assert result.fmax <= 0.01
    assert result.max_stress is None


def test_step_limit_is_reported_as_not_converged():
    atoms = copper()
    atoms.rattle(0.1, seed=3)
    result = relax(atoms, steps=1, fmax=1e-6)
    assert not result.converged
    assert result.steps == 1


def test_unknown_optimizer_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'newton'.*lbfgs, fire, bfgs"):
        relax(copper(1), optimizer="newton")


def test_cell_relaxation_of_a_molecule_is_refused():
    atoms = molecule("H2O")
    atoms.calc = EMT()
    with pytest.raises(ConfigError, match="three periodic directions"):
        relax(atoms, cell=True)


def test_structure_without_calculator_is_refused():
    atoms = copper(1)
    atoms.calc = None
    with pytest.raises(DataError, match="no calculator"):
        relax(atoms)


def test_forces_that_are_not_finite_stop_a_relaxation():
    atoms = copper(1)
    atoms.calc = Exploding()
    with pytest.raises(ExplosionError, match="not finite"):
        relax(atoms)
