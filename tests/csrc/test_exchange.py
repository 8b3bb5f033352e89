"""equicalc::exchange: the identity on one rank; several ranks together give the result of one.

Ranks run as threads of one process, in lockstep through a halo exchange written in Python.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from equicalc.errors import EquicalcError

# The same sums in another order.
TOLERANCE = 1e-12
# A rank that misses a collective call must fail the test, not hang it.
PATIENCE_S = 60.0


def test_one_rank_passes_features_and_gradients_unchanged(core_module):
    h = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    out = torch.ops.equicalc.exchange(h, 3)
    assert torch.equal(out, h)
    (gradient,) = torch.autograd.grad((out**3).sum(), h, create_graph=True)
    assert torch.equal(gradient, 3 * h**2)
    (second,) = torch.autograd.grad(gradient.sum(), h)
    assert torch.equal(second, 6 * h)


def test_halo_atoms_without_an_exchange_are_refused(core_module):
    for h in (torch.randn(3, 2), torch.randn(3, 2, requires_grad=True)):
        with pytest.raises(RuntimeError, match="5 atoms but only 3 of them have features"):
            torch.ops.equicalc.exchange(h, 5)


def test_shapes_are_known_without_data(core_module):
    h = torch.empty(3, 2, 5, device="meta")
    assert torch.ops.equicalc.exchange(h, 7).shape == (7, 2, 5)


class Ranks:
    """Domains of one graph: rank r owns `owned[r]`; its halo is every other atom that it needs."""

    def __init__(self, core_module, graph, owner):
        self.graph = graph
        self.n_atoms = len(owner)
        self.n_ranks = int(max(owner)) + 2  # the last rank owns nothing
        self.barrier = threading.Barrier(self.n_ranks, timeout=PATIENCE_S)
        self.slots = [None] * self.n_ranks
        self.owned = [np.flatnonzero(owner == rank) for rank in range(self.n_ranks)]
        self.atoms = [self.with_halo(rank) for rank in range(self.n_ranks)]
        self.exchanges = [make_exchange(core_module, self, rank) for rank in range(self.n_ranks)]

    def edges(self, rank):
        index = self.graph["edge_index"].numpy()
        return np.flatnonzero(np.isin(index[0], self.owned[rank]))

    def with_halo(self, rank):
        senders = np.unique(self.graph["edge_index"].numpy()[1, self.edges(rank)])
        halo = np.setdiff1d(senders, self.owned[rank])
        return np.concatenate([self.owned[rank], halo[::-1]]).astype(np.int64)

    def run(self, core_module, path, rank, charge_gradient):
        """Energies and charges of the owned atoms, gradients of their edges."""
        evaluator = core_module.Evaluator(core_module.Model.load(str(path)))
        number = np.full(self.n_atoms, -1)
        number[self.atoms[rank]] = np.arange(len(self.atoms[rank]))
        edges = self.edges(rank)
        index = number[self.graph["edge_index"].numpy()[:, edges]].reshape(2, -1)
        exchange = self.exchanges[rank]
        found = evaluator.forward(
            self.graph["species"][self.atoms[rank]],
            torch.from_numpy(index),
            self.graph["edge_vectors"][edges],
            len(self.owned[rank]),
            exchange,
        )
        gradient = evaluator.backward(charge_gradient[self.owned[rank]], exchange)
        return found.energies, found.variables, gradient


def make_exchange(core_module, ranks, rank):
    class Lockstep(core_module.HaloExchange):
        def __init__(self):
            super().__init__()
            self.calls = []

        def forward(self, local, n_total):
            self.calls.append(("forward", tuple(local.shape)))
            ranks.slots[rank] = local.detach()
            ranks.barrier.wait()
            everywhere = torch.full((ranks.n_atoms, local.shape[1]), torch.nan, dtype=local.dtype)
            for owned, values in zip(ranks.owned, ranks.slots, strict=True):
                everywhere[owned] = values
            ranks.barrier.wait()
            return everywhere[ranks.atoms[rank]]

        def reverse(self, grad_total, n_local):
            self.calls.append(("reverse", tuple(grad_total.shape)))
            ranks.slots[rank] = grad_total.detach()
            ranks.barrier.wait()
            total = torch.zeros(ranks.n_atoms, grad_total.shape[1], dtype=grad_total.dtype)
            for atoms, values in zip(ranks.atoms, ranks.slots, strict=True):
                total.index_add_(0, torch.from_numpy(atoms), values)
            ranks.barrier.wait()
            return total[ranks.owned[rank]]

    return Lockstep()


@pytest.fixture(scope="module")
def lockstep(core_module, graph, mock_path):
    """Results of three ranks (one of them without atoms) beside those of one."""
    torch.set_num_threads(1)
    owner = np.array([0, 1] * 7)
    charge_gradient = torch.linspace(-1, 1, 28, dtype=torch.float64).reshape(14, 2)
    ranks = Ranks(core_module, graph, owner)
    with ThreadPoolExecutor(ranks.n_ranks) as pool:
        futures = [
            pool.submit(ranks.run, core_module, mock_path, rank, charge_gradient)
            for rank in range(ranks.n_ranks)
        ]
        parts = [future.result(timeout=2 * PATIENCE_S) for future in futures]
    evaluator = core_module.Evaluator(core_module.Model.load(str(mock_path)))
    found = evaluator.forward(
        graph["species"], graph["edge_index"], graph["edge_vectors"], len(owner)
    )
    whole = (found.energies, found.variables, evaluator.backward(charge_gradient))
    return ranks, parts, whole


def test_ranks_together_give_the_energies_and_charges_of_one(lockstep):
    ranks, parts, whole = lockstep
    for rank, part in enumerate(parts):
        for found, expected in zip(part[:2], whole[:2], strict=True):
            assert torch.allclose(found, expected[ranks.owned[rank]], rtol=0, atol=TOLERANCE)


def test_ranks_together_give_the_gradients_of_one(lockstep):
    ranks, parts, whole = lockstep
    for rank, part in enumerate(parts):
        assert torch.allclose(part[2], whole[2][ranks.edges(rank)], rtol=0, atol=TOLERANCE)


def test_gradients_depend_on_what_comes_back_from_other_ranks(lockstep):
    """The halo matters here: without it the propositions above would hold trivially."""
    ranks, _, _ = lockstep
    assert all(len(ranks.atoms[rank]) > len(ranks.owned[rank]) for rank in (0, 1))


def test_every_rank_makes_every_exchange_even_without_atoms(lockstep):
    ranks, _, _ = lockstep
    kinds = [[kind for kind, _ in exchange.calls] for exchange in ranks.exchanges]
    assert kinds == [["forward", "reverse"]] * 3
    assert ranks.exchanges[2].calls == [("forward", (0, 6)), ("reverse", (0, 6))]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("n_local", "n_total"), [(0, 0), (0, 2), (2, 2), (1, 3)])
def test_the_network_makes_every_exchange_on_ranks_without_edges(
    core_module, tiny_model, dtype, n_local, n_total
):
    calls = []

    class Counting(core_module.HaloExchange):
        def forward(self, local, n_total):
            calls.append(("forward", len(local), n_total))
            return torch.ones(n_total, local.shape[1], dtype=local.dtype)

        def reverse(self, grad_total, n_local):
            calls.append(("reverse", len(grad_total), n_local))
            return grad_total[:n_local]

    model = core_module.Model.load(str(tiny_model), dtype=dtype)
    evaluator, exchange = core_module.Evaluator(model), Counting()
    found = evaluator.forward(
        torch.zeros(n_total, dtype=torch.int64),
        torch.zeros(2, 0, dtype=torch.int64),
        torch.zeros(0, 3, dtype=torch.float64),
        n_local,
        exchange,
    )
    assert torch.isfinite(found.energies).all()
    gradient = evaluator.backward(torch.ones(n_local, 2, dtype=torch.float64), exchange)
    assert gradient.shape == (0, 3)
    n_exchanges = model.info.n_layers - 1
    assert (
        calls
        == [("forward", n_local, n_total)] * n_exchanges
        + [("reverse", n_total, n_local)] * n_exchanges
    )


def test_exchange_of_wrong_shape_is_refused(core_module, mock_path, graph):
    class Wrong(core_module.HaloExchange):
        def forward(self, local, n_total):
            return local

    evaluator = core_module.Evaluator(core_module.Model.load(str(mock_path)))
    with pytest.raises(EquicalcError, match=r"HaloExchange::forward must return .* \[14, 6\]"):
        evaluator.forward(
            graph["species"],
            torch.zeros(2, 0, dtype=torch.int64),
            torch.zeros(0, 3, dtype=torch.float64),
            5,
            Wrong(),
        )


def test_exchange_is_forgotten_after_the_call(core_module, mock_path, graph, lockstep):
    with pytest.raises(RuntimeError, match="no halo exchange is set"):
        torch.ops.equicalc.exchange(torch.zeros(1, 2), 2)
