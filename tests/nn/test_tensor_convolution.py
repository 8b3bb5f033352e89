"""The convolution and the linear map for irregular irreps, against e3nn."""

import math

import pytest
import torch
from e3nn import o3

from equicalc.nn.blocks import feature_width, from_e3nn, parse_irreps, to_e3nn
from equicalc.nn.irreps_linear import IrrepsLinear
from equicalc.nn.radial_table import RadialTable
from equicalc.nn.spherical import spherical_harmonics
from equicalc.nn.tensor_convolution import TensorConvolution, path_widths

CUTOFF = 5.0
# float64: the same sums in another order, values of order ten
ROUNDING = 1e-11


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


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


def build(text, l_harmonics=2, l_out=2, spacing=0.05):
    irreps = parse_irreps(text)
    paths = all_paths(irreps, l_harmonics, l_out)
    table = RadialTable(path_widths(irreps, paths), CUTOFF, spacing)
    table.fit(smooth_functions(table.n_functions)(table.points()))
    return TensorConvolution(irreps, l_harmonics, paths, table)


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


@pytest.mark.parametrize("text", ["5x0e", "3x0e+2x1o", "4x0e+3x1e+17x2e", "2x0e+2x0o+3x1o+3x1e"])
def test_values_equal_those_of_e3nn(text):
    module = build(text)
    distance, harmonics, edges = random_graph(7, 5, 40, 2)
    x = torch.randn(7, feature_width(module.irreps_in))
    found = module(x, distance, harmonics, edges, 5)
    expected = e3nn_messages(module, x, distance, harmonics, edges, 5)
    assert (found - expected).abs().max() < ROUNDING


def test_paths_of_degree_three_equal_those_of_e3nn():
    module = build("2x0e+3x1o+2x2e+2x3o", 3, 3)
    distance, harmonics, edges = random_graph(6, 6, 30, 3)
    x = torch.randn(6, feature_width(module.irreps_in))
    found = module(x, distance, harmonics, edges, 6)
    expected = e3nn_messages(module, x, distance, harmonics, edges, 6)
    assert (found - expected).abs().max() < ROUNDING


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
