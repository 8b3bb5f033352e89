"""The sum over waves of the differentiable expression, for a batch of structures.

Atoms of one structure that share a width form a row; rows are padded and summed by matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from equicalc.electrostatics import lattice

# Structures are summed together as long as their tables stay below this many numbers.
CHUNK_ELEMENTS = 1 << 23


@dataclass
class _Rows:
    """Atoms [R, M] of R pairs of structure and width; empty places hold no charge.

    `excess` is sigma^2 - width^2: zero, and there only to carry the gradient of sigma.
    """

    structure: torch.Tensor  # [R]
    width: torch.Tensor  # [R], angstrom
    charges: torch.Tensor  # [R, M], e, in the type of the matrix products
    positions: torch.Tensor  # [R, M, 3], angstrom
    excess: torch.Tensor | None  # [R, M], angstrom^2; None when sigma needs no gradient


def energies(
    charges: torch.Tensor,
    positions: torch.Tensor,
    widths: torch.Tensor,
    cells: torch.Tensor,
    atoms: list[torch.Tensor],
    accuracy: float,
) -> torch.Tensor:
    """Sum over k != 0 of t(k) / k^2 |sum_j q_j exp(-sigma_j^2 k^2 / 2 + i k r_j)|^2.

    Parameters
    ----------
    charges
        [N], e; its type is that of the matrix products.
    positions, widths
        [N, 3] and [N], angstrom, float64.
    cells
        [S, 3, 3], angstrom, float64, with short vectors.
    atoms
        Indices of the atoms of each of the S structures, none of them empty.
    accuracy
        As in `coulomb_energy`.

    Returns
    -------
    torch.Tensor
        [S], e^2 A^2, float64.
    """
    values = widths.detach()
    host = values.cpu().numpy()
    host_atoms = [own.cpu().numpy() for own in atoms]
    narrow = np.array([host[own].min() for own in host_atoms])
    rows = [len(np.unique(host[own])) for own in host_atoms]
    largest = max(len(own) for own in atoms)
    extents = lattice.wave_extent(cells.detach().cpu().numpy(), narrow, accuracy)
    parts = []
    for chunk in _chunks(extents, rows, largest):
        group = _rows(charges, positions, widths, [atoms[s] for s in chunk])
        limits = torch.from_numpy(narrow[chunk]).to(cells.device)
        parts.append(_row_sums(group, cells[chunk], limits, extents[chunk].max(axis=0), accuracy))
    return torch.cat(parts)


def _chunks(extents: np.ndarray, rows: list[int], width: int) -> list[list[int]]:
    """Split the structures so that each part's tables stay below CHUNK_ELEMENTS numbers."""
    chunks: list[list[int]] = []
    size = 0
    for s, count in enumerate(rows):
        extent = np.sort(extents[s])
        plane = (int(extent[0]) + 1) * (2 * int(extent[1]) + 1)
        # Phases of the atoms; and where every atom has its own width, the waves of every row.
        elements = plane * max(2 * width, 4 * count * (2 * int(extent[2]) + 1) if count > 4 else 0)
        if not chunks or size + elements > CHUNK_ELEMENTS:
            chunks.append([])
            size = 0
        chunks[-1].append(s)
        size += elements
    return chunks


def _rows(
    charges: torch.Tensor,
    positions: torch.Tensor,
    widths: torch.Tensor,
    atoms: list[torch.Tensor],
) -> _Rows:
    """Gather the atoms of some structures into rows."""
    device = charges.device
    flat = torch.cat(atoms)
    sizes = torch.tensor([len(own) for own in atoms], device=device)
    structure = torch.arange(len(atoms), device=device).repeat_interleave(sizes)
    levels, level = torch.unique(widths.detach()[flat], return_inverse=True)
    keys, row, counts = torch.unique(
        structure * len(levels) + level, return_inverse=True, return_counts=True
    )
    order = torch.argsort(row, stable=True)
    row, flat = row[order], flat[order]
    rank = torch.arange(len(row), device=device) - (torch.cumsum(counts, 0) - counts)[row]
    shape = len(keys), int(counts.max())
    width = levels[keys % len(levels)]
    excess = None
    if widths.requires_grad:
        beyond = widths[flat].square() - width[row].square()
        excess = beyond.new_zeros(shape).index_put((row, rank), beyond)
    return _Rows(
        structure=keys // len(levels),
        width=width,
        charges=charges.new_zeros(shape).index_put((row, rank), charges[flat]),
        positions=positions.new_zeros(*shape, 3).index_put((row, rank), positions[flat]),
        excess=excess,
    )


