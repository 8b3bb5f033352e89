"""The whole energy: derivatives against finite differences, independence of the batch."""

import dataclasses

import pytest
import torch

from equicalc.data import collate
from equicalc.train import Potential, loss

# float64 sums over some hundred edges, in another order in another batch
ROUNDING = 1e-11
# Central differences with step 1e-4: truncation 1e-8 times third derivatives of order one.
STEP = 1e-4
FINITE_DIFFERENCE = 1e-6
# The loss is a sum of squares of forces: its derivatives are one order larger.
PARAMETER_DIFFERENCE = 1e-5
# The network starts near the given charges of 0.6 and -0.5 e.
CHARGE_RANGE = (0.1, 1.5)
TRANSFERRED = {"charge_model": "transferred", "formal_charges": {"K": 1, "Cl": -1}}


@pytest.fixture
def potential(small_network):
    return Potential(small_network())


def moved(batch, atom, axis, step):
    positions = batch.positions.clone()
    positions[atom, axis] += step
    return dataclasses.replace(batch, positions=positions)


def strained(batch, a, b, step):
    deformation = torch.eye(3, dtype=torch.float64)
    deformation[a, b] += step / 2
    deformation[b, a] += step / 2
    return dataclasses.replace(
        batch, positions=batch.positions @ deformation, cells=batch.cells @ deformation
    )


def with_other_images(batch):
    """The same crystal with one atom in another cell."""
    integers = torch.zeros(len(batch.species), 3, dtype=torch.float64)
    integers[3] = torch.tensor([1.0, -2.0, 1.0])
    receiver, sender = batch.edge_index
    return dataclasses.replace(
        batch,
        positions=batch.positions + integers @ batch.cells[0],
        edge_shifts=batch.edge_shifts + integers[receiver] - integers[sender],
    )


def total_energy(potential, batch):
    return potential(batch, need_stress=False).energy.detach()


def test_forces_are_the_derivative_of_the_energy_with_the_coulomb_part(potential, samples):
    batch = collate(samples)
    forces = potential(batch).forces.detach()
    for atom, axis in [(0, 0), (5, 2), (9, 1), (17, 0), (18, 2)]:
        up, down = (
            total_energy(potential, moved(batch, atom, axis, s)).sum() for s in (STEP, -STEP)
        )
        assert abs(float(-(up - down) / (2 * STEP) - forces[atom, axis])) < FINITE_DIFFERENCE


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 2), (2, 0)])
def test_stress_is_the_derivative_of_the_energy_with_the_coulomb_part(potential, samples, a, b):
    batch = collate(samples[:2])
    stress = potential(batch).stress.detach()
    up, down = (total_energy(potential, strained(batch, a, b, s)) for s in (STEP, -STEP))
    numeric = (up - down) / (2 * STEP) / torch.linalg.det(batch.cells).abs()
    assert float((numeric - stress[:, a, b]).abs().max()) < FINITE_DIFFERENCE


def test_the_coulomb_energy_of_learned_charges_is_part_of_the_energy(potential, samples):
    batch = collate(samples)
    prediction = potential(batch)
    magnitude = float(prediction.charges.detach().abs().mean())
    assert CHARGE_RANGE[0] < magnitude < CHARGE_RANGE[1]
    short = torch.zeros(3, dtype=torch.float64).index_add(
        0, batch.structure, prediction.node_energies.detach()
    )
    coulomb = prediction.energy.detach() - short
    # opposite neighbours attract: eV, not rounding
    assert bool((coulomb[:2] < -1.0).all())


def test_charges_sum_to_the_total_charge_of_each_structure(potential, samples):
    batch = collate(samples)
    sums = torch.zeros(3, dtype=torch.float64).index_add(
        0, batch.structure, potential(batch).charges.detach()
    )
    assert torch.allclose(sums, batch.total_charge, atol=ROUNDING)
    assert batch.total_charge.tolist() == [0.0, 0.0, 1.0]


def test_a_structure_does_not_feel_the_others_in_its_batch(potential, samples):
    together = potential(collate(samples))
    start = 0
    for index, sample in enumerate(samples):
        alone = potential(sample)
        stop = start + len(sample.species)
        assert torch.allclose(alone.energy[0], together.energy[index], atol=ROUNDING, rtol=0)
        for name in ("forces", "charges", "node_energies"):
            difference = (getattr(alone, name) - getattr(together, name)[start:stop]).detach()
            assert float(difference.abs().max()) < ROUNDING
        assert float((alone.stress[0] - together.stress[index]).abs().max()) < ROUNDING
        start = stop


