"""equicalc::degree_linear, in the way of the CPU and in that of devices, against expressions."""

import pytest
import torch

from equicalc.core import load_library
from equicalc.errors import EquicalcError
from equicalc.nn.linear import DegreeLinear

load_library()
# sums of up to 14 products in another order
ROUNDING = 1e-13


def operands(n, l_max, width_in, width_out, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n + l_max)
    x = torch.randn(n, (l_max + 1) ** 2, width_in, generator=generator, dtype=dtype)
    weights = [
        torch.randn(width_in, width_out, generator=generator, dtype=dtype) for _ in range(l_max + 1)
    ]
    return x, weights


def by_einsum(x, weights):
    blocks = [w.expand(2 * degree + 1, *w.shape) for degree, w in enumerate(weights)]
    return torch.einsum("nmi,mio->nmo", x, torch.cat(blocks))


@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
@pytest.mark.parametrize(("n", "width_in", "width_out"), [(7, 5, 14), (1, 14, 1), (0, 3, 2)])
def test_each_degree_has_a_matrix_of_its_own(l_max, n, width_in, width_out):
    x, weights = operands(n, l_max, width_in, width_out)
    found = torch.ops.equicalc.degree_linear(x, weights)
    expected = by_einsum(x, weights)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=0, atol=ROUNDING * 100)
    # features need not be contiguous
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(torch.ops.equicalc.degree_linear(strided, weights), found)


@pytest.mark.parametrize("l_max", [0, 2])
def test_first_and_second_derivatives_by_features_and_weights(l_max):
    x, weights = operands(3, l_max, 4, 2)
    inputs = [x, *weights]
    for tensor in inputs:
        tensor.requires_grad_(True)

    def function(x, *weights):
        return torch.ops.equicalc.degree_linear(x, list(weights))

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_module_goes_through_the_operator():
    torch.manual_seed(0)
    module = DegreeLinear(2, 6, 4).double()
    x, _ = operands(5, 2, 6, 4)
    expected = by_einsum(x, list(module.weights))
    assert torch.allclose(module(x), expected, rtol=0, atol=ROUNDING * 100)
    assert torch.allclose(torch.jit.script(module)(x), expected, rtol=0, atol=ROUNDING * 100)


def test_wrong_number_of_components_is_named():
    x, weights = operands(3, 2, 4, 2)
    with pytest.raises((RuntimeError, EquicalcError), match=r"L matrices, found \[3, 9, 4\] and 2"):
        torch.ops.equicalc.degree_linear(x, weights[:2])
