"""The mesh sum on a CUDA device: splines, transforms and waves there, a few totals here.

Formulas are those of csrc/coulomb/mesh.h; the kernels are in csrc/cuda (mesh.h, mesh_waves.h).
Charges reach the mesh as integers, so results are the same bits on every call. Positions and
charges are sent, forces and potentials come back, once per call.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equicalc.core import load_library
from equicalc.electrostatics import lattice
from equicalc.electrostatics.constants import COULOMB_CONSTANT

Array = npt.NDArray[np.float64]

# A mesh: vectors of the lattice [3, 3] in angstrom, points along each of them.
CellAndPoints = tuple[Array, tuple[int, ...]]


@dataclass(frozen=True)
class DeviceCharges:
    """Charges on the device.

    Attributes
    ----------
    positions, charges
        [N, 3] in angstrom and [N] in e, float64.
    members
        [N] int32, which of the widths is an atom's; empty where there is one.
    largest
        No charge is larger, e. It decides about the unit in which charges are spread.
    """

    positions: torch.Tensor
    charges: torch.Tensor
    members: torch.Tensor
    largest: float


def send(
    charges: Array, positions: Array, sigmas: Array, widths: tuple[float, ...], device: str
) -> DeviceCharges:
    """Charges on the device; arguments as of `mesh_sums`, `widths` the different sigmas."""
    largest = max(float(charges.max(initial=0.0)), -float(charges.min(initial=0.0)))
    sent = [
        torch.from_numpy(np.require(array, requirements="W")).to(device)
        for array in (positions, charges, _members(sigmas, widths))
    ]
    return DeviceCharges(sent[0], sent[1], sent[2], largest)


def wave_sum(
    sent: DeviceCharges,
    cell: Array,
    points: tuple[int, ...],
    order: int,
    widths: tuple[float, ...],
    edge: tuple[float, float],
    single: bool,
) -> torch.Tensor:
    """Sum over waves on one mesh, on the device of the charges and without waiting for it.

    Returns
    -------
    tensor [4 N + 7]
        Forces [N, 3] and potentials [N], then energy and moments of the waves (WaveSums).
    """
    load_library()
    device = sent.charges.device
    result: torch.Tensor = torch.ops.equicalc.mesh_sum(
        sent.positions,
        sent.charges,
        sent.members,
        _windows(tuple(points), order, device),
        _on_device(widths, device),
        cell.ravel().tolist(),
        points,
        order,
        edge,
        sent.largest,
        single,
    )
    return result


def mesh_sums(
    charges: Array,
    positions: Array,
    sigmas: Array,
    widths: tuple[float, ...],
    meshes: Iterable[CellAndPoints],
    order: int,
    accuracy: float,
    single: bool,
    device: str,
) -> list[dict[str, Any]]:
    """Results of some meshes for the same charges: each what `mesh.mesh_sum` gives.

    Parameters
    ----------
    charges, positions, sigmas, order, accuracy, single
        As of `mesh.mesh_sum`.
    widths
        The different sigmas, ascending.
    meshes
        Cell and points of each.
    device
        Where they are evaluated.
    """
    edge = lattice.wave_range(sigmas, accuracy)
    sent = send(charges, positions, sigmas, widths, device)
    running = []
    for cell, points in meshes:
        tables = _tables(cell.tobytes(), tuple(points), order, widths, edge, device)
        running.append((tables, wave_sum(sent, cell, points, order, widths, edge, single)))
    local = _Local.of(charges, sigmas, widths)
    return [_results(found.cpu().numpy(), charges, local, tables) for tables, found in running]


@dataclass(frozen=True)
class _Tables:
    """Of a mesh: what turns sums into energy and virial, the numbers of `kinds` [10].

    Attributes
    ----------
    by_moments
        [10, 7], by the moments of the waves.
    by_squares
        [10, widths], by the sum of squares of charges of a width: what they miss of themselves on
        the mesh, and their self energy.
    background
        [10], by total charge times sum of q sigma^2.
    selves
        [widths], potential of a charge of 1 e due to what is in `by_squares`.
    """

    by_moments: Array
    by_squares: Array
    background: Array
    selves: Array


@dataclass(frozen=True)
class _Local:
    """Sums over charges: numbers where there is one width, arrays of widths or atoms else.

    Attributes
    ----------
    members
        Which of the widths is an atom's.
    squares
        [widths], sum of q^2.
    widths_squared
        sigma^2 of atoms.
    total, moment
        Sums of q and of q sigma^2.
    """

    members: Any
    squares: Array
    widths_squared: Any
    total: float
    moment: float

    @staticmethod
    def of(charges: Array, sigmas: Array, widths: tuple[float, ...]) -> _Local:
        """Sums over these charges."""
        total = float(charges.sum())
        if len(widths) == 1:
            square = widths[0] ** 2
            return _Local(0, np.array([charges @ charges]), square, total, total * square)
        members = _members(sigmas, widths)
        squares = np.bincount(members, charges**2, len(widths)).astype(np.float64)
        return _Local(members, squares, sigmas**2, total, float(charges @ sigmas**2))


def _results(values: Array, charges: Array, local: _Local, tables: _Tables) -> dict[str, Any]:
    """Results from those of `wave_sum`, with prefactors and with what needs no waves."""
    n_atoms = len(charges)
    forces, potentials = values[: 3 * n_atoms], values[3 * n_atoms : 4 * n_atoms]
    potentials += tables.selves[local.members] * charges
    potentials += tables.background[0] * (local.total * local.widths_squared + local.moment)
    kinds = tables.by_moments @ values[4 * n_atoms :] + tables.by_squares @ local.squares
    kinds += local.total * local.moment * tables.background
    return {
        "energy": float(kinds[0]),
        "potentials": potentials,
        "forces": forces.reshape(n_atoms, 3),
        "virial": kinds[1:].reshape(3, 3),
        "atom_virials": None,
    }


def _members(sigmas: Array, widths: tuple[float, ...]) -> npt.NDArray[np.int32]:
    """Which of the widths is an atom's [N]; empty where there is one."""
    if len(widths) == 1:
        return np.empty(0, dtype=np.int32)
    return np.searchsorted(widths, sigmas).astype(np.int32)


