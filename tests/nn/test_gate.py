"""The gate against e3nn's, and its operator against torch expressions."""

import pytest
import torch
from e3nn.nn import Gate as E3nnGate
from e3nn.o3 import Irreps

from equicalc.interop.sevennet_weights import factor_of
from equicalc.nn.blocks import feature_width, parse_irreps
from equicalc.nn.gate import Gate
from tests.nn.e3nn_layout import to_e3nn

FEATURES = [
    "128x0e+64x1e+32x2e",
    "5x0e+3x0o+7x1o+17x1e+2x2e+1x3o",
    "9x0o+4x0e+6x1o",
    "21x0e",
]
# e3nn normalises with a sampled constant in float32
NORMALISATION = 1e-6
ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-6}


def make(features, names=("silu", "tanh")):
    activations = {1: (names[0], factor_of(names[0])), -1: (names[1], factor_of(names[1]))}
    return Gate(parse_irreps(features), activations, activations)


def value_and_gradient(gate, x, weights):
    x = x.clone().requires_grad_(True)
    value = gate(x)
    return value.detach(), torch.autograd.grad((value * weights).sum(), x)[0]


@pytest.mark.parametrize("features", FEATURES)
def test_gate_equals_that_of_e3nn(features):
    gate = make(features)
    irreps = Irreps(features)
    scalars = Irreps([(mul, ir) for mul, ir in irreps if ir.l == 0])
    others = Irreps([(mul, ir) for mul, ir in irreps if ir.l > 0])
    functions = {1: torch.nn.functional.silu, -1: torch.tanh}
    gates = Irreps([(mul, "0e") for mul, _ in others])
    theirs = E3nnGate(
        scalars,
        [functions[ir.p] for _, ir in scalars],
        gates,
        [torch.nn.functional.silu for _ in gates],
        others,
    )
    torch.manual_seed(1)
    parts = [torch.randn(6, ir.dim, dtype=torch.float64) for ir in (scalars, gates)]
    block = torch.randn(6, others.dim, dtype=torch.float64)
    ours = gate(torch.cat([*parts, block], dim=1))
    # e3nn sorts its input by kind, and has channels first
    expected = torch.cat(
        [
            theirs.act_scalars(parts[0]),
            *([theirs.mul(to_e3nn(block, parse_irreps(str(others))), theirs.act_gates(parts[1]))]
              if others.dim else []),
        ],
        dim=1,
    )  # fmt: skip
    assert (to_e3nn(ours, gate.irreps_out) - expected).abs().max() < NORMALISATION


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("features", FEATURES)
def test_operator_equals_torch_expressions(features, dtype):
    gate = make(features)
    torch.manual_seed(3)
    x = 3.0 * torch.randn(70, feature_width(gate.irreps_in), dtype=torch.float64)
    weights = torch.randn(70, feature_width(gate.irreps_out), dtype=torch.float64)
    gate.fused = False
    expected = value_and_gradient(gate, x, weights)
    gate.fused = True
    found = value_and_gradient(gate, x.to(dtype), weights.to(dtype))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert ((a - b).abs() / (1.0 + b.abs())).max() < ROUNDING[dtype]


@pytest.mark.parametrize("size", [0.0, 50.0, 1e4])
def test_operator_stays_finite_for_large_numbers(size):
    gate = make(FEATURES[1])
    x = torch.full((2, feature_width(gate.irreps_in)), size)
    for sign in (1.0, -1.0):
        for result in value_and_gradient(gate, sign * x, torch.ones(2, 1)):
            assert torch.isfinite(result).all()


def test_other_activations_go_through_torch():
    gate = make("5x0e+2x1o", names=("ssp", "tanh"))
    x = torch.randn(3, feature_width(gate.irreps_in))
    fused = gate(x)
    gate.fused = False
    assert torch.equal(fused, gate(x))


def test_no_atoms_give_no_rows():
    gate = make(FEATURES[0])
    value, gradient = value_and_gradient(gate, torch.zeros(0, 576), torch.zeros(0, 480))
    assert value.shape == (0, 480)
    assert gradient.shape == (0, 576)


@pytest.mark.parametrize("features", ["2x1o+3x0e", "3x0e+2x1o+2x1o", "3x0o+2x1o"])
def test_impossible_features_are_refused(features):
    with pytest.raises(ValueError, match="features"):
        make(features)


def test_export_sees_the_shape():
    gate = make(FEATURES[0])
    x = torch.randn(4, 576)
    assert torch.equal(torch.export.export(gate, (x,)).module()(x), gate(x))
