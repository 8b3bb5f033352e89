"""Cells, boundary conditions and the extent of the sum in reciprocal space.

Everything here is plain numpy without gradients: it decides which terms are summed, never what
they are worth. A term enters or leaves where its weight is zero, so these decisions leave no trace
in the energy (see `taper_range`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from enum import Enum

import numpy as np
import numpy.typing as npt

from equicalc.core import load_library

_core = load_library()

# Three periodicity flags, one for each cell vector.
Flags = Sequence[bool] | npt.NDArray[np.bool_]

# A cell is taken as degenerate when its volume is this small a part of |a||b||c|.
DEGENERATE_VOLUME = 1e-10


class Boundary(Enum):
    """Boundary conditions which have a Coulomb sum."""

    OPEN = 0
    SLAB = 2
    BULK = 3


def boundary(pbc: Flags) -> Boundary:
    """Name the boundary conditions of three periodicity flags.

    Parameters
    ----------
    pbc
        Three flags, one for each cell vector.

    Raises
    ------
    ValueError
        When `pbc` does not hold three flags, or exactly one of them is set.
    """
    flags = [bool(flag) for flag in pbc]
    if len(flags) != 3:
        raise ValueError(f"pbc must hold three flags, one per cell vector; found {len(flags)}")
    count = sum(flags)
    if count == 1:
        raise ValueError(
            f"found pbc={flags}: one periodic direction (a wire) has no Coulomb sum here. Give the "
            "wire vacuum on both sides and use pbc=[True, True, True], or pbc=[False, False, "
            "False] for a finite piece of it"
        )
    return {0: Boundary.OPEN, 2: Boundary.SLAB, 3: Boundary.BULK}[count]


def check_cell(cell: npt.NDArray[np.float64], pbc: Flags, where: str = "") -> None:
    """Raise ValueError unless the periodic cell vectors are finite and independent.

    Parameters
    ----------
    cell
        [3, 3], angstrom, one cell vector per row.
    pbc
        Three flags; the vector of an open direction may be anything finite, also zero.
    where
        Put at the end of the message (for example which structure of a batch).
    """
    if not np.isfinite(cell).all():
        raise ValueError(f"the cell holds NaN or infinity{where}: {cell.tolist()}")
    vectors = cell[np.asarray(pbc, dtype=bool)]
    lengths = np.linalg.norm(vectors, axis=1)
    gram = np.linalg.det(vectors @ vectors.T) if len(vectors) else 1.0
    size = math.sqrt(max(gram, 0.0))
    if len(vectors) and size <= DEGENERATE_VOLUME * float(np.prod(lengths)):
        kind = "volume" if len(vectors) == 3 else "area"
        raise ValueError(
            f"the periodic cell vectors {vectors.tolist()} span no {kind}{where}: set linearly "
            "independent vectors in angstrom (atoms.set_cell), or pbc=False for a molecule "
            "without a cell"
        )


@functools.lru_cache(maxsize=64)
def taper_range(accuracy: float) -> tuple[float, float]:
    """Where the smooth edge of the k-space sum begins and ends, in units of 1/sigma.

    Two unit charges of Gaussian width sigma interact with at most k_e / (sigma sqrt(pi)) (at zero
    distance), and the waves beyond k make up the part erfc(sigma k) of it: the integral of
    (2 k_e / pi) exp(-sigma^2 k^2) from k to infinity. `accuracy` is that part. The weight of a wave
    falls from 1 to 0 between the two numbers with two continuous derivatives, so energy, stress and
    elastic constants have no jump when a cell change brings waves in or out.

    Raises
    ------
    ValueError
        When `accuracy` is not between 1e-15 and 0.1.
    """
    if not 1e-15 <= accuracy <= 0.1:
        raise ValueError(f"accuracy must lie between 1e-15 and 0.1; found {accuracy!r}")
    edge: tuple[float, float] = _core.taper_range(accuracy)
    return edge


def wave_range(sigmas: npt.NDArray[np.float64], accuracy: float) -> tuple[float, float]:
    """Where the smooth edge of the k-space sum begins and ends, 1/angstrom: the narrowest rules.

    Parameters
    ----------
    sigmas
        [N], angstrom.
    """
    narrowest = float(sigmas.min(initial=math.inf))
    inner, outer = taper_range(accuracy)
    return inner / narrowest, outer / narrowest


def check_sigma(sigma: float) -> None:
    """Raise ValueError unless `sigma` (angstrom) is a positive finite number."""
    if not (math.isfinite(sigma) and sigma > 0.0):
        raise ValueError(
            f"the Gaussian width sigma must be a positive length in angstrom; found {sigma!r}"
        )


def wave_extent(
    cells: npt.NDArray[np.float64], sigma: npt.NDArray[np.float64], accuracy: float
) -> npt.NDArray[np.int64]:
    """Largest integers h_a of the waves k = 2 pi sum_a h_a b_a inside the sphere of `accuracy`.

    From h_a = k . a_a / (2 pi) and |k| <= k_max follows |h_a| <= k_max |a_a| / (2 pi).

    Parameters
    ----------
    cells, sigma
        [S, 3, 3] and narrowest width [S] of each structure, angstrom.
    """
    k_max = taper_range(accuracy)[1] / sigma
    lengths = np.linalg.norm(cells, axis=-1)
    return np.floor(k_max[:, None] * lengths / (2.0 * math.pi)).astype(np.int64)


def reduction(cell: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integer matrix M (det 1) such that the rows of M @ cell span the same lattice and are short.

    The Coulomb sum depends on the lattice, not on the vectors that span it, but its cost goes with
    the product of their lengths. Pairs of vectors are shortened in turn (Gauss) until nothing
    changes.
    """
    matrix = np.eye(3)
    vectors = np.array(cell, dtype=np.float64)
    changed = True
    while changed:
        changed = False
        for i in range(3):
            for j in range(3):
                if i == j:
                    continue
                overlap = float(vectors[i] @ vectors[j]) / float(vectors[j] @ vectors[j])
                # The margin keeps a vector pair at exactly 60 degrees from being swapped for ever.
                if abs(overlap) > 0.5 + 1e-9:
                    vectors[i] -= round(overlap) * vectors[j]
                    matrix[i] -= round(overlap) * matrix[j]
                    changed = True
    return matrix


