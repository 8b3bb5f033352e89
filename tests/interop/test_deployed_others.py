"""Imported MACE and NequIP networks as model files: ASE, LAMMPS on ranks, symmetry, derivatives."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from equicalc import EquiCalculator
from equicalc.cli import main
from equicalc.deploy import export_network, read_metadata
from equicalc.interop import import_network
from equicalc.lammps_run import single_point

HERE = Path(__file__).resolve().parent
REFERENCE = HERE.parent / "reference"
sys.path.insert(0, str(HERE))
from structures import structures  # noqa: E402

# name -> kind, file, head
SOURCES = {
    "vectors": ("mace", "mace_vectors.model", None),
    "heads:two": ("mace", "mace_heads.model", "two"),
    "density": ("mace", "mace_density.model", None),
    "nequip": ("nequip", "nequip_parity.ckpt", None),
}
STORED = {
    **json.loads((REFERENCE / "mace.json").read_text()),
    "nequip": json.loads((REFERENCE / "nequip.json").read_text()),
}
# what an imported network promises, eV/atom, eV/angstrom, eV/angstrom^3; forces above 1 relative
PROMISE = np.array([1e-6, 1e-5, 1e-6])
# float32 has 7 digits, and energies and forces are sums of parts ten times larger than themselves
SINGLE_PRECISION = np.array([5e-6, 1e-5, 5e-6])
# the same sums in another order, forces up to 40 eV/angstrom
ROUNDING = np.array([1e-11, 1e-10, 1e-11])
# relative to the largest force: central differences with 1e-5 angstrom of energies near 100 eV,
# whose rounding is 1e-9 eV/angstrom, and of tables, which are cubic on intervals of 5e-3 angstrom
FINITE_DIFFERENCE = 2e-7


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Function from a name to its model file."""
    written = {}

    def path(name):
        if name not in written:
            kind, file, head = SOURCES[name]
            found = import_network(kind, REFERENCE / file, None, head)
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
    for kind, atoms in structures().items():
        stored = STORED[name][kind]
        expected = [stored["energy"] / len(atoms), np.array(stored["forces"])]
        if all(atoms.pbc):
            expected.append(np.array(stored["stress"]))
        scale = np.array([1.0, max(1.0, np.abs(expected[1]).max()), 1.0])
        for dtype, allowed in (("float64", PROMISE), ("float32", PROMISE + SINGLE_PRECISION)):
            found = deviations(results(atoms, model(name), dtype=dtype), expected)
            assert (found < (allowed * scale)[: len(found)]).all(), (kind, dtype, found)


@pytest.mark.parametrize("name", SOURCES)
def test_model_file_passes_its_own_check(model, name):
    for dtype in ("float64", "float32"):
        EquiCalculator(str(model(name)), dtype=dtype)  # SelfCheckError otherwise
    metadata = read_metadata(model(name))
    assert metadata["architecture"] == ("gated" if name == "nequip" else "mace")
    assert SOURCES[name][1] in metadata["origin"]


@pytest.mark.parametrize("name", SOURCES)
def test_energy_is_invariant_and_forces_turn_with_the_structure(model, name):
    atoms = structures()["molecule"]
    reflection, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    reflection *= -np.linalg.det(reflection)
    turned, swapped = atoms.copy(), atoms[::-1]
    turned.positions = atoms.positions @ reflection.T + 1.7
    energy, forces = results(atoms, model(name))
    for other, expected in ((turned, forces @ reflection.T), (swapped, forces[::-1])):
        found = results(other, model(name))
        assert (deviations(found, [energy, expected]) < ROUNDING[:2]).all()


@pytest.mark.parametrize("name", SOURCES)
def test_energy_is_extensive_in_cells_smaller_than_the_cutoff(model, name):
    atoms = structures()["triclinic"]
    once, thrice = (results(a, model(name)) for a in (atoms, atoms * (1, 3, 1)))
    once[1] = np.tile(once[1], (3, 1))
    assert (deviations(once, thrice) < ROUNDING).all()


@pytest.mark.parametrize("name", SOURCES)
def test_forces_and_stress_are_derivatives_of_the_energy(model, name):
    atoms = structures()["triclinic"]
    atoms.calc = EquiCalculator(str(model(name)), check=False)
    largest = max(1.0, np.abs(atoms.get_forces()).max())
    forces = calculate_numerical_forces(atoms, eps=1e-5)
    assert np.abs(atoms.get_forces() - forces).max() < FINITE_DIFFERENCE * largest
    stress = calculate_numerical_stress(atoms, eps=1e-6, voigt=False)
    assert np.abs(atoms.get_stress(voigt=False) - stress).max() < FINITE_DIFFERENCE


@pytest.mark.parametrize("name", SOURCES)
def test_atoms_without_neighbours_have_energies_and_no_forces(model, name):
    for symbols in ("Na", "NaCl"):
        atoms = Atoms(symbols, 20.0 * np.arange(len(symbols) // 2 * 3).reshape(-1, 3))
        energy, forces = results(atoms, model(name))
        assert np.isfinite(energy)
        assert not forces.any()


@pytest.mark.parametrize("name", ["vectors", "nequip"])
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
    assert (deviations(ours, expected) < 10 * ROUNDING).all()


@pytest.mark.lammps
def test_ranks_without_atoms_take_part(model, tmp_path):
    atoms = structures()["crystal"]
    atoms.cell[2] *= 4  # all atoms in the lowest quarter: three of four ranks have none
    found = [
        single_point(
            atoms,
            str(model("heads:two")),
            ["Na", "Cl"],
            tmp_path,
            ranks=ranks,
            kspace=None,
            processors="1 1 4" if ranks == 4 else "* * *",
        )
        for ranks in (1, 4)
    ]
    assert np.abs(found[0]["forces"] - found[1]["forces"]).max() < 10 * ROUNDING[1]
    assert abs(found[0]["energy"] - found[1]["energy"]) < 10 * ROUNDING[0] * len(atoms)


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
