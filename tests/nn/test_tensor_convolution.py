"""The convolution and the linear map for irregular irreps, against e3nn."""

import math

import pytest
import torch
from e3nn import o3

from equicalc.nn.blocks import feature_width, parse_irreps
from equicalc.nn.irreps_linear import IrrepsLinear
from equicalc.nn.radial_table import RadialTable
from equicalc.nn.spherical import spherical_harmonics
from equicalc.nn.tensor_convolution import TensorConvolution, path_widths
from tests.comparing import assert_close
from tests.nn.e3nn_layout import from_e3nn, to_e3nn

pytestmark = pytest.mark.usefixtures("double_precision")

CUTOFF = 5.0
# float64: the same sums in another order, values of order ten
ROUNDING = 1e-11


def all_paths(irreps, l_harmonics, l_out):
    """Every path with outputs up to l_out, sorted by output, with different factors."""
    paths = []
    for block, (_, l2, parity) in enumerate(irreps):
        for l1 in range(l_harmonics + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, l_out) + 1):
                paths.append(((l3, parity * (-1) ** l1), (block, l1, l3, 0.5 + 0.1 * l1)))
    return [path for _, path in sorted(paths)]


def smooth_functions(n):
    """Return f(r) -> [len(r), n]: a random mix of Bessel functions times a smooth cutoff."""
    mix = torch.randn(8, n)
    frequencies = torch.arange(1, 9) * (math.pi / CUTOFF)

    def values(r):
        bessel = torch.sin(r.unsqueeze(1) * frequencies) / r.unsqueeze(1)
        return (bessel @ mix) * (1 - (r / CUTOFF) ** 2).unsqueeze(1) ** 3

    return values


def build(text, l_harmonics=2, l_out=2, fused=True):
    irreps = parse_irreps(text)
    paths = all_paths(irreps, l_harmonics, l_out)
    # a break in between, so that tables of several segments are read
    table = RadialTable(path_widths(irreps, paths), CUTOFF, 0.05, [2.5])
    table.fit(smooth_functions(table.n_functions)(table.points()))
    module = TensorConvolution(irreps, l_harmonics, paths, table)
    module.fused = fused
    return module


def random_graph(n_total, n_local, n_edges, l_harmonics):
    """Return distances, harmonics and edges; some distances are beyond the cutoff."""
    receivers = torch.randint(n_local, (n_edges,)).sort().values if n_local else torch.zeros(0)
    senders = torch.randint(max(n_total, 1), (len(receivers),))
    unit = torch.nn.functional.normalize(torch.randn(len(receivers), 3), dim=1)
    distance = 1.0 + 4.2 * torch.rand(len(receivers))
    return (
        distance,
        spherical_harmonics(unit, l_harmonics),
        torch.stack([receivers.long(), senders]),
    )


def e3nn_messages(module, x, distance, harmonics, edges, n_local):
    """The same through e3nn.o3.TensorProduct; its own paths and layout."""
    irreps = module.irreps_in
    outputs = [(mul, (l3, p)) for mul, l3, p in path_outputs(module)]
    product = o3.TensorProduct(
        o3.Irreps([(mul, (degree, p)) for mul, degree, p in irreps]),
        o3.Irreps.spherical_harmonics(math.isqrt(harmonics.shape[1]) - 1),
        o3.Irreps(outputs),
        [(b, l1, k, "uvu", True) for k, (b, l1, _, _) in enumerate(module.instructions)],
        irrep_normalization="component",
        path_normalization="element",
        shared_weights=False,
        internal_weights=False,
    )
    scales = torch.cat(
        [
            torch.full((width,), scale)
            for width, scale in zip(module.path_widths, module.scales, strict=True)
        ]
    )
    edge = product(to_e3nn(x, irreps)[edges[1]], harmonics, module.table(distance) * scales)
    out = torch.zeros(n_local, edge.shape[1]).index_add(0, edges[0], edge)
    # e3nn's blocks of neighbouring paths are one block [channels, 2 l + 1] already
    return from_e3nn(out, module.irreps_out)


def path_outputs(module):
    return [
        (module.irreps_in[b][0], l3, module.irreps_in[b][2] * (-1) ** l1)
        for b, l1, l3, _ in module.instructions
    ]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("text", ["5x0e", "3x0e+2x1o", "4x0e+3x1e+17x2e", "2x0e+2x0o+3x1o+3x1e"])
