"""Charges at the minimum of the energy: the differentiable ones and the conjugate gradients."""

import math

import numpy as np
import pytest
import torch

from equicalc.electrostatics import (
    COULOMB_CONSTANT,
    coulomb_energies,
    equilibrate,
    equilibrated_charges,
    solve,
)
from equicalc.errors import DataError
from tests.derivatives import deformation

BULK, SLAB, OPEN = (True, True, True), (True, True, False), (False, False, False)
BOUNDARIES = pytest.mark.parametrize("pbc", [BULK, SLAB, OPEN], ids=["bulk", "slab", "open"])
# Differences of differences of many minimisations.
SOME = pytest.mark.parametrize(
    "pbc",
    [pytest.param(BULK, marks=pytest.mark.slow), pytest.param(SLAB, marks=pytest.mark.slow), OPEN],
    ids=["bulk", "slab", "open"],
)
CHARGED = pytest.mark.parametrize("total_charge", [0.0, 1.5])

TIGHT = 1e-12
# dE/dq is level to this (V); with a hardness of some V/e charges are right to about the same.
TOLERANCE = 1e-10
CLOSE = 1e-9


class Sample:
    """Electronegativities, hardnesses and Gaussians of two kinds of atoms in a random cell."""

    def __init__(self, atoms):
        rng = np.random.default_rng(3)
        n = len(atoms.charges)
        self.positions, self.cell = atoms.positions, atoms.cell
        self.sigma = np.resize([0.8, 1.1], n)
        least = COULOMB_CONSTANT / (self.sigma * math.sqrt(math.pi))
        self.eta = least + np.resize([4.0, 7.0], n) + rng.random(n)
        self.chi = np.resize([-5.0, 5.0], n) + rng.normal(size=n)

    def energy(self, charges, pbc, accuracy=TIGHT, method="auto"):
        """Value, forces and virial at given charges."""
        coulomb = self.solve(charges, pbc, accuracy, method)
        own = self.chi @ charges + 0.5 * self.eta @ charges**2
        return coulomb.energy + own, coulomb.forces, coulomb.virial

    def solve(self, charges, pbc, accuracy=TIGHT, method="auto"):
        return solve(charges, self.positions, self.cell, pbc, self.sigma, accuracy, method)

    def equilibrate(self, pbc, total_charge=0.0, accuracy=TIGHT, tolerance=TOLERANCE, **options):
        atoms = self.chi, self.eta, self.positions, self.cell, pbc, self.sigma
        return equilibrate(*atoms, total_charge, accuracy, tolerance=tolerance, **options)

    def dense(self, pbc, total_charge):
        """Solution of the bordered system, with potentials of unit charges as its columns."""
        n = len(self.chi)
        matrix = np.stack([self.solve(unit, pbc).potentials for unit in np.eye(n)])
        system = np.ones((n + 1, n + 1))
        system[:n, :n], system[n, n] = matrix + np.diag(self.eta), 0.0
        return np.linalg.solve(system, np.append(-self.chi, total_charge))[:n]

    def tensors(self, total_charge=0.0):
        arrays = self.chi, self.eta, self.positions, self.cell[None], self.sigma, [total_charge]
        return [torch.tensor(np.asarray(a, dtype=float)) for a in arrays]


@pytest.fixture
def sample(random_system):
    def make(n=10, seed=1):
        return Sample(random_system(n, seed=seed, skew=0.15))

    return make


def minimum(chi, eta, positions, cells, sigma, total, pbc, derivatives=2, accuracy=TIGHT):
    """Charges and energy at the minimum, differentiable."""
    structure = torch.zeros(len(chi), dtype=torch.int64)
    flags = torch.tensor([pbc])
    charges = equilibrated_charges(
        chi, eta, positions, cells, flags, structure, sigma, total, accuracy, derivatives
    )
    energy = coulomb_energies(charges, positions, cells, flags, structure, sigma, accuracy)
    return charges, (chi * charges + 0.5 * eta * charges.square()).sum() + energy.sum()


@BOUNDARIES
@CHARGED
def test_charges_equal_the_dense_solution(sample, pbc, total_charge):
    atoms = sample()
    expected = atoms.dense(pbc, total_charge)
    charges, result = atoms.equilibrate(pbc, total_charge)
    np.testing.assert_allclose(charges, expected, atol=CLOSE)
    assert result.energy == pytest.approx(atoms.solve(expected, pbc).energy, abs=CLOSE)
    learned, _ = minimum(*atoms.tensors(total_charge), pbc)
    np.testing.assert_allclose(learned, expected, atol=CLOSE)


