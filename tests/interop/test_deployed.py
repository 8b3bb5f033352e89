"""Imported networks as model files: ASE, precision, LAMMPS on ranks, symmetry, derivatives."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from equicalc import EquiCalculator
from equicalc.core import load_library
from equicalc.deploy.reading import read_network
from equicalc.interop.sevennet import import_sevennet
from equicalc.lammps_run import single_point

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from structures import structures  # noqa: E402

VARIANTS = ("rotations", "parity", "degree_3")
STORED = json.loads((HERE.parent / "reference" / "sevennet.json").read_text())
# what an imported network promises, eV/atom, eV/angstrom, eV/angstrom^3
PROMISE = np.array([1e-6, 1e-5, 1e-6])
# forces of these random networks are about 0.1 eV/angstrom, energies per atom about 5 eV
SINGLE_PRECISION = np.array([1e-6, 1e-6, 1e-6])
# the same sums in another order
ROUNDING = np.array([1e-12, 1e-11, 1e-12])
# a table is exact in value and slope of one another; central differences with 1e-5 angstrom of
# energies near 100 eV
FINITE_DIFFERENCE = 2e-8


def results(atoms, model, **options):
    """Energy per atom, forces, and the stress of crystals."""
    atoms = atoms.copy()
    atoms.calc = EquiCalculator(str(model), check=False, **options)
    found = [np.array(atoms.get_potential_energy() / len(atoms)), atoms.get_forces()]
    if all(atoms.pbc):
        found.append(atoms.get_stress(voigt=False))
    return found


def deviations(a, b):
    return np.array([np.abs(x - y).max() for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("name", VARIANTS)
def test_calculator_gives_the_numbers_of_the_original(imported_model, name):
    for kind, atoms in structures().items():
        stored = STORED[name][kind]
        expected = [stored["energy"] / len(atoms), np.array(stored["forces"])]
        if all(atoms.pbc):
            expected.append(np.array(stored["stress"]))
        for dtype, allowed in (("float64", PROMISE), ("float32", PROMISE + SINGLE_PRECISION)):
            found = deviations(results(atoms, imported_model(name), dtype=dtype), expected)
            assert (found < allowed[: len(found)]).all(), (kind, dtype, found)


@pytest.mark.parametrize("name", VARIANTS)
def test_model_file_passes_its_own_check_and_needs_no_tables(imported_model, name):
    path = imported_model(name)
    for dtype in ("float64", "float32"):
        EquiCalculator(str(path), dtype=dtype)  # SelfCheckError otherwise
    assert path.stat().st_size < 200_000


def test_model_file_gives_its_network_back(imported_model):
    network = read_network(imported_model("rotations"))
    original = import_sevennet(HERE.parent / "reference" / "sevennet_rotations.pth").network
    assert network.config == original.config
    for name, value in network.state_dict().items():
        assert torch.equal(value, original.state_dict()[name]), name


@pytest.mark.parametrize("name", VARIANTS)
def test_energy_is_invariant_and_forces_turn_with_the_structure(imported_model, name):
    atoms = structures()["molecule"]
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    # a network without parity knows rotations only
    rotation *= np.linalg.det(rotation) if name != "parity" else -np.linalg.det(rotation)
    turned, swapped = atoms.copy(), atoms[::-1]
    turned.positions = atoms.positions @ rotation.T + 1.7
    energy, forces = results(atoms, imported_model(name))
    for other, expected in ((turned, forces @ rotation.T), (swapped, forces[::-1])):
        found = results(other, imported_model(name))
        assert (deviations(found, [energy, expected]) < ROUNDING[:2]).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_energy_is_extensive(imported_model, name):
    atoms = structures()["triclinic"]
    once, thrice = (results(a, imported_model(name)) for a in (atoms, atoms * (1, 3, 1)))
    once[1] = np.tile(once[1], (3, 1))
    assert (deviations(once, thrice) < ROUNDING).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_forces_and_stress_are_derivatives_of_the_energy(imported_model, name):
    atoms = structures()["triclinic"]
    atoms.calc = EquiCalculator(str(imported_model(name)), check=False)
    forces = calculate_numerical_forces(atoms, eps=1e-5)
    assert np.abs(atoms.get_forces() - forces).max() < FINITE_DIFFERENCE
    stress = calculate_numerical_stress(atoms, eps=1e-6, voigt=False)
    assert np.abs(atoms.get_stress(voigt=False) - stress).max() < FINITE_DIFFERENCE


def test_atoms_without_neighbours_have_energies_and_no_forces(imported_model):
    for symbols in ("Na", "NaCl"):
        atoms = Atoms(symbols, 20.0 * np.arange(len(symbols) // 2 * 3).reshape(-1, 3))
        energy, forces = results(atoms, imported_model("rotations"))
        assert np.isfinite(energy)
        assert not forces.any()


def test_results_do_not_depend_on_threads(imported_model):
    atoms = structures()["liquid"] * (2, 1, 1)
    before, found = torch.get_num_threads(), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        found.append(results(atoms, imported_model("rotations"), dtype="float32"))
    torch.set_num_threads(before)
    assert (deviations(*found) == 0.0).all()


@pytest.mark.lammps
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_gives_what_ase_gives(imported_model, tmp_path, name, ranks):
    atoms = structures()["liquid"]
    found = single_point(
        atoms, str(imported_model(name)), ["H", "O"], tmp_path, ranks=ranks, kspace=None
    )
    expected = results(atoms, imported_model(name))
    ours = [found["energy"] / len(atoms), found["forces"], found["stress"]]
    assert (deviations(ours, expected) < 10 * ROUNDING).all()


@pytest.mark.lammps
def test_ranks_without_atoms_take_part(imported_model, tmp_path):
    atoms = structures()["crystal"]
    atoms.cell[2] *= 4  # all atoms in the lowest quarter: three of four ranks have none
    found = [
        single_point(
            atoms,
            str(imported_model("rotations")),
            ["Na", "Cl"],
            tmp_path,
            ranks=ranks,
            kspace=None,
            precision="float32",
            processors="1 1 4" if ranks == 4 else "* * *",
        )
        for ranks in (1, 4)
    ]
    # float32: sums over halo atoms run in another order
    assert np.abs(found[0]["forces"] - found[1]["forces"]).max() < 1e-6
    assert abs(found[0]["energy"] - found[1]["energy"]) < 1e-5


def test_only_layers_after_the_first_exchange_features(imported_model):
    calls = []
    core = load_library()

    class Counting(core.HaloExchange):
        def forward(self, local, n_total):
            calls.append(local.shape)
            return torch.ones(n_total, local.shape[1], dtype=local.dtype)

        def reverse(self, grad_total, n_local):
            return grad_total[:n_local]

    model = core.Model.load(str(imported_model("rotations")))
    evaluator, exchange = core.Evaluator(model), Counting()
    species, none = torch.zeros(3, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64)
    evaluator.forward(species, none, torch.zeros(0, 3, dtype=torch.float64), 1, exchange)
    assert evaluator.backward(None, exchange).shape == (0, 3)
    # 10 + 6 x 3 + 3 x 5, and 7 + 5 x 3 + 4 x 5
    assert calls == [(1, 43), (1, 42)]
    assert model.info.exchange_width == 43
