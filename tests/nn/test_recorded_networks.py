"""Steps that a device records and repeats, with the source of its kernels and repeats by the host.

Recordings read and write the memory that they had when they were made: whatever changes from step
to step has to go through it.
"""

import pytest
import torch
from ase.build import bulk

from equicalc.core import load_library
from equicalc.data.neighbors import NeighborList
from equicalc.errors import EquicalcError
from equicalc.models import resolve
from tests.csrc.conftest import MockNetwork, save
from tests.nn.test_device_networks import imported, three_layers

# one and the same function of the same numbers; sums over edges have more terms, all zero
ROUNDING = 1e-12
SINGLE = 2e-5
# steps of equal size before they are recorded
FIRST_RECORDED = 2


@pytest.fixture(autouse=True)
def device_source(host_groups):
    host_groups.use_host_groups(1)
    yield
    host_groups.use_host_groups(0)


def load(path, dtype="float64"):
    return load_library().Model.load(str(path), dtype, scripted=True)


def graph(seed=0, stretch=1.0, a=5.5, elements=2, repeat=(1, 1, 1), cutoff=4.0):
    atoms = bulk("NaCl", "rocksalt", a=a, cubic=True) * repeat
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell[:] * stretch, scale_atoms=True)
    index, vectors = NeighborList(cutoff).update(atoms.positions, atoms.cell[:], atoms.pbc)
    species = (torch.arange(len(atoms)) + seed) % elements
    return species, index, vectors, len(atoms)


def outputs(evaluator, arguments, weight=0.7):
    """Energies, variables and all gradients of one step."""
    result = evaluator.forward(*arguments)
    n = len(result.energies)
    weights = torch.linspace(-1, weight, result.variables.numel(), dtype=torch.float64)
    variables = weights.view_as(result.variables) if result.variables.numel() else None
    moments = torch.linspace(0, 1, n, dtype=torch.float64)
    others = evaluator.weighted_gradient(moments, variables)
    return [result.energies, result.variables, others, evaluator.backward(variables)]


def assert_same(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        if b.numel():
            assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item())


def assert_steps_are_those_of_one_call(model, graphs, tolerance):
    """Whether every graph was evaluated by a recording."""
    recorded = []
    evaluator = load_library().Evaluator(model)
    for step, arguments in enumerate(graphs):
        found = outputs(evaluator, arguments, weight=0.1 * step)
        expected = outputs(load_library().Evaluator(model), arguments, weight=0.1 * step)
        assert_same(found, expected, tolerance)
        recorded.append(evaluator.is_recorded)
    return recorded


@pytest.mark.parametrize("kind", ["kcl", "sio2", "three layers", "sevennet", "mace", "nequip"])
def test_every_network_is_recorded_and_gives_the_same(kind, tmp_path):
    if kind in ("kcl", "sio2"):
        path = resolve(kind)
    else:
        path = three_layers(tmp_path) if kind == "three layers" else imported(kind, tmp_path)
    model = load(path)
    options = {"elements": min(2, len(model.info.elements)), "cutoff": model.info.cutoff}
    graphs = [graph(seed, **options) for seed in range(5)]
    recorded = assert_steps_are_those_of_one_call(model, graphs, ROUNDING)
    assert recorded == [step >= FIRST_RECORDED for step in range(5)]


def test_single_precision_gives_the_same():
    model = load(resolve("kcl"), "float32")
    graphs = [graph(seed) for seed in range(4)]
    assert assert_steps_are_those_of_one_call(model, graphs, SINGLE)[-1]


def test_more_and_fewer_edges_get_new_room():
    model = load(resolve("kcl"))
    # the last for so long that there is less room again
    stretches = [1.0, 1.0, 1.0, 1.02, 0.8, 0.8, 0.97, *[1.3] * 22, 1.0]
    graphs = [graph(seed, stretch) for seed, stretch in enumerate(stretches)]
    n_edges = [arguments[1].shape[1] for arguments in graphs]
    assert max(n_edges) > 2 * min(n_edges)
    recorded = assert_steps_are_those_of_one_call(model, graphs, ROUNDING)
    assert all(recorded[FIRST_RECORDED:])


def test_other_numbers_of_atoms_are_recorded_after_a_few_steps():
    model = load(resolve("kcl"))
    repeats = [(1, 1, 1)] * 4 + [(2, 1, 1)] * 4 + [(1, 1, 1)]
    graphs = [graph(seed, repeat=repeat) for seed, repeat in enumerate(repeats)]
    recorded = assert_steps_are_those_of_one_call(model, graphs, ROUNDING)
    assert recorded == [False, False, True, True] * 2 + [False]


def test_graphs_without_edges_or_atoms_are_left_to_the_usual_way():
    model = load(resolve("kcl"))
    species = torch.zeros(1, dtype=torch.int64)
    nothing = torch.zeros((2, 0), dtype=torch.int64), torch.zeros((0, 3), dtype=torch.float64)
    graphs = [(species, *nothing, 1)] * 4 + [(species[:0], *nothing, 0)] * 4
    assert not any(assert_steps_are_those_of_one_call(model, graphs, ROUNDING))


@pytest.mark.parametrize(("row", "value"), [(0, 0), (0, 8), (1, -1), (1, 8)])
def test_wrong_edges_are_named(row, value):
    model = load(resolve("kcl"))
    evaluator = load_library().Evaluator(model)
    for seed in range(4):
        outputs(evaluator, graph(seed))
    assert evaluator.is_recorded
    species, index, vectors, n_local = graph(1)
    index = index.clone()
    index[row, 77] = value
    with pytest.raises(EquicalcError, match=r"ascending receivers .*below 8.* at edge 7[78]"):
        evaluator.forward(species, index, vectors, n_local)
    expected = outputs(load_library().Evaluator(model), graph(2))
    assert_same(outputs(evaluator, graph(2)), expected, ROUNDING)


class Abrupt(MockNetwork):
    """Does not end at the cutoff."""

    def radial(self, r: torch.Tensor) -> torch.Tensor:
        k = torch.arange(1, 9, dtype=r.dtype, device=r.device)
        return torch.cos(k * r[:, None])


class Counting(MockNetwork):
    """Depends on the number of edges of all atoms together."""

    def radial(self, r: torch.Tensor) -> torch.Tensor:
        k = torch.arange(1, 9, dtype=r.dtype, device=r.device)
        return torch.cos(k * r[:, None]) * (1.0 + 0.01 * r.shape[0])


def test_networks_that_do_not_vanish_at_the_cutoff_are_recorded_too(tmp_path):
    model = load(save(Abrupt(), tmp_path / "model.pt", {"format_version": 2}))
    assert assert_steps_are_those_of_one_call(model, [graph(k) for k in range(4)], ROUNDING)[-1]


def test_networks_in_which_everybody_counts_are_not_recorded(tmp_path, capfd):
    model = load(save(Counting(), tmp_path / "model.pt", {"format_version": 2}))
    graphs = [graph(seed) for seed in range(5)]
    assert not any(assert_steps_are_those_of_one_call(model, graphs, ROUNDING))
    assert capfd.readouterr().err.count("steps of this network are not recorded") == 1
