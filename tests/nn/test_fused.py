"""Fused operators of csrc against the torch expressions, which are their oracle."""

import pytest
import torch

from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.nn.convolution import ScalarConvolution, SpeciesConvolution
from equicalc.nn.product import SymmetricProduct
from tests.comparing import assert_close

pytestmark = pytest.mark.usefixtures("double_precision")

# float64: the same sums in another order, values of order ten
ROUNDING = 1e-11
# float32 has 7 digits; sums of a few hundred terms of order one
FLOAT32 = 2e-5


def set_fused(module: torch.nn.Module, fused: bool) -> torch.nn.Module:
    for part in module.modules():
        if hasattr(part, "fused"):
            part.fused = fused
    return module


def random_edges(n_atoms: int, n_edges: int) -> torch.Tensor:
    receivers = torch.randint(n_atoms, (n_edges,)).sort().values if n_atoms else torch.zeros(0)
    senders = torch.randint(max(n_atoms, 1), (len(receivers),))
    return torch.stack([receivers.long(), senders])


def outputs_and_gradients(module, inputs, arguments):
    leaves = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    out = module(*leaves, *arguments)
    if isinstance(out, torch.Tensor):
        out = (out,)
    scalar = sum((x.double() * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in out)
    wanted = [x for x in leaves if x.requires_grad]
    return [x.detach() for x in out] + list(torch.autograd.grad(scalar, wanted))


def assert_fused_equals_reference(module, inputs, arguments=(), tolerance=ROUNDING):
    module.requires_grad_(False)
    expected = outputs_and_gradients(set_fused(module, False), inputs, arguments)
    found = outputs_and_gradients(set_fused(module, True), inputs, arguments)
    assert_close(found, expected, tolerance)


# 8 doubles or 16 floats fill a vector: below, above, and not a multiple
@pytest.mark.parametrize("channels", [1, 5, 8, 17, 64])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_scalar_convolution_equals_its_torch_expression(channels, l_max):
    n, edges = 7, random_edges(7, 40)
    module = ScalarConvolution(6, l_max, channels)
    m = (l_max + 1) ** 2
    inputs = [torch.randn(n, m, channels), torch.randn(40, 6), torch.randn(40, m)]
    assert_fused_equals_reference(module, inputs, (edges, n))


@pytest.mark.parametrize(("n", "n_edges"), [(0, 0), (1, 0), (3, 1), (2, 500)])
def test_scalar_convolution_handles_no_edges_one_atom_and_many_neighbours(n, n_edges):
    module = ScalarConvolution(4, 2, 9)
    inputs = [torch.randn(n, 9, 9), torch.randn(n_edges, 4), torch.randn(n_edges, 9)]
    assert_fused_equals_reference(module, inputs, (random_edges(n, n_edges), n))


def test_senders_beyond_the_local_atoms_receive_their_gradient():
    module = ScalarConvolution(4, 1, 8)
    edges = torch.tensor([[0, 0, 1], [1, 4, 3]])
    inputs = [torch.randn(5, 4, 8), torch.randn(3, 4), torch.randn(3, 4)]
    assert_fused_equals_reference(module, inputs, (edges, 2))


@pytest.mark.parametrize("n_species", [1, 2, 3])
@pytest.mark.parametrize(("n", "n_edges"), [(0, 0), (1, 0), (6, 50)])
def test_species_convolution_equals_its_torch_expression(n_species, n, n_edges):
    module = SpeciesConvolution(n_species, n_species, 5, 2, 11)
    species = torch.arange(n) % n_species
    inputs = [species, torch.randn(n_edges, 5), torch.randn(n_edges, 9)]
    assert_fused_equals_reference(module, inputs, (random_edges(n, n_edges), n))


@pytest.mark.parametrize("parity", [True, False])
@pytest.mark.parametrize(("l_max", "channels", "correlation"), [(1, 3, 2), (2, 8, 3), (3, 19, 4)])
def test_products_equal_their_torch_expression(parity, l_max, channels, correlation):
    module = SymmetricProduct(l_max, channels, 2, correlation, parity)
    a, species = torch.randn(6, (l_max + 1) ** 2, channels), torch.arange(6) % 2
    assert_fused_equals_reference(module, [a, species])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", ROUNDING), ("float32", FLOAT32)])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_whole_network_is_the_same_function(dtype, tolerance, n_layers):
    config = NetworkConfig(elements=["K", "Cl"], n_layers=n_layers, channels=20)
    network = EquiNetwork(config).to(getattr(torch, dtype))
    edges = random_edges(8, 60)
    vectors = torch.nn.functional.normalize(torch.randn(60, 3), dim=1) * (2 + 3 * torch.rand(60, 1))
    species = torch.arange(8) % 2

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, v):
            return network(species, v, edges, 8)

    assert_fused_equals_reference(Call(), [vectors.to(network.energy_scale.dtype)], (), tolerance)


def test_results_are_the_same_bits_for_any_number_of_threads():
    module = set_fused(ScalarConvolution(6, 2, 16).requires_grad_(False), True)
    edges = random_edges(200, 3000)
    inputs = [torch.randn(200, 9, 16), torch.randn(3000, 6), torch.randn(3000, 9)]
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(outputs_and_gradients(module, inputs, (edges, 200)))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_second_derivatives_are_refused_instead_of_being_wrong():
    module = set_fused(ScalarConvolution(4, 1, 8).requires_grad_(False), True)
    x = torch.randn(3, 4, 8, requires_grad=True)
    out = module(x, torch.randn(5, 4), torch.randn(5, 4), random_edges(3, 5), 3)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(out.square().sum(), x, create_graph=True)


def test_gradients_of_weights_are_refused_instead_of_missing():
    weight = torch.randn(4, 16, requires_grad=True)
    x, radial, harmonics = torch.randn(3, 4, 8), torch.randn(5, 4), torch.randn(5, 4)
    with pytest.raises(RuntimeError, match="no gradient of its radial weights"):
        torch.ops.equicalc.scalar_convolution(x, radial, harmonics, weight, random_edges(3, 5), 3)


def test_receivers_out_of_order_are_refused():
    module = set_fused(ScalarConvolution(4, 1, 8).requires_grad_(False), True)
    edges = torch.tensor([[1, 0], [0, 1]])
    with pytest.raises(RuntimeError, match="ascending receivers"):
        module(torch.randn(2, 4, 8), torch.randn(2, 4), torch.randn(2, 4), edges, 2)
