"""Direct evaluation against the scripted module in the same file, which is its oracle."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from equicalc.deploy import export_network
from equicalc.errors import EquicalcError
from equicalc.models import resolve, shipped
from tests.comparing import assert_close
from tests.csrc.test_exchange import PATIENCE_S, Ranks
from tests.nn.test_network import cluster_graph, edges_of, make_network, vectors_of

# float64: radial functions are polynomials between 4096 knots, exact to 1e-12 of their slopes;
# energies and gradients are of order one to ten
FLOAT64 = 1e-10
# float32 has 7 digits and sums a few hundred terms
FLOAT32 = 2e-5

TRANSFERRED = {"charge_model": "transferred", "formal_charges": {"K": 1, "Cl": -1}}

CONFIGS = {
    "two layers": {},
    "one layer": {"n_layers": 1},
    "no charges": {"charge_model": "none"},
    "fixed": {"charge_model": "fixed"},
    "weights from the environment": {"charge_weights": "environment"},
    "fixed, weights from the environment": {
        "charge_model": "fixed",
        "charge_weights": "environment",
    },
    "equilibrated": {"charge_model": "equilibrated"},
    "transferred": TRANSFERRED,
    "transferred, one layer": {**TRANSFERRED, "n_layers": 1},
    "transferred, three layers": {**TRANSFERRED, "n_layers": 3, "charge_weights": "environment"},
    "transferred, l_max 0": {**TRANSFERRED, "l_max": 0, "channels": 4},
    "transferred, l_max 1, one layer": {**TRANSFERRED, "l_max": 1, "n_layers": 1, "channels": 19},
    "transferred, hidden scalars that fill no vector": {**TRANSFERRED, "readout_hidden": 5},
    "three layers": {"n_layers": 3},
    "four layers without parity": {"n_layers": 4, "parity": False},
    "three layers, l_max 3": {"n_layers": 3, "l_max": 3, "channels": 4},
    "three layers, channels of several vectors": {"n_layers": 3, "channels": 80},
    "no parity": {"parity": False},
    "l_max 0": {"l_max": 0},
    "l_max 1": {"l_max": 1},
    "l_max 3": {"l_max": 3},
    "correlation 1": {"correlation": 1},
    "correlation 4, one layer": {"correlation": 4, "n_layers": 1},
    "mixtures of species": {"species_channels": 1},
    "channels that fill no vector": {"channels": 19, "readout_hidden": 5, "n_radial": 3},
    "channels of several vectors": {"channels": 80, "n_radial": 12},
    "no repulsion": {"repulsion": False},
    "more channels than sums": {"channels": 20},
    "more channels than sums, one layer": {"channels": 20, "n_layers": 1},
    "more channels than sums, three layers": {"channels": 20, "n_layers": 3},
    "more channels than sums, transferred": {**TRANSFERRED, "channels": 20},
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Function that exports a network of random weights; files are kept for the session."""
    paths = {}

    def export(name, **changes):
        if name not in paths:
            paths[name] = tmp_path_factory.mktemp("direct") / "model.pt"
            network = make_network(**changes)
            if network.charge_model == "transferred":
                network.set_statistics({"K": -1.5, "Cl": -2.5}, 0.7, 9.0, epsilon_inf=2.3)
                torch.nn.init.normal_(network.charge_head.species_scalars)
            export_network(network, paths[name])
        return str(paths[name])

    return export


def evaluators(core_module, path, dtype="float64"):
    models = [core_module.Model.load(path, dtype, scripted=s) for s in (True, False)]
    scripted, direct = (core_module.Evaluator(model) for model in models)
    assert direct.is_direct
    assert not scripted.is_direct
    return scripted, direct


def close_contact_graph():
    """A cluster with one pair inside the reach of the repulsion."""
    positions, species, _ = cluster_graph()
    positions[1] = positions[0] + torch.tensor([0.5, 0.6, 0.9], dtype=torch.float64)
    edges = edges_of(positions)
    return species, edges, vectors_of(positions, edges)


def results(evaluator, species, edges, vectors, n_local=None):
    n_local = len(species) if n_local is None else n_local
    found = evaluator.forward(species, edges, vectors, n_local)
    gradient = torch.linspace(-1, 1, found.variables.numel(), dtype=torch.float64)
    gradient = gradient.view_as(found.variables)
    by_variables = evaluator.variable_gradient(gradient)
    return found.energies, found.variables, by_variables, evaluator.backward(gradient)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", FLOAT64), ("float32", FLOAT32)])
def test_direct_evaluation_is_the_function_of_the_scripted_module(
    core_module, exported, name, dtype, tolerance
):
    graph = close_contact_graph()
    scripted, direct = evaluators(core_module, exported(name, **CONFIGS[name]), dtype)
    expected = results(scripted, *graph)
    assert expected[3].abs().max() > 0.001  # the comparison is not between zeros
    assert_close(results(direct, *graph), expected, tolerance)


