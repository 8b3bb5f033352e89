"""Particle-mesh sum over waves: the solver for large cells.

The C++ core spreads charges and gathers potentials with B-splines (formulas and sources in
csrc/coulomb/mesh.h), torch does the Fourier transforms, and this module picks mesh and spline. On a
CUDA device kernels of csrc/cuda (mesh.h, mesh_waves.h) do the same.

A mesh has a whole number of points, which changes with the cell. Near such a change two meshes are
blended with a smooth weight, whose slope is part of the virial: energy and stress stay smooth.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equicalc.core import load_library
from equicalc.electrostatics import device_mesh, lattice

_core = load_library()

# Measured spacings of meshes, their costs and how to choose among them: csrc/coulomb/mesh_choice.h,
# for LAMMPS as well.
ACCURACIES = tuple(_core.mesh_accuracies())
BEST_ACCURACY = ACCURACIES[-1]
CPU, DEVICE = _core.MESH_ON_CPU, _core.MESH_ON_DEVICE
# Of one atom with one wave in the exact sum, which is done on the CPU.
COST_WAVE = 4.0
# The choices take the volume per atom (angstrom^3) of a usual solid or liquid, not that of the
# cell: they must not change while the cell does.
USUAL_VOLUME = _core.USUAL_VOLUME

# Each width has a mesh of its own; beyond this many their memory gets out of hand.
MOST_WIDTHS = 32

# Two meshes are blended while the number of points asked for lies within this part below the next
# change. The three directions change one after the other where their vectors are of equal length.
BLEND = 0.005
# Skewed cells are blended with the less skewed one of the same lattice while a vector's component
# along another lies between these parts of it.
SKEW = (0.55, 0.6)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """One of the meshes of a blend.

    Attributes
    ----------
    cell
        [3, 3], angstrom, vectors of the lattice, one per row.
    points
        Along each of them.
    weight, slope
        Part of it in the energy, and the derivative of that by the strain [3, 3].
    """

    cell: Array
    points: tuple[int, ...]
    weight: float
    slope: Array


def p3m(
    charges: Array,
    positions: Array,
    sigmas: Array,
    cell: Array,
    accuracy: float,
    open_direction: int | None = None,
    single: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Energy, potentials, forces and virial of a periodic cell on a mesh.

    Forces, potentials and virial are exact derivatives of the energy, also of a blend of meshes.

    Parameters
    ----------
    charges, positions, sigmas, cell
        [N] in e, [N, 3], [N] and [3, 3] in angstrom, C-contiguous float64.
    accuracy
        As in `solve`.
    open_direction
        Cell vector whose length is free (vacuum), orthogonal to the others: it is not blended.
    single
        Whether meshes and transforms are float32.
    device
        Where meshes and transforms are.

    Returns
    -------
    dict
        As of the functions of the core: energy (eV), potentials [N] (V), forces [N, 3] (eV/A),
        virial [3, 3] (eV) and atom_virials None.

    Raises
    ------
    ValueError
        When the mesh does not reach the accuracy, or for too many different widths.
    """
    if accuracy < BEST_ACCURACY:
        raise ValueError(
            f"'p3m' reaches an accuracy of {BEST_ACCURACY:g}; found {accuracy:g}. Use "
            "method='ewald' or 'auto'"
        )
    widths = different(sigmas)
    if len(widths) > MOST_WIDTHS:
        raise ValueError(
            f"'p3m' has one mesh for each width and takes up to {MOST_WIDTHS}; found {len(widths)} "
            "different sigmas. Use method='ewald' or 'auto'"
        )
    order, spacing = _cheapest(len(sigmas), widths, accuracy, costs_on(device))
    waves = _core.mesh_wave_accuracy(accuracy)
    meshes = _blend(cell.tobytes(), order, spacing, open_direction)
    atoms = charges, positions, sigmas
    if is_cpu(device):
        raws = [mesh_sum(*atoms, m.cell, m.points, order, waves, single) for m in meshes]
    else:
        shapes = [(m.cell, m.points) for m in meshes]
        raws = device_mesh.mesh_sums(*atoms, widths, shapes, order, waves, single, device)
    if len(meshes) == 1:
        return raws[0]
    found = list(zip(meshes, raws, strict=True))
    result: dict[str, Any] = {"atom_virials": None}
    for name in ("energy", "potentials", "forces", "virial"):
        result[name] = sum(mesh.weight * raw[name] for mesh, raw in found)
    result["virial"] -= sum(raw["energy"] * mesh.slope for mesh, raw in found)
    return result


