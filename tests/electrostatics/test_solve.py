"""The solver for given charges: derivatives, agreement of its backends, sums over atoms, errors."""

import math

import numpy as np
import pytest

from equicalc import _core
from equicalc.electrostatics import COULOMB_CONSTANT, solve
from equicalc.electrostatics.lattice import taper_range
from tests.derivatives import deformation

BULK, SLAB, OPEN = (True, True, True), (True, False, True), (False, False, False)
BOUNDARIES = pytest.mark.parametrize("pbc", [BULK, SLAB, OPEN], ids=["bulk", "slab", "open"])
CHARGED = pytest.mark.parametrize("total_charge", [0.0, 1.2])

SIGMA = 1.0
TIGHT = 1e-12
# Sums of a few hundred terms of a few eV in another order.
ROUNDING = 1e-10
# The truncation at TIGHT, felt by the virial of slabs through their vacuum.
TRUNCATION = 1e-9
# Central differences: rounding 1e-13 / STEP, and STEP^2 times third derivatives of 10 eV/A^3.
STEP, DIFFERENCE = 1e-4, 2e-7


def run(system, pbc, accuracy=TIGHT, **options):
    return solve(system.charges, system.positions, system.cell, pbc, SIGMA, accuracy, **options)


@CHARGED
@BOUNDARIES
@pytest.mark.parametrize("n", [1, 5, 40])
def test_solver_equals_the_differentiable_expression(
    random_system, torch_derivatives, pbc, total_charge, n
):
    system = random_system(n, total_charge, seed=n)
    energy, potentials, forces, virial = torch_derivatives(system, pbc, SIGMA, TIGHT)
    result = run(system, pbc)
    assert result.energy == pytest.approx(energy, abs=TRUNCATION)
    np.testing.assert_allclose(result.potentials, potentials, atol=ROUNDING)
    np.testing.assert_allclose(result.forces, forces, atol=ROUNDING)
    np.testing.assert_allclose(result.virial, virial, atol=TRUNCATION)


@pytest.mark.parametrize("accuracy", [1e-3, 1e-6])
def test_solver_equals_the_expression_at_low_accuracy_too(
    random_system, torch_derivatives, accuracy
):
    system = random_system(11, 0.4, seed=2)
    energy, potentials, forces, virial = torch_derivatives(system, BULK, SIGMA, accuracy)
    result = run(system, BULK, accuracy)
    assert result.energy == pytest.approx(energy, abs=ROUNDING)
    np.testing.assert_allclose(result.potentials, potentials, atol=ROUNDING)
    np.testing.assert_allclose(result.forces, forces, atol=ROUNDING)
    np.testing.assert_allclose(result.virial, virial, atol=ROUNDING)


@CHARGED
@BOUNDARIES
def test_forces_and_potentials_are_the_slopes_of_the_energy(random_system, pbc, total_charge):
    system = random_system(5, total_charge, seed=3)
    result = run(system, pbc)
    for array, expected in (
        (system.positions, -result.forces),
        (system.charges, result.potentials),
    ):
        found = np.zeros_like(expected)
        for index in np.ndindex(array.shape):
            start = array[index]
            ends = []
            for sign in (1, -1):
                array[index] = start + sign * STEP
                ends.append(run(system, pbc).energy)
            array[index] = start
            found[index] = (ends[0] - ends[1]) / (2 * STEP)
        np.testing.assert_allclose(found, expected, atol=DIFFERENCE)


@CHARGED
@BOUNDARIES
def test_virial_is_the_slope_of_the_energy_under_every_strain(random_system, pbc, total_charge):
    system = random_system(5, total_charge, seed=4)
    result = run(system, pbc)
    cell, positions = system.cell, system.positions
    found = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        ends = []
        for sign in (1, -1):
            strain = deformation(a, b, sign * STEP)
            system.cell, system.positions = cell @ strain, positions @ strain
            ends.append(run(system, pbc).energy)
        found[a, b] = -(ends[0] - ends[1]) / (2 * STEP)
    # Second-order error here: STEP^2 times a third derivative of hundreds of eV.
    np.testing.assert_allclose(found, result.virial, atol=5e-6)
    np.testing.assert_allclose(result.virial, result.virial.T, atol=ROUNDING)


@CHARGED
@BOUNDARIES
def test_atom_energies_and_virials_sum_to_the_whole(random_system, pbc, total_charge):
    system = random_system(13, total_charge, seed=5)
    result = run(system, pbc, atom_virials=True)
    assert result.atom_energies.sum() == pytest.approx(result.energy, abs=ROUNDING)
    np.testing.assert_allclose(result.atom_virials.sum(0), result.virial, atol=ROUNDING)
    assert run(system, pbc).atom_virials is None


@CHARGED
def test_atom_virials_of_a_bulk_are_equal_for_equal_atoms(random_system, total_charge):
    system = random_system(3, total_charge, seed=6)
    single = run(system, BULK, atom_virials=True)
    system.positions = np.vstack([system.positions, system.positions + system.cell[1]])
    system.charges = np.tile(system.charges, 2)
    system.cell = np.array([1, 2, 1])[:, None] * system.cell
    double = run(system, BULK, atom_virials=True)
    np.testing.assert_allclose(
        double.atom_virials, np.tile(single.atom_virials, (2, 1, 1)), atol=TRUNCATION
    )


