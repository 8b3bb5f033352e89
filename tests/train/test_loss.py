"""The loss, term by term, against formulas written out."""

import dataclasses

import pytest
import torch

from equicalc.data import collate
from equicalc.train import Potential, loss

# float64 sums of a few dozen terms
ROUNDING = 1e-11


@pytest.fixture
def prediction_and_batch(small_network, samples):
    batch = collate(samples)
    return Potential(small_network())(batch), batch


def test_terms_are_means_over_the_values_that_the_data_have(prediction_and_batch):
    prediction, batch = prediction_and_batch
    terms = loss.sums(prediction, batch, loss.LossShape()) / loss.counts(batch)
    energy = ((prediction.energy - batch.energy) / batch.n_atoms).square().mean()
    forces = (prediction.forces - batch.forces).square().mean()
    assert terms[0].item() == pytest.approx(energy.item(), rel=ROUNDING)
    assert terms[1].item() == pytest.approx(forces.item(), rel=ROUNDING)
    # the molecule has no stress
    per_atom = torch.linalg.det(batch.cells).abs() / batch.n_atoms
    virial = (prediction.stress - batch.stress)[:2] * per_atom[:2, None, None]
    assert terms[2].item() == pytest.approx(virial.square().mean().item(), rel=ROUNDING)


def test_missing_labels_never_enter_the_total(prediction_and_batch):
    prediction, batch = prediction_and_batch
    sums, counts = loss.sums(prediction, batch, loss.LossShape()), loss.counts(batch)
    assert counts.tolist()[3:] == [0.0] * 4
    assert sums.tolist()[3:] == [0.0] * 4
    weights = loss.LossWeights(energy=1, forces=2, charges=5, born=5)
    expected = sums[0] / counts[0] + 2 * sums[1] / counts[1]
    assert loss.total(sums, counts, weights).item() == pytest.approx(expected.item(), rel=ROUNDING)


def test_weights_of_structures_scale_their_errors(prediction_and_batch):
    prediction, batch = prediction_and_batch
    only_first = dataclasses.replace(batch, weights=torch.tensor([2.0, 0.0, 0.0]).double())
    sums = loss.sums(prediction, only_first, loss.LossShape())
    expected = 2 * (prediction.forces - batch.forces)[:8].square().sum()
    assert sums[1].item() == pytest.approx(expected.item(), rel=ROUNDING)


def test_huber_is_quadratic_then_linear_and_joins_smoothly():
    errors = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    values = loss.huber(errors.square(), 1.0)
    assert values.tolist() == [0.0, 0.25, 1.0, 5.0]
    values.sum().backward()
    assert errors.grad.tolist() == [0.0, 1.0, 2.0, 2.0]
    assert torch.equal(loss.huber(errors, None), errors)


def test_structures_with_large_forces_count_relative_to_them(prediction_and_batch):
    _, batch = prediction_and_batch
    weights = loss.magnitude_weights(batch, 0.5)
    rms = batch.forces[:8].square().mean().sqrt()
    assert weights[0].item() == pytest.approx(1 / (1 + (rms.item() / 0.5) ** 2), rel=ROUNDING)
    # forces of the molecule are 1 eV/angstrom in every component
    assert weights[2].item() == pytest.approx(0.2, rel=ROUNDING)


def test_born_charges_and_polarisation_are_those_that_follow_the_field(small_network, samples):
    settings = {"charge_model": "fixed"}
    network = small_network(**settings)
    bare = Potential(network)(samples[0], need_born=True)
    network.epsilon_inf.fill_(4.0)
    screened = Potential(network)(samples[0], need_born=True)
    # charges of the Coulomb energy, times sqrt(eps_inf) = 2
    assert torch.allclose(screened.born, 2.0 * bare.born, rtol=ROUNDING)
    assert torch.allclose(screened.dipole, 2.0 * bare.dipole, rtol=ROUNDING)
    assert torch.allclose(screened.energy, bare.energy, rtol=ROUNDING)
