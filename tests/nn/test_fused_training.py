"""Derivatives of the fused operators that training needs: first and second, by every input."""

import itertools

import pytest
import torch

from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.nn.convolution import (
    EquivariantConvolution,
    ScalarConvolution,
    SpeciesConvolution,
)
from equicalc.nn.product import SymmetricProduct
from equicalc.nn.radial import RadialBasis
from tests.comparing import assert_close

pytestmark = pytest.mark.usefixtures("double_precision")

# float64: gradients of losses over a few hundred terms, summed in another order
ROUNDING = 1e-10

# (local atoms, all atoms, edges): none at all, one atom without edges, empty rows, halo atoms
SHAPES = [(0, 0, 0), (1, 1, 0), (4, 4, 3), (3, 6, 17)]


def random_edges(n_local: int, n_total: int, n_edges: int) -> torch.Tensor:
    receivers = torch.randint(max(n_local, 1), (n_edges,)).sort().values
    return torch.stack([receivers, torch.randint(max(n_total, 1), (n_edges,))])


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).requires_grad_()


def assert_derivatives_agree_with_finite_differences(function, *inputs):
    if any(x.numel() for x in inputs):
        # a random projection instead of every component: seconds become milliseconds
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize(("n_local", "n_total", "n_edges"), SHAPES)
def test_outer_sums_have_first_and_second_derivatives(n_local, n_total, n_edges):
    edges = random_edges(n_local, n_total, n_edges)
    assert_derivatives_agree_with_finite_differences(
        lambda y, w: torch.ops.equicalc.outer_sum(y, w, edges, n_local),
        leaf(n_edges, 9),
        leaf(n_edges, 11),
    )


@pytest.mark.parametrize(("n_local", "n_total", "n_edges"), SHAPES)
@pytest.mark.parametrize(("l_max", "channels"), [(0, 3), (1, 8), (2, 9), (3, 17)])
def test_radial_moments_have_first_and_second_derivatives(
    n_local, n_total, n_edges, l_max, channels
):
    m, edges = (l_max + 1) ** 2, random_edges(n_local, n_total, n_edges)
    assert_derivatives_agree_with_finite_differences(
        lambda x, b, y: torch.ops.equicalc.radial_moments(x, b, y, edges, n_local),
        leaf(n_total, m, channels),
        leaf(n_edges, 3),
        leaf(n_edges, m),
    )


@pytest.mark.parametrize(("n_local", "n_total", "n_edges"), SHAPES)
@pytest.mark.parametrize(("l_max", "channels"), [(0, 3), (1, 8), (2, 9), (3, 17)])
def test_equivariant_convolutions_have_first_and_second_derivatives(
    n_local, n_total, n_edges, l_max, channels
):
    module = EquivariantConvolution(3, l_max, channels, parity=l_max < 3)
    tables = (module.rows, module.entries, module.terms, module.coefficients)
    m, edges = (l_max + 1) ** 2, random_edges(n_local, n_total, n_edges)
    assert_derivatives_agree_with_finite_differences(
        lambda x, b, y, w: torch.ops.equicalc.equivariant_convolution(
            x, b, y, w, edges, n_local, *tables
        ),
        leaf(n_total, m, channels),
        leaf(n_edges, 3),
        leaf(n_edges, m),
        leaf(*module.weight.shape),
    )


@pytest.mark.parametrize("n_atoms", [0, 1, 5])
@pytest.mark.parametrize(("l_max", "channels"), [(0, 3), (1, 8), (2, 9), (3, 17)])
def test_couplings_have_first_and_second_derivatives(n_atoms, l_max, channels):
    module = SymmetricProduct(l_max, channels, 2, 3, parity=False).couplings[1]
    tables = (module.rows, module.terms, module.coefficients)
    species, m = torch.arange(n_atoms) % 2, (l_max + 1) ** 2
    assert_derivatives_agree_with_finite_differences(
        lambda a, b, w: torch.ops.equicalc.couple(a, b, species, w, *tables),
        leaf(n_atoms, m, channels),
        leaf(n_atoms, m, channels),
        leaf(*module.weight.shape),
    )


