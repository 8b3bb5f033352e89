"""Charges that sum to the total charge."""

import pytest
import torch

from equicalc.electrostatics import neutralise

# Rounding of a sum of a few numbers near 1.
ROUNDING = 1e-13


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    raw = torch.randn(9, generator=generator, dtype=torch.float64)
    weights = torch.rand(9, generator=generator, dtype=torch.float64) + 0.1
    return raw, weights, torch.tensor([0, 0, 2, 2, 2, 0, 2, 3, 3])


def test_neutralised_charges_sum_to_the_total_charge(batch):
    raw, weights, _ = batch
    for total in (0.0, 1.5, torch.tensor(-2.0, dtype=torch.float64)):
        assert float(neutralise(raw, weights, total).sum()) == pytest.approx(
            float(total), abs=ROUNDING
        )


def test_batched_neutralisation_equals_one_structure_at_a_time(batch):
    raw, weights, structure = batch
    totals = torch.tensor([0.5, 7.0, -1.0, 0.0], dtype=torch.float64)  # structure 1 has no atoms
    charges = neutralise(raw, weights, totals, structure)
    for s in (0, 2, 3):
        mine = structure == s
        alone = neutralise(raw[mine], weights[mine], totals[s])
        torch.testing.assert_close(charges[mine], alone, rtol=0, atol=ROUNDING)


def test_atom_with_more_weight_takes_more_of_the_excess():
    charges = neutralise(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(charges, torch.tensor([0.5, -0.5]))


def test_neutralisation_gradients_are_those_of_finite_differences(batch):
    raw, weights, structure = batch
    totals = torch.tensor([0.5, 0.0, -1.0, 0.0], dtype=torch.float64)
    inputs = tuple(t.clone().requires_grad_() for t in (raw, weights, totals))
    function = lambda r, w, t: neutralise(r, w, t, structure)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_no_atoms_give_no_charges():
    assert neutralise(torch.zeros(0), torch.zeros(0)).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), torch.ones(2)), "shape"),
        ((torch.zeros(3, 1), torch.ones(3, 1)), "shape"),
        ((torch.zeros(3), torch.ones(3), torch.zeros(2)), "one number"),
        ((torch.zeros(3), torch.ones(3), torch.zeros(1), torch.zeros(2).long()), "structure must"),
        ((torch.zeros(3), torch.ones(3), 0.0, torch.zeros(3).long()), r"shape \[S\]"),
    ],
)
def test_wrong_shapes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        neutralise(*arguments)
