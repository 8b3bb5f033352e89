"""The Coulomb energy as a differentiable torch expression: the definition used in training.

All boundary conditions end in one expression in float64 tables and matrix products, so first and
second derivatives with respect to charges, positions and cells come from torch itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from equicalc.electrostatics import lattice
from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.electrostatics.lattice import Boundary

# Structures are summed together as long as their phase tables stay below this many numbers.
CHUNK_ELEMENTS = 1 << 23

# Below this (r / 2 sigma)^2 the pair function erf(x)/x is summed as its power series: exact to
# rounding, and free of the cancellation which the derivatives of erf(x)/x suffer at small x.
SERIES_LIMIT = 0.25
SERIES_TERMS = 12


def coulomb_energy(
    charges: torch.Tensor,
    positions: torch.Tensor,
    cell: torch.Tensor,
    pbc: torch.Tensor | Sequence[bool],
    sigma: float,
    accuracy: float = 1e-10,
) -> torch.Tensor:
    r"""Coulomb energy of Gaussian charges of one structure, differentiable twice.

    .. math:: E = \frac{k_e}{2} \sum_{ij,n}{}' q_i q_j\,
              \frac{\operatorname{erf}(r_{ijn} / 2\sigma)}{r_{ijn}}

    over all pairs and periodic images without a charge's interaction with itself: the interaction
    of normal distributions of width sigma. Three periodic directions, tin-foil boundary,
    neutralising background (Ewald, Ann. Phys. 369, 253 (1921); no real-space part, since the
    model's own Gaussians make the sum over waves converge):

    .. math:: E = \frac{2\pi k_e}{V} \sum_{k \ne 0} \frac{e^{-\sigma^2k^2}}{k^2} t(k)\,
              \Big|\sum_j q_j e^{ikr_j}\Big|^2
              - \frac{k_e}{2\sigma\sqrt\pi} \sum_j q_j^2 - \frac{2\pi\sigma^2 k_e}{V} Q^2

    with t(k) the smooth edge of `lattice.taper_range`. Two periodic directions: the same sum with
    a vacuum of its own plus :math:`\frac{2\pi k_e}{V} (M_z^2 - Q \sum_j q_j z_j^2 - Q^2 L_z^2/12)`
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
        Width of the Gaussians, angstrom.
    accuracy
        Largest error of the interaction of a pair of charges as part of its value at contact,
        k_e q_i q_j / (sigma sqrt(pi)): between 1e-15 and 0.1.

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
    sigma: float,
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

    Returns
    -------
    torch.Tensor
        [S], eV, in the type of `positions`; 0 for a structure without atoms.

    Raises
    ------
    ValueError
        As `coulomb_energy`.
    """
    _check_inputs(charges, positions, cells, pbc, structure)
    lattice.check_sigma(sigma)
    lattice.taper_range(accuracy)
    n_structures = cells.shape[0]
    host_cells = cells.detach().to("cpu", torch.float64).numpy()
    host_pbc = pbc.detach().cpu().numpy()
    kinds = [lattice.boundary(flags) for flags in host_pbc]
    for s in range(n_structures):
        lattice.check_cell(
            host_cells[s], host_pbc[s], f" in structure {s}" if n_structures > 1 else ""
        )
    charges, positions, present = _pad(charges, positions, structure, n_structures)

    energies = torch.zeros(n_structures, dtype=torch.float64, device=positions.device)
    for s in [s for s, kind in enumerate(kinds) if kind is Boundary.OPEN]:
        atoms = present[s]
        energy = _open_energy(charges[s, atoms], positions[s, atoms], sigma)
        energies = energies.index_add(0, torch.tensor([s], device=energies.device), energy[None])
    periodic = [s for s, kind in enumerate(kinds) if kind is not Boundary.OPEN and present[s].any()]
    for chunk in _chunks(periodic, host_cells, positions.shape[1], sigma, accuracy):
        index = torch.tensor(chunk, device=energies.device)
        energy = _periodic_energies(
            charges[index],
            positions[index],
            present[index],
            cells[index],
            [kinds[s] for s in chunk],
            host_pbc[chunk],
            sigma,
            accuracy,
        )
        energies = energies.index_add(0, index, energy)
    return energies.to(positions.dtype)


def _check_inputs(
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


def _pad(
    charges: torch.Tensor, positions: torch.Tensor, structure: torch.Tensor, n_structures: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[N] and [N, 3] as [S, M] and [S, M, 3], plus the mask [S, M] of places that hold an atom.

    Empty places carry no charge and sit on the origin.
    """
    counts = torch.bincount(structure, minlength=n_structures)
    width = int(counts.max()) if structure.numel() else 0
    order = torch.argsort(structure, stable=True)
    rank = torch.arange(structure.numel(), device=structure.device)
    start = torch.cumsum(counts, 0) - counts
    row = structure[order]
    place = (row, rank - start[row])
    padded_charges = charges.new_zeros(n_structures, width).index_put(place, charges[order])
    padded_positions = positions.new_zeros(n_structures, width, 3).index_put(
        place, positions[order]
    )
    present = torch.arange(width, device=structure.device)[None] < counts[:, None]
    return padded_charges, padded_positions, present


def _chunks(
    structures: list[int], cells: np.ndarray, width: int, sigma: float, accuracy: float
) -> list[list[int]]:
    """Split the structures so that each part's phase tables stay below CHUNK_ELEMENTS numbers."""
    chunks: list[list[int]] = []
    size = 0
    for s in structures:
        extent = np.sort(lattice.wave_extent(cells[s], sigma, accuracy))
        elements = 2 * width * (int(extent[0]) + 1) * (2 * int(extent[1]) + 1)
        if not chunks or size + elements > CHUNK_ELEMENTS:
            chunks.append([])
            size = 0
        chunks[-1].append(s)
        size += elements
    return chunks


def _open_energy(charges: torch.Tensor, positions: torch.Tensor, sigma: float) -> torch.Tensor:
    """Pair sum over all atoms of a cluster, eV, float64."""
    charges, positions = charges.double(), positions.double()
    first, second = torch.triu_indices(len(charges), len(charges), 1, device=charges.device)
    distance_sq = (positions[second] - positions[first]).square().sum(-1)
    pairs = smeared_inverse_distance(distance_sq, sigma)
    return COULOMB_CONSTANT * (charges[first] * charges[second] * pairs).sum()


def smeared_inverse_distance(distance_sq: torch.Tensor, sigma: float) -> torch.Tensor:
    """erf(r / 2 sigma) / r from r^2, with all derivatives finite at r = 0.

    Parameters
    ----------
    distance_sq
        Any shape, angstrom^2.
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


def _periodic_energies(
    charges: torch.Tensor,
    positions: torch.Tensor,
    present: torch.Tensor,
    cells: torch.Tensor,
    kinds: list[Boundary],
    pbc: np.ndarray,
    sigma: float,
    accuracy: float,
) -> torch.Tensor:
    """Energies [S] (eV, float64) of structures with two or three periodic directions."""
    work = positions.dtype
    exact_charges, positions, cells = charges.double(), positions.double(), cells.double()
    total = exact_charges.sum(1)
    effective: list[torch.Tensor] = []
    corrections: list[torch.Tensor] = []
    for s, kind in enumerate(kinds):
        if kind is Boundary.BULK:
            effective.append(_reduced(cells[s]))
            corrections.append(total.new_zeros(()))
        else:
            atoms = present[s]
            cell, correction = _slab(
                exact_charges[s, atoms], positions[s, atoms], cells[s], pbc[s], sigma, accuracy
            )
            effective.append(cell)
            corrections.append(correction)
    lattices = torch.stack(effective)
    volumes = torch.linalg.det(lattices).abs()
    waves = _wave_energies(charges, positions, lattices, sigma, accuracy, work)
    background = 2.0 * math.pi * sigma**2 * total.square()
    self_energy = exact_charges.square().sum(1) / (2.0 * sigma * math.sqrt(math.pi))
    bulk = (2.0 * math.pi * waves - background) / volumes - self_energy
    return COULOMB_CONSTANT * (bulk + torch.stack(corrections))


def _reduced(cell: torch.Tensor) -> torch.Tensor:
    """Short vectors of the same lattice as the rows of `cell`."""
    return torch.from_numpy(lattice.reduction(cell.detach().cpu().numpy())).to(cell) @ cell


def _slab(
    charges: torch.Tensor,
    positions: torch.Tensor,
    cell: torch.Tensor,
    pbc: np.ndarray,
    sigma: float,
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
    height = lattice.slab_height(in_plane.detach().cpu().numpy(), thickness, sigma, accuracy)
    total, dipole = charges.sum(), (charges * heights).sum()
    spread = (charges * heights.square()).sum()
    correction = dipole.square() - total * spread - total.square() * height**2 / 12.0
    # Reduced on its own, so that the normal stays the third vector.
    shape = torch.stack([first, second, normal * height])
    return _reduced(shape), 2.0 * math.pi / (area * height) * correction


def _wave_energies(
    charges: torch.Tensor,
    positions: torch.Tensor,
    cells: torch.Tensor,
    sigma: float,
    accuracy: float,
    work: torch.dtype,
) -> torch.Tensor:
    """Sum over k != 0 of exp(-sigma^2 k^2) t(k) |S(k)|^2 / k^2 for each structure: [S], float64.

    exp(i k r) is a product of three one-dimensional tables. With two of them multiplied out, S(k)
    of all waves of a box is one matrix product [atoms, h1 h2]^T [atoms, h3], and no table of atoms
    times waves ever exists. Waves in the corners of the box, outside the sphere, have weight zero.
    Phases are taken in float64 and reduced to half a turn, so float32 only enters in the products.
    """
    host = cells.detach().cpu().numpy()
    extents = lattice.wave_extent(host, sigma, accuracy).max(axis=0)
    # The longest axis goes last: it does not enter the largest table.
    axes = np.argsort(extents, kind="stable").tolist()
    extent = [int(extents[axis]) for axis in axes]
    inverse = torch.linalg.inv(cells)[:, :, axes]
    fractional = positions @ inverse

    # k and -k are worth the same: only h1 >= 0 is summed, h1 > 0 twice.
    ranges = [
        torch.arange(0 if axis == 0 else -extent[axis], extent[axis] + 1, device=cells.device)
        for axis in range(3)
    ]
    tables = []
    for axis in range(3):
        turns = fractional[..., axis, None] * ranges[axis]
        angle = 2.0 * math.pi * (turns - turns.detach().round())
        tables.append((angle.cos().to(work), angle.sin().to(work)))
    (c1, s1), (c2, s2), (c3, s3) = tables
    c1, s1, c2, s2 = c1[..., :, None], s1[..., :, None], c2[..., None, :], s2[..., None, :]
    plane = torch.cat([(c1 * c2 - s1 * s2).flatten(-2), (s1 * c2 + c1 * s2).flatten(-2)], -1)
    line = torch.cat([c3, s3], -1) * charges[..., None]
    product = (plane.transpose(1, 2) @ line).double()
    n_plane, n_line = plane.shape[-1] // 2, c3.shape[-1]
    real = product[:, :n_plane, :n_line] - product[:, n_plane:, n_line:]
    imaginary = product[:, :n_plane, n_line:] + product[:, n_plane:, :n_line]

    waves = torch.cartesian_prod(*ranges).to(torch.float64)
    k_sq = (2.0 * math.pi * waves @ inverse.transpose(1, 2)).square().sum(-1)
    multiplicity = torch.where(waves[:, 0] > 0, 2.0, 1.0)
    weights = multiplicity * _wave_weights(k_sq, sigma, accuracy)
    return (weights * (real.square() + imaginary.square()).flatten(1)).sum(1)


def _wave_weights(k_sq: torch.Tensor, sigma: float, accuracy: float) -> torch.Tensor:
    """exp(-sigma^2 k^2) t(k) / k^2, zero at k = 0 (tin-foil) and outside the sphere of `accuracy`.

    t is the quintic step in k^2, which has two continuous derivatives.
    """
    inner, outer = lattice.taper_range(accuracy)
    zero = k_sq == 0
    square = sigma**2 * torch.where(zero, torch.ones_like(k_sq), k_sq)
    step = ((square - inner**2) / (outer**2 - inner**2)).clamp(0.0, 1.0)
    taper = 1.0 - step**3 * (10.0 - 15.0 * step + 6.0 * step**2)
    weight = sigma**2 * (-square).exp() * taper / square
    return torch.where(zero, torch.zeros_like(weight), weight)