def test_third_derivatives_are_refused_instead_of_being_wrong():
    y, w, edges = leaf(5, 4), leaf(5, 8), random_edges(3, 3, 5)
    out = torch.ops.equicalc.outer_sum(y, w, edges, 3).pow(3).sum()
    (first,) = torch.autograd.grad(out, y, create_graph=True)
    with pytest.raises(RuntimeError, match="a third was asked for; set fused = False"):
        torch.autograd.grad(first.pow(3).sum(), y, create_graph=True)


def set_fused(module: torch.nn.Module, fused: bool) -> None:
    for part in module.modules():
        if hasattr(part, "fused"):
            part.fused = fused


def loss_gradients(module, inputs, arguments, fused):
    """Gradients of a loss of values and of forces, by parameters and by inputs."""
    set_fused(module, fused)
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = module(*leaves, *arguments)
    out = out if isinstance(out, torch.Tensor) else torch.cat([x.flatten() for x in out])
    energy = (out.double() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    forces = torch.autograd.grad(energy, leaves, create_graph=True)
    loss = energy + sum((f.double() - 0.1).square().sum() for f in forces)
    wanted = [*(p for p in module.parameters() if p.requires_grad), *leaves]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]


def assert_loss_gradients_agree(module, inputs, arguments=(), tolerance=ROUNDING):
    expected = loss_gradients(module, inputs, arguments, fused=False)
    found = loss_gradients(module, inputs, arguments, fused=True)
    assert_close(found, expected, tolerance)


@pytest.mark.parametrize(("n_local", "n_total", "n_edges"), SHAPES)
def test_loss_gradients_of_a_species_convolution_are_those_of_its_torch_expression(
    n_local, n_total, n_edges
):
    module = SpeciesConvolution(2, 2, 5, 2, 11)
    species, edges = torch.arange(n_total) % 2, random_edges(n_local, n_total, n_edges)
    assert_loss_gradients_agree(
        lambda_module(module, lambda b, y: module(species, b, y, edges, n_local)),
        [torch.randn(n_edges, 5), torch.randn(n_edges, 9)],
    )


@pytest.mark.parametrize(("n_local", "n_total", "n_edges"), SHAPES)
def test_loss_gradients_of_a_scalar_convolution_are_those_of_its_torch_expression(
    n_local, n_total, n_edges
):
    module, edges = ScalarConvolution(4, 2, 9), random_edges(n_local, n_total, n_edges)
    inputs = [torch.randn(n_total, 9, 9), torch.randn(n_edges, 4), torch.randn(n_edges, 9)]
    assert_loss_gradients_agree(module, inputs, (edges, n_local))


@pytest.mark.parametrize(("n_local", "n_total", "n_edges"), SHAPES)
@pytest.mark.parametrize(("l_max", "parity"), [(0, True), (1, False), (2, True), (3, False)])
def test_loss_gradients_of_an_equivariant_convolution_are_those_of_its_torch_expression(
    n_local, n_total, n_edges, l_max, parity
):
    module = EquivariantConvolution(4, l_max, 9, parity)
    m, edges = (l_max + 1) ** 2, random_edges(n_local, n_total, n_edges)
    inputs = [torch.randn(n_total, m, 9), torch.randn(n_edges, 4), torch.randn(n_edges, m)]
    assert_loss_gradients_agree(module, inputs, (edges, n_local))


# 16 floats or 8 doubles fill a vector, 1024 edges a partial sum
@pytest.mark.parametrize("n_edges", [0, 1, 8, 50, 2100])
@pytest.mark.parametrize("sizes", [(8, 32, 8), (3, 5, 2)])
def test_loss_gradients_of_radial_functions_are_those_of_their_torch_expression(n_edges, sizes):
    module = RadialBasis(5.0, *sizes)
    assert_loss_gradients_agree(module, [1.0 + 4.5 * torch.rand(n_edges)])


