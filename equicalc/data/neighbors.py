"""Neighbour lists: all pairs and periodic images within a cutoff, for any cell and any pbc."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import vesin

from equicalc.core import load_library
from equicalc.errors import DataError

# A periodic cell flatter than this (volume over the product of the lengths of its vectors) holds
# an astronomic number of images within any cutoff.
SMALLEST_CELL_FACTOR = 1e-6

# vesin divides space into at most 1e5 boxes as wide as the cutoff or wider, of the shape of the
# whole; where the whole is much thinner than wide it divides by zero boxes.
MOST_BOXES = 0.9e5

# With this many times the cutoff the search would find thousands of times as many pairs.
LONGEST_REACH = 20.0

Array = npt.NDArray[np.float64]


def complete_cell(cell: npt.ArrayLike, pbc: npt.ArrayLike) -> Array:
    """Cell whose non-periodic vectors are replaced by unit vectors normal to the others.

    Images exist along periodic vectors only, so the others (often zero) may be anything that keeps
    the matrix invertible.

    Parameters
    ----------
    cell : array [3, 3]
        Cell vectors as rows, angstrom.
    pbc : array [3] of bool
        Which cell vectors are periodic.

    Returns
    -------
    array [3, 3]
        Invertible cell, angstrom.

    Raises
    ------
    DataError
        When a periodic vector is zero, or periodic vectors are not linearly independent.
    """
    box = np.array(cell, dtype=np.float64).reshape(3, 3)
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    if not np.isfinite(box).all():
        raise DataError(f"the cell holds numbers that are not finite: {box.tolist()}")
    missing = np.flatnonzero(~periodic)
    box[missing] = 0.0
    if len(missing) == 3:
        return np.eye(3)
    if len(missing) == 2:
        axis = box[periodic][0]
        # Any vector that is far from parallel to the axis yields two normals.
        helper = np.eye(3)[np.argmin(np.abs(axis))]
        box[missing[0]] = np.cross(axis, helper)
        box[missing[1]] = np.cross(axis, box[missing[0]])
    elif len(missing) == 1:
        box[missing[0]] = np.cross(*box[periodic])
    lengths = np.linalg.norm(box, axis=1)
    box[missing] /= np.where(lengths[missing] > 0.0, lengths[missing], 1.0)[:, None]
    volume = abs(np.linalg.det(box))
    scale = float(np.prod(np.linalg.norm(box, axis=1)))
    if not volume > SMALLEST_CELL_FACTOR * scale:
        raise DataError(
            f"the periodic cell vectors {np.asarray(cell, dtype=float)[periodic].tolist()} are "
            f"zero or not linearly independent (pbc = {periodic.tolist()}). Set a cell with "
            "atoms.set_cell(...), or switch periodicity off with atoms.pbc = False"
        )
    return box


def check_positions(positions: npt.ArrayLike) -> Array:
    """Positions as float64 [n, 3] in angstrom; DataError when one of them is not finite."""
    points = np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 3)
    # a sum is finite only when its terms are, and is one pass; sums of finite numbers may overflow
    if math.isfinite(float(points.sum())) or np.isfinite(points).all():
        return points
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    raise DataError(
        f"the positions of {len(bad)} of {len(points)} atoms are not finite numbers, first "
        f"atom {bad[0]}: {points[bad[0]].tolist()}. The run has probably become unstable: "
        "check the structure before this step and the time step"
    )


def full_list(
    positions: npt.ArrayLike, cell: npt.ArrayLike, pbc: npt.ArrayLike, cutoff: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """All directed pairs closer than a cutoff, sorted by the receiving atom.

    Parameters
    ----------
    positions : array [n, 3]
        angstrom.
    cell : array [3, 3]
        Cell vectors as rows, angstrom; rows of non-periodic directions are ignored.
    pbc : array [3] of bool
        Which cell vectors are periodic.
    cutoff : float
        angstrom.

    Returns
    -------
    edge_index : int64 array [2, E]
        Receivers (ascending) and senders.
    shifts : int32 array [E, 3]
        Images of the senders: the edge vector is r_j + shift @ cell - r_i.

    Raises
    ------
    DataError
        When positions or cell are not finite, periodic vectors are linearly dependent, or a few
        atoms are millions of angstrom away.
    """
    points = check_positions(positions)
    box = complete_cell(cell, pbc)
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,)).copy()
    reach = _safe_reach(points, box, periodic, cutoff)
    search = vesin.NeighborList(cutoff=reach, full_list=True, sorted=True)
    pairs, shifts = search.compute(points, box, periodic, quantities="PS", copy=True)
    if reach > cutoff:
        vectors = points[pairs[:, 1]] - points[pairs[:, 0]] + shifts @ box
        near = np.linalg.norm(vectors, axis=1) < cutoff
        pairs, shifts = pairs[near], shifts[near]
    edge_index = np.ascontiguousarray(pairs.astype(np.int64).T)
    return edge_index, np.ascontiguousarray(shifts, dtype=np.int32)


def _safe_reach(points: Array, box: Array, periodic: npt.NDArray[np.bool_], cutoff: float) -> float:
    """Return the cutoff, or a longer one that leaves thin structures a box of vesin."""
    if len(points) == 0:
        return cutoff
    inverse = np.linalg.inv(box)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    widths = np.where(periodic, 1.0, np.ptp(points @ inverse, axis=0)) * heights
    boxes = np.maximum(widths / cutoff, 1.0)
    total = float(np.prod(boxes))
    if total < MOST_BOXES or boxes.min() * (MOST_BOXES / total) ** (1 / 3) > 2.0:
        return cutoff
    reach = cutoff
    while np.prod(np.maximum(widths / reach, 1.0)) > MOST_BOXES:
        reach *= 1.1
    if reach > LONGEST_REACH * cutoff:
        far = int(np.abs(points - np.median(points, axis=0)).max(axis=1).argmax())
        raise DataError(
            f"the structure is {widths.max():.3g} angstrom wide and {widths.min():.3g} thin, too "
            f"wide for a search of neighbours; atom {far} at {points[far].tolist()} is the "
            "farthest. Take atoms that have left out of the structure: del atoms[[...]]"
        )
    return reach


@dataclass(frozen=True)
class MovedPairs:
    """Pairs that may be edges, and where their atoms are now.

    Parameters
    ----------
    points : float64 array [n, 3]
        Positions, angstrom.
    box : float64 array [3, 3]
        Cell vectors as rows, completed where directions are not periodic, angstrom.
    edge_index : int64 tensor [2, M]
        Receivers (ascending) and senders of all pairs up to cutoff + skin.
    shifts : int32 tensor [M, 3]
        Images of the senders.
    search : int
        Number of the search that found them; pairs of equal numbers are the same.
    """

    points: Array
    box: Array
    edge_index: torch.Tensor
    shifts: torch.Tensor
    search: int


@dataclass(frozen=True)
class _Reference:
    """The state for which the list of candidates was built."""

    positions: Array
    cell: Array
    inverse_cell: Array
    pbc: tuple[bool, bool, bool]
    candidates: torch.Tensor
    shifts: torch.Tensor


class NeighborList:
    """Edges of a moving structure; the expensive search is repeated only when it has to be.

    The search keeps pairs up to cutoff + skin. With F = (cell then)^-1 (cell now) and displacements
    u = r_now - r_then F (less their mean: a drift of the whole changes no pair), a pair that is now
    closer than the cutoff was closer than (cutoff + 2 max|u|) ||F^-1|| then. The list is complete
    as long as this stays below cutoff + skin: for moving atoms as well as for a changing cell.

    Parameters
    ----------
    cutoff : float
        Edges are shorter than this, angstrom.
    skin : float
        Extra distance of the candidates, angstrom; 0 searches in every call.
    """

    def __init__(self, cutoff: float, skin: float = 0.5) -> None:
        if not cutoff > 0.0 or not skin >= 0.0:
            raise DataError(
                f"found cutoff {cutoff} and skin {skin}, expected cutoff > 0, skin >= 0"
            )
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.n_searches = 0
        self._core = load_library()
        self._reference: _Reference | None = None
        self._last_box: tuple[Array, tuple[bool, bool, bool], Array] | None = None

    def update(
        self, positions: npt.ArrayLike, cell: npt.ArrayLike, pbc: npt.ArrayLike
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Edges of a structure.

        Parameters
        ----------
        positions : array [n, 3]
            angstrom.
        cell : array [3, 3]
            Cell vectors as rows, angstrom; rows of non-periodic directions are ignored.
        pbc : array [3] of bool
            Which cell vectors are periodic.

        Returns
        -------
        edge_index : int64 tensor [2, E]
            Receivers (ascending) and senders.
        edge_vectors : float64 tensor [E, 3]
            From receiver to sender, angstrom, all shorter than the cutoff.

        Raises
        ------
        DataError
            When positions or cell are not finite, or periodic vectors are linearly dependent.
        """
        pairs = self.pairs_at(positions, cell, pbc)
        edge_index, edge_vectors = self._core.select_edges(
            torch.from_numpy(pairs.points),
            torch.from_numpy(pairs.box),
            pairs.edge_index,
            pairs.shifts,
            self.cutoff,
        )
        return edge_index, edge_vectors

    def pairs_at(
        self, positions: npt.ArrayLike, cell: npt.ArrayLike, pbc: npt.ArrayLike
    ) -> MovedPairs:
        """Pairs among which all edges are; see `update` for the arguments and errors."""
        points = check_positions(positions)
        directions = np.asarray(pbc, dtype=bool).tolist()
        a, b, c = directions if isinstance(directions, list) else [directions] * 3
        box = self._box(cell, (a, b, c))
        reference = self._reference
        if reference is None or not self._is_complete(reference, points, box, (a, b, c)):
            reference = self._search(points, box, (a, b, c))
            self._reference = reference
        return MovedPairs(points, box, reference.candidates, reference.shifts, self.n_searches)

    def _box(self, cell: npt.ArrayLike, pbc: tuple[bool, bool, bool]) -> Array:
        """Return the complete cell; the last one is remembered, since most runs keep theirs."""
        given = np.array(cell, dtype=np.float64)
        if self._last_box is not None:
            last_cell, last_pbc, box = self._last_box
            if last_pbc == pbc and last_cell.tobytes() == given.tobytes():
                return box
        box = complete_cell(given, pbc)
        self._last_box = (given, pbc, box)
        return box

    def _search(self, points: Array, box: Array, pbc: tuple[bool, bool, bool]) -> _Reference:
        pairs, shifts = full_list(points, box, pbc, self.cutoff + self.skin)
        self.n_searches += 1
        return _Reference(
            positions=points.copy(),
            cell=box,
            inverse_cell=np.asarray(np.linalg.inv(box), dtype=np.float64),
            pbc=pbc,
            candidates=torch.from_numpy(pairs),
            shifts=torch.from_numpy(shifts),
        )

    def _is_complete(
        self, reference: _Reference, points: Array, box: Array, pbc: tuple[bool, bool, bool]
    ) -> bool:
        """Whether every pair within the cutoff is among the candidates (see the class)."""
        if self.skin == 0.0 or pbc != reference.pbc or points.shape != reference.positions.shape:
            return False
        if len(points) == 0:
            return True
        if box is reference.cell:
            moved = points - reference.positions
            largest = max(float(moved.max()), -float(moved.min()))
            if 2.0 * math.sqrt(3.0) * largest < self.skin:  # the usual case, without the mean
                return True
            return 2.0 * _farthest(moved) < self.skin
        deformation = reference.inverse_cell @ box
        farthest = _farthest(points - reference.positions @ deformation)
        # Rows are vectors: d_then = d_now F^-1, and ||F^-1|| is the largest stretch backwards.
        stretch = float(np.linalg.norm(np.linalg.inv(deformation), ord=2))
        return (self.cutoff + 2.0 * farthest) * stretch < self.cutoff + self.skin


def _farthest(displacement: Array) -> float:
    """Largest displacement, angstrom; a drift of the whole is none."""
    own = displacement - displacement.mean(axis=0)
    return math.sqrt(np.einsum("nx,nx->n", own, own).max())
