"""The network: symmetries, derivatives, limits, and agreement of its parts with e3nn."""

import pytest
import torch
from e3nn import o3

from equicalc.nn import EquiNetwork, NetworkConfig

# float64 sums of a few hundred terms of order one
ROUNDING = 1e-11
# central differences with step 1e-5 of a smooth function of order one: error ~ 1e-10
FINITE_DIFFERENCE = 1e-7
# float32 has 7 digits and sums a few hundred terms
FLOAT32 = 2e-5

CONFIGS = {
    "two layers": {},
    "three layers": {"n_layers": 3},
    "no parity": {"n_layers": 3, "parity": False},
    "l_max 3": {"n_layers": 3, "l_max": 3, "channels": 4},
    "l_max 0": {"n_layers": 3, "l_max": 0},
    "correlation 1": {"correlation": 1},
    "many species": {"species_channels": 1},
    "one layer": {"n_layers": 1},
    "no charges": {"charge_model": "none"},
    "environment weights": {"charge_weights": "environment"},
}


def make_network(**changes) -> EquiNetwork:
    torch.manual_seed(3)
    settings = {"elements": ["K", "Cl"], "channels": 8, "readout_hidden": 8, **changes}
    network = EquiNetwork(NetworkConfig(**settings))
    network.set_statistics({"K": -1.5, "Cl": -2.5}, 0.7, 9.0, {"K": 0.7, "Cl": -0.7})
    return network