def slab_height(
    in_plane: npt.NDArray[np.float64], thickness: float, sigma: float, accuracy: float
) -> float:
    """Height (angstrom) at which periodic copies of a slab no longer feel each other.

    What is left between copies after the slab correction falls with the gap L as exp(-G L), G the
    shortest in-plane reciprocal vector, and with the overlap of the Gaussians, erfc(L / (2 sigma)).

    Parameters
    ----------
    in_plane
        [2, 3], angstrom, the two periodic cell vectors.
    thickness
        Distance between the outermost atoms along the normal, angstrom.
    """
    first, second = shorten_pair(in_plane)
    area = float(np.linalg.norm(np.cross(first, second)))
    shortest = (
        2.0 * math.pi * min(float(np.linalg.norm(first)), float(np.linalg.norm(second))) / area
    )
    overlap_gap = 2.0 * sigma * taper_range(accuracy)[1]
    # The virial feels G L times what the energy feels: a few more decay lengths keep it in line.
    return thickness + max((5.0 - math.log(accuracy)) / shortest, overlap_gap)


def shorten_pair(
    vectors: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Find the two shortest vectors which span the same plane lattice (Gauss reduction)."""
    short, long = sorted((vectors[0], vectors[1]), key=lambda v: float(v @ v))
    while True:
        long = long - round(float(long @ short) / float(short @ short)) * short
        if float(long @ long) >= float(short @ short) * (1.0 - 1e-12):
            return short, long
        short, long = long, short
