"""Edge selection and force scattering of the core against plain numpy."""

import numpy as np
import pytest
import torch

from equicalc.errors import EquicalcError

# The same sums in another order, numbers of order one.
TOLERANCE = 1e-12


@pytest.fixture(params=[50, 40000])
def candidates(request):
    """Random candidate edges; 40000 need several blocks."""
    rng = np.random.default_rng(3)
    positions = rng.normal(size=(30, 3))
    cell = rng.normal(size=(3, 3))
    receivers = np.sort(rng.integers(0, 30, request.param))
    index = np.stack([receivers, rng.integers(0, 30, request.param)])
    shifts = rng.integers(-1, 2, (request.param, 3)).astype(np.int32)
    return positions, cell, index, shifts


def select(core_module, candidates, cutoff):
    found = core_module.select_edges(*(torch.from_numpy(x) for x in candidates), cutoff)
    return tuple(tensor.numpy() for tensor in found)


def test_selected_edges_are_those_within_the_cutoff_in_order(core_module, candidates):
    positions, cell, index, shifts = candidates
    vectors = positions[index[1]] - positions[index[0]] + shifts @ cell
    inside = np.linalg.norm(vectors, axis=1) < 1.5
    found_index, found_vectors = select(core_module, candidates, 1.5)
    assert 0 < inside.sum() < len(inside)
    assert np.array_equal(found_index, index[:, inside])
    assert np.allclose(found_vectors, vectors[inside], rtol=0, atol=TOLERANCE)


def test_selected_edges_do_not_depend_on_the_number_of_threads(core_module, candidates):
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(select(core_module, candidates, 1.5))
    torch.set_num_threads(before)
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_forces_and_virials_are_sums_over_edges(core_module, candidates):
    _, _, index, _ = candidates
    rng = np.random.default_rng(4)
    vectors, gradients = rng.normal(size=(2, index.shape[1], 3))
    forces = np.zeros((30, 3))
    np.add.at(forces, index[0], gradients)
    np.add.at(forces, index[1], -gradients)
    virials = np.zeros((30, 3, 3))
    np.add.at(virials, index[0], -vectors[:, :, None] * gradients[:, None, :])
    found = core_module.scatter_edges(
        torch.from_numpy(index), torch.from_numpy(vectors), torch.from_numpy(gradients), 30, 30
    )
    scale = index.shape[1]
    for tensor, expected in zip(found, (forces, virials.sum(0), virials), strict=True):
        assert np.allclose(tensor.numpy(), expected, rtol=0, atol=TOLERANCE * scale)


def test_edges_in_32_bits_are_summed_the_same(core_module, candidates):
    _, _, index, _ = candidates
    rng = np.random.default_rng(5)
    vectors, gradients = (torch.from_numpy(x) for x in rng.normal(size=(2, index.shape[1], 3)))
    found = [
        core_module.scatter_edges(torch.from_numpy(index.astype(kind)), vectors, gradients, 30, 30)
        for kind in (np.int64, np.int32)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_halo_rows_receive_the_forces_of_senders(core_module):
    forces, _, atom_virials = core_module.scatter_edges(
        torch.tensor([[0], [1]]), torch.ones(1, 3).double(), torch.ones(1, 3).double(), 1, 2
    )
    assert forces.tolist() == [[1.0] * 3, [-1.0] * 3]
    assert atom_virials.shape == (1, 3, 3)


@pytest.mark.parametrize("edge", [[[1], [0]], [[0], [2]], [[-1], [0]]])
def test_edges_of_atoms_out_of_range_are_refused(core_module, edge):
    rows = torch.ones(1, 3).double()
    with pytest.raises(EquicalcError, match="out of range"):
        core_module.scatter_edges(torch.tensor(edge), rows, rows, 1, 2)
