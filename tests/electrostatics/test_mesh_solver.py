"""The mesh for front ends without Python gives what the mesh of this package gives."""

import numpy as np
import pytest

from equicalc import _core
from equicalc.electrostatics import mesh, solve
from equicalc.electrostatics.constants import COULOMB_CONSTANT
from tests.comparing import SUMS, assert_sums_close, rms

SIGMA, ACCURACY, POINTS, ORDER = 1.0, 1e-5, (12, 15, 16), 6
BULK = (True, True, True)
# The same sums, of some hundred terms of some eV, perhaps in another order.
ROUNDING = 1e-11
# float32 has 7 digits; mesh points of opposite signs are added up.
SINGLE = 3e-6


def expected_of(system, points=POINTS):
    waves = _core.mesh_wave_accuracy(ACCURACY)
    sigmas = np.full(len(system.charges), SIGMA)
    atoms = system.charges, system.positions, sigmas
    return mesh.mesh_sum(*atoms, system.cell, points, ORDER, waves)


@pytest.mark.parametrize("device", [None, "cpu"], ids=["mesh", "operators of devices"])
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("total_charge", [0.0, 1.5])
def test_sum_is_that_of_the_mesh_of_ase(random_system, device, single, total_charge):
    system = random_system(30, total_charge, seed=1)
    solver = _core.MeshSolver(SIGMA, POINTS, ORDER, ACCURACY, single, device)
    found = solver.solve(system.charges, system.positions, system.cell)
    assert_sums_close(found, expected_of(system), SINGLE if single else ROUNDING)


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("points", [(7, 11, 13), (8, 27, 25), (34, 6, 21), (6, 19, 32)])
def test_any_numbers_of_points_are_transformed(random_system, points, single):
    system = random_system(30, seed=9)
    solver = _core.MeshSolver(SIGMA, points, ORDER, ACCURACY, single)
    found = solver.solve(system.charges, system.positions, system.cell)
    assert_sums_close(found, expected_of(system, points), SINGLE if single else ROUNDING)


@pytest.mark.parametrize("device", [None, "cpu"], ids=["mesh", "operators of devices"])
def test_other_cells_and_numbers_of_atoms_may_follow(random_system, device):
    solver = _core.MeshSolver(SIGMA, POINTS, ORDER, ACCURACY, device=device)
    for n, seed, skew in ((30, 1, 0.2), (12, 2, 0.3), (0, 2, 0.3), (45, 3, 0.0), (30, 1, 0.2)):
        system = random_system(n or 1, seed=seed, skew=skew)
        system.charges, system.positions = system.charges[:n], system.positions[:n]
        found = solver.solve(system.charges, system.positions, system.cell)
        assert_sums_close(found, expected_of(system), ROUNDING)


@pytest.mark.parametrize("device", [None, "cpu"], ids=["mesh", "operators of devices"])
def test_some_atoms_feel_what_they_feel_among_all(random_system, device):
    system = random_system(20, 0.5, seed=4)
    solver = _core.MeshSolver(SIGMA, POINTS, ORDER, ACCURACY, device=device)
    atoms = system.charges, system.positions, system.cell
    every, some = solver.solve(*atoms), solver.solve(*atoms, 5, 9)
    assert some["energy"] == every["energy"]
    assert np.array_equal(some["virial"], every["virial"])
    for kind in ("forces", "potentials"):
        assert np.array_equal(some[kind], every[kind][5:9])


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("device", [None, "cpu"], ids=["mesh", "operators of devices"])
@pytest.mark.parametrize("points", [(24, 27, 25), (9, 8, 10)], ids=["fine", "coarse"])
def test_virials_of_atoms_sum_to_the_virial_and_tend_to_the_exact_ones(
    random_system, device, single, points
):
    system = random_system(20, seed=7)
    solver = _core.MeshSolver(SIGMA, points, ORDER, ACCURACY, single, device)
    atoms = system.charges, system.positions, system.cell
    found = solver.solve(*atoms, atom_virials=True)
    shares = found["atom_virials"]
    tolerance = 1e-4 if single else 1e-10  # of some tens of eV
    assert np.abs(shares.sum(axis=0) - found["virial"]).max() < tolerance
    np.testing.assert_allclose(shares, shares.transpose(0, 2, 1), rtol=0, atol=1e-12)
    if points[0] == 24:
        exact = solve(*atoms, BULK, SIGMA, 1e-12, "ewald", atom_virials=True)
        assert np.abs(shares - exact.atom_virials).max() < 1e-3
    some = solver.solve(*atoms, 5, 9, atom_virials=True)
    assert np.array_equal(some["atom_virials"], shares[5:9])
    assert "atom_virials" not in solver.solve(*atoms)


