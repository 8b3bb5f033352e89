"""D3 beside the network: taken out of the training data and added again in ASE."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from equicalc import EquiCalculator
from equicalc.data.structures import from_atoms
from equicalc.dispersion import D3, without_dispersion
from equicalc.errors import ConfigError
from tests.conftest import export_tiny
from tests.derivatives import strained

PBE = {"functional": "pbe", "damping": "bj"}
# Central differences with this step, angstrom; the sums of D3 end sharply at their cutoffs.
STEP = 1e-3
DERIVATIVE = 1e-5
ROUNDING = 1e-10


def crystal():
    atoms = bulk("KCl", "rocksalt", a=6.0, cubic=True)
    atoms.rattle(0.2, seed=1)
    return atoms


@pytest.fixture(scope="module")
def calculators(tmp_path_factory):
    """The same network without and with a correction in its file."""
    folder = tmp_path_factory.mktemp("d3")
    bare = export_tiny(folder / "bare.pt", "fixed")
    corrected = export_tiny(folder / "d3.pt", "fixed", dispersion=PBE)
    return EquiCalculator(bare), EquiCalculator(corrected)


def test_the_calculator_adds_what_the_library_gives(calculators):
    bare, corrected = calculators
    atoms, correction = crystal(), D3(PBE)(crystal())
    assert correction["energy"] < -0.1
    for key in ("energy", "forces", "stress"):
        before, after = (np.asarray(c.get_property(key, atoms)) for c in (bare, corrected))
        assert np.abs(after - before - correction[key]).max() < ROUNDING
    energies = corrected.get_property("energies", atoms)
    assert energies.sum() == pytest.approx(corrected.get_property("energy", atoms), abs=ROUNDING)


def test_forces_with_dispersion_are_the_derivative_of_the_energy(calculators):
    corrected, atoms = calculators[1], crystal()
    forces = corrected.get_property("forces", atoms).copy()
    energies = []
    for sign in (1, -1):
        moved = crystal()
        moved.positions[3, 1] += sign * STEP
        energies.append(corrected.get_property("energy", moved))
    assert -(energies[0] - energies[1]) / (2 * STEP) == pytest.approx(forces[3, 1], abs=DERIVATIVE)


def slab():
    atoms = crystal()
    atoms.center(vacuum=5.0, axis=2)
    atoms.pbc = (True, True, False)
    return atoms


@pytest.mark.parametrize("make", [crystal, slab])
def test_stress_with_dispersion_is_the_derivative_of_the_energy(calculators, make):
    corrected, atoms = calculators[1], make()
    stress = corrected.get_property("stress", atoms).copy()
    for k, (a, b) in ((0, (0, 0)), (1, (1, 1)), (5, (0, 1))):
        energies = []
        for sign in (1, -1):
            moved = strained(make(), a, b, sign * STEP)
            energies.append(corrected.get_property("energy", moved))
        slope = (energies[0] - energies[1]) / (2 * STEP) / atoms.get_volume()
        assert slope == pytest.approx(stress[k], abs=DERIVATIVE)
    assert np.abs(stress[2:5]).max() > 0.0 or make is slab


@pytest.mark.parametrize("height", [0.0, 6.0, 100.0])
def test_dispersion_of_a_slab_does_not_depend_on_its_height(height):
    """Also of one on its side: the open direction is the first here."""
    alone = slab()
    alone.cell[2, 2] = 100.0
    alone.pbc = True  # images are further away than D3 reaches
    expected = D3(PBE)(alone)
    atoms = slab()
    atoms.cell[2, 2] = height
    atoms.positions = np.roll(atoms.positions, 1, axis=1)
    atoms.set_cell(np.roll(np.roll(atoms.cell[:], 1, axis=1), 1, axis=0))
    atoms.pbc = (False, True, True)
    found = D3(PBE)(atoms)
    assert found["energy"] == pytest.approx(expected["energy"], abs=ROUNDING)
    assert np.abs(found["forces"] - np.roll(expected["forces"], 1, axis=1)).max() < ROUNDING


def test_training_sees_the_data_without_the_correction():
    atoms, correction = crystal(), D3(PBE)(crystal())
    atoms.calc = SinglePointCalculator(
        atoms, energy=-1.0, forces=np.ones((8, 3)), stress=np.zeros(6)
    )
    [structure] = without_dispersion(from_atoms([atoms]), PBE)
    assert structure.energy == pytest.approx(-1.0 - correction["energy"], abs=ROUNDING)
    assert np.abs(structure.forces - 1.0 + correction["forces"]).max() < ROUNDING
    assert structure.stress[0, 0] == pytest.approx(-correction["stress"][0], abs=ROUNDING)


def test_nothing_is_taken_out_without_a_correction():
    structures = from_atoms([crystal()])
    assert without_dispersion(structures, None) == structures


def test_stress_per_atom_is_refused(calculators):
    with pytest.raises(PropertyNotImplementedError, match="ask for stress"):
        calculators[1].get_property("stresses", crystal())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"functional": "pbe"}, "needs functional and damping"),
        ({"functional": "pbe", "damping": "none"}, "must be one of bj, zero"),
        ({"functional": "nonsense", "damping": "bj"}, "no parameters"),
    ],
)
def test_unknown_settings_are_named(settings, text):
    with pytest.raises(ConfigError, match=text):
        D3(settings)
