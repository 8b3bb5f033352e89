"""The torch expression: derivatives, invariances and independent references."""

import math

import numpy as np
import pytest
import torch
import torchpme

from equicalc.electrostatics import COULOMB_CONSTANT, coulomb_energies, coulomb_energy
from equicalc.electrostatics.differentiable import smeared_inverse_distance
from equicalc.electrostatics.lattice import taper_range

BULK, SLAB, OPEN = (True, True, True), (True, False, True), (False, False, False)
BOUNDARIES = pytest.mark.parametrize("pbc", [BULK, SLAB, OPEN], ids=["bulk", "slab", "open"])

SIGMA = 1.0
TIGHT = 1e-12
# Two sums over the same terms in another order, energies of some tens of eV.
ROUNDING = 1e-10
# What TIGHT leaves (truncation, and vacuum of slabs) of such energies.
TRUNCATION = 1e-9


def energy(system, pbc=BULK, sigma=SIGMA, accuracy=TIGHT, dtype=torch.float64):
    tensors = [
        torch.tensor(a, dtype=dtype) for a in (system.charges, system.positions, system.cell)
    ]
    return float(coulomb_energy(*tensors, pbc, sigma, accuracy))


@pytest.mark.parametrize("total_charge", [0.0, 1.3])
def test_bulk_energy_equals_torch_pme_ewald(random_system, total_charge):
    system = random_system(16, total_charge, seed=1)
    # torch-pme's smearing s splits with erf(r / (sqrt(2) s)); ours is erf(r / (2 sigma)).
    calculator = torchpme.EwaldCalculator(
        torchpme.CoulombPotential(smearing=math.sqrt(2) * SIGMA, prefactor=COULOMB_CONSTANT),
        lr_wavelength=2 * math.pi * SIGMA / 12.0,  # its waves end at half of what this says
    ).double()
    charges = torch.tensor(system.charges)[:, None]
    no_pairs = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    potentials = calculator(
        charges, torch.tensor(system.cell), torch.tensor(system.positions), *no_pairs
    )
    assert energy(system) == pytest.approx(float((charges * potentials).sum()), abs=ROUNDING)


def test_bulk_energy_is_the_limit_of_direct_sums_over_larger_cubes(
    random_system, cluster_reference
):
    system = random_system(4, seed=2, skew=0.0)
    sigma, edge = 0.8, system.cell[0, 0]
    # A cube in vacuum has the surface charge of its dipole, which tin foil takes away.
    dipole = system.charges @ system.positions
    surface = 2 * math.pi * COULOMB_CONSTANT / (3 * edge**3) * (dipole @ dipole)
    coarse, fine = (cluster_reference(system, sigma, m) - surface for m in (6, 12))
    # What is left falls as the square of the size of the cube, 2 m + 1 cells.
    limit = fine + (fine - coarse) / ((25 / 13) ** 2 - 1)
    assert energy(system, sigma=sigma) == pytest.approx(limit, abs=2e-4)


def test_open_energy_is_the_sum_over_pairs(random_system):
    system = random_system(6, 0.7, seed=3)
    expected = 0.0
    for i in range(6):
        for j in range(i):
            r = np.linalg.norm(system.positions[i] - system.positions[j])
            expected += system.charges[i] * system.charges[j] * math.erf(r / (2 * SIGMA)) / r
    assert energy(system, OPEN) == pytest.approx(COULOMB_CONSTANT * expected, abs=ROUNDING)


def test_large_vacuum_turns_a_periodic_molecule_into_an_open_one(random_system):
    system = random_system(5, seed=4, skew=0.0)
    box = 90.0
    alone = energy(system, OPEN)
    system.cell = box * np.eye(3)
    dipole = system.charges @ system.positions
    images = -2 * math.pi * COULOMB_CONSTANT / (3 * box**3) * (dipole @ dipole)
    # Next comes the quadrupole, falling with the fifth power of the box.
    assert energy(system, accuracy=1e-6) == pytest.approx(alone + images, abs=1e-5)


