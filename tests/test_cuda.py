"""Everything that runs on a CUDA device against the same on the CPU; needs a device.

The kernels' source is tested on any machine: tests/nn compiles it for the host.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from equicalc import EquiCalculator
from equicalc.core import load_library
from equicalc.electrostatics import device_mesh, mesh, solve
from equicalc.models import shipped
from tests.comparing import assert_close
from tests.interop.structures import structures

REFERENCE = Path(__file__).resolve().parent / "reference"

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

# float64: the same sums in another order, relative to the largest number of its kind or to one in
# eV/atom, eV/angstrom, eV/angstrom^3, e
ROUNDING = 1e-9
# float32 has 7 digits; forces are sums of some hundred terms
SINGLE = 1e-4


def results(model, atoms, **options):
    atoms = atoms.copy()
    atoms.calc = EquiCalculator(str(model), **options)
    found = {
        "energy": atoms.get_potential_energy() / len(atoms),
        "forces": atoms.get_forces(),
        "charges": atoms.get_charges(),
    }
    if all(atoms.pbc):
        found["stress"] = atoms.get_stress()
    return found


def crystal(name):
    """A rattled crystal of the elements of a shipped model, from its own self-check."""
    block = EquiCalculator(name).metadata["self_check"]
    atoms = Atoms(block["symbols"], block["positions"], cell=block["cell"], pbc=block["pbc"])
    atoms = atoms * (2, 2, 2) if all(atoms.pbc) else atoms
    atoms.rattle(0.05, seed=3)
    return atoms


def test_this_build_has_kernels_for_the_device():
    load_library()
    assert torch.ops.equicalc.has_cuda_kernels(), "build with EQUICALC_CUDA=1"


@pytest.mark.parametrize("name", shipped())
def test_shipped_models_give_the_results_of_the_cpu(name):
    atoms = crystal(name)
    expected = results(name, atoms)
    assert_close(results(name, atoms, device="cuda"), expected, ROUNDING)
    assert_close(results(name, atoms, device="cuda", dtype="float32"), expected, SINGLE)


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("KCl", "rocksalt", a=6.3),
        Atoms("K", cell=[20] * 3, pbc=True),
        Atoms("Cl", positions=[[0, 0, 0]]),
        Atoms("KCl", positions=[[0, 0, 0], [30, 0, 0]]),
        Atoms("KCl", positions=[[0, 0, 0], [2.7, 0.1, 0]]),
    ],
    ids=["small cell", "one atom in a box", "one atom", "two far atoms", "molecule"],
)
def test_structures_with_few_atoms_or_no_edges(atoms):
    assert_close(results("kcl", atoms, device="cuda"), results("kcl", atoms), ROUNDING)


def test_model_files_use_the_kernels_and_not_torch_expressions():
    atoms = crystal("nakcl")
    atoms.calc = EquiCalculator("nakcl", device="cuda")
    with torch.profiler.profile() as profile:
        atoms.get_forces()
    names = {event.key for event in profile.key_averages()}
    operators = ("radial_functions", "outer_sum", "couple", "scalar_convolution", "edge_forces",
                 "edge_geometry", "screened_repulsion")  # fmt: skip
    assert {f"equicalc::{name}" for name in operators} <= names


def test_results_are_the_same_bits_every_time():
    atoms = crystal("kcl")
    first = results("kcl", atoms, device="cuda", dtype="float32")
    for name, value in results("kcl", atoms, device="cuda", dtype="float32").items():
        assert np.array_equal(value, first[name]), name


def test_a_moving_structure_is_followed_through_new_neighbour_lists():
    atoms = crystal("kcl")
    on_device, on_cpu = EquiCalculator("kcl", device="cuda"), EquiCalculator("kcl")
    for step in range(6):
        atoms.rattle(0.12, seed=step)
        found = []
        for calculator in (on_device, on_cpu):
            atoms.calc = calculator
            found.append({"forces": atoms.get_forces(), "stress": atoms.get_stress()})
        assert_close(*found, ROUNDING)
    assert on_device._network.neighbors.n_searches > 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_that_the_device_repeats_give_the_results_of_the_cpu(dtype):
    atoms = crystal("kcl")
    on_device, on_cpu = EquiCalculator("kcl", device="cuda", dtype=dtype), EquiCalculator("kcl")
    # other numbers of edges, and of atoms
    for step, stretch in enumerate([1, 1, 1, 1, 1.04, 0.97, 1.1, 1]):
        moved = atoms.copy()
        moved.rattle(0.05, seed=step)
        moved.set_cell(moved.cell[:] * stretch, scale_atoms=True)
        found = []
        for calculator in (on_device, on_cpu):
            moved.calc = calculator
            found.append({"forces": moved.get_forces(), "stress": moved.get_stress()})
        assert_close(*found, ROUNDING if dtype == "float64" else SINGLE)
        assert on_device._network.steps.is_recorded == (step >= 2)


# the others choose atoms by their species, for which they wait for the device
@pytest.mark.parametrize("kind", ["sevennet_rotations", "sevennet_degree_3"])
def test_steps_of_imported_networks_are_repeated_too(kind, tmp_path):
    from equicalc.deploy import export_network

    found = imported_network(kind)
    model = export_network(found.network, tmp_path / "model.pt", **found.about)
    elements = sorted(found.network.config.elements)[:2]
    atoms = bulk("NaCl", "rocksalt", a=5.0, cubic=True)
    atoms.symbols = [elements[k % len(elements)] for k in range(len(atoms))]
    on_device, on_cpu = (
        EquiCalculator(str(model), device=device, check=False) for device in ("cuda", "cpu")
    )
    for step in range(5):
        atoms.rattle(0.05, seed=step)
        found = []
        for calculator in (on_device, on_cpu):
            atoms.calc = calculator
            found.append({"forces": atoms.get_forces()})
        assert_close(*found, ROUNDING)
    assert on_device._network.steps.is_recorded


def test_memory_of_the_device_does_not_grow_from_step_to_step():
    atoms = crystal("kcl")
    atoms.calc = EquiCalculator("kcl", device="cuda")
    used = []
    for step in range(8):
        atoms.rattle(0.001, seed=step)
        atoms.get_forces()
        used.append(torch.cuda.memory_allocated())
    assert used[-1] <= used[3]


def charged_system(n_widths=1, n_atoms=300):
    """Charges, positions, a skewed cell of usual density, and widths."""
    rng = np.random.default_rng(6)
    cell = (20.0 * n_atoms) ** (1 / 3) * np.array(
        [[1.0, 0.1, 0.0], [-0.3, 1.1, 0.0], [0.2, 0, 0.9]]
    )
    sigmas = np.linspace(1.0, 1.2, n_widths)[np.arange(n_atoms) % n_widths]
    return rng.normal(size=n_atoms), rng.random((n_atoms, 3)) @ cell, cell, sigmas


@pytest.mark.parametrize("n_widths", [1, 3])
@pytest.mark.parametrize("order", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("points", [(24, 25, 20), (18, 16, 36)])
def test_the_mesh_gives_the_results_of_the_cpu(n_widths, order, points):
    charges, positions, cell, sigmas = charged_system(n_widths)
    widths = mesh.different(sigmas)
    # no wave at the border of these meshes counts, where transforms may differ in what they drop
    arguments = charges, positions, sigmas
    expected = mesh.mesh_sum(*arguments, cell, points, order, 1e-2)
    shapes = [(cell, points)]
    for single, tolerance in ((False, ROUNDING), (True, SINGLE)):
        found = device_mesh.mesh_sums(*arguments, widths, shapes, order, 1e-2, single, "cuda")[0]
        kinds = ("energy", "potentials", "forces", "virial")
        assert_close({k: found[k] for k in kinds}, {k: expected[k] for k in kinds}, tolerance)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False)], ids=["bulk", "slab"])
@pytest.mark.parametrize("accuracy", [1e-3, 1e-6])
def test_the_mesh_on_the_device_reaches_its_accuracy(pbc, accuracy):
    charges, positions, cell, sigmas = charged_system(2)
    arguments = charges, positions, cell, pbc, sigmas
    exact = solve(*arguments, 1e-12, "ewald")
    found = solve(*arguments, accuracy, "p3m", device="cuda")
    # 5 eV/A was measured for one width
    assert np.sqrt(((found.forces - exact.forces) ** 2).sum(1).mean()) < 10 * accuracy
    assert np.abs(found.virial - exact.virial).max() < 10 * accuracy * len(charges)


@pytest.mark.parametrize("single", [False, True])
def test_the_mesh_gives_the_same_bits_every_time_and_in_any_order_of_atoms(single):
    charges, positions, cell, sigmas = charged_system(2, 20000)
    order = np.random.default_rng(1).permutation(len(charges))
    orders = (slice(None), slice(None), order)
    first, second, mixed = (
        solve(charges[o], positions[o], cell, [True] * 3, sigmas[o], 1e-4, "p3m",
              single=single, device="cuda")
        for o in orders
    )  # fmt: skip
    for name in ("energy", "potentials", "forces", "virial"):
        assert np.array_equal(getattr(second, name), getattr(first, name)), name
    assert np.array_equal(mixed.forces, first.forces[order])


@pytest.mark.parametrize("kspace", ["p3m", "auto"])
@pytest.mark.parametrize("name", ["kcl", "nakcl"])
def test_models_have_their_coulomb_energy_from_the_mesh_on_the_device(name, kspace, monkeypatch):
    atoms = crystal(name)
    atoms *= (2, 2, 2) if len(atoms) < 500 else (1, 1, 1)
    calls = []
    mesh_sums = device_mesh.mesh_sums

    def counted(*arguments):
        calls.append(arguments[-1])
        return mesh_sums(*arguments)

    monkeypatch.setattr(device_mesh, "mesh_sums", counted)
    tight = {"kspace_accuracy": 1e-8}
    expected = results(name, atoms, kspace="ewald", kspace_accuracy=1e-11)
    # the error of the mesh: 5 eV/A times the accuracy
    assert_close(results(name, atoms, device="cuda", kspace=kspace, **tight), expected, 1e-7)
    assert set(calls) == {"cuda"}


def imported_network(kind):
    if kind.startswith("sevennet"):
        from equicalc.interop.sevennet import import_sevennet

        file, _, modal = kind.partition(":")
        return import_sevennet(REFERENCE / f"{file}.pth", modal=modal or None)
    if kind.startswith("mace"):
        from equicalc.interop.mace import import_mace

        return import_mace(REFERENCE / f"{kind}.model")
    from equicalc.interop.nequip import import_nequip

    return import_nequip(REFERENCE / f"{kind}.nequip.zip")


@pytest.mark.parametrize(
    "kind",
    [
        "sevennet_rotations",
        "sevennet_parity",
        "sevennet_degree_3",
        "sevennet_modes:r2scan",
        "mace_density",
        "nequip_parity",
    ],
)
def test_imported_networks_give_the_results_of_the_cpu(kind, tmp_path):
    from equicalc.deploy import export_network

    found = imported_network(kind)
    model = export_network(found.network, tmp_path / "model.pt", **found.about)
    known = set(found.network.config.elements)
    tested = 0
    for atoms in [*structures().values(), molecule("H2O")]:
        if set(atoms.get_chemical_symbols()) <= known:
            tested += 1
            expected = results(model, atoms, check=False)
            assert_close(results(model, atoms, device="cuda", check=False), expected, ROUNDING)
    assert tested > 0


def test_training_on_the_device_takes_the_steps_of_the_cpu(tmp_path, monkeypatch):
    import csv

    import ase.io
    import yaml
    from ase.calculators.lj import LennardJones
    from ase.calculators.singlepoint import SinglePointCalculator

    from equicalc.train import run

    frames = []
    for seed in range(8):
        atoms = bulk("KCl", "rocksalt", a=6.2, cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = LennardJones(sigma=2.7, epsilon=0.3, rc=7.0, smooth=True)
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    monkeypatch.chdir(tmp_path)
    ase.io.write("data.xyz", frames)
    last = {}
    for device in ("cpu", "cuda"):
        config = {
            "model": {"cutoff": 4.0, "channels": 8, "l_max": 2, "n_layers": 3},
            "data": {"train": "data.xyz", "validation_fraction": 0.25},
            "training": {"max_epochs": 2, "batch_size": 3},
            "run": {"device": device, "dtype": "float64", "progress": False, "plots": False},
        }
        Path(f"{device}.yaml").write_text(yaml.safe_dump(config))
        with (Path(run(f"{device}.yaml")) / "log.csv").open(newline="") as stream:
            last[device] = float(list(csv.DictReader(stream))[-1]["train_loss"])
    # rounding, amplified by steps of an optimiser that divides by small numbers
    assert last["cuda"] == pytest.approx(last["cpu"], rel=1e-6)