@BOUNDARIES
def test_forces_sum_to_zero(random_system, pbc):
    result = run(random_system(20, 0.5, seed=7), pbc, 1e-5)
    np.testing.assert_allclose(result.forces.sum(0), 0.0, atol=ROUNDING)


def test_result_does_not_depend_on_the_number_of_threads(random_system):
    system = random_system(37, 0.5, seed=8)
    atoms = system.charges, system.positions, np.where(system.charges > 0, 0.8, 1.1)
    for call in (
        lambda n: _core.coulomb_bulk(*atoms, system.cell, *taper_range(1e-6), True, n),
        lambda n: _core.coulomb_open(*atoms, True, n),
    ):
        one, three = call(1), call(3)
        for name, value in one.items():
            assert np.array_equal(value, three[name]), name


def test_atoms_on_top_of_each_other_have_finite_forces():
    close = solve(np.ones(2), np.array([[0.0, 0, 0], [1e-9, 0, 0]]), np.eye(3), OPEN, SIGMA)
    assert close.energy == pytest.approx(COULOMB_CONSTANT / (SIGMA * math.sqrt(math.pi)))
    same = solve(np.ones(2), np.zeros((2, 3)), np.eye(3), OPEN, SIGMA)
    assert np.array_equal(same.forces, np.zeros((2, 3)))
    # The force constant at contact is k_e / (6 sigma^3 sqrt(pi)).
    slope = COULOMB_CONSTANT / (6 * SIGMA**3 * math.sqrt(math.pi))
    assert close.forces[1, 0] == pytest.approx(1e-9 * slope, rel=1e-6)


def test_pair_force_joins_at_the_edge_of_its_series():
    forces = [
        solve(np.ones(2), np.array([[0.0, 0, 0], [x, 0, 0]]), np.eye(3), OPEN, SIGMA).forces[1, 0]
        for x in (1.0 - 1e-9, 1.0 + 1e-9)
    ]
    # The slope of the force times 2e-9 A, about 1 eV/A^2.
    assert forces[0] == pytest.approx(forces[1], abs=1e-8)


def test_empty_structure_has_no_energy():
    for pbc in (BULK, SLAB, OPEN):
        result = solve(np.zeros(0), np.zeros((0, 3)), np.eye(3), pbc, SIGMA, atom_virials=True)
        assert result.energy == 0.0
        assert result.forces.shape == (0, 3)
        assert result.atom_virials.shape == (0, 3, 3)


def test_caller_keeps_its_arrays(random_system):
    system = random_system(4, seed=9)
    before = system.positions.copy(), system.charges.copy(), system.cell.copy()
    for pbc in (BULK, SLAB, OPEN):
        run(system, pbc)
    for array, copy in zip((system.positions, system.charges, system.cell), before, strict=True):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize(
    ("pbc", "method", "used"),
    [(BULK, "auto", "ewald"), (SLAB, "auto", "ewald"), (OPEN, "auto", "direct")],
)
def test_auto_takes_the_solver_of_the_boundary_conditions(random_system, pbc, method, used):
    assert run(random_system(4), pbc, 1e-6, method=method).method == used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "pme"}, "unknown method 'pme'; use one of auto"),
        ({"method": "direct"}, "'direct' sums over the pairs of a cluster"),
        ({"method": "ewald", "pbc": OPEN}, "'ewald' needs a periodic system"),
        ({"charges": np.zeros(3)}, "positions must have the shape"),
        ({"charges": np.zeros((2, 1))}, "charges must have the shape"),
        ({"cell": np.zeros(3)}, "cell must have the shape"),
        ({"positions": np.array([[0, 0, 0], [math.nan, 0, 0]])}, r"NaN.*first at atom 1"),
        ({"charges": np.array([math.inf, 0])}, r"charges hold NaN.*first at atom 0"),
        ({"cell": np.zeros((3, 3))}, "span no volume"),
        ({"cell": np.full((3, 3), math.nan)}, "NaN"),
        ({"pbc": (True, False, False)}, "one periodic direction"),
        ({"pbc": (True, False)}, "three flags"),
        ({"sigma": -1.0}, "sigma must be a positive length"),
        ({"accuracy": 0.0}, "accuracy must lie between"),
    ],
)
def test_impossible_input_is_refused_with_its_reason(change, message):
    arguments = {
        "charges": np.array([1.0, -1.0]),
        "positions": np.array([[0.0, 0, 0], [1, 1, 1]]),
        "cell": 5 * np.eye(3),
        "pbc": BULK,
        "sigma": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        solve(**(arguments | change))


def test_wrong_shapes_are_refused_by_the_core_itself():
    with pytest.raises(ValueError, match=r"positions must have the shape \[2, 3\]"):
        _core.coulomb_open(np.zeros(2), np.zeros((3, 3)), np.ones(2), False, 1)
