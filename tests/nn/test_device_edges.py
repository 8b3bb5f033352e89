"""Edges and forces on devices are those of the functions for the CPU."""

import pytest
import torch

from equicalc.core import load_library

# float64: sums of up to a few hundred terms of order one, in another order
ROUNDING = 1e-12


def candidates(n_atoms: int, n_pairs: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    receivers = torch.randint(n_atoms, (n_pairs,), generator=generator).sort().values
    senders = torch.randint(n_atoms, (n_pairs,), generator=generator)
    shifts = torch.randint(-1, 2, (n_pairs, 3), generator=generator, dtype=torch.int32)
    positions = 4.0 * torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64)
    cell = 4.0 * torch.eye(3, dtype=torch.float64) + torch.rand(3, 3, generator=generator).double()
    return positions, cell, torch.stack([receivers, senders]), shifts


@pytest.mark.parametrize(("n_atoms", "n_pairs"), [(1, 0), (1, 7), (5, 300)])
def test_edges_are_those_of_select_edges(n_atoms, n_pairs):
    inputs = candidates(n_atoms, n_pairs)
    expected_index, expected_vectors = load_library().select_edges(*inputs, 3.5)
    positions, cell, pairs, shifts = inputs
    rows = n_atoms - 1 - pairs.flip(0)  # whatever they are, they only come along
    index, vectors = torch.ops.equicalc.edges_within(positions, cell, rows, pairs, shifts, 3.5)
    assert torch.equal(n_atoms - 1 - index.flip(0), expected_index)
    assert torch.equal(vectors, expected_vectors)


@pytest.mark.parametrize(("n_local", "n_total"), [(1, 1), (4, 4), (3, 9)])
@pytest.mark.parametrize("n_edges", [0, 150])
def test_forces_and_virials_are_those_of_scatter_edges(n_local, n_total, n_edges):
    generator = torch.Generator().manual_seed(5)
    receivers = torch.randint(n_local, (n_edges,), generator=generator).sort().values
    index = torch.stack([receivers, torch.randint(n_total, (n_edges,), generator=generator)])
    vectors = torch.randn(n_edges, 3, generator=generator, dtype=torch.float64)
    gradients = torch.randn(n_edges, 3, generator=generator, dtype=torch.float64)
    expected = load_library().scatter_edges(index, vectors, gradients, n_local, n_total)
    found = torch.ops.equicalc.edge_forces(index, vectors, gradients, n_local, n_total)
    for a, b in zip(expected, found, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(b, a, rtol=ROUNDING, atol=ROUNDING)


def test_senders_out_of_range_are_refused():
    index = torch.tensor([[0, 1], [1, 2]])
    vectors = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="must hold senders below 2, found 2 at edge 1"):
        torch.ops.equicalc.edge_forces(index, vectors, vectors, 2, 2)


def test_tests_run_with_the_kernels_that_they_name(request):
    """Those for devices have room for 32 Bessel functions, those of the CPU for any number."""
    weights = [torch.rand(4, 33), torch.rand(4), torch.rand(2, 4), torch.rand(2)]
    arguments = (torch.rand(3), *weights, 1.0, 5.0)
    if request.node.callspec.params["kernels"] == "cpu":
        assert torch.ops.equicalc.radial_functions(*arguments).shape == (3, 2)
    else:
        with pytest.raises(RuntimeError, match="at most 32 Bessel and radial functions"):
            torch.ops.equicalc.radial_functions(*arguments)
