"""Gaussians of different width: every solver against independent sums, derivatives, refusals."""

import math

import numpy as np
import pytest
import torch

from equicalc.electrostatics import COULOMB_CONSTANT, coulomb_energies, coulomb_energy, mesh, solve

BULK, SLAB, OPEN = (True, True, True), (True, True, False), (False, False, False)
BOUNDARIES = pytest.mark.parametrize("pbc", [BULK, SLAB, OPEN], ids=["bulk", "slab", "open"])
CHARGED = pytest.mark.parametrize("total_charge", [0.0, 1.3])

TIGHT = 1e-12
# Two sums of a few hundred terms of a few eV, in another order; and what TIGHT leaves.
ROUNDING, TRUNCATION = 1e-10, 1e-9
# The mesh at its best accuracy, 1e-8 of some eV for each atom.
MESH_ACCURACY, MESH_TOLERANCE = 1e-8, 2e-6
LEVELS = (0.7, 1.0, 1.4)


@pytest.fixture
def system(random_system):
    """Nine charges of three widths; `system(total_charge)` gives them with their widths [9]."""

    def make(total_charge=0.0, n=9, seed=1):
        atoms = random_system(n, total_charge, seed=seed, skew=0.15)
        return atoms, np.resize(LEVELS, n)

    return make


def expression(atoms, pbc, sigma, accuracy=TIGHT):
    tensors = [torch.tensor(a) for a in (atoms.charges, atoms.positions, atoms.cell)]
    return float(
        coulomb_energy(*tensors, pbc, torch.as_tensor(sigma, dtype=torch.float64), accuracy)
    )


def run(atoms, pbc, sigma, accuracy=TIGHT, **options):
    return solve(atoms.charges, atoms.positions, atoms.cell, pbc, sigma, accuracy, **options)


@CHARGED
def test_bulk_energy_is_that_of_points_minus_the_pairs_that_overlap(
    system, point_charge_reference, total_charge
):
    atoms, sigma = system(total_charge)
    expected = point_charge_reference(atoms, sigma)
    assert expression(atoms, BULK, sigma) == pytest.approx(expected, abs=ROUNDING)
    assert run(atoms, BULK, sigma).energy == pytest.approx(expected, abs=ROUNDING)
    rough = run(atoms, BULK, sigma, MESH_ACCURACY, method="p3m")
    assert rough.energy == pytest.approx(expected, abs=MESH_TOLERANCE)


def test_bulk_energy_is_the_limit_of_direct_sums_over_larger_cubes(
    random_system, cluster_reference
):
    atoms, sigma = random_system(4, seed=2, skew=0.0), np.array([0.6, 0.8, 1.1, 0.6])
    edge, dipole = atoms.cell[0, 0], atoms.charges @ atoms.positions
    # The surface charge of the cube in vacuum, and a background which only charges would feel.
    surface = 2 * math.pi * COULOMB_CONSTANT / (3 * edge**3) * (dipole @ dipole)
    coarse, fine = (cluster_reference(atoms, sigma, m) - surface for m in (6, 12))
    limit = fine + (fine - coarse) / ((25 / 13) ** 2 - 1)
    # What is left falls with the fourth power of the size, 25 cells.
    assert expression(atoms, BULK, sigma) == pytest.approx(limit, abs=2e-4)


@CHARGED
def test_slab_energy_equals_the_closed_two_dimensional_sum(system, slab_reference, total_charge):
    atoms, sigma = system(total_charge)
    expected = slab_reference(atoms.charges, atoms.positions, atoms.cell[:2], sigma)
    assert expression(atoms, SLAB, sigma) == pytest.approx(expected, abs=TRUNCATION)
    assert run(atoms, SLAB, sigma).energy == pytest.approx(expected, abs=TRUNCATION)
    rough = run(atoms, SLAB, sigma, MESH_ACCURACY, method="p3m")
    assert rough.energy == pytest.approx(expected, abs=MESH_TOLERANCE)