@pytest.mark.parametrize(("n", "n_edges"), [(0, 0), (1, 0), (2, 1), (30, 0), (3, 2000)])
def test_no_atoms_no_edges_and_many_neighbours_are_handled(core_module, exported, n, n_edges):
    torch.manual_seed(0)
    receivers = torch.randint(max(n, 1), (n_edges,)).sort().values
    edges = torch.stack([receivers, torch.randint(max(n, 1), (n_edges,))])
    vectors = torch.randn(n_edges, 3, dtype=torch.float64)
    vectors *= (2 + 3 * torch.rand(n_edges, 1)) / vectors.norm(dim=1, keepdim=True)
    for name in ("two layers", "one layer", "transferred", "transferred, one layer"):
        scripted, direct = evaluators(core_module, exported(name, **CONFIGS[name]))
        graph = torch.arange(n) % 2, edges, vectors
        assert_close(results(direct, *graph), results(scripted, *graph), FLOAT64)


@pytest.mark.parametrize("distance", [1e-3, 0.05, 4.999, 5.0, 5.3])
def test_near_contact_and_at_the_cutoff_values_and_slopes_are_those_of_the_module(
    core_module, exported, distance
):
    edges = torch.tensor([[0, 1], [1, 0]])
    vector = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64) * distance
    graph = torch.tensor([0, 1]), edges, torch.stack([vector, -vector])
    path = exported("no repulsion", **CONFIGS["no repulsion"])
    scripted, direct = evaluators(core_module, path)
    assert_close(results(direct, *graph), results(scripted, *graph), FLOAT64)


@pytest.mark.parametrize("name", ["one layer", "two layers", "transferred"])
def test_results_are_the_same_bits_for_any_number_of_threads(core_module, exported, name):
    torch.manual_seed(1)
    n, n_edges = 100, 3000
    edges = torch.stack([torch.randint(n, (n_edges,)).sort().values, torch.randint(n, (n_edges,))])
    vectors = torch.nn.functional.normalize(torch.randn(n_edges, 3, dtype=torch.float64)) * 3
    _, direct = evaluators(core_module, exported(name, **CONFIGS[name]), "float32")
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(results(direct, torch.arange(n) % 2, edges, vectors))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_gradient_is_that_of_the_energies_by_finite_differences(core_module, exported):
    species, edges, vectors = close_contact_graph()
    _, direct = evaluators(core_module, exported("two layers"))
    direct.forward(species, edges, vectors, len(species))
    gradient = direct.backward(None)
    step = 1e-5

    def energy(edge, axis, shift):
        moved = vectors.clone()
        moved[edge, axis] += shift
        return direct.forward(species, edges, moved, len(species)).energies.sum()

    for edge, axis in [(0, 0), (7, 1), (len(vectors) - 1, 2)]:
        slope = (energy(edge, axis, step) - energy(edge, axis, -step)) / (2 * step)
        # central differences of a smooth function of order one to ten
        assert abs(slope - gradient[edge, axis]) < 1e-7 * max(1.0, gradient.abs().max())


def test_graphs_that_name_impossible_atoms_are_refused(core_module, exported):
    _, direct = evaluators(core_module, exported("two layers"))
    vectors = torch.ones(2, 3, dtype=torch.float64)
    for edges, species in [
        ([[1, 0], [0, 1]], [0, 1]),
        ([[0, 2], [1, 0]], [0, 1]),
        ([[0, 1], [1, 5]], [0, 1]),
        ([[0, 1], [1, 0]], [0, 2]),
    ]:
        with pytest.raises(EquicalcError, match="bad graph"):
            direct.forward(torch.tensor(species), torch.tensor(edges), vectors, 2)


def test_edges_in_32_bits_are_the_same_edges(core_module, exported):
    species, edges, vectors = close_contact_graph()
    for evaluator in evaluators(core_module, exported("two layers")):
        expected = results(evaluator, species, edges, vectors)
        found = results(evaluator, species, edges.to(torch.int32), vectors)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_numbers_of_atoms_beyond_32_bits_are_refused_not_wrapped(core_module, exported):
    _, direct = evaluators(core_module, exported("two layers"))
    edges = torch.tensor([[0, 1], [1, 2**32]])
    with pytest.raises(EquicalcError, match="bad graph"):
        direct.forward(torch.tensor([0, 1]), edges, torch.ones(2, 3).double(), 2)


@pytest.mark.parametrize("name", ["two layers", "three layers", "one layer"])
def test_weighted_gradients_are_those_of_the_scripted_module(core_module, exported, name):
    species, edges, vectors = close_contact_graph()
    n = len(species)
    by_energies = torch.linspace(-1, 2, n, dtype=torch.float64)
    by_energies[::3] = 0.0
    by_variables = torch.linspace(-2, 1, 2 * n, dtype=torch.float64).view(n, 2)
    found = []
    for evaluator in evaluators(core_module, exported(name, **CONFIGS[name])):
        evaluator.forward(species, edges, vectors, n)
        # the graph is kept: a second sum, and the first once more
        sums = [(by_energies, None), (by_energies, by_variables), (by_energies, None)]
        found.append([evaluator.weighted_gradient(*weights) for weights in sums])
        assert torch.equal(found[-1][0], found[-1][2])
        assert not torch.equal(found[-1][0], found[-1][1])
    assert_close(*found, FLOAT64)


