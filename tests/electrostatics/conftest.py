"""Systems and reference sums shared by the tests of the electrostatics.

Every reference here is written from the textbook formula and shares no code with the package.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import erf, erfc

COULOMB = 14.399645478425668


@dataclass
class System:
    """Charges [N] in e, positions [N, 3] and cell [3, 3] in angstrom."""

    charges: np.ndarray
    positions: np.ndarray
    cell: np.ndarray


def _random_system(n=12, total_charge=0.0, seed=0, skew=0.25, volume_per_atom=25.0):
    rng = np.random.default_rng(seed)
    length = (n * volume_per_atom) ** (1 / 3)
    cell = length * (np.eye(3) + skew * rng.normal(size=(3, 3)))
    positions = rng.random((n, 3)) @ cell + 5.0 * rng.normal(size=3)
    charges = rng.normal(size=n)
    charges += (total_charge - charges.sum()) / n
    return System(charges, positions, cell)


@pytest.fixture
def random_system():
    """Random charges in a random triclinic cell: `random_system(n, total_charge, seed, skew)`."""
    return _random_system


@pytest.fixture
def torch_derivatives():
    """Energy, potentials, forces and virial of `coulomb_energy` by automatic differentiation."""
    from equicalc.electrostatics import coulomb_energy

    def derivatives(system, pbc, sigma, accuracy, dtype=torch.float64):
        charges, positions, cell = (
            torch.tensor(a, dtype=dtype, requires_grad=True)
            for a in (system.charges, system.positions, system.cell)
        )
        strain = torch.zeros(3, 3, dtype=dtype, requires_grad=True)
        deform = torch.eye(3, dtype=dtype) + 0.5 * (strain + strain.T)
        width = torch.as_tensor(sigma, dtype=dtype)
        energy = coulomb_energy(charges, positions @ deform, cell @ deform, pbc, width, accuracy)
        slopes = torch.autograd.grad(energy, (charges, positions, strain))
        potentials, gradient, stress = (slope.double().numpy() for slope in slopes)
        return float(energy.detach()), potentials, -gradient, -stress

    return derivatives


@pytest.fixture
def slab_reference():
    """Two-dimensional Ewald sum of Gaussian charges in closed form (Parry 1975), no vacuum.

    Sum over in-plane waves G of the exact height profile of a Gaussian-smeared Coulomb potential.
    """

    def energy(charges, positions, in_plane, sigma, shells=12):
        normal = np.cross(*in_plane)
        area = np.linalg.norm(normal)
        normal /= area
        difference = positions[:, None] - positions[None]
        height = difference @ normal
        product = charges[:, None] * charges[None]
        widths = np.broadcast_to(sigma, charges.shape)
        g = 1 / np.sqrt(2 * (widths[:, None] ** 2 + widths[None] ** 2))
        uniform = height * erf(g * height) + np.exp(-((g * height) ** 2)) / (g * math.sqrt(math.pi))
        total = -2 * math.pi / area * (product * uniform).sum()
        dual = 2 * math.pi * np.linalg.pinv(in_plane).T
        for h in range(-shells, shells + 1):
            for k in range(-shells, shells + 1):
                if h == 0 and k == 0:
                    continue
                wave = h * dual[0] + k * dual[1]
                size = np.linalg.norm(wave)
                profile = sum(
                    np.exp(s * size * height) * erfc(size / (2 * g) + s * g * height)
                    for s in (1, -1)
                )
                total += (
                    math.pi / area / size * (product * np.cos(difference @ wave) * profile).sum()
                )
        self_energy = (charges**2 / widths).sum() / (2 * math.sqrt(math.pi))
        return COULOMB * (0.5 * total - self_energy)

    return energy


@pytest.fixture
def cluster_reference():
    """Direct sum over a cube of (2 m + 1)^3 cells around the central one, eV per cell."""

    def energy(system, sigma, m):
        shifts = _cube(m) @ system.cell
        widths = np.broadcast_to(sigma, system.charges.shape)
        total = 0.0
        for i, q_i in enumerate(system.charges):
            for j, q_j in enumerate(system.charges):
                distance = np.linalg.norm(
                    system.positions[j] - system.positions[i] + shifts, axis=1
                )
                distance = distance[distance > 1e-9]
                spread = math.sqrt(2 * (widths[i] ** 2 + widths[j] ** 2))
                total += 0.5 * q_i * q_j * (erf(distance / spread) / distance).sum()
        return COULOMB * total

    return energy


@pytest.fixture
def point_charge_reference():
    """Textbook Ewald sum of point charges, minus the pairs by which Gaussians differ from them.

    Waves and real-space pairs with a splitting of its own; the background acts on point charges.
    """

    def energy(system, sigma, alpha=0.7, images=4, extent=11):
        q, r = system.charges, system.positions
        volume = abs(np.linalg.det(system.cell))
        integers = _cube(extent)
        k = 2 * math.pi * integers[(integers != 0).any(1)] @ np.linalg.inv(system.cell).T
        k_sq = (k**2).sum(1)
        factor = np.exp(1j * k @ r.T) @ q
        total = 2 * math.pi / volume * (np.exp(-k_sq / (4 * alpha**2)) / k_sq) @ np.abs(factor) ** 2
        total -= alpha / math.sqrt(math.pi) * (q**2).sum()
        total -= math.pi / (2 * alpha**2 * volume) * q.sum() ** 2
        widths = np.broadcast_to(sigma, q.shape)
        spread = np.sqrt(2 * (widths[:, None] ** 2 + widths[None] ** 2))
        for shift in _cube(images) @ system.cell:
            distance = np.linalg.norm(r[None] - r[:, None] + shift, axis=-1)
            near = distance > 1e-9
            distance = np.where(near, distance, 1.0)
            pairs = (erfc(alpha * distance) - erfc(distance / spread)) / distance
            total += 0.5 * q @ np.where(near, pairs, 0.0) @ q
        return COULOMB * total

    return energy


def _cube(extent):
    """Integer vectors [n, 3] with components from -extent to extent."""
    steps = np.arange(-extent, extent + 1)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
