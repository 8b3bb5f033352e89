"""The mesh solver: its error against the exact sum, and its own consistency."""

import math

import numpy as np
import pytest
import torch
import torchpme

from equicalc import _core
from equicalc.electrostatics import COULOMB_CONSTANT, lattice, mesh, solve
from tests.comparing import rms

BULK, SLAB = (True, True, True), (True, True, False)
SIGMA = 1.0
# Sums of a few hundred terms of a few eV in another order.
ROUNDING = 1e-9


def core_mesh(system, points, order, sigma=SIGMA, threads=1):
    """The mesh of the core, and its charges on it [widths, n0, n1, n2]."""
    sigmas = np.broadcast_to(sigma, len(system.charges)).astype(float)
    widths = np.unique(sigmas)
    edge = lattice.wave_range(sigmas, 1e-10)
    core = _core.CoulombMesh(system.cell, points, order, widths, *edge, threads)
    density = np.zeros((len(widths), *points))
    core.spread(system.charges, system.positions, sigmas, density)
    return core, density


def mesh_sum(system, points, order, sigma=SIGMA, threads=1):
    """Result of the core for a mesh of our own choice."""
    core, density = core_mesh(system, points, order, sigma, threads)
    spectrum = np.fft.rfftn(density, axes=(1, 2, 3))
    core.convolve(spectrum)
    return core.gather(np.fft.irfftn(spectrum, s=points, axes=(1, 2, 3), norm="forward"))


