"""Quantities read from trajectories: radial distribution functions and drifts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from equicalc.errors import DataError


def partial_rdfs(
    frames: Iterable[Atoms], r_max: float = 8.0, n_bins: int = 160
) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]:
    """Return the partial radial distribution functions averaged over the frames of a trajectory.

    g_ab(r) = n_ab(r) V / (4 pi r^2 dr N_a N_b), with n_ab the ordered pairs per frame in a
    shell; it tends to 1 for large r (to 1 - 1/N_a for equal species).

    Parameters
    ----------
    frames : iterable of Atoms
        Periodic structures of the same composition.
    r_max : float
        Largest distance, angstrom; images beyond half the cell count too.
    n_bins : int
        Number of bins.

    Returns
    -------
    radii : array [n_bins]
        Bin centres, angstrom.
    rdfs : dict of (symbol, symbol) to array [n_bins]
        One function for each unordered pair of elements.

    Raises
    ------
    DataError
        No frames, or a frame that is not periodic in three directions.
    """
    import vesin

    edges = np.linspace(0.0, r_max, n_bins + 1)
    shells = 4.0 / 3.0 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3)
    neighbours = vesin.NeighborList(cutoff=r_max, full_list=True)
    sums: dict[tuple[str, str], np.ndarray] = {}
    n_frames = 0
    for atoms in frames:
        if not atoms.pbc.all():
            raise DataError("radial distribution functions need three periodic directions")
        i, j, r = neighbours.compute(atoms.positions, atoms.cell.array, True, "ijd")
        symbols = np.array(atoms.get_chemical_symbols())
        for a, b in combinations_with_replacement(sorted(set(symbols)), 2):
            chosen = (symbols[i] == a) & (symbols[j] == b)
            counts = np.histogram(r[chosen], edges)[0]
            norm = np.sum(symbols == a) * np.sum(symbols == b) / atoms.get_volume()
            sums[a, b] = sums.get((a, b), 0.0) + counts / (shells * norm)
        n_frames += 1
    if n_frames == 0:
        raise DataError("radial distribution functions need at least one frame, found none")
    return 0.5 * (edges[1:] + edges[:-1]), {pair: g / n_frames for pair, g in sums.items()}


def linear_drift(time: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the least-squares line through values against time.

    Parameters
    ----------
    time, values : sequence of float
        At least two points with different times; any units.

    Raises
    ------
    DataError
        Fewer than two points.
    """
    if len(time) < 2:
        raise DataError(f"a drift needs at least two points, found {len(time)}")
    return float(np.polyfit(np.asarray(time, float), np.asarray(values, float), 1)[0])