def test_two_atoms_have_the_charges_of_the_formula():
    # dE/dq = chi_1 - chi_2 + (eta_1 + eta_2) q - 2 k_e erf(r / s) q / r = 0 for q, -q.
    chi, eta, sigma, r = np.array([1.0, 4.0]), np.array([17.0, 20.0]), np.array([0.7, 1.2]), 2.3
    pair = COULOMB_CONSTANT * math.erf(r / math.sqrt(2 * (sigma**2).sum())) / r
    expected = 3.0 / (37.0 - 2 * pair)
    positions = np.array([[0.0, 0, 0], [0, r, 0]])
    charges, _ = equilibrate(chi, eta, positions, np.zeros((3, 3)), OPEN, sigma)
    np.testing.assert_allclose(charges, [expected, -expected], atol=CLOSE)


def test_a_single_atom_carries_the_total_charge(sample):
    atoms = sample(1)
    for pbc in (BULK, SLAB, OPEN):
        np.testing.assert_allclose(atoms.equilibrate(pbc, 1.5)[0], [1.5], atol=CLOSE)
        np.testing.assert_allclose(minimum(*atoms.tensors(1.5), pbc)[0], [1.5], atol=CLOSE)


@pytest.mark.parametrize(("pbc", "method"), [(BULK, "p3m"), (SLAB, "p3m"), (OPEN, "direct")])
@CHARGED
def test_energy_is_lowest_at_these_charges_and_their_sum_is_given(
    sample, pbc, method, total_charge
):
    atoms, accuracy = sample(20), 1e-4
    charges, _ = atoms.equilibrate(pbc, total_charge, accuracy, method=method)
    assert charges.sum() == pytest.approx(total_charge, abs=1e-12)
    lowest, _, _ = atoms.energy(charges, pbc, accuracy, method)
    rng = np.random.default_rng(0)
    for _ in range(5):
        change = rng.normal(size=20)
        change *= 1e-3 / np.linalg.norm(change - change.mean())
        # At least the smallest curvature, 4 V/e beyond the Gaussians' own: 2e-6 eV.
        moved = charges + change - change.mean()
        assert atoms.energy(moved, pbc, accuracy, method)[0] > lowest + 1e-6


@pytest.mark.parametrize(
    ("pbc", "method"), [(BULK, "ewald"), (BULK, "p3m"), (SLAB, "ewald"), (OPEN, "direct")]
)
def test_forces_and_virial_at_fixed_charges_are_slopes_of_the_lowest_energy(sample, pbc, method):
    atoms, step = sample(6), 1e-4
    accuracy = 1e-6 if method == "p3m" else TIGHT

    def lowest():
        charges, result = atoms.equilibrate(pbc, 0.5, accuracy, method=method)
        return atoms.energy(charges, pbc, accuracy, method)[0], result

    _, result = lowest()
    positions, cell = atoms.positions.copy(), atoms.cell.copy()
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        ends = []
        for sign in (1, -1):
            atoms.positions = positions.copy()
            atoms.positions[atom, axis] += sign * step
            ends.append(lowest()[0])
        # step^2 times a third derivative of some tens of eV/A^3.
        assert -(ends[0] - ends[1]) / (2 * step) == pytest.approx(
            result.forces[atom, axis], abs=1e-6
        )
    for a, b in ((0, 0), (0, 1)):
        ends = []
        for sign in (1, -1):
            strain = deformation(a, b, sign * step)
            atoms.positions, atoms.cell = positions @ strain, cell @ strain
            ends.append(lowest()[0])
        assert -(ends[0] - ends[1]) / (2 * step) == pytest.approx(result.virial[a, b], abs=1e-5)


def test_charges_of_the_step_before_save_steps(sample, monkeypatch):
    atoms = sample(40)
    charges, _ = atoms.equilibrate(BULK, accuracy=1e-8)
    module = __import__("sys").modules["equicalc.electrostatics.equilibrate"]
    calls = []
    monkeypatch.setattr(module, "solve", lambda *args: calls.append(1) or solve(*args))
    atoms.equilibrate(BULK, accuracy=1e-8)
    cold = len(calls)
    calls.clear()
    again, _ = atoms.equilibrate(BULK, accuracy=1e-8, start=charges + 1.0)
    np.testing.assert_allclose(again, charges, atol=CLOSE)
    # One sum to see that nothing is to be done after the excess is taken off, and one at the end.
    atoms.positions = atoms.positions + 1e-3
    calls.clear()
    atoms.equilibrate(BULK, accuracy=1e-8, start=charges)
    assert len(calls) <= 2 + cold // 4