@CHARGED
def test_open_energy_is_the_sum_over_pairs(system, cluster_reference, total_charge):
    atoms, sigma = system(total_charge)
    expected = cluster_reference(atoms, sigma, 0)
    assert expression(atoms, OPEN, sigma) == pytest.approx(expected, abs=ROUNDING)
    assert run(atoms, OPEN, sigma).energy == pytest.approx(expected, abs=ROUNDING)


@BOUNDARIES
def test_equal_widths_of_all_atoms_are_the_same_as_one_number(system, pbc):
    atoms, _ = system(0.7)
    one, many = run(atoms, pbc, 0.9), run(atoms, pbc, np.full(9, 0.9))
    for name in ("energy", "potentials", "forces", "virial"):
        assert np.array_equal(getattr(one, name), getattr(many, name)), name
    assert expression(atoms, pbc, np.full(9, 0.9)) == expression(atoms, pbc, 0.9)


@BOUNDARIES
@CHARGED
def test_first_and_second_derivatives_are_those_of_finite_differences(
    random_system, pbc, total_charge
):
    atoms = random_system(3, total_charge, seed=5)
    # Two equal widths, which the differences make different.
    inputs = [
        torch.tensor(a, requires_grad=True)
        for a in (atoms.charges, atoms.positions, atoms.cell, np.array([0.8, 1.1, 0.8]))
    ]
    function = lambda q, r, c, s: coulomb_energy(q, r, c, pbc, s, 1e-10)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@BOUNDARIES
def test_one_learned_width_has_the_slope_of_all_widths_together(system, pbc):
    atoms, _ = system(0.4)
    tensors = [torch.tensor(a) for a in (atoms.charges, atoms.positions, atoms.cell)]
    one = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    many = torch.full((9,), 0.9, dtype=torch.float64, requires_grad=True)
    slopes = [
        torch.autograd.grad(coulomb_energy(*tensors, pbc, s, 1e-10), s)[0].sum()
        for s in (one, many)
    ]
    assert float(slopes[0]) == pytest.approx(float(slopes[1]), abs=ROUNDING)


@BOUNDARIES
@CHARGED
def test_solver_equals_the_differentiable_expression(system, torch_derivatives, pbc, total_charge):
    atoms, sigma = system(total_charge, n=20)
    energy, potentials, forces, virial = torch_derivatives(atoms, pbc, sigma, TIGHT)
    result = run(atoms, pbc, sigma, atom_virials=True)
    assert result.energy == pytest.approx(energy, abs=TRUNCATION)
    np.testing.assert_allclose(result.potentials, potentials, atol=ROUNDING)
    np.testing.assert_allclose(result.forces, forces, atol=ROUNDING)
    np.testing.assert_allclose(result.virial, virial, atol=TRUNCATION)
    np.testing.assert_allclose(result.atom_virials.sum(0), result.virial, atol=ROUNDING)
    assert result.atom_energies.sum() == pytest.approx(result.energy, abs=ROUNDING)


@CHARGED
def test_atom_virials_share_each_pair_equally(system, total_charge):
    # One width alone, and the same charges with the widths of two atoms exchanged by symmetry.
    atoms, sigma = system(total_charge, n=3)
    single = run(atoms, BULK, sigma, atom_virials=True)
    atoms.positions = np.vstack([atoms.positions, atoms.positions + atoms.cell[1]])
    atoms.charges, atoms.cell = np.tile(atoms.charges, 2), np.diag([1, 2, 1]) @ atoms.cell
    double = run(atoms, BULK, np.tile(sigma, 2), atom_virials=True)
    expected = np.tile(single.atom_virials, (2, 1, 1))
    np.testing.assert_allclose(double.atom_virials, expected, atol=TRUNCATION)


@pytest.mark.parametrize("pbc", [BULK, SLAB], ids=["bulk", "slab"])
@CHARGED
@pytest.mark.parametrize("accuracy", [1e-3, 1e-5, 1e-7])
def test_mesh_has_the_force_error_which_the_accuracy_asks_for(system, pbc, total_charge, accuracy):
    atoms, sigma = system(total_charge, n=60)
    exact, rough = run(atoms, pbc, sigma), run(atoms, pbc, sigma, accuracy, method="p3m")
    error = np.sqrt(((rough.forces - exact.forces) ** 2).sum(1).mean())
    # As for equal charges, with forces that go with the inverse square of the narrowest width.
    assert error < 10 * accuracy / min(LEVELS) ** 2
    assert np.abs(rough.potentials - exact.potentials).max() < 100 * accuracy