def test_values_equal_those_of_e3nn(text, fused):
    module = build(text, fused=fused)
    distance, harmonics, edges = random_graph(7, 5, 40, 2)
    x = torch.randn(7, feature_width(module.irreps_in))
    found = module(x, distance, harmonics, edges, 5)
    expected = e3nn_messages(module, x, distance, harmonics, edges, 5)
    assert (found - expected).abs().max() < ROUNDING


def test_tables_of_model_files_without_a_stretch_have_equal_steps_in_distance():
    module = build("17x0e+2x1o")
    distance, harmonics, edges = random_graph(7, 5, 40, 2)
    x = torch.randn(7, feature_width(module.irreps_in))
    # B-splines have a line of coefficients for a straight line: here 2 - r of all functions
    n = 9
    step = CUTOFF / n
    line = 2.0 - step * (torch.arange(n + 3) - 1.0)
    module.table.coefficients = line.view(1, -1, 1).repeat(
        module.table.coefficients.shape[0], 1, module.table.lanes
    )
    module.segments = [0.0, CUTOFF, 0.0, float(n)]
    weights = torch.where(distance < CUTOFF, 2.0 - distance, 0.0).unsqueeze(1)
    expected = module.with_weights(
        x, weights.expand(-1, module.table.n_functions), harmonics, edges, 5
    )
    found = module(x, distance, harmonics, edges, 5)
    assert (found - expected).abs().max() < ROUNDING


@pytest.mark.parametrize("fused", [False, True])
def test_paths_of_degree_three_equal_those_of_e3nn(fused):
    module = build("2x0e+3x1o+2x2e+2x3o", 3, 3, fused)
    distance, harmonics, edges = random_graph(6, 6, 30, 3)
    x = torch.randn(6, feature_width(module.irreps_in))
    found = module(x, distance, harmonics, edges, 6)
    expected = e3nn_messages(module, x, distance, harmonics, edges, 6)
    assert (found - expected).abs().max() < ROUNDING


def values_and_gradients(module, x, distance, harmonics, edges, n_local):
    """Messages and the gradients of a fixed functional of them in all elements."""
    leaves = [t.clone().requires_grad_() for t in (x, distance, harmonics)]
    out = module(*leaves, edges, n_local)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out).cos()
    scalar = (out.double() * weight).sum()
    return [out.detach(), *torch.autograd.grad(scalar, leaves)]


def assert_fused_equals_reference(module, inputs, tolerance=ROUNDING):
    module.fused = False
    expected = values_and_gradients(module, *inputs)
    module.fused = True
    found = values_and_gradients(module, *inputs)
    assert_close(found, expected, tolerance)


# 16 channels are a block, 8 doubles a vector of 64 bytes: below, above, and several
@pytest.mark.parametrize("text", ["1x0e+1x1o", "16x0e+17x1e+8x2e", "40x0e+9x0o+33x1o", "20x2e"])
@pytest.mark.parametrize("l_harmonics", [0, 1, 2])
def test_operator_equals_torch_expression(text, l_harmonics):
    module = build(text, l_harmonics, 2)
    x = torch.randn(7, feature_width(module.irreps_in))
    inputs = (x, *random_graph(7, 5, 40, l_harmonics), 5)
    assert_fused_equals_reference(module, inputs)


def test_operator_equals_torch_expression_up_to_degree_three():
    module = build("3x0e+18x1o+2x2e+5x3o", 3, 3)
    x = torch.randn(6, feature_width(module.irreps_in))
    assert_fused_equals_reference(module, (x, *random_graph(6, 6, 30, 3), 6))


# no atom, no edge, two thousand edges at one receiver, more edges than one chunk of work holds
@pytest.mark.parametrize(
    ("n_total", "n_local", "n_edges"), [(0, 0, 0), (1, 1, 0), (3, 1, 2000), (300, 250, 4000)]
)
def test_operator_handles_any_number_of_edges(n_total, n_local, n_edges):
    module = build("5x0e+3x1o", 1, 1)
    x = torch.randn(n_total, feature_width(module.irreps_in))
    assert_fused_equals_reference(module, (x, *random_graph(n_total, n_local, n_edges, 1), n_local))


def test_float32_is_the_rounded_float64():
    module = build("16x0e+17x1e+8x2e")
    x = torch.randn(20, feature_width(module.irreps_in))
    distance, harmonics, edges = random_graph(20, 20, 300, 2)
    # distances that float32 holds exactly
    distance = distance.float().double()
    expected = values_and_gradients(module, x, distance, harmonics, edges, 20)
    module.float()
    single = [t.float() for t in (x, distance, harmonics)]
    found = values_and_gradients(module, *single, edges, 20)
    # 7 digits; sums of hundreds of terms, slopes of the table are 20 times its values
    for a, b in zip(expected, found, strict=True):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()