def test_stress_of_a_molecule_is_zero_and_does_not_disturb_its_batch(potential, samples):
    stress = potential(collate(samples)).stress
    assert torch.equal(stress[2], torch.zeros(3, 3, dtype=torch.float64))
    assert bool(torch.isfinite(stress).all())


def test_a_network_without_charges_has_no_coulomb_energy(small_network, samples):
    prediction = Potential(small_network(charge_model="none"))(collate(samples))
    assert float(prediction.charges.abs().max()) == 0.0
    assert torch.allclose(prediction.energy.sum(), prediction.node_energies.sum(), atol=ROUNDING)


def test_dipole_is_the_sum_of_charges_times_positions(potential, samples):
    prediction = potential(samples[2])
    expected = (prediction.charges[:, None] * samples[2].positions).sum(0)
    assert torch.allclose(prediction.dipole[0], expected, atol=ROUNDING)


def test_born_charges_of_a_molecule_are_the_derivative_of_its_dipole(potential, samples):
    molecule = samples[2]
    born = potential(molecule, need_born=True).born.detach()
    for atom, axis in [(0, 0), (1, 2), (2, 1)]:
        up, down = (
            potential(moved(molecule, atom, axis, s)).dipole[0].detach() for s in (STEP, -STEP)
        )
        # the dipole of a charged molecule depends on the origin, its derivative does not
        assert float(((up - down) / (2 * STEP) - born[atom, :, axis]).abs().max()) < (
            FINITE_DIFFERENCE
        )


def test_born_charges_of_a_crystal_are_the_derivative_of_its_polarisation(small_network, samples):
    potential = Potential(small_network(**TRANSFERRED))
    crystal = samples[0]
    born = potential(crystal, need_born=True).born.detach()
    for atom, axis in [(0, 0), (3, 2), (6, 1)]:
        up, down = (
            potential(moved(crystal, atom, axis, s)).dipole[0].detach() for s in (STEP, -STEP)
        )
        numeric = (up - down) / (2 * STEP)
        assert float((numeric - born[atom, :, axis]).abs().max()) < FINITE_DIFFERENCE


def test_born_charges_of_a_crystal_ignore_the_choice_of_images(small_network, samples):
    potential = Potential(small_network(**TRANSFERRED))
    batch, shifted = samples[0], with_other_images(samples[0])
    born, again = (potential(b, need_born=True).born.detach() for b in (batch, shifted))
    assert torch.allclose(born, again, atol=ROUNDING)


def test_polarisation_changes_by_lattice_vectors_with_the_choice_of_images(small_network, samples):
    potential = Potential(small_network(**TRANSFERRED))
    batch = samples[0]
    with_label = dataclasses.replace(batch, polarization=potential(batch).dipole.detach())
    other = potential(with_other_images(batch)).dipole.detach()
    assert float((other - with_label.polarization).abs().max()) > 1.0
    assert float(loss.polarization_error(other, with_label).abs().max()) < ROUNDING


def test_born_charges_of_transferred_charges_sum_to_zero(small_network, samples):
    potential = Potential(small_network(**TRANSFERRED))
    batch = samples[0]
    formal = torch.tensor([1.0, -1.0], dtype=torch.float64)[batch.species]
    born = potential(batch, need_born=True).born.detach()
    assert float((born.sum(0) - formal.sum() * torch.eye(3)).abs().max()) < ROUNDING
    # and the transfer makes them anisotropic and different from the formal ones
    assert float((born - formal[:, None, None] * torch.eye(3)).abs().max()) > 0.01


def test_transferred_charges_sum_to_the_formal_ones_without_neutralisation(small_network, samples):
    potential = Potential(small_network(**TRANSFERRED))
    batch = samples[0]
    vectors = batch.positions[batch.edge_index[1]] - batch.positions[batch.edge_index[0]]
    vectors = vectors + batch.edge_shifts @ batch.cells[0]
    variables = potential.raw_outputs(batch, vectors)[1].detach()
    formal = torch.tensor([1.0, -1.0], dtype=torch.float64)[batch.species]
    expected = formal.sum() / potential.screening()
    assert float((variables[:, 0].sum() - expected).abs()) < ROUNDING
    assert float((variables[:, 0] - formal / potential.screening()).abs().max()) > 1e-3


