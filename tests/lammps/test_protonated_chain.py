"""A proton at one end of a carbon chain changes the charges at the other, from training to LAMMPS.

C10H2 and C10H3+ (after Ko, Finkler, Goedecker, Behler, Nat. Commun. 12, 398 (2021)): the total
charge spreads over the whole molecule, which no network sees from one atom.
"""

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.special import erf

from equicalc import EquiCalculator
from equicalc.deploy import export_run
from equicalc.lammps_run import run_deck, write_data
from equicalc.train import run
from tests.train.conftest import SMALL

ELEMENTS = ["C", "H"]
COULOMB = 14.399645  # eV angstrom / e^2
# Electronegativity (V), hardness (V/e; a Gaussian itself has 9), width of the Gaussians (angstrom).
CHI, ETA, SIGMA = {"C": 0.0, "H": -1.5}, {"C": 16.0, "H": 18.0}, 0.9


def chain(protonated, seed):
    """A rattled chain along x; the second hydrogen of the protonated end is the last atom."""
    positions = [[1.3 * k, 0.0, 0.0] for k in range(10)]
    ends = [[-1.06, 0.0, 0.0], [12.76, 0.0, 0.0]]
    if protonated:
        ends = [[-1.06, 0.0, 0.0], [12.23, 0.92, 0.0], [12.23, -0.92, 0.0]]
    atoms = Atoms("C10" + f"H{len(ends)}", positions + ends, cell=[30.0, 16.0, 16.0])
    atoms.positions += [9.0, 8.0, 8.0] + 0.04 * np.random.default_rng(seed).normal(
        size=(len(atoms), 3)
    )
    atoms.info["charge"] = float(protonated)
    return with_reference(atoms)


def solution(atoms, positions):
    """Charges of lowest energy with the given sum, and that energy."""
    symbols, total = atoms.get_chemical_symbols(), atoms.info["charge"]
    n = len(atoms)
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distance, 1.0)
    pairs = COULOMB * erf(distance / (2.0 * SIGMA)) / distance
    np.fill_diagonal(pairs, [ETA[s] for s in symbols])
    chi = np.array([CHI[s] for s in symbols])
    matrix = np.block([[pairs, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    charges = np.linalg.solve(matrix, np.append(-chi, total))[:n]
    return charges, chi @ charges + 0.5 * charges @ pairs @ charges


def with_reference(atoms):
    """The structure with energy, forces (central differences) and charges."""
    charges, energy = solution(atoms, atoms.positions)
    forces = np.zeros((len(atoms), 3))
    for index in np.ndindex(forces.shape):
        ends = []
        for sign in (1.0, -1.0):
            moved = atoms.positions.copy()
            moved[index] += sign * 1e-4
            ends.append(solution(atoms, moved)[1])
        forces[index] = (ends[1] - ends[0]) / 2e-4
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    atoms.arrays["charges"] = charges
    return atoms


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Model file of a short training on both molecules."""
    folder = tmp_path_factory.mktemp("chain")
    ase.io.write(folder / "data.xyz", [chain(k % 2 == 1, k) for k in range(24)])
    config = {
        "model": {
            **SMALL, "cutoff": 3.0, "n_layers": 1, "charge_model": "equilibrated",
            "sigma": SIGMA, "repulsion": False,
        },
        "data": {"train": str(folder / "data.xyz"), "validation_fraction": 0.2},
        "loss": {"energy": 10.0, "forces": 1.0, "stress": 0.0, "charges": 20.0},
        "training": {
            "max_epochs": 100, "batch_size": 5, "learning_rate": 0.02, "validate_every": 50,
        },
        "run": {"directory": str(folder / "run"), "progress": False, "plots": False, "threads": 1},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run(folder / "config.yaml")
    return export_run(folder / "run", folder / "chain.pt")


def predicted(model, atoms):
    copy = atoms.copy()
    copy.calc = EquiCalculator(model)
    return copy.get_potential_energy(), copy.get_forces(), copy.get_charges()


@pytest.mark.slow
def test_the_far_end_feels_the_proton(model):
    neutral, ion = chain(False, 100), chain(True, 101)
    found = [predicted(model, atoms)[2] for atoms in (neutral, ion)]
    for charges, atoms in zip(found, (neutral, ion), strict=True):
        assert charges.sum() == pytest.approx(atoms.info["charge"], abs=1e-8)
        error = np.sqrt(np.mean((charges - atoms.arrays["charges"]) ** 2))
        assert error < 0.02  # e; charges differ by 0.1 e between the molecules
    # the hydrogen 13 angstrom away from the proton, four times the cutoff
    change = found[1][10] - found[0][10]
    expected = ion.arrays["charges"][10] - neutral.arrays["charges"][10]
    assert expected > 0.03
    assert change == pytest.approx(expected, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("protonated", [False, True])
def test_lammps_gives_the_numbers_of_ase(model, tmp_path, protonated, ranks):
    atoms = chain(protonated, 102)
    energy, forces, charges = predicted(model, atoms)
    write_data(tmp_path / "structure.data", atoms, ELEMENTS)
    (tmp_path / "in.chain").write_text(
        f"""units metal
boundary f f f
atom_style charge
atom_modify map yes
read_data structure.data
pair_style equicalc charge {atoms.info["charge"]:g}
pair_coeff * * {model} C H
thermo_style custom step pe
thermo_modify format float %.17g
dump 1 all custom 1 out.dump id fx fy fz q
dump_modify 1 sort id format float %.17g
run 0
"""
    )
    table = run_deck(tmp_path / "in.chain", ranks).thermo[-1]
    text = (tmp_path / "out.dump").read_text().split("ITEM: ATOMS")[1]
    rows = np.array([[float(w) for w in line.split()] for line in text.split("\n")[1:] if line])
    # Equilibrated charges are searched until dE/dq is right to 1e-8 V.
    assert table["PotEng"][-1] == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(rows[:, 1:4], forces, atol=1e-7)
    np.testing.assert_allclose(rows[:, 4], charges, atol=5e-9)
