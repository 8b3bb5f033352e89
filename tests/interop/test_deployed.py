"""Imported networks as model files: ASE, precision, LAMMPS on ranks, symmetry, derivatives."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from equicalc import EquiCalculator
from equicalc.cli import main
from equicalc.core import load_library
from equicalc.deploy import export_network, read_metadata
from equicalc.deploy.reading import read_network
from equicalc.interop import import_network
from equicalc.interop.imported import CHOICES
from equicalc.interop.sevennet import import_sevennet
from equicalc.lammps_run import single_point
from tests.interop.comparing import PROMISE, REFERENCE
from tests.interop.structures import structures

# name -> kind, file, head or mode
SOURCES = {
    "rotations": ("sevennet", "sevennet_rotations.pth", None),
    "parity": ("sevennet", "sevennet_parity.pth", None),
    "degree_3": ("sevennet", "sevennet_degree_3.pth", None),
    "modes:r2scan": ("sevennet", "sevennet_modes.pth", "r2scan"),
    "biases:pbe": ("sevennet", "sevennet_biases.pth", "pbe"),
    "vectors": ("mace", "mace_vectors.model", None),
    "heads:two": ("mace", "mace_heads.model", "two"),
    "density": ("mace", "mace_density.model", None),
    "nequip": ("nequip", "nequip_parity.ckpt", None),
}
STORED = {
    **json.loads((REFERENCE / "sevennet.json").read_text()),
    **json.loads((REFERENCE / "mace.json").read_text()),
    "nequip": json.loads((REFERENCE / "nequip.json").read_text())["parity"],
}
# without odd features a network knows rotations only
ROTATIONS_ONLY = ("rotations", "degree_3", "biases:pbe")


@dataclass
class Tolerances:
    """Largest deviations: arrays are of energies, forces, stress in eV/atom, eV/A, eV/A^3."""

    # beyond what an imported network promises: float32 has 7 digits, and energies and forces may be
    # sums of parts ten times larger than themselves
    single_precision: np.ndarray
    # the same sums in another order
    rounding: np.ndarray
    # relative to the largest force: central differences with 1e-5 angstrom of energies near 100 eV,
    # and of tables that are cubic on intervals
    finite_difference: float


TOLERANCES = {
    # forces of these random networks are about 0.1 eV/angstrom, energies per atom about 5 eV
    "sevennet": Tolerances(np.full(3, 1e-6), np.array([1e-12, 1e-11, 1e-12]), 2e-8),
    # forces up to 40 eV/angstrom
    "mace": Tolerances(np.array([5e-6, 1e-5, 5e-6]), np.array([1e-11, 1e-10, 1e-11]), 2e-7),
    "nequip": Tolerances(np.array([5e-6, 1e-5, 5e-6]), np.array([1e-11, 1e-10, 1e-11]), 2e-7),
}


def tolerances(name):
    return TOLERANCES[SOURCES[name][0]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Function from a name to its model file."""
    written = {}

    def path(name):
        if name not in written:
            kind, file, choice = SOURCES[name]
            choices = {CHOICES[kind]: choice} if choice else {}
            found = import_network(kind, REFERENCE / file, **choices)
            target = tmp_path_factory.mktemp("imported") / "model.pt"
            written[name] = Path(export_network(found.network, target, **found.about))
        return written[name]

    return path


def results(atoms, path, **options):
    """Energy per atom, forces, and the stress of crystals."""
    atoms = atoms.copy()
    atoms.calc = EquiCalculator(str(path), check=False, **options)
    found = [np.array(atoms.get_potential_energy() / len(atoms)), atoms.get_forces()]
    if all(atoms.pbc):
        found.append(atoms.get_stress(voigt=False))
    return found