def test_every_atom_may_have_a_width_of_its_own(system, point_charge_reference, monkeypatch):
    atoms, _ = system(0.5)
    sigma = np.linspace(0.6, 1.2, 9)
    expected = point_charge_reference(atoms, sigma)
    assert run(atoms, BULK, sigma).energy == pytest.approx(expected, abs=ROUNDING)
    assert expression(atoms, BULK, sigma) == pytest.approx(expected, abs=ROUNDING)
    rough = run(atoms, BULK, sigma, MESH_ACCURACY, method="p3m")
    assert rough.energy == pytest.approx(expected, abs=MESH_TOLERANCE)


@pytest.mark.parametrize("chunk", [1, 1 << 23])
def test_batch_of_structures_with_their_own_widths_equals_one_at_a_time(
    random_system, monkeypatch, chunk
):
    monkeypatch.setattr("equicalc.electrostatics.wave_sum.CHUNK_ELEMENTS", chunk)
    boundaries = [BULK, SLAB, OPEN, BULK, BULK]
    atoms = [random_system(n, 0.3, seed=n) for n in (5, 7, 4, 1, 9)]
    sigmas = [np.resize(np.roll(LEVELS, n), n) for n in (5, 7, 4, 1, 9)]
    structure = torch.arange(5).repeat_interleave(torch.tensor([5, 7, 4, 1, 9]))
    order = torch.randperm(26, generator=torch.Generator().manual_seed(0))
    charges = torch.tensor(np.concatenate([a.charges for a in atoms]))[order]
    positions = torch.tensor(np.concatenate([a.positions for a in atoms]))[order]
    widths = torch.tensor(np.concatenate(sigmas))[order].requires_grad_()
    cells = torch.tensor(np.stack([a.cell for a in atoms]))
    batch = coulomb_energies(
        charges, positions, cells, torch.tensor(boundaries), structure[order], widths, TIGHT
    )
    alone = [expression(*x) for x in zip(atoms, boundaries, sigmas, strict=True)]
    np.testing.assert_allclose(batch.detach().numpy(), alone, atol=ROUNDING)
    (slope,) = torch.autograd.grad(batch.sum(), widths)
    for s, pbc in enumerate(boundaries):
        own = torch.tensor(sigmas[s], requires_grad=True)
        tensors = [torch.tensor(a) for a in (atoms[s].charges, atoms[s].positions, atoms[s].cell)]
        (expected,) = torch.autograd.grad(coulomb_energy(*tensors, pbc, own, TIGHT), own)
        found = slope[torch.argsort(order)][structure == s]
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


def test_auto_keeps_the_exact_sum_when_widths_are_too_many_for_meshes(random_system):
    atoms = random_system(500, seed=10)
    few, many = np.resize(LEVELS, 500), np.linspace(0.9, 1.1, 500)
    assert run(atoms, BULK, few, 1e-6).method == "p3m"
    assert run(atoms, BULK, many, 1e-6).method == "ewald"
    with pytest.raises(ValueError, match=f"up to {mesh.MOST_WIDTHS}; found 500 different"):
        run(atoms, BULK, many, 1e-6, method="p3m")


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (np.ones(3), r"sigma must be one number or have the shape \(9,\); found \(3,\)"),
        (np.zeros(9), "must be a positive length in angstrom; found 0.0"),
        (np.array([1.0] * 8 + [-0.5]), "found -0.5"),
        (np.array([1.0] * 8 + [math.nan]), "found nan"),
    ],
)
def test_impossible_widths_are_refused_with_their_reason(system, sigma, message):
    atoms, _ = system()
    for call in (run, expression):
        with pytest.raises(ValueError, match=message):
            call(atoms, BULK, sigma)
