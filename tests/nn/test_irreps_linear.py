"""The operator for channel mixing against torch expressions (those against e3nn are in
test_tensor_convolution)."""

import pytest
import torch
from e3nn import o3

from equicalc.nn.blocks import feature_width, parse_irreps
from equicalc.nn.irreps_linear import IrrepsLinear

SHAPES = [
    ("128x0e+64x1e+32x2e", "224x0e+64x1e+32x2e"),
    ("5x0e+3x0o+7x1o+17x2e", "33x0e+2x0o+9x1o+1x2e"),
    ("16x0e+3x1o+8x0e", "40x0e+2x2e"),  # two blocks into one, and one that gets nothing
    ("4x3o+2x2e", "4x3o"),
    ("3x0e", "2x1o"),
]
# sums of up to a few hundred products of order one
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-3}


def make(irreps_in, irreps_out, dtype=torch.float64, prepare=True, bias=False):
    torch.manual_seed(2)
    linear = IrrepsLinear(parse_irreps(irreps_in), parse_irreps(irreps_out), bias)
    linear = linear.to(torch.float64)
    with torch.no_grad():
        linear.weight.normal_()
        linear.bias.normal_()
    linear.requires_grad_(False)
    if prepare:
        linear.prepare()
    return linear.to(dtype)


def value_and_gradient(linear, x, weights):
    x = x.clone().requires_grad_(True)
    value = linear(x)
    return value.detach(), torch.autograd.grad((value * weights).sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [1, 5, 49, 200])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_operator_equals_torch_expressions(shapes, n, dtype, bias):
    linear = make(*shapes, bias=bias)
    x = torch.randn(n, linear.width_in, dtype=torch.float64)
    weights = torch.randn(n, linear.width_out, dtype=torch.float64)
    linear.fused = False
    value, gradient = x.new_zeros(n, linear.width_out), torch.zeros_like(x)
    if linear.pairs:
        value, gradient = value_and_gradient(linear, x, weights)
    fused = make(*shapes, dtype=dtype, bias=bias)
    found, found_gradient = value_and_gradient(fused, x.to(dtype), weights.to(dtype))
    assert found.dtype == dtype
    assert (found - value).abs().max() < ROUNDING[dtype]
    assert (found_gradient - gradient).abs().max() < ROUNDING[dtype]


def test_results_are_the_same_without_preparation():
    x, weights = torch.randn(9, 480, dtype=torch.float64), torch.randn(9, 576).double()
    prepared = value_and_gradient(make(*SHAPES[0], bias=True), x, weights)
    fresh = value_and_gradient(make(*SHAPES[0], prepare=False, bias=True), x, weights)
    for one, two in zip(prepared, fresh, strict=True):
        assert torch.equal(one, two)


def test_bias_is_that_of_e3nn():
    shapes = ("5x0e+3x0o+7x1o", "4x0e+2x0o+9x1o+3x0e")
    theirs = o3.Linear(*shapes, biases=True).to(torch.float64)
    ours = make(*shapes, bias=True)
    with torch.no_grad():
        theirs.bias.normal_()
        ours.load_e3nn(theirs.weight)
        ours.bias.copy_(theirs.bias)
    ours.prepare()
    # scalars only: there components come in the same order
    x = torch.randn(6, ours.width_in, dtype=torch.float64)
    x[:, 8:] = 0.0
    found, expected = ours(x), theirs(x)
    scalars = [*range(6), *range(33, 36)]
    assert (found - expected)[:, scalars].abs().max() < ROUNDING[torch.float64]
    assert not found[:, 6:33].any()


def test_no_atoms_give_no_rows():
    linear = make(*SHAPES[0])
    value, gradient = value_and_gradient(linear, torch.zeros(0, 480).double(), torch.zeros(0, 576))
    assert value.shape == (0, 576)
    assert gradient.shape == (0, 480)


def test_results_do_not_depend_on_threads():
    linear = make(*SHAPES[1], dtype=torch.float32)
    x = torch.randn(500, linear.width_in)
    weights = torch.randn(500, linear.width_out)
    before = torch.get_num_threads()
    found = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        found.append(value_and_gradient(linear, x, weights))
    torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def operator(linear, x, bias=None):
    """The operator as the module calls it."""
    return torch.ops.equicalc.irreps_linear(
        x, linear.weight, linear.transposed, linear.table, linear.width_out, bias
    )


def test_weights_that_are_trained_go_through_torch():
    linear = make(*SHAPES[1]).requires_grad_(True)
    x = torch.randn(3, linear.width_in, dtype=torch.float64)
    assert linear(x).square().sum().backward() is None
    assert linear.weight.grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match="no gradient of its weights"):
        operator(linear, x)


def test_bias_that_is_trained_goes_through_torch():
    linear = make(*SHAPES[1], bias=True)
    linear.bias.requires_grad_(True)
    x = torch.randn(3, linear.width_in, dtype=torch.float64)
    linear(x).sum().backward()
    assert torch.equal(linear.bias.grad, torch.full((33,), 3.0).double())
    with pytest.raises(RuntimeError, match="no gradient of its weights"):
        operator(linear, x, linear.row_of_bias())


def test_bias_of_another_width_is_refused():
    linear = make(*SHAPES[1])
    x = torch.randn(3, linear.width_in, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"takes a bias \[67\], found \[2\]"):
        operator(linear, x, torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("bias", [False, True])
def test_export_sees_the_shape(bias):
    linear = make(*SHAPES[0], bias=bias)
    x = torch.zeros(4, feature_width(linear.irreps_in), dtype=torch.float64)
    program = torch.export.export(linear, (x,))
    assert program.graph_signature.user_outputs
    assert torch.equal(program.module()(x), linear(x))