def test_results_are_the_same_bits_for_any_number_of_threads():
    module = build("16x0e+17x1e")
    x = torch.randn(300, feature_width(module.irreps_in))
    inputs = (x, *random_graph(300, 300, 4000, 2), 300)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(values_and_gradients(module, *inputs))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_second_derivatives_of_the_operator_are_refused():
    module = build("2x0e", 1, 1)
    x = torch.randn(3, 2, requires_grad=True)
    out = module(x, *random_graph(3, 3, 5, 1), 3)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(out.square().sum(), x, create_graph=True)


def test_distances_that_are_no_numbers_are_not_hidden():
    module = build("2x0e", 1, 1)
    distance, harmonics, edges = random_graph(3, 3, 5, 1)
    distance[0] = float("nan")
    assert module(torch.randn(3, 2), distance, harmonics, edges, 3).isnan().any()


def test_a_table_without_its_rows_is_refused():
    module = build("2x0e", 1, 1)
    module.table.coefficients = module.table.coefficients[:, :-1].contiguous()
    with pytest.raises(RuntimeError, match="fill it with"):
        module(torch.randn(3, 2), *random_graph(3, 3, 5, 1), 3)


def test_edges_out_of_range_are_refused():
    module = build("2x0e", 1, 1)
    distance, harmonics, edges = random_graph(3, 3, 5, 1)
    with pytest.raises(RuntimeError, match=r"senders below 2|senders edge_index\[1\] of 0 to 1"):
        module(
            torch.randn(2, 2),
            distance,
            harmonics,
            edges.clamp(max=2) + edges.new_tensor([[0], [1]]),
            3,
        )
    with pytest.raises(RuntimeError, match="ascending receivers"):
        module(torch.randn(3, 2), distance, harmonics, edges.flip(1), 3)


def test_operator_can_be_exported():
    class Forces(torch.nn.Module):
        def __init__(self, convolution):
            super().__init__()
            self.convolution = convolution

        def forward(self, x, distance, harmonics, edges):
            return self.convolution(x, distance, harmonics, edges, 3).square().sum()

    module = Forces(build("2x0e+3x1o", 1, 1))
    inputs = (torch.randn(3, 11), *random_graph(3, 3, 5, 1))
    exported = torch.export.export(module, inputs)
    assert any("tensor_convolution" in str(node.target) for node in exported.graph.nodes)
    assert torch.equal(exported.module()(*inputs), module(*inputs))


def test_convolution_and_linear_can_be_scripted():
    module = build("3x0e+2x1o", 1, 1)
    linear = IrrepsLinear(module.irreps_out, parse_irreps("4x0e+2x1o+1x2e"))
    distance, harmonics, edges = random_graph(4, 3, 12, 1)
    x = torch.randn(4, feature_width(module.irreps_in))
    expected = linear(module(x, distance, harmonics, edges, 3))
    found = torch.jit.script(linear)(torch.jit.script(module)(x, distance, harmonics, edges, 3))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name_in", ["8x0e+3x1o", "4x0e+5x0e+2x1o+3x1o+2x2e"])
@pytest.mark.parametrize("name_out", ["6x0e+4x1o", "3x1o+2x0e+2x0e+1x3o"])
def test_linear_equals_that_of_e3nn(name_in, name_out):
    irreps_in, irreps_out = parse_irreps(name_in), parse_irreps(name_out)
    oracle = o3.Linear(o3.Irreps(name_in), o3.Irreps(name_out))
    module = IrrepsLinear(irreps_in, irreps_out)
    module.load_e3nn(oracle.weight)
    x = torch.randn(9, feature_width(irreps_in))
    expected = from_e3nn(oracle(to_e3nn(x, irreps_in)), irreps_out)
    assert (module(x) - expected).abs().max() < ROUNDING


def test_unknown_paths_are_refused():
    irreps = parse_irreps("2x0e+2x1o")
    table = RadialTable([2], CUTOFF)
    with pytest.raises(ValueError, match="no path couples degrees 1 and 1 to 3"):
        TensorConvolution(irreps, 1, [(1, 1, 3, 1.0)], table)
    with pytest.raises(ValueError, match=r"have \[2, 2\] radial functions, the table has \[2\]"):
        TensorConvolution(irreps, 1, [(0, 0, 0, 1.0), (1, 0, 1, 1.0)], table)