def cluster_graph(n: int = 9, cutoff: float = 5.0, seed: int = 0):
    """Random open cluster with all edges inside the cutoff: species, vectors, index."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)[:n] * 2.4
    positions = grid + 0.5 * torch.rand(n, 3, generator=generator, dtype=torch.float64)
    species = torch.arange(n) % 2
    return positions, species, edges_of(positions, cutoff)


def edges_of(positions: torch.Tensor, cutoff: float = 5.0) -> torch.Tensor:
    distance = torch.cdist(positions, positions)
    mask = (distance < cutoff) & ~torch.eye(len(positions), dtype=torch.bool)
    return mask.nonzero().T.contiguous()


def vectors_of(positions: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    return positions[edge_index[1]] - positions[edge_index[0]]


@pytest.mark.parametrize(
    ("name", "improper"),
    [(name, improper) for name in CONFIGS for improper in (False, True)
     if not (improper and name == "no parity")],
)  # fmt: skip
def test_outputs_are_invariant_under_rotation_and_reflection(name, improper):
    network = make_network(**CONFIGS[name])
    positions, species, edges = cluster_graph()
    rotation = o3.rand_matrix(dtype=torch.float64) * (-1.0 if improper else 1.0)
    before = network(species, vectors_of(positions, edges), edges, len(species))
    after = network(species, vectors_of(positions @ rotation.T, edges), edges, len(species))
    for a, b in zip(before, after, strict=True):
        assert (a - b).abs().max() < ROUNDING


def test_a_network_without_parity_tells_mirror_images_apart():
    network = make_network(n_layers=3, parity=False)
    positions, species, edges = cluster_graph()
    left, _ = network(species, vectors_of(positions, edges), edges, len(species))
    right, _ = network(species, vectors_of(-positions, edges), edges, len(species))
    assert (left - right).abs().max() > 1e-6


@pytest.mark.parametrize("name", CONFIGS)
def test_permuting_atoms_permutes_outputs(name):
    network = make_network(**CONFIGS[name])
    positions, species, edges = cluster_graph()
    order = torch.randperm(len(species), generator=torch.Generator().manual_seed(1))
    before = network(species, vectors_of(positions, edges), edges, len(species))
    new_positions, new_species = positions[order], species[order]
    new_edges = edges_of(new_positions)
    after = network(new_species, vectors_of(new_positions, new_edges), new_edges, len(species))
    for a, b in zip(before, after, strict=True):
        assert (a[order] - b).abs().max() < ROUNDING


@pytest.mark.parametrize("name", CONFIGS)
def test_every_gradient_component_matches_finite_differences(name):
    network = make_network(**CONFIGS[name])
    positions, species, edges = cluster_graph(n=5)

    def scalar(x):
        energy, charge = network(species, vectors_of(x, edges), edges, len(species))
        return energy.sum() + (charge * torch.arange(len(species))).sum()

    x = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scalar(x), x)
    step = 1e-5
    for atom in range(len(species)):
        for axis in range(3):
            shift = torch.zeros_like(positions)
            shift[atom, axis] = step
            with torch.no_grad():
                numeric = (scalar(positions + shift) - scalar(positions - shift)) / (2 * step)
            assert abs(numeric - gradient[atom, axis]) < FINITE_DIFFERENCE * max(
                1.0, gradient.abs().max().item()
            )


def test_second_derivatives_match_finite_differences_of_first():
    network = make_network()
    positions, species, edges = cluster_graph(n=3)
    vectors = vectors_of(positions, edges).requires_grad_()

    def energy(v):
        return network(species, v, edges, len(species))[0].sum()

    assert torch.autograd.gradgradcheck(energy, (vectors,), atol=1e-5)


def test_edges_at_the_cutoff_contribute_nothing_and_join_smoothly():
    network = make_network()
    species = torch.tensor([0, 1])
    edges = torch.tensor([[0, 1], [1, 0]])

    def value_and_slope(distance):
        vector = torch.tensor([[distance, 0.0, 0.0]], dtype=torch.float64)
        v = torch.cat([vector, -vector]).requires_grad_()
        total = network(species, v, edges, 2)[0].sum()
        return total.item(), torch.autograd.grad(total, v)[0].abs().max().item()

    empty = network(species, torch.zeros(0, 3, dtype=torch.float64), edges[:, :0], 2)[0].sum()
    inside, slope = value_and_slope(5.0 - 1e-4)
    assert abs(inside - empty.item()) < 1e-9
    assert slope < 1e-6
    beyond, slope_beyond = value_and_slope(5.0 + 1e-4)
    assert beyond == pytest.approx(empty.item(), abs=1e-14)
    assert slope_beyond == 0.0


@pytest.mark.parametrize("n", [0, 1])
def test_zero_and_one_atom_without_edges_are_fine(n):
    network = make_network()
    vectors = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    edges = torch.zeros(2, 0, dtype=torch.int64)
    energy, charge = network(torch.zeros(n, dtype=torch.int64), vectors, edges, n)
    assert energy.shape == charge.shape == (n,)
    (gradient,) = torch.autograd.grad(energy.sum() + charge.sum(), vectors)
    assert gradient.shape == (0, 3)


def test_energy_is_extensive_for_distant_copies():
    network = make_network()
    positions, species, edges = cluster_graph()
    single, _ = network(species, vectors_of(positions, edges), edges, len(species))
    both = torch.cat([positions, positions + 100.0])
    both_edges = edges_of(both)
    double, _ = network(species.repeat(2), vectors_of(both, both_edges), both_edges, 18)
    assert (double - single.repeat(2)).abs().max() < ROUNDING


def test_total_charge_is_met_exactly():
    network = make_network()
    positions, species, edges = cluster_graph()
    charge = torch.tensor(-2.0, dtype=torch.float64)
    _, q = network(species, vectors_of(positions, edges), edges, len(species), charge)
    assert q.sum().item() == pytest.approx(-2.0, abs=1e-13)


def test_float32_network_keeps_float64_reference_energies():
    network = make_network()
    network.set_statistics({"K": -16123.456789012, "Cl": -2.5}, 0.7, 9.0)
    positions, species, edges = cluster_graph()
    exact, _ = network(species, vectors_of(positions, edges), edges, len(species))
    network.to(torch.float32)
    single, _ = network(species, vectors_of(positions, edges).float(), edges, len(species))
    assert single.dtype == torch.float64
    assert (single - exact).abs().max() < FLOAT32


def test_repulsive_core_dominates_close_contacts():
    network = make_network()
    species = torch.tensor([0, 1])
    edges = torch.tensor([[0, 1], [1, 0]])

    def energy(distance):
        vector = torch.tensor([[distance, 0.0, 0.0]], dtype=torch.float64)
        return network(species, torch.cat([vector, -vector]), edges, 2)[0].sum().item()

    assert energy(0.1) > energy(0.3) + 500.0 > energy(1.0) + 500.0


@pytest.mark.parametrize(
    "bad",
    [
        {"n_layers": 0},
        {"l_max": 4},
        {"cutoff": 0.0},
        {"elements": ["K", "K"]},
        {"charge_model": "learnt"},
        {"charge_weights": "equal"},
        {"formal_charges": None, "charge_model": "transferred"},
        {"formal_charges": {"K": 1}},
        {"sigmas": {"K": -1.0}},
        {"sigmas": {"Br": 1.0}},
    ],
)
def test_impossible_settings_name_the_setting(bad):
    settings = {"elements": ["K"], **bad}
    with pytest.raises(ValueError, match=next(iter(bad))):
        NetworkConfig(**settings)


def test_initial_outputs_are_of_order_one():
    network = make_network(channels=32)
    positions, species, edges = cluster_graph(n=27)
    energy, _ = network(species, vectors_of(positions, edges), edges, len(species))
    spread = (energy - energy.mean()).std().item() / 0.7
    assert 1e-3 < spread < 10.0


def test_coupling_coefficients_are_exact_whatever_the_default_precision():
    rotated = o3.rand_matrix(dtype=torch.float64)
    assert torch.get_default_dtype() == torch.float32
    torch.manual_seed(1)
    network = EquiNetwork(NetworkConfig(elements=["K"], n_layers=3, channels=4))
    positions, species, edges = cluster_graph()
    species = torch.zeros_like(species)
    before, _ = network(species, vectors_of(positions, edges), edges, len(species))
    after, _ = network(species, vectors_of(positions @ rotated.T, edges), edges, len(species))
    assert (before - after).abs().max() < ROUNDING * max(1.0, before.abs().max().item())