def _row_sums(
    rows: _Rows,
    cells: torch.Tensor,
    narrow: torch.Tensor,
    extents: np.ndarray,
    accuracy: float,
) -> torch.Tensor:
    """Weighted |S(k)|^2 of each structure, [S].

    exp(i k r) is a product of three one-dimensional tables. With two of them multiplied out, S(k)
    of all waves of a box is one matrix product [atoms, h1 h2]^T [atoms, h3], and no table of atoms
    times waves ever exists. Waves in the corners of the box, outside the sphere, have weight zero.
    Phases are taken in float64 and reduced to half a turn, so float32 only enters in the products.

    exp(-sigma^2 k^2 / 2) belongs to the row. Its derivatives with respect to the sigma of an atom
    come from its Taylor series in the excess up to second order, one set of sums for each order.
    """
    # The longest axis goes last: it does not enter the largest table.
    axes = np.argsort(extents, kind="stable").tolist()
    extent = [int(extents[axis]) for axis in axes]
    inverse = torch.linalg.inv(cells)[:, :, axes]
    # k and -k are worth the same: only h1 >= 0 is summed, h1 > 0 twice.
    ranges = [
        torch.arange(0 if axis == 0 else -extent[axis], extent[axis] + 1, device=cells.device)
        for axis in range(3)
    ]
    real, imaginary = _structure_factors(rows, rows.positions @ inverse[rows.structure], ranges)

    waves = torch.cartesian_prod(*ranges).to(torch.float64)
    k_sq = (2.0 * math.pi * waves @ inverse.transpose(1, 2)).square().sum(-1)
    row_sq = k_sq[rows.structure]
    damping = (-0.5 * rows.width.square()[:, None] * row_sq).exp()
    if rows.excess is not None:
        damping = torch.stack(
            [damping, -0.5 * row_sq * damping, 0.125 * row_sq.square() * damping], 1
        ).flatten(1)
        row_sq = row_sq.repeat(1, 3)
    real, imaginary = damping * real, damping * imaginary
    if rows.excess is not None:
        real, imaginary = (x.unflatten(1, (3, -1)).sum(1) for x in (real, imaginary))
    if len(rows.structure) > len(cells):
        real, imaginary = (
            torch.zeros_like(k_sq).index_add(0, rows.structure, x) for x in (real, imaginary)
        )
    multiplicity = torch.where(waves[:, 0] > 0, 2.0, 1.0)
    weights = multiplicity * wave_weights(k_sq, narrow, accuracy)
    return (weights * (real.square() + imaginary.square())).sum(1)


def _structure_factors(
    rows: _Rows, fractional: torch.Tensor, ranges: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and imaginary part of sum_j q_j excess_j^t exp(i k r_j): [R, T W], t = 0..T-1."""
    work = rows.charges.dtype
    tables = []
    for axis in range(3):
        turns = fractional[..., axis, None] * ranges[axis]
        angle = 2.0 * math.pi * (turns - turns.detach().round())
        tables.append((angle.cos().to(work), angle.sin().to(work)))
    (c1, s1), (c2, s2), (c3, s3) = tables
    c1, s1, c2, s2 = c1[..., :, None], s1[..., :, None], c2[..., None, :], s2[..., None, :]
    plane = torch.cat([(c1 * c2 - s1 * s2).flatten(-2), (s1 * c2 + c1 * s2).flatten(-2)], -1)
    line = torch.cat([c3, s3], -1) * rows.charges[..., None]
    n_plane, n_line = plane.shape[-1] // 2, c3.shape[-1]
    if rows.excess is not None:
        power = rows.excess.to(work)[..., None]
        line = torch.cat([line, power * line, power.square() * line], -1)
    # [R, real and imaginary, h1 h2, T, real and imaginary, h3]
    product = (plane.transpose(1, 2) @ line).double()
    product = product.unflatten(2, (-1, 2, n_line)).unflatten(1, (2, n_plane))
    real = product[:, 0, :, :, 0] - product[:, 1, :, :, 1]
    imaginary = product[:, 0, :, :, 1] + product[:, 1, :, :, 0]
    return real.transpose(1, 2).flatten(1), imaginary.transpose(1, 2).flatten(1)


def wave_weights(k_sq: torch.Tensor, narrow: torch.Tensor, accuracy: float) -> torch.Tensor:
    """t(k) / k^2 [S, W], zero at k = 0 (tin-foil) and outside the sphere of `accuracy`.

    t is the quintic step in k^2, which has two continuous derivatives.
    """
    inner, outer = lattice.taper_range(accuracy)
    zero = k_sq == 0
    safe = torch.where(zero, torch.ones_like(k_sq), k_sq)
    step = (narrow[:, None].square() * safe - inner**2) / (outer**2 - inner**2)
    step = step.clamp(0.0, 1.0)
    taper = 1.0 - step**3 * (10.0 - 15.0 * step + 6.0 * step**2)
    return torch.where(zero, torch.zeros_like(k_sq), taper / safe)