def mesh_sum(
    charges: Array,
    positions: Array,
    sigmas: Array,
    cell: Array,
    points: tuple[int, ...],
    order: int,
    accuracy: float,
    single: bool = False,
) -> dict[str, Any]:
    """Result of a given mesh: `points` along the cell vectors, splines of `order`. See `p3m`.

    `accuracy` says which waves count at all.
    """
    edge, threads = lattice.wave_range(sigmas, accuracy), torch.get_num_threads()
    widths = different(sigmas)
    core = _core_mesh(cell.tobytes(), tuple(points), order, widths, edge, threads, single)
    buffers = _buffers(len(widths), tuple(points), single)
    with buffers.lock:
        core.spread(charges, positions, sigmas, buffers.density.numpy())
        torch.fft.rfftn(buffers.density, dim=(1, 2, 3), out=buffers.spectrum)
        core.convolve(buffers.spectrum.numpy())
        torch.fft.irfftn(
            buffers.spectrum, s=points, dim=(1, 2, 3), norm="forward", out=buffers.density
        )
        result: dict[str, Any] = core.gather(buffers.density.numpy())
    return result


@dataclass(frozen=True)
class _Buffers:
    """Meshes [widths, n0, n1, n2] and spectra, kept because fresh memory costs more than sums."""

    density: torch.Tensor
    spectrum: torch.Tensor
    lock: threading.Lock


@functools.lru_cache(maxsize=4)
def _buffers(n_widths: int, points: tuple[int, ...], single: bool) -> _Buffers:
    density = torch.zeros(n_widths, *points, dtype=torch.float32 if single else torch.float64)
    spectrum = torch.fft.rfftn(density, dim=(1, 2, 3)).contiguous()
    return _Buffers(density, spectrum, threading.Lock())


@functools.lru_cache(maxsize=4)
def _core_mesh(
    cell: bytes,
    points: tuple[int, ...],
    order: int,
    widths: tuple[float, ...],
    edge: tuple[float, float],
    threads: int,
    single: bool,
) -> Any:
    """Mesh of the core with its tables, which hold as long as the cell does."""
    kind = _core.CoulombMeshSingle if single else _core.CoulombMesh
    return kind(np.frombuffer(cell).reshape(3, 3), points, order, widths, *edge, threads)


def different(sigmas: Array) -> tuple[float, ...]:
    """The different widths, ascending; 1 for no atoms."""
    if not len(sigmas):
        return (1.0,)
    first = float(sigmas[0])
    return (first,) if (sigmas == first).all() else tuple(np.unique(sigmas).tolist())


def is_cpu(device: str) -> bool:
    """Whether a device is the CPU."""
    return torch.device(device).type == "cpu"


def costs_on(device: str) -> Any:
    """Costs of the mesh on a device: `MeshCosts` of the core."""
    return CPU if is_cpu(device) else DEVICE


def choose_spline(sigmas: Array, accuracy: float, device: str = "cpu") -> tuple[int, float]:
    """Order of the spline and largest mesh spacing (angstrom): the cheapest for `accuracy`."""
    return _cheapest(len(sigmas), different(sigmas), accuracy, costs_on(device))


@functools.lru_cache(maxsize=64)
def _cheapest(
    n_atoms: int, widths: tuple[float, ...], accuracy: float, costs: Any
) -> tuple[int, float]:
    volume = len(widths) * n_atoms * USUAL_VOLUME / widths[0] ** 3
    order, spacing = _core.cheapest_spline(n_atoms, volume, accuracy, costs)
    return order, widths[0] * spacing


def is_cheaper(sigmas: Array, accuracy: float, device: str = "cpu") -> bool:
    """Whether the mesh can be used and should beat the exact sum clearly (by a factor of two).

    The exact sum is that of the CPU. This depends on the number of charges and not on the cell,
    which may change during a run.
    """
    widths = different(sigmas)
    if accuracy < BEST_ACCURACY or len(widths) > MOST_WIDTHS or not len(sigmas):
        return False
    k_max = lattice.wave_range(sigmas, accuracy)[1]
    volume = len(sigmas) * USUAL_VOLUME
    half_waves = 0.5 * (4.0 * math.pi / 3.0) * k_max**3 * volume / (2.0 * math.pi) ** 3
    exact = COST_WAVE * len(sigmas) * half_waves
    costs = costs_on(device)
    order, spacing = _cheapest(len(sigmas), widths, accuracy, costs)
    points = len(widths) * volume / spacing**3
    return bool(2.0 * _core.mesh_cost(len(sigmas), points, order, costs) < exact)