@BOUNDARIES
@pytest.mark.parametrize("total_charge", [0.0, 1.0])
def test_first_and_second_derivatives_are_those_of_finite_differences(
    random_system, pbc, total_charge
):
    system = random_system(3, total_charge, seed=5)
    inputs = [
        torch.tensor(a, requires_grad=True) for a in (system.charges, system.positions, system.cell)
    ]
    function = lambda q, r, c: coulomb_energy(q, r, c, pbc, SIGMA, 1e-8)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_derivatives_are_finite_where_atoms_coincide():
    charges = torch.ones(2, dtype=torch.float64, requires_grad=True)
    positions = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    inputs = (charges, positions)
    function = lambda q, r: coulomb_energy(q, r, torch.zeros(3, 3), OPEN, SIGMA)  # noqa: E731
    assert float(function(*inputs).detach()) == pytest.approx(
        COULOMB_CONSTANT / (SIGMA * math.sqrt(math.pi))
    )
    assert torch.autograd.gradgradcheck(function, inputs)


def test_pair_function_and_its_slope_join_at_the_edge_of_the_series():
    # (r / 2 sigma)^2 = 0.25 where the series ends; both sides within rounding of erf itself.
    r_sq = torch.tensor([0.25 * 4 - 1e-9, 0.25 * 4 + 1e-9], dtype=torch.float64, requires_grad=True)
    value = smeared_inverse_distance(r_sq, 1.0)
    (slope,) = torch.autograd.grad(value.sum(), r_sq)
    r = r_sq.detach().sqrt()
    torch.testing.assert_close(value.detach(), torch.erf(r / 2) / r, rtol=1e-14, atol=0)
    expected = (torch.exp(-(r**2) / 4) / math.sqrt(math.pi) - torch.erf(r / 2) / r) / (2 * r**2)
    torch.testing.assert_close(slope, expected, rtol=1e-13, atol=0)


@BOUNDARIES
def test_energy_is_invariant_under_translation_rotation_and_permutation(random_system, pbc):
    system = random_system(8, 0.5, seed=6)
    before = energy(system, pbc)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    order = np.random.default_rng(1).permutation(8)
    system.charges = system.charges[order]
    system.positions = (system.positions[order] + [0.3, -11.0, 2.0]) @ rotation
    system.cell = system.cell @ rotation
    assert energy(system, pbc) == pytest.approx(before, abs=TRUNCATION)


def test_moving_atoms_by_cell_vectors_changes_nothing(random_system):
    system = random_system(8, 0.5, seed=6)
    before = energy(system)
    shifts = np.random.default_rng(0).integers(-1000, 1000, (8, 3))
    system.positions = system.positions + shifts @ system.cell
    # Positions of some 1e4 A carry 1e-12 A of rounding.
    assert energy(system) == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize("total_charge", [0.0, 1.0])
