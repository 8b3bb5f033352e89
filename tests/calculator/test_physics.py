"""The ASE calculator: exact derivatives, symmetries, any cell."""

import copy

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell
from ase.units import Bohr, Hartree

from equicalc import EquiCalculator
from equicalc.electrostatics import mesh
from tests.calculator.structures import (
    EXACT,
    crystal,
    results,
    slab,
)
from tests.derivatives import (
    DERIVATIVE_TOLERANCE,
    assert_stress_is_a_derivative,
    deformation,
    derivative,
)

# The Coulomb sum is truncated at TIGHT; equal systems in other cells differ by it.
EQUAL_SYSTEMS = 1e-8


# ---- derivatives -----------------------------------------------------------------------------


def test_forces_are_the_derivative_of_the_energy(calculator, structure):
    forces = results(calculator, structure)["forces"]
    numeric = np.zeros_like(forces)
    for atom, axis in np.ndindex(*forces.shape):

        def energy(step, atom=atom, axis=axis):
            moved = structure.copy()
            moved.positions[atom, axis] += step
            return results(calculator, moved)["energy"]

        numeric[atom, axis] = -derivative(energy)
    assert np.abs(forces).max() > 0.1
    assert np.abs(forces - numeric).max() < DERIVATIVE_TOLERANCE


def test_stress_is_the_derivative_of_the_energy(calculator):
    atoms = crystal(charge=0.5)  # the neutralising background takes part
    stress = results(calculator, atoms)["stress"]
    assert_stress_is_a_derivative(stress, lambda x: results(calculator, x)["energy"], atoms)
    assert np.abs(stress).max() > 0.01


def test_stress_is_the_derivative_of_the_energy_where_the_mesh_changes(tiny_model):
    accuracy, step = 1e-5, 1e-5
    calculator = EquiCalculator(tiny_model, kspace="p3m", kspace_accuracy=accuracy)
    start = bulk("KCl", "rocksalt", a=6.0, cubic=True) * 2
    start.rattle(0.2, seed=4)
    spline = mesh.choose_spline(np.ones(len(start)), accuracy)

    def scaled(strain):
        atoms = start.copy()
        atoms.set_cell(start.cell[:] * (1.0 + strain), scale_atoms=True)
        return atoms

    def points(strain):
        return tuple(m.points for m in mesh.blended_meshes(scaled(strain).cell[:], *spline))

    scan = np.linspace(-0.1, 0.1, 161)
    blended = [x for x in scan if len(points(x)) > 1]
    assert len({points(x) for x in blended}) > 2, "the scan must pass changes of the mesh"
    for strain in blended:
        energy = [results(calculator, scaled(strain + k * step))["energy"] for k in (-2, -1, 1, 2)]
        slope = (energy[0] - 8 * energy[1] + 8 * energy[2] - energy[3]) / (12 * step)
        atoms = scaled(strain)
        pull = np.sum(results(calculator, atoms)["stress"][:3]) * atoms.get_volume()
        # The project's bound for runs at constant pressure, eV/angstrom^3.
        assert abs(slope - pull / (1.0 + strain)) / atoms.get_volume() < 1e-7


def test_stress_of_a_slab_is_the_derivative_of_the_energy_in_its_plane(calculator):
    atoms = slab()
    atoms.cell[2] = (1.0, -2.0, 20.0)
    stress = results(calculator, atoms)["stress"]
    normal = np.cross(*atoms.cell[:2])
    normal /= np.linalg.norm(normal)
    in_plane = np.eye(3) - np.outer(normal, normal)
    full = np.array([stress[[0, 5, 4]], stress[[5, 1, 3]], stress[[4, 3, 2]]])
    assert np.abs(full @ normal).max() < EXACT
    for a, b in [(0, 0), (1, 1), (0, 1)]:

        def energy(step, a=a, b=b):
            strain = deformation(a, b, step) - np.eye(3)
            projected = np.eye(3) + in_plane @ strain @ in_plane
            strained = atoms.copy()
            strained.set_cell(atoms.cell[:] @ projected)
            strained.positions = atoms.positions @ projected
            return results(calculator, strained)["energy"]

        expected = (in_plane @ full @ in_plane)[a, b]
        numeric = derivative(energy) / abs(atoms.cell.volume)
        assert abs(numeric - expected) < DERIVATIVE_TOLERANCE
    assert np.abs(stress).max() > 0.001


def test_charges_respond_to_the_neighbours(calculator):
    """Without this the derivatives above would not test the response of the charges."""
    charges = results(calculator, crystal())["charges"]
    assert np.ptp(charges[:4]) > 1e-3


