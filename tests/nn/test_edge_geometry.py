"""The operator for distances and harmonics against torch expressions (those against e3nn are in
test_parts)."""

import pytest
import torch

from equicalc.nn.spherical import spherical_harmonics

ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5}


def expressions(vectors, l_max):
    distance = torch.linalg.vector_norm(vectors, dim=1)
    return distance, spherical_harmonics(vectors / distance.unsqueeze(1), l_max)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_values_and_gradients_equal_torch_expressions(l_max, dtype):
    torch.manual_seed(0)
    vectors = 2.0 * torch.randn(5000, 3, dtype=torch.float64)
    weights = [torch.randn(5000).double(), torch.randn(5000, (l_max + 1) ** 2).double()]
    found = []
    for function, x in (
        (expressions, vectors),
        (torch.ops.equicalc.edge_geometry, vectors.to(dtype)),
    ):
        x = x.clone().requires_grad_(True)
        values = function(x, l_max)
        total = sum((w.to(x.dtype) * v).sum() for w, v in zip(weights, values, strict=True))
        (gradient,) = torch.autograd.grad(total, x)
        # short vectors have large gradients
        found.append([*values, gradient * x.detach().norm(dim=1, keepdim=True)])
    for a, b in zip(*found, strict=True):
        assert b.dtype == dtype
        assert ((a - b).abs() / (1.0 + a.abs())).max() < ROUNDING[dtype]


def test_no_edges_give_no_rows():
    vectors = torch.zeros(0, 3, requires_grad=True)
    distance, harmonics = torch.ops.equicalc.edge_geometry(vectors, 2)
    assert (distance.shape, harmonics.shape) == ((0,), (0, 9))
    (gradient,) = torch.autograd.grad(distance.sum() + harmonics.sum(), vectors)
    assert gradient.shape == (0, 3)


def test_wrong_shapes_and_degrees_are_refused():
    for vectors, l_max in ((torch.zeros(4, 2), 2), (torch.zeros(4, 3), 4)):
        with pytest.raises(RuntimeError, match="edge_geometry takes"):
            torch.ops.equicalc.edge_geometry(vectors, l_max)


# (edges): none, one, and more than one task of a thread holds
@pytest.mark.parametrize("n_edges", [0, 1, 7])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_first_and_second_derivatives_agree_with_finite_differences(l_max, n_edges):
    torch.manual_seed(1)
    vectors = (1.0 + torch.rand(n_edges, 3, dtype=torch.float64)).requires_grad_(True)
    if n_edges:
        function = lambda v: torch.ops.equicalc.edge_geometry(v, l_max)  # noqa: E731
        assert torch.autograd.gradcheck(function, (vectors,))
        assert torch.autograd.gradgradcheck(function, (vectors,))


@pytest.mark.parametrize("l_max", [1, 3])
def test_second_derivatives_equal_those_of_torch_expressions(l_max):
    torch.manual_seed(2)
    vectors = torch.randn(300, 3, dtype=torch.float64)
    found = []
    for function in (expressions, torch.ops.equicalc.edge_geometry):
        x = vectors.clone().requires_grad_(True)
        distance, harmonics = function(x, l_max)
        total = distance.square().sum() + harmonics.pow(3).sum()
        (first,) = torch.autograd.grad(total, x, create_graph=True)
        (second,) = torch.autograd.grad((first * vectors.flip(0)).sum(), x)
        found.append(second * vectors.norm(dim=1, keepdim=True).square())
    assert ((found[0] - found[1]).abs() / (1.0 + found[0].abs())).max() < 1e-12