@pytest.mark.parametrize("weights", ["element", "environment"])
def test_neutralisation_may_weigh_atoms_by_element_or_environment(small_network, samples, weights):
    batch = collate(samples)
    equal = Potential(small_network())(batch).charges.detach()
    network = small_network(charge_weights=weights)
    with torch.no_grad():
        network.charge_head.weights.logarithm.copy_(torch.tensor([0.0, 0.5]))
    charges = Potential(network)(batch).charges.detach()
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, batch.structure, charges)
    assert torch.allclose(sums, batch.total_charge, atol=ROUNDING)
    assert float((charges - equal).abs().max()) > 1e-4


def test_charges_of_the_fixed_model_depend_on_the_element_only(small_network, samples):
    batch = samples[0]
    charges = Potential(small_network(charge_model="fixed"))(batch).charges.detach()
    for index in (0, 1):
        of_element = charges[batch.species == index]
        assert float((of_element - of_element[0]).abs().max()) < ROUNDING


def test_learned_widths_have_a_gradient_and_start_at_the_given_ones(small_network, samples):
    network = small_network(learn_sigma=True, sigmas={"Cl": 1.2})
    potential = Potential(network)
    widths = network.sigmas().detach()
    energy = potential(samples[0], create_graph=True).energy.sum()
    (gradient,) = torch.autograd.grad(energy, network.log_sigma)
    assert bool((gradient.abs() > 1e-3).all())
    assert float(widths.max()) > float(widths.min())


TERM_WEIGHTS = {
    "polarization": loss.LossWeights(energy=0, forces=0, polarization=1),
    "forces": loss.LossWeights(energy=0, forces=1),
    "stress": loss.LossWeights(energy=0, forces=0, stress=1),
    "born": loss.LossWeights(energy=0, forces=0, born=1),
    "energy": loss.LossWeights(energy=1, forces=0),
}


@pytest.mark.parametrize(
    ("term", "settings"),
    [
        *((term, TRANSFERRED) for term in TERM_WEIGHTS),
        ("forces", {}),
        ("forces", {"charge_model": "equilibrated"}),
        ("forces", {"charge_weights": "environment", "learn_sigma": True}),
    ],
)
def test_parameter_gradient_of_the_loss_matches_finite_differences(
    small_network, samples, term, settings
):
    potential = Potential(small_network(**settings))
    batch = collate(samples[:2])
    generator = torch.Generator().manual_seed(1)
    batch = dataclasses.replace(
        batch,
        born=torch.randn(16, 3, 3, dtype=torch.float64, generator=generator),
        has_born=torch.ones(2, dtype=torch.bool),
        polarization=torch.randn(2, 3, dtype=torch.float64, generator=generator),
        has_polarization=torch.ones(2, dtype=torch.bool),
    )
    shape = loss.LossShape(huber_forces=0.3)

    def value():
        prediction = potential(batch, create_graph=True, need_born=term == "born")
        return loss.total(
            loss.sums(prediction, batch, shape), loss.counts(batch), TERM_WEIGHTS[term]
        )

    parameters = [(n, p) for n, p in potential.network.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(value(), [p for _, p in parameters], allow_unused=True)
    checked = 0
    for (name, parameter), gradient in zip(parameters, gradients, strict=True):
        if gradient is None or float(gradient.abs().max()) == 0.0:
            continue
        place = int(gradient.abs().argmax())
        with torch.no_grad():
            flat = parameter.view(-1)
            middle = flat[place].clone()
            flat[place] = middle + STEP
        up = value().detach()
        with torch.no_grad():
            flat[place] = middle - STEP
        down = value().detach()
        with torch.no_grad():
            flat[place] = middle
        numeric = float((up - down) / (2 * STEP))
        expected = float(gradient.view(-1)[place])
        assert abs(numeric - expected) < PARAMETER_DIFFERENCE * max(1.0, abs(expected)), name
        checked += 1
    # energy and charge branches, radial functions, products: nearly everything takes part
    assert checked > len(parameters) // 2


def test_fixed_charges_in_a_training_step_have_the_coulomb_energy_of_the_differentiable_sum(
    small_network, samples
):
    # the solver in place of the graph: the same sum to rounding
    potential = Potential(small_network(charge_model="fixed"))
    batch = collate(samples[:3])
    expected = potential(batch)
    found = potential(batch, create_graph=True)
    assert expected.charges.abs().min() > 0.1
    for name in ("energy", "forces", "stress", "charges"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a - b).abs().max() < ROUNDING * max(1.0, b.abs().max().item())