# ---- symmetries ------------------------------------------------------------------------------


@pytest.mark.parametrize("improper", [False, True])
def test_rotations_and_reflections_turn_the_forces_only(calculator, structure, improper):
    matrix = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    matrix *= np.sign(np.linalg.det(matrix)) * (-1 if improper else 1)
    turned = structure.copy()
    turned.positions = structure.positions @ matrix
    turned.cell[:] = structure.cell[:] @ matrix
    before = copy.deepcopy(results(calculator, structure))
    after = results(calculator, turned)
    assert abs(after["energy"] - before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["forces"] - before["forces"] @ matrix).max() < EQUAL_SYSTEMS
    assert np.abs(after["charges"] - before["charges"]).max() < EQUAL_SYSTEMS


def test_translation_and_wrapping_change_nothing(calculator, structure):
    before = copy.deepcopy(results(calculator, structure))
    moved = structure.copy()
    moved.positions += [3.3, -7.1, 20.5]
    if structure.pbc[0]:
        moved.positions[0] += 2 * structure.cell[0] - structure.cell[1]
    after = results(calculator, moved)
    assert abs(after["energy"] - before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["forces"] - before["forces"]).max() < EQUAL_SYSTEMS


def test_permutation_permutes_the_atoms_only(calculator, structure):
    order = np.random.default_rng(5).permutation(len(structure))
    before = copy.deepcopy(results(calculator, structure))
    after = results(calculator, structure[order])
    assert abs(after["energy"] - before["energy"]) < EXACT
    for key in ("energies", "forces", "charges"):
        assert np.abs(after[key] - before[key][order]).max() < EXACT


def test_left_handed_cells_give_the_same(calculator):
    atoms = crystal()
    before = copy.deepcopy(results(calculator, atoms))
    other = atoms.copy()
    other.set_cell(atoms.cell[[1, 0, 2]])
    after = results(calculator, other)
    assert abs(after["energy"] - before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["stress"] - before["stress"]).max() < EQUAL_SYSTEMS


def test_supercells_repeat_the_cell(calculator):
    atoms = crystal()
    before = copy.deepcopy(results(calculator, atoms))
    after = results(calculator, atoms.repeat((2, 1, 1)))
    assert abs(after["energy"] - 2 * before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["forces"] - np.tile(before["forces"], (2, 1))).max() < EQUAL_SYSTEMS
    assert np.abs(after["stress"] - before["stress"]).max() < EQUAL_SYSTEMS


def test_cells_smaller_than_the_cutoff_equal_their_supercell(calculator):
    atoms = bulk("KCl", "rocksalt", a=5.2)  # 3.7 angstrom between an atom and its own image
    atoms.positions[1] += [0.1, 0.3, -0.2]
    small = copy.deepcopy(results(calculator, atoms))
    large = results(calculator, make_supercell(atoms, 3 * np.eye(3)))
    assert np.diff(atoms.cell.lengths()).max() < 1e-9
    assert atoms.cell.lengths()[0] < calculator._info.cutoff
    assert abs(large["energy"] - 27 * small["energy"]) < EQUAL_SYSTEMS
    assert np.abs(large["stress"] - small["stress"]).max() < EQUAL_SYSTEMS
    assert np.abs(large["charges"][:2] - small["charges"]).max() < EQUAL_SYSTEMS


# ---- few atoms, other boundaries -------------------------------------------------------------


def test_lonely_atom_feels_no_force(calculator):
    atoms = Atoms("K", [[1.0, 2.0, 3.0]], info={"charge": 1.0})
    found = results(calculator, atoms)
    assert np.abs(found["forces"]).max() == 0.0
    assert found["charges"].tolist() == [1.0]
    assert np.isfinite(found["energy"])


def test_ions_beyond_the_cutoff_feel_the_coulomb_force(calculator):
    r = 9.0
    atoms = Atoms("KCl", [[0, 0, 0], [0, 0, r]])
    found = results(calculator, atoms)
    q = found["charges"]
    # k_e q^2 / r^2; at 9 sigma the Gaussians are points to exp(-r^2 / 4 sigma^2) = 2e-9.
    assert found["forces"][0, 2] == pytest.approx(-q[0] * q[1] * Hartree * Bohr / r**2, rel=1e-6)
    assert q.sum() == pytest.approx(0.0, abs=EXACT)


def test_metal_slab_of_ase_with_a_cell_of_rank_two_works(calculator):
    atoms = fcc111("Cl", (2, 2, 2), a=5.5)  # no vacuum: the third cell vector is zero
    assert np.isfinite(results(calculator, atoms)["forces"]).all()