def exact_source_moments(system):
    """sum_i (r_i - r_j) q_i G_ij over charges and images, by derivatives of the sum over waves.

    A factor exp(i p . (r_i - r_j)) on every pair turns the kernel of wave k into that of k + p, and
    the derivative with respect to p is i times the moments. The wave k = 0 has none: it is odd.
    """
    inverse = 2 * np.pi * np.linalg.inv(system.cell)
    n = np.ceil(10.0 / SIGMA * np.linalg.norm(system.cell, axis=1) / (2 * np.pi)).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in n), indexing="ij"), -1)
    waves = grid.reshape(-1, 3)[np.any(grid.reshape(-1, 3) != 0, axis=1)] @ inverse.T
    phases = np.exp(-1j * system.positions @ waves.T)
    sources = system.charges @ phases

    def sums(shift):
        squares = ((waves + shift) ** 2).sum(axis=1)
        kernel = 4 * np.pi * COULOMB_CONSTANT * np.exp(-(SIGMA**2) * squares) / squares
        return phases.conj() @ (kernel * sources) / abs(np.linalg.det(system.cell))

    h = 1e-3
    rows = []
    for e in np.eye(3):
        slope = (8 * (sums(h * e) - sums(-h * e)) - (sums(2 * h * e) - sums(-2 * h * e))) / (12 * h)
        rows.append(-1j * slope)
    moments = np.array(rows).T
    assert np.abs(moments.imag).max() < 1e-8 * np.abs(moments.real).max()
    return moments.real


@pytest.mark.parametrize("device", [None, "cpu"], ids=["mesh", "operators of devices"])
@pytest.mark.parametrize("total_charge", [0.0, 1.5])
def test_source_moments_tend_to_the_exact_ones(random_system, device, total_charge):
    system = random_system(20, total_charge, seed=7)
    atoms = system.charges, system.positions, system.cell
    exact = exact_source_moments(system)
    errors = []
    for points in ((8, 9, 10), (12, 12, 12), (24, 27, 25), (40, 40, 45)):
        solver = _core.MeshSolver(SIGMA, points, 8, 1e-9, device=device)
        found = solver.solve(*atoms, source_moments=True)["source_moments"]
        errors.append(np.abs(found - exact).max() / np.abs(exact).max())
    assert np.all(np.diff(errors) < 0.0)
    assert errors[-1] < 1e-9  # waves left out
    some = solver.solve(*atoms, 5, 9, source_moments=True, atom_virials=True)
    assert np.array_equal(some["source_moments"], found[5:9])
    assert "source_moments" not in solver.solve(*atoms)


def test_source_moments_in_float32_are_those_of_float64(random_system):
    system = random_system(20, seed=7)
    double, single = (
        _core.MeshSolver(SIGMA, POINTS, ORDER, ACCURACY, single).solve(
            system.charges, system.positions, system.cell, source_moments=True
        )["source_moments"]
        for single in (False, True)
    )
    assert np.abs(single - double).max() < SINGLE * np.abs(double).max()


def test_result_does_not_depend_on_the_number_of_threads(random_system):
    system = random_system(40, seed=5)
    one, three = (
        _core.MeshSolver(SIGMA, POINTS, ORDER, ACCURACY, threads=n).solve(
            system.charges, system.positions, system.cell
        )
        for n in (1, 3)
    )
    for kind in SUMS:
        assert np.array_equal(one[kind], three[kind]), kind


@pytest.mark.parametrize("order", sorted(_core.mesh_spacings()))
def test_accuracy_of_a_spacing_is_the_inverse_of_the_spacing_of_an_accuracy(order):
    for accuracy in np.geomspace(1e-2, mesh.ACCURACIES[len(_core.mesh_spacings()[order]) - 1], 7):
        spacing = _core.mesh_spacing(order, accuracy)
        assert _core.mesh_accuracy(order, spacing) == pytest.approx(accuracy, rel=1e-9)
    finest = _core.mesh_spacings()[order][-1]
    finer, coarser = _core.mesh_accuracy(order, 0.8 * finest), _core.mesh_accuracy(order, 2.0)
    assert finer < _core.mesh_accuracy(order, finest)
    assert coarser > 1e-2


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.8])
@pytest.mark.parametrize("volume_per_atom", [10.0, 40.0])
@pytest.mark.parametrize("charge", [0.3, 1.0])
def test_estimate_of_the_force_error_follows_width_density_and_charges(
    random_system, sigma, volume_per_atom, charge
):
    system = random_system(80, seed=6, skew=0.1, volume_per_atom=volume_per_atom)
    charges = charge * np.sign(system.charges)
    atoms = charges, system.positions, system.cell
    exact = solve(*atoms, BULK, sigma, 1e-14, "ewald")
    order, spacing = 6, _core.mesh_spacing(6, 1e-4)
    points = [round(length / (sigma * spacing)) for length in np.linalg.norm(system.cell, axis=1)]
    widest = max(np.linalg.norm(system.cell, axis=1) / points) / sigma
    found = _core.MeshSolver(sigma, points, order, 1e-4).solve(*atoms)
    estimate = _core.mesh_force_error(
        _core.mesh_accuracy(order, widest), charge**2, 1.0 / volume_per_atom, sigma
    )
    # one sample; the estimate takes the widest of three spacings
    assert 0.5 * estimate < rms(found["forces"] - exact.forces) < 1.5 * estimate


def test_impossible_meshes_are_refused(random_system):
    system = random_system(4)
    atoms = system.charges, system.positions, system.cell
    with pytest.raises(ValueError, match="order of the spline must lie between 3 and 8; found 9"):
        _core.MeshSolver(SIGMA, POINTS, 9, ACCURACY).solve(*atoms)
    with pytest.raises(ValueError, match="needs as many points in each direction; found 4"):
        _core.MeshSolver(SIGMA, (4, 16, 16), 6, ACCURACY).solve(*atoms)
