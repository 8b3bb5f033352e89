"""The Coulomb energy as a differentiable torch expression: the definition used in training.

All boundary conditions end in one expression in float64 tables and matrix products, so first and
second derivatives with respect to charges, positions and cells come from torch itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from equicalc.electrostatics import lattice, wave_sum
from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.electrostatics.lattice import Boundary

# Below this (r / 2 sigma)^2 the pair function erf(x)/x is summed as its power series: exact to
# rounding, and free of the cancellation which the derivatives of erf(x)/x suffer at small x.
SERIES_LIMIT = 0.25
SERIES_TERMS = 12


def coulomb_energy(
    charges: torch.Tensor,
    positions: torch.Tensor,
    cell: torch.Tensor,
    pbc: torch.Tensor | Sequence[bool],
    sigma: float | torch.Tensor,
    accuracy: float = 1e-10,
) -> torch.Tensor:
    r"""Coulomb energy of Gaussian charges of one structure, differentiable twice.

    .. math:: E = \frac{k_e}{2} \sum_{ij,n}{}' q_i q_j\,
              \frac{1}{r_{ijn}}
              \operatorname{erf}\Big(\frac{r_{ijn}}{\sqrt{2 (\sigma_i^2 + \sigma_j^2)}}\Big)

    over all pairs and periodic images without a charge's interaction with itself: the interaction
    of normal distributions of widths sigma. Three periodic directions, tin-foil boundary,
    neutralising background (Ewald, Ann. Phys. 369, 253 (1921); no real-space part, since the
    model's own Gaussians make the sum over waves converge):

    .. math:: E = \frac{2\pi k_e}{V} \sum_{k \ne 0} \frac{t(k)}{k^2}\,
              \Big|\sum_j q_j e^{-\sigma_j^2 k^2/2} e^{ikr_j}\Big|^2
              - \frac{k_e}{2\sqrt\pi} \sum_j \frac{q_j^2}{\sigma_j}
              - \frac{2\pi k_e}{V} Q \sum_j q_j \sigma_j^2

    with t(k) the smooth edge of `lattice.taper_range` for the narrowest charge. The last term makes
    the charges interact with the background as points do, whatever their width. Two periodic
    directions: the same sum with a vacuum of its own plus
    :math:`\frac{2\pi k_e}{V} (M_z^2 - Q \sum_j q_j z_j^2 - Q^2 L_z^2/12)`
    (Yeh and Berkowitz, J. Chem. Phys. 111, 3155 (1999); with net charge Ballenegger, Arnold and
    Cerda, J. Chem. Phys. 131, 094107 (2009)); the vector of the open direction is ignored, and a
    charged slab has the energy of the two-dimensional lattice without its divergent constant. No
    periodic direction: the pair sum itself.

    Parameters
    ----------
    charges
        [N], e.
    positions
        [N, 3], angstrom; float32 or float64, and the result has the same type.
    cell
        [3, 3], angstrom, one vector per row; those of open directions are ignored, may be zero.
    pbc
        Three flags. One periodic direction is refused.
    sigma
        Width of the Gaussians, angstrom: one number, or a tensor [N] (then differentiable too).
        The cost grows with the number of widths in a structure: meant for one per element.
    accuracy
        Largest error of the interaction of a pair of charges as part of its value at contact,
        k_e q_i q_j / (sigma sqrt(pi)) with the narrowest sigma: between 1e-15 and 0.1.

    Returns
    -------
    torch.Tensor
        The energy in eV, a 0-dim tensor.

    Raises
    ------
    ValueError
        For wrong shapes, numbers that are not finite, a degenerate cell or one periodic direction.
    """
    flags = torch.as_tensor(pbc, dtype=torch.bool)
    if cell.shape != (3, 3) or flags.shape != (3,):
        raise ValueError(
            f"cell and pbc must have the shapes [3, 3] and [3]; found {tuple(cell.shape)} and "
            f"{tuple(flags.shape)}"
        )
    structure = torch.zeros(positions.shape[:1], dtype=torch.int64, device=positions.device)
    return coulomb_energies(
        charges, positions, cell[None], flags[None], structure, sigma, accuracy
    )[0]


def coulomb_energies(
    charges: torch.Tensor,
    positions: torch.Tensor,
    cells: torch.Tensor,
    pbc: torch.Tensor,
    structure: torch.Tensor,
    sigma: float | torch.Tensor,
    accuracy: float = 1e-10,
) -> torch.Tensor:
    """Coulomb energies of a batch of structures; formula and meaning as in `coulomb_energy`.

    Parameters
    ----------
    charges, positions
        [N] in e and [N, 3] in angstrom, the atoms of all structures.
    cells, pbc
        [S, 3, 3] in angstrom and [S, 3] flags.
    structure
        [N] int64, the structure of each atom, in any order.
    sigma
        One number, or a tensor [N], angstrom.

    Returns
    -------
    torch.Tensor
        [S], eV, in the type of `positions`; 0 for a structure without atoms.

    Raises
    ------
    ValueError
        As `coulomb_energy`.
    """
    check_inputs(charges, positions, cells, pbc, structure)
    widths = widths_of(sigma, positions)
    lattice.taper_range(accuracy)
    n_structures = cells.shape[0]
    host_cells = cells.detach().to("cpu", torch.float64).numpy()
    host_pbc = pbc.detach().cpu().numpy()
    kinds = [lattice.boundary(flags) for flags in host_pbc]
    for s in range(n_structures):
        lattice.check_cell(
            host_cells[s], host_pbc[s], f" in structure {s}" if n_structures > 1 else ""
        )
    work, charges_of_work = positions.dtype, charges
    charges, positions, cells = charges.double(), positions.double(), cells.double()
    counts = torch.bincount(structure, minlength=n_structures).tolist()
    atoms = torch.argsort(structure, stable=True).split(counts)

    energies = torch.zeros(n_structures, dtype=torch.float64, device=positions.device)
    for s in [s for s, kind in enumerate(kinds) if kind is Boundary.OPEN]:
        energy = _open_energy(charges[atoms[s]], positions[atoms[s]], widths[atoms[s]])
        energies = energies.index_add(0, torch.tensor([s], device=energies.device), energy[None])
    periodic = [s for s, kind in enumerate(kinds) if kind is not Boundary.OPEN and counts[s]]
    if not periodic:
        return energies.to(work)

    lattices, corrections = [], []
    for s in periodic:
        lattice_vectors, correction = cells[s], energies.new_zeros(())
        if kinds[s] is Boundary.SLAB:
            own = charges[atoms[s]], positions[atoms[s]], widths[atoms[s]].detach()
            lattice_vectors, correction = slab(*own, cells[s], host_pbc[s], accuracy)
        lattices.append(reduced(lattice_vectors))
        corrections.append(correction)
    index = torch.tensor(periodic, device=energies.device)
    effective = torch.stack(lattices)
    waves = wave_sum.energies(
        charges_of_work.to(work),
        positions,
        widths,
        effective,
        [atoms[s] for s in periodic],
        accuracy,
    )

    def total(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(energies).index_add(0, structure, values)[index]

    background = total(charges) * total(charges * widths.square())
    self_energy = total(charges.square() / widths) / (2.0 * math.sqrt(math.pi))
    volumes = torch.linalg.det(effective).abs()
    bulk = 2.0 * math.pi * (waves - background) / volumes - self_energy
    energy = COULOMB_CONSTANT * (bulk + torch.stack(corrections))
    return energies.index_add(0, index, energy).to(work)


def widths_of(sigma: float | torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Width of each atom [N], float64, with the gradient of `sigma`; ValueError when unusable."""
    n_atoms = positions.shape[0]
    if np.ndim(sigma) == 0 and not isinstance(sigma, torch.Tensor):
        lattice.check_sigma(float(sigma))
        return torch.full((n_atoms,), float(sigma), dtype=torch.float64, device=positions.device)
    sigma = torch.as_tensor(sigma, device=positions.device)
    if sigma.shape not in ((), (n_atoms,)):
        raise ValueError(
            f"sigma must be one number or have the shape ({n_atoms},); found {tuple(sigma.shape)}"
        )
    if sigma.numel():
        lattice.check_sigma(float(sigma.detach().min()))
        lattice.check_sigma(float(sigma.detach().max()))
    return sigma.double().expand(n_atoms)


def check_inputs(
    charges: torch.Tensor,
    positions: torch.Tensor,
    cells: torch.Tensor,
    pbc: torch.Tensor,
    structure: torch.Tensor,
) -> None:
    """Raise ValueError when shapes do not belong together or a number is not finite."""
    n_atoms, n_structures = positions.shape[0], cells.shape[0]
    expected = {
        "charges": (charges, (n_atoms,)),
        "positions": (positions, (n_atoms, 3)),
        "cells": (cells, (n_structures, 3, 3)),
        "pbc": (pbc, (n_structures, 3)),
        "structure": (structure, (n_atoms,)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}; found {tuple(tensor.shape)}")
    for name in ("charges", "positions"):
        tensor = expected[name][0]
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} hold NaN or infinity")
    if n_atoms and not 0 <= int(structure.min()) <= int(structure.max()) < n_structures:
        raise ValueError(
            f"structure must hold indices from 0 to {n_structures - 1}, one per cell; found "
            f"{int(structure.min())} to {int(structure.max())}"
        )


def _open_energy(
    charges: torch.Tensor, positions: torch.Tensor, widths: torch.Tensor
) -> torch.Tensor:
    """Pair sum over all atoms of a cluster, eV, float64."""
    first, second = torch.triu_indices(len(charges), len(charges), 1, device=charges.device)
    distance_sq = (positions[second] - positions[first]).square().sum(-1)
    common = (0.5 * (widths[first].square() + widths[second].square())).sqrt()
    pairs = smeared_inverse_distance(distance_sq, common)
    return COULOMB_CONSTANT * (charges[first] * charges[second] * pairs).sum()


def smeared_inverse_distance(
    distance_sq: torch.Tensor, sigma: float | torch.Tensor
) -> torch.Tensor:
    """erf(r / 2 sigma) / r from r^2, with all derivatives finite at r = 0.

    Parameters
    ----------
    distance_sq
        Any shape, angstrom^2.
    sigma
        Width of both charges, or sqrt((sigma_i^2 + sigma_j^2) / 2) when they differ; angstrom.
    """
    gamma = 0.5 / sigma
    square = distance_sq * gamma**2
    near = square < SERIES_LIMIT
    small = torch.where(near, square, torch.zeros_like(square))
    series = torch.zeros_like(square)
    for n in reversed(range(SERIES_TERMS)):
        series = series * small + (-1.0) ** n / (math.factorial(n) * (2 * n + 1))
    far = torch.where(near, torch.ones_like(square), square).sqrt()
    return gamma * torch.where(near, 2.0 / math.sqrt(math.pi) * series, torch.erf(far) / far)


def reduced(cell: torch.Tensor) -> torch.Tensor:
    """Short vectors of the same lattice as the rows of `cell`."""
    return torch.from_numpy(lattice.reduction(cell.detach().cpu().numpy())).to(cell) @ cell


def slab(
    charges: torch.Tensor,
    positions: torch.Tensor,
    widths: torch.Tensor,
    cell: torch.Tensor,
    pbc: np.ndarray,
    accuracy: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cell with the slab's own vacuum along its normal, and the correction in eV / k_e.

    The energy does not depend on the height of that cell, which is therefore a constant for the
    derivatives although it follows the thickness of the slab.
    """
    first, second = cell[np.flatnonzero(pbc).tolist()]
    cross = torch.linalg.cross(first, second)
    area = cross.norm()
    normal = cross / area
    heights = positions @ normal
    heights = heights - heights.detach().mean()
    thickness = float(heights.detach().max() - heights.detach().min())
    in_plane = torch.stack([first, second])
    widest = float(widths.max())
    height = lattice.slab_height(in_plane.detach().cpu().numpy(), thickness, widest, accuracy)
    total, dipole = charges.sum(), (charges * heights).sum()
    spread = (charges * heights.square()).sum()
    correction = dipole.square() - total * spread - total.square() * height**2 / 12.0
    shape = torch.stack([first, second, normal * height])
    return shape, 2.0 * math.pi / (area * height) * correction
