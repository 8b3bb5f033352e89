"""Steps that a device records and repeats, with the source of its kernels and repeats by the host.

Recordings read and write the memory that they had when they were made: whatever changes from step
to step has to go through it.
"""

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from equicalc.core import load_library
from equicalc.models import resolve
from equicalc.short_range import OnDevice, OnHost
from tests.comparing import assert_close
from tests.csrc.conftest import MockNetwork, save
from tests.nn.test_device_networks import imported, three_layers

# one and the same function of the same numbers; sums over edges have more terms, all zero
ROUNDING = 1e-12
SINGLE = 2e-5
# steps of equal size before they are recorded
FIRST_RECORDED = 2
SKIN = 0.5


@pytest.fixture(autouse=True)
def device_source(host_groups):
    host_groups.use_host_groups(1)
    yield
    host_groups.use_host_groups(0)


def load(path, dtype="float64"):
    return load_library().Model.load(str(path), dtype, scripted=True)


def moved(seed=0, stretch=1.0, repeat=(1, 1, 1), a=5.5):
    atoms = bulk("NaCl", "rocksalt", a=a, cubic=True) * repeat
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell[:] * stretch, scale_atoms=True)
    return atoms


def species_of(atoms, seed=0, elements=2):
    return (torch.arange(len(atoms)) + seed) % elements


def outputs(network, species, atoms, weight=0.7):
    """Energies, variables, and all forces and virials of one step."""
    result = network.forward(species, atoms)
    variables, others = None, []
    if result.variables.numel():
        weights = torch.linspace(-1, weight, result.variables.numel(), dtype=torch.float64)
        variables = weights.view_as(result.variables)
        others = [network.variable_forces(variables)]
    found = [*others, *network.forces(variables, with_atom_virials=True)]
    return [result.energies, result.variables, *(torch.from_numpy(x) for x in found)]


