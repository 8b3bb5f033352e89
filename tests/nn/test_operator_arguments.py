"""Operators refuse arguments that do not fit each other, before kernels read beyond them."""

import pytest
import torch

from equicalc.nn.blocks import parse_irreps
from equicalc.nn.contraction import SymmetricContraction
from equicalc.nn.convolution import EquivariantConvolution
from equicalc.nn.irreps_linear import IrrepsLinear
from equicalc.nn.product import SymmetricProduct
from equicalc.nn.radial_table import RadialTable
from equicalc.nn.screened_repulsion import ScreenedRepulsion
from equicalc.nn.tensor_convolution import TensorConvolution

pytestmark = pytest.mark.usefixtures("double_precision")

N_LOCAL, N_TOTAL, N_EDGES = 3, 5, 7


def edges():
    receivers = torch.randint(N_LOCAL, (N_EDGES,)).sort().values
    return torch.stack([receivers, torch.randint(N_TOTAL, (N_EDGES,))])


def outer_sum():
    return {"y": torch.randn(N_EDGES, 4), "w": torch.randn(N_EDGES, 6), "edges": edges(), "n": 3}


def radial_moments():
    return {
        "x": torch.randn(N_TOTAL, 4, 3),
        "b": torch.randn(N_EDGES, 2),
        "y": torch.randn(N_EDGES, 4),
        "edges": edges(),
        "n": N_LOCAL,
    }


def scalar_convolution():
    found = radial_moments()
    mix = {"mix": torch.randn(2, 2 * 3)}
    return {**{k: found[k] for k in ("x", "b", "y")}, **mix, "edges": found["edges"], "n": N_LOCAL}


def equivariant_convolution():
    module = EquivariantConvolution(2, 1, 3, parity=True)
    found = radial_moments()
    return {
        **{k: found[k] for k in ("x", "b", "y")},
        "weight": module.weight.detach(),
        "edges": found["edges"],
        "n": N_LOCAL,
        "rows": module.rows,
        "entries": module.entries,
        "terms": module.terms,
        "coefficients": module.coefficients,
    }


def couple():
    module = SymmetricProduct(1, 3, 2, 2, parity=False).couplings[0]
    return {
        "a": torch.randn(4, 4, 3),
        "b": torch.randn(4, 4, 3),
        "species": torch.tensor([0, 1, 1, 0]),
        "weight": module.weight.detach(),
        "rows": module.rows,
        "terms": module.terms,
        "coefficients": module.coefficients,
    }


def symmetric_contraction():
    terms = [(0, (0,)), (0, (1, 1)), (1, (0, 1, 3))]
    module = SymmetricContraction(terms, torch.randn(2, 3, 5), 4, 2)
    return {
        "x": torch.randn(4, 4, 5),
        "species": torch.tensor([0, 1, 1, 0]),
        "weight": module.weight.detach(),
        **{name: getattr(module, name) for name in ("starts", "roots", "branches", "leaves")},
    }


def radial_functions():
    return {
        "distance": 1.0 + torch.rand(N_EDGES),
        "w1": torch.randn(6, 4),
        "b1": torch.randn(6),
        "w2": torch.randn(3, 6),
        "b2": torch.randn(3),
        "prefactor": 0.6,
        "cutoff": 5.0,
    }


def screened_repulsion():
    settings = {"energy": 14.4, "length": 0.5, "exponent": 0.3}
    module = ScreenedRepulsion(["H", "O"], {**settings, "coefficients": [1.0], "decays": [3.0]})
    return {
        "distance": 0.5 + torch.rand(N_EDGES),
        "species": torch.arange(N_TOTAL) % 2,
        "edges": edges(),
        "pairs": module.pairs,
        "coefficients": module.coefficients,
        "decays": module.decays,
        "order": 6.0,
        "n": N_LOCAL,
    }