@pytest.mark.parametrize("accuracy", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("pbc", [BULK, SLAB], ids=["bulk", "slab"])
@pytest.mark.parametrize("total_charge", [0.0, 1.5])
def test_rms_force_error_is_what_the_accuracy_asks_for(random_system, pbc, total_charge, accuracy):
    system = random_system(60, total_charge, seed=1)
    arguments = system.charges, system.positions, system.cell, pbc, SIGMA
    exact = solve(*arguments, 1e-14, "ewald")
    rough = solve(*arguments, accuracy, "p3m")
    assert rough.method == "p3m"
    # 3 to 7 eV/A were measured.
    bound = 10 * accuracy
    assert rms(rough.forces - exact.forces) < bound
    assert np.sqrt(np.mean((rough.potentials - exact.potentials) ** 2)) < bound
    # Per atom; the error of the energy is mostly that of the self-interaction, which adds up.
    assert abs(rough.energy - exact.energy) / 60 < bound
    assert np.abs(rough.virial - exact.virial).max() / 60 < bound


@pytest.mark.parametrize("accuracy", [1e-2, 1e-4, 1e-6])
def test_waves_are_limited_by_the_mesh_and_not_by_the_accuracy(random_system, accuracy):
    # Leaving out waves costs accuracy and, on a mesh, saves nothing.
    system = random_system(60, seed=13)
    sigmas = np.full(60, SIGMA)
    order, spacing = mesh.choose_spline(sigmas, accuracy)
    all_waves = sum(
        m.weight
        * mesh.mesh_sum(system.charges, system.positions, sigmas, m.cell, m.points, order, 1e-14)[
            "forces"
        ]
        for m in mesh.blended_meshes(system.cell, order, spacing)
    )
    arguments = system.charges, system.positions, system.cell, BULK, SIGMA, accuracy
    # A thousandth of the accuracy is left out, 5 eV/A is the force that it refers to.
    assert rms(solve(*arguments, "p3m").forces - all_waves) < 0.01 * accuracy


@pytest.mark.parametrize("total_charge", [0.0, 1.5])
def test_energy_and_forces_equal_the_mesh_of_torch_pme_in_cubic_cells(random_system, total_charge):
    # In other cells torch-pme divides by the window of an orthogonal mesh and is off by 1e-2 eV/A.
    system = random_system(40, total_charge, seed=11, skew=0.0)
    calculator = torchpme.P3MCalculator(
        torchpme.CoulombPotential(smearing=math.sqrt(2) * SIGMA, prefactor=COULOMB_CONSTANT),
        mesh_spacing=0.4,
        interpolation_nodes=5,
    ).double()
    charges = torch.tensor(system.charges)[:, None]
    positions = torch.tensor(system.positions, requires_grad=True)
    no_pairs = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    potentials = calculator(charges, torch.tensor(system.cell), positions, *no_pairs)
    energy = (charges * potentials).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    result = solve(system.charges, system.positions, system.cell, BULK, SIGMA, 1e-7, "p3m")
    # What five nodes at this spacing reach.
    assert result.energy == pytest.approx(float(energy.detach()), abs=1e-4)
    assert rms(result.forces + gradient.numpy()) < 1e-4


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_accuracy_follows_the_width_of_the_charges(random_system, sigma):
    system = random_system(20, seed=2)
    arguments = system.charges, system.positions, system.cell, BULK, sigma
    exact, rough = solve(*arguments, 1e-14, "ewald"), solve(*arguments, 1e-5, "p3m")
    # Forces go with 1 / sigma^2.
    assert rms(rough.forces - exact.forces) < 1e-4 / sigma**2


@pytest.mark.parametrize("edges", [(30.0, 5.0, 5.0), (2.0, 25.0, 20.0), (1.0, 1.0, 1.0)])
def test_needles_plates_and_tiny_cells_are_as_accurate(edges):
    rng = np.random.default_rng(3)
    cell = np.diag(edges) @ (np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    charges, positions = rng.normal(size=10), rng.random((10, 3)) @ cell
    exact = solve(charges, positions, cell, BULK, SIGMA, 1e-14, "ewald")
    rough = solve(charges, positions, cell, BULK, SIGMA, 1e-6, "p3m")
    # Ten charges closer than sigma to each other pull with up to 30 eV/A.
    assert rms(rough.forces - exact.forces) < 3e-5


@pytest.mark.parametrize("order", sorted(_core.mesh_spacings()))
@pytest.mark.parametrize("total_charge", [0.0, 1.0])
def test_finer_meshes_converge_to_the_exact_sum(random_system, order, total_charge):
    system = random_system(10, total_charge, seed=4)
    exact = solve(system.charges, system.positions, system.cell, BULK, SIGMA, 1e-10, "ewald")
    errors = [rms(mesh_sum(system, [n] * 3, order)["forces"] - exact.forces) for n in (20, 40)]
    # Halving the spacing gains at least 2^(order - 2).
    assert errors[1] < errors[0] / 2 ** (order - 2)


@pytest.mark.parametrize("sigma", [SIGMA, (0.9, 1.2, 0.9, 1.6)], ids=["one", "widths"])
@pytest.mark.parametrize("order", sorted(_core.mesh_spacings()))
def test_forces_potentials_and_virial_are_slopes_of_the_mesh_energy(random_system, order, sigma):
    system, points, step = random_system(4, 0.6, seed=5), [10, 12, 9], 1e-4
    result = mesh_sum(system, points, order, sigma)
    assert 0.5 * system.charges @ result["potentials"] == pytest.approx(
        result["energy"], abs=ROUNDING
    )
    positions, cell, charges = system.positions, system.cell, system.charges

    def slope(change):
        ends = []
        for sign in (1, -1):
            change(sign * step)
            ends.append(mesh_sum(system, points, order, sigma)["energy"])
        system.positions, system.cell, system.charges = positions, cell, charges
        return (ends[0] - ends[1]) / (2 * step)

    for atom, axis in np.ndindex(4, 3):

        def move(x, atom=atom, axis=axis):
            system.positions = positions.copy()
            system.positions[atom, axis] += x

        # step^2 times a third derivative of up to 100 eV/A^3 on the coarse mesh.
        assert -slope(move) == pytest.approx(result["forces"][atom, axis], abs=1e-6)
    for atom in range(4):

        def charge(x, atom=atom):
            system.charges = charges.copy()
            system.charges[atom] += x

        assert slope(charge) == pytest.approx(result["potentials"][atom], abs=1e-7)
    for a, b in np.ndindex(3, 3):

        def strain(x, a=a, b=b):
            deform = np.eye(3)
            deform[a, b] += 0.5 * x
            deform[b, a] += 0.5 * x
            system.positions, system.cell = positions @ deform, cell @ deform

        assert -slope(strain) == pytest.approx(result["virial"][a, b], abs=1e-5)


def test_result_does_not_depend_on_the_number_of_threads(random_system):
    system = random_system(50, 0.5, seed=6)
    sigma = np.where(system.charges > 0, 0.8, 1.1)
    one, three = (mesh_sum(system, [12, 15, 16], 6, sigma, n) for n in (1, 3))
    for name in ("energy", "potentials", "forces", "virial"):
        assert np.array_equal(one[name], three[name]), name


@pytest.mark.parametrize("points", [[7, 8, 9], [10, 12, 15], [5, 6, 16]])
def test_total_charge_on_the_mesh_is_the_total_charge(random_system, points):
    # Odd and even sizes, and meshes on which the splines wrap around.
    system = random_system(6, 0.7, seed=7)
    _, density = core_mesh(system, points, 5)
    assert density.sum() == pytest.approx(0.7, abs=1e-12)


def test_atoms_exactly_on_cell_faces_are_handled(random_system):
    system = random_system(5, seed=8, skew=0.0)
    edge = system.cell[0, 0]
    system.positions = edge * np.array(
        [[0.0, 0, 0], [1.0, 0.5, 0.5], [-1e-17, 0.25, 0.75], [0.5, -1.0, 2.0], [0.75, 0.5, 0.0]]
    )
    exact = solve(system.charges, system.positions, system.cell, BULK, SIGMA, 1e-12, "ewald")
    rough = solve(system.charges, system.positions, system.cell, BULK, SIGMA, 1e-7, "p3m")
    assert rms(rough.forces - exact.forces) < 1e-6


def test_auto_takes_the_mesh_for_large_cells_only(random_system):
    for n, expected in ((8, "ewald"), (1000, "p3m")):
        system = random_system(n, seed=9)
        result = solve(system.charges, system.positions, system.cell, BULK, SIGMA, 1e-6)
        assert result.method == expected


def test_auto_keeps_the_exact_sum_where_the_mesh_cannot_follow(random_system):
    system = random_system(500, seed=10)
    arguments = system.charges, system.positions, system.cell, BULK, SIGMA
    assert solve(*arguments, 1e-9).method == "ewald"
    assert solve(*arguments, 1e-6).method == "p3m"
    assert solve(*arguments, 1e-6, atom_virials=True).method == "ewald"


@pytest.mark.parametrize("pbc", [BULK, SLAB], ids=["bulk", "slab"])
@pytest.mark.parametrize("sigma", [SIGMA, np.resize([0.8, 1.1], 200)], ids=["one", "widths"])
def test_float32_mesh_is_right_to_float32(random_system, pbc, sigma):
    system = random_system(200, 0.5, seed=12)
    arguments = system.charges, system.positions, system.cell, pbc, sigma, 1e-5, "p3m"
    double, single = solve(*arguments), solve(*arguments, single=True)
    # Ten units in the last place of values of some tens of eV.
    assert single.energy == pytest.approx(double.energy, abs=1e-3)
    assert rms(single.forces - double.forces) < 1e-5
    np.testing.assert_allclose(single.potentials, double.potentials, atol=1e-4)
    # Where meshes are blended, the difference of their energies counts up to two hundred times.
    np.testing.assert_allclose(single.virial, double.virial, atol=3e-2)
    assert single.forces.dtype == np.float64


def test_mesh_of_a_repeated_cell_is_not_changed_by_what_came_between(random_system):
    first, second = random_system(20, seed=13), random_system(20, seed=14)
    runs = []
    for system in (first, second, first):
        arguments = system.charges, system.positions, system.cell, BULK, SIGMA, 1e-4, "p3m"
        runs.append(solve(*arguments))
    assert runs[0].energy == runs[2].energy
    assert np.array_equal(runs[0].forces, runs[2].forces)


def test_no_atoms_have_no_energy_on_a_mesh():
    result = solve(np.zeros(0), np.zeros((0, 3)), np.eye(3), BULK, SIGMA, 1e-5, "p3m")
    assert result.energy == 0.0
    assert result.forces.shape == (0, 3)


@pytest.mark.parametrize(
    ("minimum", "expected"), [(1.0, 1), (7.0, 8), (10.1, 12), (121.0, 125), (2.0**12, 4096)]
)
def test_mesh_sizes_have_small_factors(minimum, expected):
    assert mesh.fft_size(minimum) == expected


def test_what_the_mesh_cannot_do_is_refused(random_system):
    system = random_system(4)
    arguments = system.charges, system.positions, system.cell
    with pytest.raises(ValueError, match="'p3m' reaches an accuracy of 1e-08; found 1e-10"):
        solve(*arguments, BULK, SIGMA, 1e-10, "p3m")
    with pytest.raises(ValueError, match="'p3m' gives no virials per atom"):
        solve(*arguments, BULK, SIGMA, 1e-5, "p3m", atom_virials=True)
    with pytest.raises(ValueError, match="'p3m' needs a periodic system"):
        solve(*arguments, (False, False, False), SIGMA, 1e-5, "p3m")
    with pytest.raises(ValueError, match="order of the spline must lie between 3 and 8; found 9"):
        _core.CoulombMesh(system.cell, [16, 16, 16], 9, [1.0], 3.0, 3.2, 1)
    with pytest.raises(ValueError, match="needs as many points in each direction; found 4"):
        _core.CoulombMesh(system.cell, [16, 4, 16], 5, [1.0], 3.0, 3.2, 1)
    core, density = core_mesh(system, [8, 8, 8], 5)
    atoms = system.charges, system.positions
    with pytest.raises(ValueError, match="found 2 different ones, expected 1"):
        core.spread(*atoms, np.array([1.0, 1.0, 2.0, 1.0]), density)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        core.spread(*atoms, np.ones(4), density.astype(np.float32))
    with pytest.raises(ValueError, match="potential must have 512 entries"):
        core.gather(np.zeros(5))
    with pytest.raises(ValueError, match="spectrum must have 320 entries"):
        core.convolve(np.zeros(5, dtype=complex))