def test_results_that_somebody_holds_are_not_written_again(core_module, exported):
    species, edges, vectors = close_contact_graph()
    _, direct = evaluators(core_module, exported("two layers"))
    first = results(direct, species, edges, vectors)
    copies = [tensor.clone() for tensor in first]
    results(direct, species, edges, 1.1 * vectors)
    assert all(torch.equal(a, b) for a, b in zip(first, copies, strict=True))


def test_memory_of_results_that_nobody_holds_is_used_again(core_module, exported):
    species, edges, vectors = close_contact_graph()
    _, direct = evaluators(core_module, exported("two layers"))

    def addresses():
        found = direct.forward(species, edges, vectors, len(species))
        gradient = direct.backward(None)
        return found.energies.data_ptr(), found.variables.data_ptr(), gradient.data_ptr()

    assert addresses() == addresses()


@pytest.mark.parametrize(
    "name", ["channels that fill no vector", "three layers, l_max 3", "transferred, l_max 0"]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", FLOAT64), ("float32", FLOAT32)])
def test_memory_of_an_earlier_graph_leaves_no_trace(
    core_module, exported, graph, name, dtype, tolerance
):
    n, n_ghosts = 14, 3

    class Copies(core_module.HaloExchange):
        def forward(self, local, n_total):
            return torch.cat([local, local[: n_total - len(local)]])

        def reverse(self, grad_total, n_local):
            own = grad_total[:n_local].clone()
            own[: len(grad_total) - n_local] += grad_total[n_local:]
            return own

    _, clean = evaluators(core_module, exported(name, **CONFIGS[name]))
    _, used = evaluators(core_module, exported(name, **CONFIGS[name]), dtype)
    species, edges, vectors = graph["species"], graph["edge_index"], graph["edge_vectors"]
    with_ghosts, split = torch.cat([species, species[:n_ghosts]]), edges.clone()
    split[1, ::2] += torch.where(split[1, ::2] < n_ghosts, n, 0)
    assert (split[1] >= n).any()
    # every atom of a graph that is not a number writes it into all rows, padding included
    everywhere = torch.arange(n + n_ghosts)
    unknown = torch.full((n + n_ghosts, 3), torch.nan, dtype=torch.float64)
    spoilt = used.forward(
        with_ghosts, torch.stack([everywhere, everywhere.roll(1)]), unknown, n + n_ghosts
    )
    assert torch.isnan(spoilt.energies).all()
    expected = clean.forward(species, edges, vectors, n)
    found = used.forward(with_ghosts, split, vectors, n, Copies())
    gradient = torch.linspace(-1, 1, found.variables.numel(), dtype=torch.float64)
    gradient = gradient.view_as(found.variables)
    assert_close(
        (found.energies, found.variables, used.backward(gradient, Copies())),
        (expected.energies, expected.variables, clean.backward(gradient)),
        tolerance,
    )


def test_networks_of_other_architectures_go_through_their_module(core_module, mock_path):
    assert not core_module.Evaluator(core_module.Model.load(str(mock_path))).is_direct


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_model_runs_without_its_module(core_module, name):
    assert core_module.Evaluator(core_module.Model.load(str(resolve(name)))).is_direct


@pytest.mark.parametrize(
    "name",
    [
        "two layers",
        "three layers",
        "channels that fill no vector",
        "transferred",
        "transferred, one layer",
        "transferred, three layers",
        "transferred, l_max 0",
    ],
)
def test_ranks_together_give_the_results_of_one(core_module, exported, graph, name):
    path = exported(name, **CONFIGS[name])
    n_variables = 5 if name.startswith("transferred") else 2
    charge_gradient = torch.linspace(-1, 1, 14 * n_variables, dtype=torch.float64)
    charge_gradient = charge_gradient.reshape(14, n_variables)
    ranks = Ranks(core_module, graph, np.array([0, 1] * 7))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(ranks.n_ranks) as pool:
        futures = [
            pool.submit(ranks.run, core_module, path, rank, charge_gradient)
            for rank in range(ranks.n_ranks)
        ]
        parts = [future.result(timeout=2 * PATIENCE_S) for future in futures]
    torch.set_num_threads(before)
    _, direct = evaluators(core_module, path)
    found = direct.forward(graph["species"], graph["edge_index"], graph["edge_vectors"], 14)
    gradient = direct.backward(charge_gradient)
    for rank, part in enumerate(parts):
        owned = ranks.owned[rank]
        whole = found.energies[owned], found.variables[owned], gradient[ranks.edges(rank)]
        assert_close(part, whole, FLOAT64)