def tensor_convolution():
    irreps = parse_irreps("4x0e+3x1o")
    paths = [(0, 0, 0, 1.0), (1, 1, 0, 1.0), (0, 1, 1, 1.0)]
    table = RadialTable([4, 3, 4], 5.0, 0.1)
    table.fit(torch.randn(len(table.points()), 11))
    module = TensorConvolution(irreps, 1, paths, table)
    return {
        "x": torch.randn(N_TOTAL, 13),
        "distance": 1.0 + torch.rand(N_EDGES),
        "harmonics": torch.randn(N_EDGES, 4),
        "edges": edges(),
        "n": N_LOCAL,
        "width": module.width_out,
        "table": table.coefficients,
        "couplings": module.coefficients,
        "paths": module.path_rows,
        "groups": module.groups,
        "inputs": module.input_rows,
        "segments": module.segments,
    }


def irreps_linear():
    module = IrrepsLinear(parse_irreps("4x0e+3x1o"), parse_irreps("2x0e+5x1o"))
    return {
        "x": torch.randn(4, 13),
        "weight": module.weight.detach(),
        "transposed": module.transposed,
        "table": module.table,
        "width": 17,
    }


def gate():
    return {
        "x": torch.randn(4, 2 + 3 + 9),
        "sizes": [2],
        "activations": [0, 0],
        "factors": [1.0, 1.0],
        "multiplicities": [3],
        "components": [3],
    }


OPERATORS = (
    outer_sum,
    radial_moments,
    scalar_convolution,
    equivariant_convolution,
    couple,
    symmetric_contraction,
    radial_functions,
    screened_repulsion,
    tensor_convolution,
    irreps_linear,
    gate,
)
# Constants of a network, with which operators come: buffers that are not looked at on each call.

CONSTANTS = (
    *("rows", "entries", "terms", "coefficients", "starts", "roots", "branches", "leaves"),
    *("transposed", "table", "couplings", "paths", "groups", "inputs", "pairs", "decays"),
)


def call(operator, arguments):
    return getattr(torch.ops.equicalc, operator.__name__)(*arguments.values())


def tensors():
    for operator in OPERATORS:
        for name, value in operator().items():
            if isinstance(value, torch.Tensor) and name not in CONSTANTS:
                yield operator, name


def changes(name, value):
    """What a tensor may be instead, by what is wrong with it."""
    for dimension in range(value.dim()):
        # a row that edges, atoms or channels have no number in
        if value.shape[dimension] > 1:
            yield f"short {dimension}", value.narrow(dimension, 0, value.shape[dimension] - 1)
    yield "dimensions", value.unsqueeze(0)
    if value.is_floating_point():
        yield "precision", value.float()
        yield "whole numbers", value.long()
    else:
        yield "int32", value.int()
        yield "negative", torch.where(torch.arange(value.numel()).view_as(value) == 0, -1, value)
        yield "large", torch.where(value == value.max(), 1000, value)


# Not wrong: fewer atoms, edges, channels or Bessel functions, where nothing else counts them
FITTING = {
    ("outer_sum", "w", "short 1"),
    ("outer_sum", "edges", "large"),  # nobody asks for senders
    ("radial_moments", "x", "short 2"),
    ("radial_moments", "b", "short 1"),
    ("gate", "x", "short 0"),
    ("irreps_linear", "x", "short 0"),
    ("radial_functions", "distance", "short 0"),
    ("radial_functions", "w1", "short 1"),
    ("irreps_linear", "weight", "dimensions"),
}


@pytest.mark.parametrize(
    ("operator", "name"),
    [pytest.param(o, n, id=f"{o.__name__}-{n}") for o, n in tensors()],
)
def test_arguments_that_do_not_fit_are_refused(operator, name):
    arguments = operator()
    call(operator, arguments)
    for what, wrong in changes(name, arguments[name]):
        if (operator.__name__, name, what) in FITTING:
            continue
        if what == "precision" and len(list(floats(arguments))) == 1:
            continue  # the only one
        with pytest.raises(RuntimeError):
            call(operator, {**arguments, name: wrong})


def floats(arguments):
    return (v for v in arguments.values() if isinstance(v, torch.Tensor) and v.is_floating_point())


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.__name__)
def test_arguments_that_are_not_contiguous_are_the_same(operator):
    arguments = operator()
    expected = call(operator, arguments)
    spread = {
        name: torch.stack([value, value], dim=-1)[..., 0]
        if isinstance(value, torch.Tensor) and name not in CONSTANTS
        else value
        for name, value in arguments.items()
    }
    assert torch.equal(call(operator, spread), expected)