def test_radial_functions_in_single_precision_are_those_in_double():
    module, distance = RadialBasis(5.0, 8, 32, 8), 0.5 + 5.0 * torch.rand(1000)
    expected = module(distance)
    found = module.float()(distance.float())
    # float32 has 7 digits, and Bessel functions at short distances are of order five
    assert (found - expected).abs().max() < 5e-6 * expected.abs().max()


def test_radial_functions_of_huge_weights_are_finite_and_saturate():
    module = RadialBasis(5.0, 4, 6, 2)
    with torch.no_grad():
        module.mlp[0].weight.mul_(1e4)
    assert_loss_gradients_agree(module, [torch.linspace(1.0, 4.9, 30)])


@pytest.mark.parametrize(("l_max", "correlation"), list(itertools.product((1, 2, 3), (2, 3, 4))))
def test_loss_gradients_of_products_are_those_of_their_torch_expression(l_max, correlation):
    module = SymmetricProduct(l_max, 8, 2, correlation, parity=True)
    a, species = torch.randn(6, (l_max + 1) ** 2, 8), torch.arange(6) % 2
    assert_loss_gradients_agree(module, [0.3 * a], (species,))


def lambda_module(module: torch.nn.Module, function) -> torch.nn.Module:
    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, *inputs):
            return function(*inputs)

    return Call()


# float32: sums over a few hundred terms of numbers that partly cancel
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", ROUNDING), ("float32", 1e-4)])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_loss_gradients_of_the_network_are_those_of_its_torch_expression(
    dtype, tolerance, n_layers
):
    config = NetworkConfig(elements=["K", "Cl"], n_layers=n_layers, channels=20)
    network = EquiNetwork(config).to(getattr(torch, dtype))
    species, edges = torch.arange(8) % 2, random_edges(8, 8, 60)
    vectors = torch.nn.functional.normalize(torch.randn(60, 3), dim=1) * (3 + 2 * torch.rand(60, 1))
    call = lambda_module(network, lambda v: network(species, v, edges, 8))
    assert_loss_gradients_agree(call, [vectors.to(getattr(torch, dtype))], (), tolerance)


def all_derivatives(operator, inputs):
    """Output, first and second derivatives along fixed directions: the operator's work only."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = operator(*leaves)
    direction = torch.linspace(-1, 1, out.numel()).view_as(out).requires_grad_()
    first = torch.autograd.grad(out, leaves, direction, create_graph=True)
    along = [torch.linspace(-1, 2, g.numel()).view_as(g) for g in first]
    second = torch.autograd.grad(first, [*leaves, direction], along)
    return [x.detach() for x in (out, *first, *second)]


def test_derivatives_are_the_same_bits_for_any_number_of_threads():
    n, edges, species = 200, random_edges(200, 200, 3000), torch.arange(200) % 2
    x, b, y = torch.randn(n, 9, 16), torch.randn(3000, 6), torch.randn(3000, 9)
    product = SymmetricProduct(2, 16, 2, 3, parity=True).couplings[1]
    tables = (product.rows, product.terms, product.coefficients)
    full = EquivariantConvolution(6, 2, 16, parity=True)
    of_full = (full.rows, full.entries, full.terms, full.coefficients)
    operators = torch.ops.equicalc
    cases = [
        (lambda y, b: operators.outer_sum(y, b, edges, n), [y, b]),
        (lambda x, b, y: operators.radial_moments(x, b, y, edges, n), [x, b, y]),
        (
            lambda a, b, w: operators.couple(a, b, species, w, *tables),
            [x, x.flip(0), product.weight.detach()],
        ),
        (
            lambda x, b, y, w: operators.equivariant_convolution(x, b, y, w, edges, n, *of_full),
            [x, b, y, full.weight.detach()],
        ),
    ]
    before = torch.get_num_threads()
    for operator, inputs in cases:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(all_derivatives(operator, inputs))
        torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
