"""The mesh sum on a CUDA device: splines, transforms and waves there, a few totals here.

Formulas are those of csrc/mesh.h; the kernels are in csrc/cuda/mesh.h. Charges reach the mesh as
integers, so results are the same bits on every call. Positions and charges are sent, forces and
potentials come back, once per call.
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
        Forces [N, 3] and potentials [N], then energy and moments of the waves (see `_stress`).
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
        missing = _missing(cell.tobytes(), tuple(points), order, widths, edge, device)
        running.append((cell, missing, wave_sum(sent, cell, points, order, widths, edge, single)))
    results = []
    for cell, missing, found in running:
        values = found.cpu().numpy()
        raw = _from_waves(values, len(charges), cell)
        _add_local(raw, charges, sigmas, widths, cell, missing)
        results.append(raw)
    return results


def _from_waves(values: Array, n_atoms: int, cell: Array) -> dict[str, Any]:
    """Results of `wave_sum` with their prefactors."""
    forces, potentials, moments = np.split(values, (3 * n_atoms, 4 * n_atoms))
    prefactor = 2.0 * math.pi * COULOMB_CONSTANT / abs(float(np.linalg.det(cell)))
    energy = prefactor * float(moments[0])
    return {
        "energy": energy,
        "potentials": potentials,
        "forces": forces.reshape(n_atoms, 3),
        "virial": energy * np.eye(3) + 2.0 * prefactor * _stress(moments, cell),
        "atom_virials": None,
    }


def _add_local(
    raw: dict[str, Any],
    charges: Array,
    sigmas: Array,
    widths: tuple[float, ...],
    cell: Array,
    missing: Array,
) -> None:
    """Add what needs no waves: what charges miss of themselves, self energy and background."""
    prefactor = 4.0 * math.pi * COULOMB_CONSTANT / abs(float(np.linalg.det(cell)))
    if len(widths) == 1:
        members: Any = slice(None)  # all atoms have the one width: numbers instead of arrays
        squares = np.array([charges @ charges])
    else:
        members = _members(sigmas, widths)
        squares = np.bincount(members, charges**2, minlength=len(widths))
    lost = prefactor * missing[:, 0]
    selves = lost - COULOMB_CONSTANT / (math.sqrt(math.pi) * np.asarray(widths))
    widths_squared = np.square(widths)[members]
    total, moment = float(charges.sum()), float((charges * widths_squared).sum())
    background = -0.5 * prefactor

    raw["energy"] += background * total * moment + 0.5 * float(squares @ selves)
    raw["potentials"] += selves[members] * charges
    raw["potentials"] += background * (total * widths_squared + moment)
    stress = prefactor * sum(
        square * _stress(moments, cell) for square, moments in zip(squares, missing, strict=True)
    )
    pressure = background * total * moment + 0.5 * float(squares @ lost)
    raw["virial"] = raw["virial"] + stress + pressure * np.eye(3)


def _stress(moments: Array, cell: Array) -> Array:
    """Sum of k k^T [3, 3] times something, from the moments 11, 22, 33, 23, 13, 12 of h."""
    _, xx, yy, zz, yz, xz, xy = (float(value) for value in moments)
    inverse = np.linalg.inv(cell)
    full = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return np.asarray(4.0 * math.pi**2 * inverse @ full @ inverse.T)


def _members(sigmas: Array, widths: tuple[float, ...]) -> npt.NDArray[np.int32]:
    """Which of the widths is an atom's [N]; empty where there is one."""
    if len(widths) == 1:
        return np.empty(0, dtype=np.int32)
    return np.searchsorted(widths, sigmas).astype(np.int32)


@functools.lru_cache(maxsize=16)
def _windows(points: tuple[int, ...], order: int, device: torch.device) -> torch.Tensor:
    """Windows of the spline, which do not depend on the cell, kept on the device."""
    windows: torch.Tensor = torch.ops.equicalc.mesh_windows(points, order)
    return windows.to(device)


@functools.lru_cache(maxsize=16)
def _on_device(widths: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(widths, dtype=torch.float64, device=device)


@functools.lru_cache(maxsize=16)
def _missing(
    cell: bytes,
    points: tuple[int, ...],
    order: int,
    widths: tuple[float, ...],
    edge: tuple[float, float],
    device: str,
) -> Array:
    """What charges of 1 e miss of themselves [widths, 7], kept while the cell stays."""
    load_library()
    where = torch.device(device)
    missing: torch.Tensor = torch.ops.equicalc.mesh_missing(
        _windows(points, order, where),
        _on_device(widths, where),
        np.frombuffer(cell).tolist(),
        points,
        edge,
    )
    return np.asarray(missing.cpu().numpy())
