"""Two periodic directions: against closed forms and against explicit vacuum."""

import math

import numpy as np
import pytest
import torch

from equicalc.electrostatics import COULOMB_CONSTANT, coulomb_energy, lattice, solve

BULK = (True, True, True)
# The two sums agree to rounding (energies of some tens of eV) and to the accuracy asked for.
TIGHT, TOLERANCE = 1e-12, 1e-9


@pytest.fixture
def slab():
    """Charges, positions and in-plane vectors of an oblique polar slab in a general orientation."""

    def make(total_charge=0.0, n=8, seed=0, thickness=6.0):
        rng = np.random.default_rng(seed)
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        in_plane = np.array([[5.0, 0.3, 0.0], [-1.7, 4.4, 0.0]]) @ rotation
        heights = np.outer(thickness * rng.random(n), rotation[2])
        positions = rng.random((n, 2)) @ in_plane + heights
        charges = rng.normal(size=n)
        charges += (total_charge - charges.sum()) / n
        return charges, positions, in_plane

    return make


def energies(charges, positions, cell, pbc, sigma=1.0, accuracy=TIGHT):
    """Energy by the torch expression and by the solver."""
    tensors = [torch.tensor(a, dtype=torch.float64) for a in (charges, positions, cell)]
    expression = float(coulomb_energy(*tensors, pbc, sigma, accuracy))
    return expression, solve(charges, positions, cell, pbc, sigma, accuracy).energy


@pytest.mark.parametrize("sigma", [0.7, 1.5])
@pytest.mark.parametrize("total_charge", [0.0, 1.0])
def test_slab_energy_equals_the_closed_two_dimensional_sum(
    slab, slab_reference, total_charge, sigma
):
    charges, positions, in_plane = slab(total_charge)
    expected = slab_reference(charges, positions, in_plane, sigma)
    cell = np.vstack([in_plane, np.zeros(3)])
    for energy in energies(charges, positions, cell, (True, True, False), sigma):
        assert energy == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("total_charge", [0.0, 1.0])
@pytest.mark.parametrize("open_direction", [0, 1, 2])
def test_the_vector_of_the_open_direction_does_not_matter(slab, open_direction, total_charge):
    charges, positions, in_plane = slab(total_charge)
    pbc = [direction != open_direction for direction in range(3)]
    found = []
    for vector in ([0, 0, 0], [30.0, 1, 2], [-3.0, 40, 1]):
        cell = np.insert(in_plane, open_direction, vector, axis=0)
        found.extend(energies(charges, positions, cell, pbc))
    np.testing.assert_allclose(found, found[0], atol=TOLERANCE)


@pytest.mark.parametrize("total_charge", [0.0, 1.0])
def test_more_vacuum_than_the_accuracy_asks_for_changes_nothing(slab, total_charge, monkeypatch):
    charges, positions, in_plane = slab(total_charge)
    cell, pbc = np.vstack([in_plane, np.zeros(3)]), (True, True, False)
    before = energies(charges, positions, cell, pbc, accuracy=1e-8)
    height = lattice.slab_height
    monkeypatch.setattr(lattice, "slab_height", lambda *args: 1.37 * height(*args))
    after = energies(charges, positions, cell, pbc, accuracy=1e-8)
    # 1e-8 of k_e / (sigma sqrt(pi)) = 8 eV for each of eight charges.
    np.testing.assert_allclose(after, before, atol=5e-7)


def test_slab_without_dipole_is_the_limit_of_periodic_slabs_in_vacuum(slab):
    charges, positions, in_plane = slab(thickness=4.0)
    normal = np.cross(*in_plane)
    normal /= np.linalg.norm(normal)
    # The slab and its mirror image have no dipole along the normal together.
    mirrored = positions - 2 * np.outer(positions @ normal, normal)
    positions, charges = np.vstack([positions, mirrored - normal]), np.tile(charges, 2)
    cell = np.vstack([in_plane, 60.0 * normal])
    periodic = energies(charges, positions, cell, BULK, accuracy=1e-10)[0]
    for energy in energies(charges, positions, cell, (True, True, False), accuracy=1e-10):
        assert energy == pytest.approx(periodic, abs=1e-6)


def test_polar_slab_without_the_correction_depends_on_the_vacuum_and_with_it_does_not(slab):
    charges, positions, in_plane = slab()
    normal = np.cross(*in_plane)
    area = np.linalg.norm(normal)
    normal /= area
    dipole = charges @ positions @ normal
    expected = energies(charges, positions, np.vstack([in_plane, normal]), (True, True, False))[0]
    for height in (30.0, 60.0):
        cell = np.vstack([in_plane, height * normal])
        periodic = energies(charges, positions, cell, BULK)[0]
        field = 2 * math.pi * COULOMB_CONSTANT * dipole**2 / (area * height)
        assert field > 0.1
        # What the waves with G != 0 feel across 24 A of vacuum: exp(-1.2 * 24) = 3e-13 of some eV.
        assert periodic + field == pytest.approx(expected, abs=1e-8)


def test_in_plane_supercell_has_the_energy_of_its_cells(slab):
    charges, positions, in_plane = slab(0.5)
    single = energies(charges, positions, np.vstack([in_plane, np.zeros(3)]), (True, True, False))
    copies = np.vstack([positions, positions + in_plane[0]])
    wide = np.vstack([2 * in_plane[0], in_plane[1], np.zeros(3)])
    double = energies(np.tile(charges, 2), copies, wide, (True, True, False))
    # In the docstring of coulomb_energy: a charged slab leaves out a constant that goes with the
    # square of the charge per area only, so that cells add up here as well.
    np.testing.assert_allclose(double, 2 * np.array(single), atol=TOLERANCE)


def test_field_between_charged_sheets_is_that_of_a_capacitor():
    # Two sheets of opposite charge on a square lattice, far apart compared with its spacing.
    edge, gap = 3.0, 30.0
    charges, positions = np.array([1.0, -1.0]), np.array([[0, 0, 0], [0, 0, gap]])
    cell = np.diag([edge, edge, 0.0])
    result = solve(charges, positions, cell, (True, True, False), 0.8, TIGHT)
    pull = 2 * math.pi * COULOMB_CONSTANT / edge**2
    np.testing.assert_allclose(result.forces, [[0, 0, pull], [0, 0, -pull]], atol=TOLERANCE)


def test_single_layer_and_single_atom_slabs_have_an_energy(slab_reference):
    in_plane = np.array([[3.0, 0, 0], [0, 3.0, 0]])
    expected = slab_reference(np.ones(1), np.zeros((1, 3)), in_plane, 1.0)
    cell = np.vstack([in_plane, np.zeros(3)])
    for energy in energies(np.ones(1), np.zeros((1, 3)), cell, (True, True, False)):
        assert energy == pytest.approx(expected, abs=TOLERANCE)
