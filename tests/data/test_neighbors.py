"""Neighbour lists against a plain search, for any cell, and with a skin while everything moves."""

import itertools

import numpy as np
import pytest

from equicalc.data.neighbors import NeighborList, complete_cell, full_list
from equicalc.errors import DataError

# Vectors are differences of numbers below 100 angstrom, strained some hundred times.
TOLERANCE = 1e-9


def plain_search(positions, cell, pbc, cutoff):
    """All (i, j, image) closer than the cutoff, by trying every image that could matter."""
    box = complete_cell(cell, pbc)
    heights = [
        abs(np.linalg.det(box)) / np.linalg.norm(np.cross(box[k - 2], box[k - 1])) for k in range(3)
    ]
    spread = np.ptp(positions @ np.linalg.inv(box), axis=0)
    reach = [int(np.ceil(cutoff / heights[k] + spread[k])) + 1 if pbc[k] else 0 for k in range(3)]
    found = set()
    for image in itertools.product(*(range(-n, n + 1) for n in reach)):
        vectors = positions[None] - positions[:, None] + np.array(image) @ box
        for i, j in zip(*np.nonzero(np.linalg.norm(vectors, axis=2) < cutoff), strict=True):
            if i != j or any(image):
                found.add((int(i), int(j), *image))
    return found


def random_cell(rng, kind):
    cell = {
        "cubic": rng.uniform(2.0, 6.0) * np.eye(3),
        "triclinic": 4.0 * np.eye(3) + rng.normal(size=(3, 3)),
        "left-handed": np.diag([3.0, 4.0, 5.0])[[1, 0, 2]] + 0.3 * rng.normal(size=(3, 3)),
        "skewed": np.array([[4.0, 0.0, 0.0], [9.0, 4.0, 0.0], [-7.0, 5.0, 4.0]]),
        "small": rng.uniform(1.0, 1.5) * np.eye(3) + 0.1 * rng.normal(size=(3, 3)),
    }
    return cell[kind]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pbc", list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("kind", ["cubic", "triclinic", "left-handed", "skewed", "small"])
def test_pairs_equal_those_of_a_plain_search(kind, pbc, seed):
    rng = np.random.default_rng(seed)
    cell = random_cell(rng, kind)
    if seed == 1:
        cell[~np.array(pbc)] = 0.0
    positions = rng.normal(scale=3.0, size=(rng.integers(1, 7), 3))  # also outside the cell
    cutoff = rng.uniform(2.0, 4.0)
    index, shifts = full_list(positions, cell, pbc, cutoff)
    found = [
        (*map(int, pair), *map(int, image)) for *pair, image in zip(*index, shifts, strict=True)
    ]
    assert len(set(found)) == len(found)
    assert set(found) == plain_search(positions, cell, pbc, cutoff)
    assert (np.diff(index[0]) >= 0).all()


@pytest.mark.parametrize("pbc", [(True,) * 3, (True, True, False), (False,) * 3])
def test_pairs_of_a_thin_and_wide_sheet_are_those_of_a_plain_search(pbc):
    """Which has more boxes as wide as the cutoff than vesin makes."""
    rng = np.random.default_rng(2)
    cell, cutoff = np.diag([2000.0, 1500.0, 3.5]), 3.0
    places = rng.random((20, 3)) @ cell
    companions = places + rng.normal(scale=1.2, size=places.shape)
    corners = [[0.1, 0.2, 1.0], [1999.5, 0.2, 1.0], [0.1, 1499.0, 1.0]]
    positions = np.concatenate([places, companions, corners])
    index, shifts = full_list(positions, cell, pbc, cutoff)
    found = {
        (*map(int, pair), *map(int, image)) for *pair, image in zip(*index, shifts, strict=True)
    }
    assert len(found) == index.shape[1] > 20
    assert found == plain_search(positions, cell, pbc, cutoff)


def as_sorted(index, vectors):
    rows = np.column_stack([np.asarray(index).T, np.asarray(vectors)])
    return rows[np.lexsort(rows.T.round(6))]


@pytest.mark.parametrize("pbc", [(True,) * 3, (True, True, False), (False,) * 3])
def test_reused_lists_equal_fresh_ones_while_atoms_and_cell_move(pbc):
    """A long random walk with a drift of the whole, strain, shear and now and then a jump."""
    rng = np.random.default_rng(5)
    cell = np.array([[6.0, 0.0, 0.0], [1.0, 5.5, 0.0], [-0.5, 0.7, 5.0]])
    positions = rng.random((20, 3)) @ cell
    cutoff, steps = 3.0, 300
    moving = NeighborList(cutoff, skin=0.6)
    for step in range(steps):
        strain = np.eye(3) + 2e-3 * rng.normal(size=(3, 3))
        cell = cell @ strain
        positions = positions @ strain + 0.02 * rng.normal(size=positions.shape) + 0.05
        if step % 60 == 59:
            positions[step % 20] += cell[0]  # as wrapping does
        index, vectors = moving.update(positions, cell, pbc)
        fresh, shifts = full_list(positions, cell, pbc, cutoff)
        fresh_vectors = positions[fresh[1]] - positions[fresh[0]] + shifts @ cell
        assert index.shape == fresh.shape, f"step {step}"
        assert np.allclose(
            as_sorted(index, vectors), as_sorted(fresh, fresh_vectors), rtol=0, atol=TOLERANCE
        ), f"step {step}"
        assert (np.diff(index[0]) >= 0).all()
    assert moving.n_searches < steps / 3


