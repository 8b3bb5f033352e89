"""Particle-mesh sum over waves: the solver for large cells.

The C++ core spreads charges and gathers potentials with B-splines (formulas and sources in
csrc/mesh.h), torch does the Fourier transforms, and this module picks mesh and spline.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equicalc.electrostatics import lattice

# Mesh spacing in units of sigma at which the rms force error is 5 eV/A times the accuracy, for
# random unit charges of sigma = 1 A, 0.05 per A^3, in cubic and triclinic cells; measured against
# the exact sum. Key: order of the spline. Columns: accuracies of ACCURACIES.
ACCURACIES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
SPACINGS: dict[int, tuple[float, ...]] = {
    4: (1.05, 0.55, 0.26),
    5: (1.34, 0.88, 0.56, 0.34),
    6: (1.45, 1.02, 0.74, 0.50, 0.32),
    7: (1.54, 1.12, 0.86, 0.65, 0.48, 0.35),
    8: (1.57, 1.17, 0.94, 0.75, 0.58, 0.44, 0.33),
}
BEST_ACCURACY = ACCURACIES[-1]

# Rough costs in nanoseconds, only to choose between solvers: one mesh point through both
# transforms, one of the order^3 points of an atom in spreading and gathering, one atom with one
# wave in the exact sum, and what a call of the mesh costs at least.
COST_POINT = 20.0
COST_SPLINE = 2.5
COST_WAVE = 4.0
COST_CALL = 2e5

# Each width has a mesh of its own; beyond this many their memory gets out of hand.
MOST_WIDTHS = 32


def p3m(
    charges: npt.NDArray[np.float64],
    positions: npt.NDArray[np.float64],
    sigmas: npt.NDArray[np.float64],
    cell: npt.NDArray[np.float64],
    accuracy: float,
) -> dict[str, Any]:
    """Energy, potentials, forces and virial of a periodic cell on a mesh.

    Forces, potentials and virial are exact derivatives of the mesh energy at a fixed number of mesh
    points; where that number changes with the cell, the energy jumps by what the accuracy allows.

    Parameters
    ----------
    charges, positions, sigmas, cell
        [N] in e, [N, 3], [N] and [3, 3] in angstrom, C-contiguous float64.
    accuracy
        As in `solve`.

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
    n_widths = len(np.unique(sigmas))
    if n_widths > MOST_WIDTHS:
        raise ValueError(
            f"'p3m' has one mesh for each width and takes up to {MOST_WIDTHS}; found {n_widths} "
            "different sigmas. Use method='ewald' or 'auto'"
        )
    points, order = choose_mesh(sigmas, cell, accuracy)
    return mesh_sum(charges, positions, sigmas, cell, points, order, accuracy)


def mesh_sum(
    charges: npt.NDArray[np.float64],
    positions: npt.NDArray[np.float64],
    sigmas: npt.NDArray[np.float64],
    cell: npt.NDArray[np.float64],
    points: list[int],
    order: int,
    accuracy: float,
) -> dict[str, Any]:
    """Result of a given mesh: `points` along the cell vectors, splines of `order`. See `p3m`."""
    from equicalc import _core

    edge, threads = lattice.wave_range(sigmas, accuracy), torch.get_num_threads()
    mesh = _core.CoulombMesh(cell, points, order, *edge, threads)
    density = torch.from_numpy(mesh.spread(charges, positions, sigmas)).reshape(-1, *points)
    spectrum = torch.fft.rfftn(density, dim=(1, 2, 3)).contiguous()
    mesh.convolve(spectrum.numpy())
    potential = torch.fft.irfftn(spectrum, s=points, dim=(1, 2, 3), norm="forward").contiguous()
    result: dict[str, Any] = mesh.gather(potential.numpy())
    return result


def choose_mesh(
    sigmas: npt.NDArray[np.float64], cell: npt.NDArray[np.float64], accuracy: float
) -> tuple[list[int], int]:
    """Points along each cell vector and order of the spline: the cheapest mesh for `accuracy`."""
    narrowest = float(sigmas.min(initial=math.inf)) if len(sigmas) else 1.0
    return min(_candidates(cell, narrowest, accuracy), key=lambda mesh: mesh_cost(sigmas, *mesh))


def mesh_cost(sigmas: npt.NDArray[np.float64], points: list[int], order: int) -> float:
    """Rough cost of the mesh in nanoseconds."""
    n_widths = max(1, len(np.unique(sigmas)))
    transforms = COST_POINT * n_widths * math.prod(points)
    return COST_CALL + transforms + COST_SPLINE * len(sigmas) * order**3


def is_cheaper(
    sigmas: npt.NDArray[np.float64], cell: npt.NDArray[np.float64], accuracy: float
) -> bool:
    """Whether the mesh can be used and is expected to beat the exact sum clearly (by two)."""
    if accuracy < BEST_ACCURACY or len(np.unique(sigmas)) > MOST_WIDTHS:
        return False
    k_max = lattice.wave_range(sigmas, accuracy)[1]
    volume = abs(float(np.linalg.det(cell)))
    half_waves = 0.5 * (4.0 * math.pi / 3.0) * k_max**3 * volume / (2.0 * math.pi) ** 3
    exact = COST_WAVE * len(sigmas) * half_waves
    return 2.0 * mesh_cost(sigmas, *choose_mesh(sigmas, cell, accuracy)) < exact


def _candidates(
    cell: npt.NDArray[np.float64], sigma: float, accuracy: float
) -> list[tuple[list[int], int]]:
    """One mesh for every order of the spline that reaches the accuracy."""
    decade = -math.log10(accuracy)
    decades = [-math.log10(value) for value in ACCURACIES]
    meshes = []
    for order, spacings in SPACINGS.items():
        reached = decades[: len(spacings)]
        if decade > reached[-1]:
            continue
        spacing = sigma * math.exp(np.interp(decade, reached, np.log(spacings)))
        lengths = np.linalg.norm(cell, axis=1)
        meshes.append(([fft_size(max(order, length / spacing)) for length in lengths], order))
    return meshes


def fft_size(minimum: float) -> int:
    """Smallest number from `minimum` on that is a product of 2, 3 and 5: fast transforms."""
    for n in itertools.count(max(1, math.ceil(minimum))):
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
    raise AssertionError("unreachable")