def assert_steps_are_those_of_one_call(model, structures, tolerance, elements=2):
    """Whether every step was a recording, and how often neighbours were searched."""
    recorded = []
    network = OnDevice(model, SKIN, "cpu")
    for step, atoms in enumerate(structures):
        # a new tensor, with other numbers, in some steps
        species = species_of(atoms, step // 3, elements)
        found = outputs(network, species, atoms, weight=0.1 * step)
        expected = outputs(OnHost(model, SKIN), species, atoms, weight=0.1 * step)
        assert_close(found, expected, tolerance)
        recorded.append(network.steps.is_recorded)
    return recorded, network.neighbors.n_searches


@pytest.mark.parametrize(
    "kind", ["kcl", "sio2", "nakcl", "three layers", "sevennet", "biases", "mace", "nequip"]
)
def test_every_network_is_recorded_and_gives_the_same(kind, tmp_path):
    if kind in ("kcl", "sio2", "nakcl"):
        path = resolve(kind)
    else:
        path = three_layers(tmp_path) if kind == "three layers" else imported(kind, tmp_path)
    model = load(path)
    elements = min(2, len(model.info.elements))
    structures = [moved(seed) for seed in range(5)]
    recorded, _ = assert_steps_are_those_of_one_call(model, structures, ROUNDING, elements)
    assert recorded == [step >= FIRST_RECORDED for step in range(5)]


def test_single_precision_gives_the_same():
    model = load(resolve("kcl"), "float32")
    structures = [moved(seed) for seed in range(4)]
    assert assert_steps_are_those_of_one_call(model, structures, SINGLE)[0][-1]


def test_small_moves_share_one_search_and_large_ones_have_their_own():
    model = load(resolve("kcl"))
    structures = [moved()]
    for step in range(8):
        structures.append(structures[-1].copy())
        structures[-1].rattle(0.01 if step < 5 else 0.3, seed=step)
    recorded, n_searches = assert_steps_are_those_of_one_call(model, structures, ROUNDING)
    assert all(recorded[FIRST_RECORDED:])
    assert n_searches == 4


def test_more_and_fewer_edges_get_new_room():
    model = load(resolve("kcl"))
    # the last for so long that there is less room again
    stretches = [1.0, 1.0, 1.0, 1.02, 0.8, 0.8, 0.97, *[1.3] * 22, 1.0]
    structures = [moved(seed, stretch) for seed, stretch in enumerate(stretches)]
    recorded, _ = assert_steps_are_those_of_one_call(model, structures, ROUNDING)
    assert all(recorded[FIRST_RECORDED:])


def test_other_numbers_of_atoms_are_recorded_after_a_few_steps():
    model = load(resolve("kcl"))
    repeats = [(1, 1, 1)] * 4 + [(2, 1, 1)] * 4 + [(1, 1, 1)]
    structures = [moved(seed, repeat=repeat) for seed, repeat in enumerate(repeats)]
    recorded, _ = assert_steps_are_those_of_one_call(model, structures, ROUNDING)
    assert recorded == [False, False, True, True] * 2 + [False]


def test_clusters_and_slabs_are_recorded_too():
    model = load(resolve("kcl"))
    for pbc in ([False] * 3, [True, True, False]):
        structures = [moved(seed) for seed in range(4)]
        for atoms in structures:
            atoms.pbc = pbc
        assert assert_steps_are_those_of_one_call(model, structures, ROUNDING)[0][-1]


def test_atoms_without_neighbours_are_evaluated_with_and_without_recording():
    model = load(resolve("kcl"))
    alone = [Atoms("Na")] * 4
    assert not any(assert_steps_are_those_of_one_call(model, alone, ROUNDING)[0])
    apart = [Atoms("NaCl", [[0, 0, 0], [0, 0, d]]) for d in (3.0, 3.1, 3.2, 3.3, 4.2, 6.0, 3.0)]
    assert_steps_are_those_of_one_call(model, apart, ROUNDING)


def test_points_may_be_elsewhere_than_rows():
    """As in LAMMPS, where images of atoms have positions of their own."""
    model, atoms = load(resolve("kcl")), moved(repeat=(2, 1, 1))
    host, steps = OnHost(model, SKIN), load_library().DeviceSteps(model)
    species = species_of(atoms)
    expected = outputs(host, species, atoms)
    pairs = host.neighbors.pairs_at(atoms.positions, atoms.cell[:], atoms.pbc)
    images = torch.from_numpy(atoms.positions)[pairs.edge_index[1]] + pairs.shifts.to(
        torch.float64
    ) @ torch.from_numpy(atoms.cell[:])
    points = torch.cat([torch.from_numpy(atoms.positions), images])
    places = torch.stack([pairs.edge_index[0], len(atoms) + torch.arange(len(images))])
    for step in range(4):
        steps.set_pairs(species, pairs.edge_index, places, None, len(atoms))
        energies = steps.forward(points, None).energies
        weights = torch.linspace(-1, 0.7, 2 * len(atoms), dtype=torch.float64).view(-1, 2)
        forces, virial, _ = steps.backward(weights)
        assert_close([energies, forces, virial], [expected[0], *expected[3:5]], ROUNDING)
        assert steps.is_recorded == (step >= FIRST_RECORDED)


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
    structures = [moved(k) for k in range(4)]
    assert assert_steps_are_those_of_one_call(model, structures, ROUNDING)[0][-1]


def test_networks_in_which_everybody_counts_are_not_recorded(tmp_path, capfd):
    model = load(save(Counting(), tmp_path / "model.pt", {"format_version": 2}))
    structures = [moved(seed) for seed in range(5)]
    assert not any(assert_steps_are_those_of_one_call(model, structures, ROUNDING)[0])
    assert capfd.readouterr().err.count("steps of this network are not recorded") == 1


class CountingMany(MockNetwork):
    """Depends on the number of edges of all atoms together, once there are many."""

    def radial(self, r: torch.Tensor) -> torch.Tensor:
        k = torch.arange(1, 9, dtype=r.dtype, device=r.device)
        return torch.cos(k * r[:, None]) * (1.0 + 0.01 * max(r.shape[0] - 300, 0))


def test_steps_that_cannot_be_recorded_again_go_the_usual_way(tmp_path, capfd):
    model = load(save(CountingMany(), tmp_path / "model.pt", {"format_version": 2}))
    structures = [moved(seed, stretch) for seed, stretch in enumerate([1, 1, 1, 1, 0.6, 0.6, 1])]
    recorded, _ = assert_steps_are_those_of_one_call(model, structures, ROUNDING)
    assert recorded == [False, False, True, True, False, False, False]
    assert capfd.readouterr().err.count("steps of this network are not recorded") == 1


def test_a_model_on_a_device_without_kernels_is_refused(host_groups):
    model = load(resolve("kcl"))
    host_groups.use_host_groups(0)
    with pytest.raises(Exception, match="a device with kernels, found cpu; use Evaluator"):
        load_library().DeviceSteps(model)