def blended_meshes(
    cell: Array, order: int, spacing: float, open_direction: int | None = None
) -> list[Mesh]:
    """Meshes for a cell, with weights that sum to one and depend smoothly on the cell.

    Parameters
    ----------
    cell
        [3, 3], angstrom, one vector per row.
    order, spacing
        Of the spline, and largest distance of mesh points (angstrom).
    open_direction
        As in `p3m`.
    """
    return list(_blend(np.ascontiguousarray(cell).tobytes(), order, spacing, open_direction))


@functools.lru_cache(maxsize=4)
def _blend(cell: bytes, order: int, spacing: float, open_direction: int | None) -> tuple[Mesh, ...]:
    """`blended_meshes`, kept while the cell stays."""
    vectors = np.frombuffer(cell).reshape(3, 3)
    meshes = _shapes(vectors, 1.0, np.zeros((3, 3)), frozenset())
    for direction in range(3):
        fixed = direction == open_direction
        divided = [_divided(mesh, direction, order, spacing, fixed) for mesh in meshes]
        meshes = [mesh for some in divided for mesh in some]
    return tuple(meshes)


def _shapes(
    cell: Array, weight: float, slope: Array, kept: frozenset[tuple[int, int]]
) -> list[Mesh]:
    """Cells of the lattice that are not too skewed; pairs in `kept` may stay as they are."""
    for i, j in itertools.permutations(range(3), 2):
        overlap = float(cell[i] @ cell[j]) / float(cell[j] @ cell[j])
        if abs(overlap) <= SKEW[0] or (i, j) in kept:
            continue
        shorter = cell.copy()
        shorter[i] -= round(overlap) * cell[j]
        part, rise = _step((abs(overlap) - SKEW[0]) / (SKEW[1] - SKEW[0]))
        if part == 1.0:
            return _shapes(shorter, weight, slope, kept)
        # d overlap / d strain, symmetric.
        outer = np.outer(cell[i], cell[j])
        change = (outer + outer.T - 2.0 * overlap * np.outer(cell[j], cell[j])) / float(
            cell[j] @ cell[j]
        )
        change *= math.copysign(rise / (SKEW[1] - SKEW[0]), overlap)
        straight = _shapes(shorter, weight * part, slope * part + weight * change, kept)
        skewed = slope * (1.0 - part) - weight * change
        return straight + _shapes(cell, weight * (1.0 - part), skewed, kept | {(i, j)})
    return [Mesh(cell, (), weight, slope)]


def _divided(mesh: Mesh, direction: int, order: int, spacing: float, fixed: bool) -> list[Mesh]:
    """`mesh` with its number of points along one more direction: one mesh, or two near a change."""
    vector = mesh.cell[direction]
    length = float(np.linalg.norm(vector))
    if fixed:
        return [_with_points(mesh, fft_size(max(order, length / spacing - 1e-6)))]
    wanted = length / spacing / (1.0 - BLEND) ** direction
    coarse = fft_size(max(order, wanted))
    part, rise = _step((wanted / coarse - 1.0) / BLEND + 1.0)
    if part == 0.0:
        return [_with_points(mesh, coarse)]
    # d wanted / d strain = wanted a a^T / |a|^2
    change = rise * wanted / (coarse * BLEND * length**2) * np.outer(vector, vector)
    meshes = []
    for points, w, dw in (
        (coarse, 1.0 - part, -change),
        (fft_size(coarse + 1), part, change),
    ):
        if w > 0.0:
            blend = Mesh(mesh.cell, mesh.points, w * mesh.weight, w * mesh.slope + mesh.weight * dw)
            meshes.append(_with_points(blend, points))
    return meshes


def _with_points(mesh: Mesh, points: int) -> Mesh:
    return Mesh(mesh.cell, (*mesh.points, points), mesh.weight, mesh.slope)


def _step(x: float) -> tuple[float, float]:
    """Quintic step from 0 (x <= 0) to 1 (x >= 1) and its slope: two continuous derivatives."""
    x = min(max(x, 0.0), 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2), 30.0 * x**2 * (1.0 - x) ** 2


def fft_size(minimum: float) -> int:
    """Smallest number from `minimum` on that is a product of 2, 3 and 5: fast transforms."""
    return int(_core.fft_size(minimum))
