"""Forward and backward of the core against the same module differentiated by Python's autograd."""

import pytest
import torch

from equicalc.errors import EquicalcError

# Same operations in the same order: only the summation order inside a kernel may differ.
FLOAT64_TOLERANCE = 1e-12
# Single precision has 7 digits; the mock's numbers are of order one.
FLOAT32_TOLERANCE = 1e-4


@pytest.fixture
def evaluator(core_module, mock_path):
    return core_module.Evaluator(core_module.Model.load(str(mock_path)))


def forward(evaluator, graph):
    species = graph["species"]
    return evaluator.forward(species, graph["edge_index"], graph["edge_vectors"], len(species))


def reference(path, graph, charge_gradient):
    module = torch.jit.load(str(path))
    vectors = graph["edge_vectors"].clone().requires_grad_(True)
    species = graph["species"]
    energies, charges = module(species, vectors, graph["edge_index"], len(species))
    total = energies.sum() + (charge_gradient * charges).sum()
    (gradient,) = torch.autograd.grad(total, vectors)
    return energies.detach(), charges.detach(), gradient


def columns(charge_gradient):
    """Gradient of both variables, raw charge and weight; the mock's weights are constants."""
    return torch.stack([charge_gradient, torch.ones_like(charge_gradient)], dim=1)


def largest(difference):
    return float(difference.abs().max())


def test_results_equal_those_of_python(evaluator, mock_path, graph):
    charge_gradient = torch.linspace(-1, 1, 14, dtype=torch.float64)
    energies, charges, gradient = reference(mock_path, graph, charge_gradient)
    found = forward(evaluator, graph)
    assert largest(found.energies - energies) < FLOAT64_TOLERANCE
    assert largest(found.variables[:, 0] - charges) < FLOAT64_TOLERANCE
    assert largest(evaluator.backward(columns(charge_gradient)) - gradient) < FLOAT64_TOLERANCE
    assert largest(gradient) > 0.01  # the comparison is not between zeros


def test_gradient_without_charges_is_that_of_the_energies(evaluator, mock_path, graph):
    *_, gradient = reference(mock_path, graph, torch.zeros(14, dtype=torch.float64))
    forward(evaluator, graph)
    assert largest(evaluator.backward(None) - gradient) < FLOAT64_TOLERANCE


def test_models_without_charges_have_no_variables(core_module, write_model, graph):
    model = core_module.Model.load(str(write_model(has_charges=False)))
    evaluator = core_module.Evaluator(model)
    gradients = []
    for charge_gradient in (None, torch.ones(14, 0, dtype=torch.float64)):
        assert forward(evaluator, graph).variables.shape == (14, 0)
        gradients.append(evaluator.backward(charge_gradient))
    assert torch.equal(*gradients)


def test_results_are_float64_in_single_precision_and_close(core_module, mock_path, graph):
    results = {}
    for dtype in ("float64", "float32"):
        evaluator = core_module.Evaluator(core_module.Model.load(str(mock_path), dtype=dtype))
        found = forward(evaluator, graph)
        gradient = evaluator.backward(torch.ones(14, 2, dtype=torch.float64))
        results[dtype] = (found.energies, found.variables[:, 0], gradient)
    for double, single in zip(results["float64"], results["float32"], strict=True):
        assert single.dtype == torch.float64
        assert 0.0 < largest(double - single) < FLOAT32_TOLERANCE


def test_atoms_without_edges_give_finite_results(evaluator):
    found = evaluator.forward(
        torch.tensor([0, 1]),
        torch.zeros(2, 0, dtype=torch.int64),
        torch.zeros(0, 3, dtype=torch.float64),
        2,
    )
    assert torch.isfinite(found.energies).all()
    assert evaluator.backward(torch.ones(2, 2, dtype=torch.float64)).shape == (0, 3)


def test_no_atoms_give_empty_results(evaluator):
    found = evaluator.forward(
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(2, 0, dtype=torch.int64),
        torch.zeros(0, 3, dtype=torch.float64),
        0,
    )
    assert (found.energies.shape, found.variables.shape) == ((0,), (0, 2))
    assert evaluator.backward(torch.zeros(0, 2, dtype=torch.float64)).shape == (0, 3)


def test_each_backward_needs_its_own_forward(evaluator, graph):
    with pytest.raises(EquicalcError, match="needs a forward call"):
        evaluator.backward(None)
    forward(evaluator, graph)
    evaluator.backward(None)
    with pytest.raises(EquicalcError, match="needs a forward call"):
        evaluator.backward(None)


def test_charge_gradient_of_wrong_length_is_refused(evaluator, graph):
    forward(evaluator, graph)
    with pytest.raises(EquicalcError, match=r"has 3 numbers, expected 28 \(14 atoms"):
        evaluator.backward(torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"species": torch.zeros(14, dtype=torch.int32)}, "species must be int64"),
        ({"edge_index": torch.zeros(3, 2, dtype=torch.int64)}, "edge_index must be int32 or int64"),
        ({"edge_vectors": torch.zeros(2, 3)}, "edge_vectors must be float64"),
        ({"edge_vectors": torch.zeros(2, 3, dtype=torch.float64)}, "differ in length"),
    ],
)
def test_malformed_graphs_are_refused(evaluator, graph, change, match):
    with pytest.raises(EquicalcError, match=match):
        forward(evaluator, {**graph, **change})