@functools.lru_cache(maxsize=16)
def _tables(
    cell: bytes,
    points: tuple[int, ...],
    order: int,
    widths: tuple[float, ...],
    edge: tuple[float, float],
    device: str,
) -> _Tables:
    """Tables of a mesh, kept while the cell stays."""
    load_library()
    vectors, where = np.frombuffer(cell).reshape(3, 3), torch.device(device)
    found: torch.Tensor = torch.ops.equicalc.mesh_missing(
        _windows(points, order, where),
        _on_device(widths, where),
        vectors.ravel().tolist(),
        points,
        edge,
    )
    missing = found.cpu().numpy()  # of charges of 1 e [widths, 7]
    prefactor = 2.0 * math.pi * COULOMB_CONSTANT / abs(float(np.linalg.det(vectors)))
    # energy E and virial E + 2 sum k k^T; charges of 1 e have twice their energy as potential
    energy = np.array([1.0, *np.eye(3).ravel()])
    stress = np.zeros((10, 7))
    stress[1:] = 2.0 * _wave_stress(vectors)
    by_moments = prefactor * (stress + np.outer(energy, np.eye(7)[0]))
    by_squares = by_moments @ missing.T
    selves = -COULOMB_CONSTANT / (math.sqrt(math.pi) * np.asarray(widths))
    potentials = 2.0 * by_squares[0] + selves
    by_squares[0] += 0.5 * selves
    return _Tables(by_moments, by_squares, -prefactor * energy, potentials)


def _wave_stress(cell: Array) -> Array:
    """Make sums of k k^T [3, 3] from sums over energy, 11, 22, 33, 23, 13, 12 of h: [9, 7]."""
    inverse = np.linalg.inv(cell)  # k = 2 pi inverse . h
    columns = [np.zeros((3, 3))]
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        product = np.outer(inverse[:, a], inverse[:, b])
        columns.append(product if a == b else product + product.T)
    return 4.0 * math.pi**2 * np.stack([column.ravel() for column in columns], axis=1)


@functools.lru_cache(maxsize=16)
def _windows(points: tuple[int, ...], order: int, device: torch.device) -> torch.Tensor:
    """Windows of the spline, which do not depend on the cell, kept on the device."""
    windows: torch.Tensor = torch.ops.equicalc.mesh_windows(points, order)
    return windows.to(device)


@functools.lru_cache(maxsize=16)
def _on_device(widths: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(widths, dtype=torch.float64, device=device)