@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 3, 2)])
def test_supercell_has_the_energy_of_its_cells(random_system, repeat, total_charge):
    system = random_system(5, total_charge, seed=7)
    single, copies = energy(system), int(np.prod(repeat))
    shifts = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), -1).reshape(-1, 3)
    system.positions = (system.positions[None] + (shifts @ system.cell)[:, None]).reshape(-1, 3)
    system.charges = np.tile(system.charges, copies)
    system.cell = np.array(repeat)[:, None] * system.cell
    assert energy(system) == pytest.approx(copies * single, abs=TRUNCATION)


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 0], [7, 1, 0], [0, 0, 1]],  # very skewed
        [[1, 3, -2], [0, 1, 5], [0, 0, 1]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],  # left-handed
        [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_energy_depends_on_the_lattice_and_not_on_its_vectors(random_system, matrix):
    system = random_system(6, 0.4, seed=8)
    before = energy(system)
    system.cell = np.array(matrix) @ system.cell
    assert energy(system) == pytest.approx(before, abs=TRUNCATION)


@pytest.mark.parametrize("edges", [(40.0, 3.0, 3.0), (15.0, 20.0, 1.0), (0.4, 0.5, 0.6)])
def test_needles_plates_and_cells_smaller_than_sigma_have_the_energy_of_a_supercell(edges):
    rng = np.random.default_rng(9)
    cell = torch.tensor(np.diag(edges) + 0.1 * rng.normal(size=(3, 3)))
    positions, charges = torch.tensor(rng.random((4, 3))) @ cell, torch.tensor(rng.normal(size=4))
    single = coulomb_energy(charges, positions, cell, BULK, SIGMA, TIGHT)
    scale = torch.tensor([1.0, 2.0, 3.0])[:, None]
    shifts = torch.cartesian_prod(torch.arange(1), torch.arange(2), torch.arange(3)).double() @ cell
    images = (positions[None] + shifts[:, None]).reshape(-1, 3)
    double = coulomb_energy(charges.repeat(6), images, scale * cell, BULK, SIGMA, TIGHT)
    # In the smallest cell self energy and background, both thousands of eV, cancel.
    assert float(double) == pytest.approx(6 * float(single), rel=1e-11, abs=TRUNCATION)


@pytest.mark.parametrize("accuracy", [1e-3, 1e-5, 1e-7])
@BOUNDARIES
def test_error_of_energy_and_forces_stays_below_the_accuracy(
    random_system, torch_derivatives, pbc, accuracy
):
    system = random_system(32, 0.5, seed=10)
    exact = torch_derivatives(system, pbc, SIGMA, 1e-14)
    rough = torch_derivatives(system, pbc, SIGMA, accuracy)
    # Accuracy counts in units of k_e / (sigma sqrt(pi)) = 8 eV for each charge.
    scale = accuracy * COULOMB_CONSTANT / (SIGMA * math.sqrt(math.pi)) * (system.charges**2).sum()
    assert abs(rough[0] - exact[0]) < scale
    assert np.abs(rough[2] - exact[2]).max() < scale


def test_energy_has_no_jump_where_waves_enter_and_its_slope_is_the_stress(
    random_system, torch_derivatives
):
    system = random_system(8, 0.5, seed=11)
    accuracy = 1e-4  # rough on purpose: here the edge of the sum carries weight
    cell, positions = system.cell.copy(), system.positions.copy()
    direction = np.diag([1.0, -0.4, 0.2]) + 0.3 * (np.ones((3, 3)) - np.eye(3))
    step = 1e-4

    def at(x):
        deform = np.eye(3) + x * direction
        system.cell, system.positions = cell @ deform, positions @ deform
        return system

    integers = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3), -1).reshape(-1, 3)
    waves = set()
    for x in np.linspace(-0.08, 0.08, 41):
        k = 2 * math.pi * integers @ np.linalg.inv(at(x).cell).T
        waves.add(int((np.linalg.norm(k, axis=1) * SIGMA < taper_range(accuracy)[1]).sum()))
        # Central difference of fourth order: its error here is step^4 times a fifth derivative.
        values = [energy(at(x + k * step), BULK, SIGMA, accuracy) for k in (-2, -1, 1, 2)]
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        deformed = np.eye(3) + x * direction
        virial = torch_derivatives(at(x), BULK, SIGMA, accuracy)[3]
        # dE/dx for a deformation on top of 1 + x direction.
        expected = -np.sum(virial * (np.linalg.inv(deformed) @ direction))
        volume = abs(np.linalg.det(system.cell))
        assert slope / volume == pytest.approx(expected / volume, abs=1e-7)
    assert len(waves) > 5, "the scan must cross changes of the number of waves"


@BOUNDARIES
def test_float32_energy_and_forces_agree_with_float64(random_system, torch_derivatives, pbc):
    system = random_system(24, 0.5, seed=12)
    double = torch_derivatives(system, pbc, SIGMA, 1e-6)
    single = torch_derivatives(system, pbc, SIGMA, 1e-6, torch.float32)
    # Positions of about 10 A are themselves rounded to 1e-6 A.
    assert single[0] == pytest.approx(double[0], rel=1e-6, abs=1e-4)
    np.testing.assert_allclose(single[1], double[1], atol=5e-5)
    np.testing.assert_allclose(single[2], double[2], atol=5e-5)