@SOME
@pytest.mark.parametrize("derivatives", [1, 2])
def test_first_and_second_derivatives_of_the_lowest_energy_are_right(sample, pbc, derivatives):
    # Along random directions of all inputs together: each evaluation is a minimisation.
    inputs = sample(4, seed=5).tensors(0.7)
    inputs[4] *= 1.5  # fewer waves
    inputs = [t.requires_grad_() for t in inputs]
    function = lambda *x: minimum(*x, pbc, derivatives, 1e-6)[1]  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@SOME
def test_first_and_second_derivatives_of_the_charges_are_right(sample, pbc):
    inputs = sample(3, seed=6).tensors(0.7)
    inputs[4] *= 1.5  # fewer waves
    inputs = [t.requires_grad_() for t in inputs]
    function = lambda *x: minimum(*x, pbc, 2, 1e-6)[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_batch_of_structures_equals_one_at_a_time(sample):
    sizes, boundaries = (5, 8, 1, 6), (BULK, SLAB, BULK, OPEN)
    totals = torch.tensor([0.0, 1.0, -0.5, 2.0], dtype=torch.float64)
    samples = [sample(n, seed=n) for n in sizes]
    structure = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    columns = list(zip(*(s.tensors() for s in samples), strict=True))
    chi, eta, positions, sigma = (torch.cat(columns[i])[order] for i in (0, 1, 2, 4))
    batch = equilibrated_charges(
        chi, eta, positions, torch.cat(columns[3]), torch.tensor(boundaries), structure[order],
        sigma, totals, TIGHT,
    )  # fmt: skip
    alone = torch.cat(
        [
            minimum(*s.tensors(float(q)), pbc)[0]
            for s, q, pbc in zip(samples, totals, boundaries, strict=True)
        ]
    )
    torch.testing.assert_close(batch, alone[order], rtol=0, atol=CLOSE)


def test_float32_training_has_charges_to_float32(sample):
    double = sample(12).tensors(0.5)
    single = [t.float().requires_grad_() for t in double]
    exact, rough = minimum(*double, BULK)[0], minimum(*single, BULK)[0]
    assert rough.dtype == torch.float32
    # Ten units in the last place of charges near 1 e, from rounded inputs.
    torch.testing.assert_close(rough.double(), exact, rtol=0, atol=2e-6)
    (slope,) = torch.autograd.grad(rough.square().sum(), single[0])
    double[0].requires_grad_()
    (expected,) = torch.autograd.grad(minimum(*double, BULK)[0].square().sum(), double[0])
    torch.testing.assert_close(slope.double(), expected, rtol=0, atol=2e-6)


def test_a_form_without_a_minimum_is_refused(sample):
    atoms = sample(8)
    atoms.eta = np.full(8, 0.5)
    with pytest.raises(DataError, match="no minimum in the charges: the hardness eta is too small"):
        atoms.equilibrate(OPEN)
    with pytest.raises(DataError, match="no minimum in the charges: the hardness eta is too small"):
        minimum(*atoms.tensors(), OPEN)
    atoms.eta[3] = -1.0
    with pytest.raises(DataError, match=r"eta must be positive: found -1.0 V/e at atom 3"):
        atoms.equilibrate(OPEN)


def test_a_search_that_does_not_settle_says_so(sample, monkeypatch):
    module = __import__("sys").modules["equicalc.electrostatics.equilibrate"]
    monkeypatch.setattr(module, "MOST_STEPS", 2)
    with pytest.raises(DataError, match="did not settle within 2 steps"):
        sample().equilibrate(BULK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chi": np.zeros(3)}, r"chi must have the shape \(2,\); found \(3,\)"),
        ({"eta": np.array([9.0, math.nan])}, "eta holds NaN"),
        ({"start": np.zeros(5)}, "start must have the shape"),
        ({"total_charge": math.inf}, "2 atoms cannot carry total_charge=inf"),
        ({"sigma": -1.0}, "sigma must be a positive length"),
        ({"tolerance": 0.0}, "tolerance must be at least 1e-12 V; found 0.0"),
        ({"method": "pme"}, "unknown method"),
    ],
)
def test_impossible_input_is_refused_with_its_reason(change, message):
    arguments = {
        "chi": np.array([-1.0, 1.0]),
        "eta": np.array([20.0, 20.0]),
        "positions": np.array([[0.0, 0, 0], [1, 1, 1]]),
        "cell": 5 * np.eye(3),
        "pbc": BULK,
        "sigma": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        equilibrate(**(arguments | change))