# Just beyond cutoff + skin = 3.5 before, just within the cutoff = 3.0 after.
FAR, NEAR = 3.501, 2.999


def edges_after(before, after):
    """Number of edges found in the second of two (positions, cell), with the list of the first."""
    moving = NeighborList(3.0, skin=0.5)
    moving.update(*before, True)
    return moving.update(*after, True)[0].shape[1]


def test_atoms_that_approach_head_on_are_found():
    middle, cell = np.full(3, 10.0), 20.0 * np.eye(3)
    pair = [middle + np.array([[0.5, 0, 0], [-0.5, 0, 0]]) * r for r in (FAR, NEAR)]
    assert edges_after((pair[0], cell), (pair[1], cell)) == 2


@pytest.mark.parametrize("axis", range(3))
def test_atoms_that_a_shrinking_cell_brings_together_are_found(axis):
    positions, cell = np.full((2, 3), 10.0), 20.0 * np.eye(3)
    positions[1, axis] += FAR
    shrink = np.eye(3)
    shrink[axis, axis] = NEAR / FAR
    assert edges_after((positions, cell), (positions @ shrink, cell @ shrink)) == 2


def test_images_that_a_sheared_cell_brings_together_are_found():
    """One atom whose image along a diagonal comes into reach; positions and volume stay."""
    cell = np.diag([3.6, 20.0, 3.6])
    shear = np.eye(3)
    shear[0, 2] = -0.75  # a -> a - 0.75 c, so that |a + c| falls from 5.1 to 3.7, |a| rises
    cell = cell * (NEAR / np.linalg.norm((cell @ shear)[0] + (cell @ shear)[2]))
    found = edges_after((np.zeros((1, 3)), cell), (np.zeros((1, 3)), cell @ shear))
    index, _ = full_list(np.zeros((1, 3)), cell @ shear, True, 3.0)
    assert found == index.shape[1] > 0


def test_drift_and_rotation_of_the_whole_need_no_new_search():
    rng = np.random.default_rng(6)
    positions, cell = 5.0 * rng.random((10, 3)), 5.0 * np.eye(3)
    moving = NeighborList(3.0, skin=0.5)
    moving.update(positions, cell, True)
    rotation = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    moving.update(positions @ rotation + 100.0, cell @ rotation, True)
    assert moving.n_searches == 1


def test_without_skin_every_call_searches():
    moving = NeighborList(3.0, skin=0.0)
    for _ in range(3):
        moving.update(np.zeros((1, 3)), 2.5 * np.eye(3), True)
    assert moving.n_searches == 3


@pytest.mark.parametrize("change", [{"pbc": (True, True, False)}, {"positions": np.eye(3)[:2]}])
def test_other_periodicity_or_number_of_atoms_needs_a_new_search(change):
    state = {"positions": np.arange(9.0).reshape(3, 3), "cell": 9.0 * np.eye(3), "pbc": (True,) * 3}
    moving = NeighborList(3.0, skin=0.5)
    moving.update(**state)
    moving.update(**{**state, **change})
    assert moving.n_searches == 2


def test_an_atom_that_has_left_for_ever_is_named():
    positions = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1e9, 0.0, 0.0]]
    with pytest.raises(DataError, match=r"wide.*atom 2 at .*del atoms"):
        full_list(positions, np.zeros((3, 3)), False, 3.0)


def test_isolated_atom_has_no_edges():
    index, vectors = NeighborList(5.0).update(np.zeros((1, 3)), np.zeros((3, 3)), False)
    assert index.shape == (2, 0)
    assert vectors.shape == (0, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_that_are_not_finite_are_named(bad):
    positions = np.zeros((4, 3))
    positions[2, 1] = bad
    with pytest.raises(DataError, match="1 of 4 atoms are not finite numbers, first atom 2"):
        NeighborList(3.0).update(positions, np.eye(3), True)


@pytest.mark.parametrize(
    "cell", [np.zeros((3, 3)), np.diag([4.0, 4.0, 0.0]), [[4, 0, 0], [0, 4, 0], [4, 4, 0]]]
)
def test_periodic_cells_without_volume_are_refused(cell):
    with pytest.raises(DataError, match="zero or not linearly independent"):
        NeighborList(3.0).update(np.zeros((1, 3)), cell, True)


def test_cell_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match="the cell holds numbers that are not finite"):
        NeighborList(3.0).update(np.zeros((1, 3)), np.diag([1.0, np.nan, 1.0]), True)


@pytest.mark.parametrize(("cutoff", "skin"), [(0.0, 0.5), (3.0, -0.1)])
def test_impossible_ranges_are_refused(cutoff, skin):
    with pytest.raises(DataError, match="expected cutoff > 0, skin >= 0"):
        NeighborList(cutoff, skin)