def test_batch_of_mixed_structures_equals_one_at_a_time(random_system):
    boundaries = [BULK, SLAB, OPEN, BULK, BULK]
    systems = [random_system(n, 0.3, seed=n) for n in (5, 7, 4, 1, 9)]
    structure = torch.cat([torch.full((len(s.charges),), i) for i, s in enumerate(systems)])
    # Any order of atoms, and a last structure without atoms.
    order = torch.randperm(len(structure), generator=torch.Generator().manual_seed(0))
    charges = torch.tensor(np.concatenate([s.charges for s in systems]))[order]
    positions = torch.tensor(np.concatenate([s.positions for s in systems]))[order]
    cells = torch.tensor(np.stack([s.cell for s in systems] + [np.eye(3)]))
    pbc = torch.tensor([*boundaries, BULK])
    batch = coulomb_energies(charges, positions, cells, pbc, structure[order], SIGMA, TIGHT)
    alone = [energy(s, pbc) for s, pbc in zip(systems, boundaries, strict=True)]
    np.testing.assert_allclose(batch.numpy(), [*alone, 0.0], atol=ROUNDING)


def test_large_batches_are_split_without_changing_the_energies(random_system, monkeypatch):
    systems = [random_system(6, seed=s) for s in range(4)]
    arguments = (
        torch.tensor(np.concatenate([s.charges for s in systems])),
        torch.tensor(np.concatenate([s.positions for s in systems])),
        torch.tensor(np.stack([s.cell for s in systems])),
        torch.ones(4, 3, dtype=torch.bool),
        torch.arange(4).repeat_interleave(6),
        SIGMA,
        1e-8,
    )
    together = coulomb_energies(*arguments)
    monkeypatch.setattr("equicalc.electrostatics.wave_sum.CHUNK_ELEMENTS", 1)
    np.testing.assert_allclose(coulomb_energies(*arguments), together, atol=ROUNDING)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charges": torch.zeros(3)}, r"charges must have the shape \(2,\)"),
        ({"positions": torch.zeros(2, 2)}, "positions must have the shape"),
        ({"cell": torch.zeros(3)}, "cell and pbc"),
        ({"pbc": (True, True)}, "cell and pbc"),
        ({"positions": torch.tensor([[0.0, 0, 0], [0, 0, math.nan]])}, "positions hold NaN"),
        ({"charges": torch.tensor([0.0, math.inf])}, "charges hold NaN"),
        ({"cell": torch.zeros(3, 3)}, "span no volume"),
        ({"cell": torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])}, "span no volume"),
        ({"cell": torch.zeros(3, 3), "pbc": SLAB}, "span no area"),
        ({"cell": torch.full((3, 3), math.nan)}, "NaN"),
        ({"pbc": (False, True, False)}, "one periodic direction"),
        ({"sigma": 0.0}, "sigma must be a positive length"),
        ({"accuracy": 0.5}, "accuracy must lie between"),
    ],
)
def test_impossible_input_is_refused_with_its_reason(change, message):
    arguments = {
        "charges": torch.tensor([1.0, -1.0]),
        "positions": torch.tensor([[0.0, 0, 0], [1, 1, 1]]),
        "cell": 5 * torch.eye(3),
        "pbc": BULK,
        "sigma": 1.0,
        "accuracy": 1e-6,
    }
    with pytest.raises(ValueError, match=message):
        coulomb_energy(**(arguments | change))


def test_structure_indices_outside_the_batch_are_refused():
    with pytest.raises(ValueError, match="indices from 0 to 0"):
        coulomb_energies(
            torch.zeros(1), torch.zeros(1, 3), torch.eye(3)[None],
            torch.ones(1, 3, dtype=torch.bool), torch.ones(1, dtype=torch.int64), 1.0,
        )  # fmt: skip