def deviations(a, b):
    return np.array([np.abs(x - y).max() for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("name", SOURCES)
def test_calculator_gives_the_numbers_of_the_original(model, name):
    single = PROMISE + tolerances(name).single_precision
    for kind, atoms in structures().items():
        stored = STORED[name][kind]
        expected = [stored["energy"] / len(atoms), np.array(stored["forces"])]
        if all(atoms.pbc):
            expected.append(np.array(stored["stress"]))
        scale = np.array([1.0, max(1.0, np.abs(expected[1]).max()), 1.0])
        for dtype, allowed in (("float64", PROMISE), ("float32", single)):
            found = deviations(results(atoms, model(name), dtype=dtype), expected)
            assert (found < (allowed * scale)[: len(found)]).all(), (kind, dtype, found)


@pytest.mark.parametrize("name", SOURCES)
def test_model_file_passes_its_own_check(model, name):
    for dtype in ("float64", "float32"):
        EquiCalculator(str(model(name)), dtype=dtype)  # SelfCheckError otherwise
    metadata = read_metadata(model(name))
    assert metadata["architecture"] == ("mace" if SOURCES[name][0] == "mace" else "gated")
    assert SOURCES[name][1] in metadata["origin"]
    # tables, of megabytes, are made when it is loaded
    assert SOURCES[name][0] != "sevennet" or model(name).stat().st_size < 300_000


@pytest.mark.parametrize("name", SOURCES)
def test_energy_is_invariant_and_forces_turn_with_the_structure(model, name):
    atoms = structures()["molecule"]
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turn *= np.linalg.det(turn) if name in ROTATIONS_ONLY else -np.linalg.det(turn)
    turned, swapped = atoms.copy(), atoms[::-1]
    turned.positions = atoms.positions @ turn.T + 1.7
    energy, forces = results(atoms, model(name))
    for other, expected in ((turned, forces @ turn.T), (swapped, forces[::-1])):
        found = results(other, model(name))
        assert (deviations(found, [energy, expected]) < tolerances(name).rounding[:2]).all()


@pytest.mark.parametrize("name", SOURCES)
def test_energy_is_extensive_in_cells_smaller_than_the_cutoff(model, name):
    atoms = structures()["triclinic"]
    once, thrice = (results(a, model(name)) for a in (atoms, atoms * (1, 3, 1)))
    once[1] = np.tile(once[1], (3, 1))
    assert (deviations(once, thrice) < tolerances(name).rounding).all()


@pytest.mark.parametrize("name", SOURCES)
def test_forces_and_stress_are_derivatives_of_the_energy(model, name):
    atoms = structures()["triclinic"]
    atoms.calc = EquiCalculator(str(model(name)), check=False)
    allowed = tolerances(name).finite_difference
    largest = max(1.0, np.abs(atoms.get_forces()).max())
    forces = calculate_numerical_forces(atoms, eps=1e-5)
    assert np.abs(atoms.get_forces() - forces).max() < allowed * largest
    stress = calculate_numerical_stress(atoms, eps=1e-6, voigt=False)
    assert np.abs(atoms.get_stress(voigt=False) - stress).max() < allowed


@pytest.mark.parametrize("name", SOURCES)
def test_atoms_without_neighbours_have_energies_and_no_forces(model, name):
    for symbols in ("Na", "NaCl"):
        atoms = Atoms(symbols, 20.0 * np.arange(len(symbols) // 2 * 3).reshape(-1, 3))
        energy, forces = results(atoms, model(name))
        assert np.isfinite(energy)
        assert not forces.any()


@pytest.mark.parametrize("name", ["rotations", "vectors", "nequip"])
def test_results_do_not_depend_on_threads(model, name):
    atoms = structures()["liquid"] * (2, 1, 1)
    before, found = torch.get_num_threads(), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        found.append(results(atoms, model(name), dtype="float32"))
    torch.set_num_threads(before)
    assert (deviations(*found) == 0.0).all()


@pytest.mark.lammps
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_gives_what_ase_gives(model, tmp_path, name, ranks):
    atoms = structures()["liquid"]
    found = single_point(atoms, str(model(name)), ["H", "O"], tmp_path, ranks=ranks, kspace=None)
    expected = results(atoms, model(name))
    ours = [found["energy"] / len(atoms), found["forces"], found["stress"]]
    assert (deviations(ours, expected) < 10 * tolerances(name).rounding).all()


@pytest.mark.lammps
@pytest.mark.parametrize("name", ["rotations", "heads:two"])
def test_ranks_without_atoms_take_part(model, tmp_path, name):
    atoms = structures()["crystal"]
    atoms.cell[2] *= 4  # all atoms in the lowest quarter: three of four ranks have none
    found = [
        single_point(
            atoms,
            str(model(name)),
            ["Na", "Cl"],
            tmp_path,
            ranks=ranks,
            kspace=None,
            processors="1 1 4" if ranks == 4 else "* * *",
        )
        for ranks in (1, 4)
    ]
    assert np.abs(found[0]["forces"] - found[1]["forces"]).max() < 10 * tolerances(name).rounding[1]
    assert abs(found[0]["energy"] - found[1]["energy"]) < 10 * tolerances(name).rounding[0] * len(
        atoms
    )


@pytest.mark.parametrize("name", ["rotations", "biases:pbe"])
def test_model_file_gives_its_network_back(model, name):
    network = read_network(model(name))
    _, file, modal = SOURCES[name]
    original = import_sevennet(REFERENCE / file, modal=modal).network
    assert network.config == original.config
    for name, value in network.state_dict().items():
        assert torch.equal(value, original.state_dict()[name]), name


def test_only_layers_after_the_first_exchange_features(model):
    calls = []
    core = load_library()

    class Counting(core.HaloExchange):
        def forward(self, local, n_total):
            calls.append(local.shape)
            return torch.ones(n_total, local.shape[1], dtype=local.dtype)

        def reverse(self, grad_total, n_local):
            return grad_total[:n_local]

    model = core.Model.load(str(model("rotations")))
    evaluator, exchange = core.Evaluator(model), Counting()
    species, none = torch.zeros(3, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64)
    evaluator.forward(species, none, torch.zeros(0, 3, dtype=torch.float64), 1, exchange)
    assert evaluator.backward(None, exchange).shape == (0, 3)
    # 10 + 6 x 3 + 3 x 5, and 7 + 5 x 3 + 4 x 5
    assert calls == [(1, 43), (1, 42)]
    assert model.info.exchange_width == 43


def test_command_writes_a_model_and_says_how_far_it_is(tmp_path, capsys):
    source = str(REFERENCE / "mace_heads.model")
    target = tmp_path / "two.pt"
    options = ["--head", "two", "--elements", "Cl", "Na", "-o", str(target)]
    assert main(["import", "mace", source, *options]) == 0
    said = capsys.readouterr().out
    assert "mace_heads.model" in said
    assert "float32: energy" in said
    assert read_metadata(target)["elements"] == ["Na", "Cl"]
    assert main(["import", "mace", source, "-o", str(target)]) != 0
    assert "--head" in capsys.readouterr().err
