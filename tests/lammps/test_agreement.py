"""ASE and LAMMPS give the same numbers from the same file, on any number of ranks."""

import numpy as np
import pytest

from tests.lammps.conftest import assert_same, differences

# One network, one definition of the Coulomb energy, sums in another order: rounding only. These
# are the limits promised to users; what is found is smaller by two orders.
FLOAT64 = {"energy": 1e-9, "forces": 1e-7, "stress": 1e-8, "charges": 1e-9}
# float32 has 7 digits and forces are sums of terms of order 10 eV/angstrom.
FLOAT32_FORCES = 1e-4
# `pppm 1e-5` asks for force errors of 1e-5 times 14.4 eV/angstrom (two charges e at 1 angstrom).
PPPM_FORCES = 1.44e-4
PPPM_ENERGY = 1e-4


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_triclinic_crystal_agrees_with_ase(bench, tiny_model, ranks):
    atoms = bench.skewed_salt()
    found = bench.from_lammps(atoms, tiny_model, ranks=ranks)
    assert_same(found, bench.from_ase(atoms, tiny_model), FLOAT64)


def test_three_layers_agree_with_ase_on_two_ranks(bench, deep_model):
    atoms = bench.skewed_salt()
    found = bench.from_lammps(atoms, deep_model, ranks=2)
    assert_same(found, bench.from_ase(atoms, deep_model), FLOAT64)


def test_model_without_charges_agrees_with_ase(bench, tiny_model_without_charges):
    atoms = bench.skewed_salt()
    found = bench.from_lammps(atoms, tiny_model_without_charges, ranks=2, kspace=None)
    deviations = differences(found, bench.from_ase(atoms, tiny_model_without_charges))
    for key in ("energy", "forces", "stress"):
        assert deviations[key] < FLOAT64[key], f"{key} differ by {deviations[key]:.1e}"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_close_contacts_repel_as_in_ase(bench, tiny_model, distance, ranks):
    """The nuclei of a K-Cl pair, whose repulsion ends at 3.05 angstrom."""
    atoms = bench.skewed_salt()
    i, j = 0, int(np.argmin(atoms.get_distances(0, range(1, len(atoms)), mic=True))) + 1
    direction = atoms.get_distance(i, j, mic=True, vector=True)
    atoms.positions[j] = atoms.positions[i] + distance * direction / np.linalg.norm(direction)
    found = bench.from_lammps(atoms, tiny_model, ranks=ranks)
    expected = bench.from_ase(atoms, tiny_model)
    largest = np.abs(expected["forces"]).max()
    assert largest > {0.5: 1000.0, 1.0: 100.0, 2.0: 5.0}[distance]
    limits = {key: limit * max(1.0, largest) for key, limit in FLOAT64.items()}
    assert_same(found, expected, limits)


@pytest.mark.slow
def test_rattled_512_atoms_agree_with_ase(bench, tiny_model):
    atoms = bench.salt((4, 4, 4))
    found = bench.from_lammps(atoms, tiny_model, ranks=2)
    assert_same(found, bench.from_ase(atoms, tiny_model), FLOAT64)


def test_pppm_agrees_within_the_accuracy_asked_for(bench, tiny_model):
    atoms = bench.skewed_salt()
    found = bench.from_lammps(atoms, tiny_model, ranks=2, kspace="pppm 1.0e-5")
    deviations = bench.differences(found, bench.from_ase(atoms, tiny_model))
    assert deviations["forces"] < PPPM_FORCES
    assert deviations["energy"] < PPPM_ENERGY


@pytest.mark.parametrize("ranks", [1, 2])
def test_float32_agrees_with_float64(bench, tiny_model, ranks):
    atoms = bench.skewed_salt()
    found = bench.from_lammps(atoms, tiny_model, ranks=ranks, precision="float32")
    expected = bench.from_ase(atoms, tiny_model)
    assert bench.differences(found, expected)["forces"] < FLOAT32_FORCES


def test_total_charge_is_that_of_ase(bench, tiny_model):
    atoms = bench.salt()  # axes as in LAMMPS
    atoms.info["charge"] = 1.0
    found = bench.run(
        bench.deck(
            tiny_model,
            "thermo_modify format float %.17g\ncompute q all property/atom q\n"
            "compute sum all reduce sum c_q\nthermo_style custom step pe c_sum pxx\n"
            "thermo_modify format float %.17g\nrun 0\n",
            style="charge 1.0",
        ),
        atoms,
        ranks=2,
    ).thermo[-1]
    expected = bench.from_ase(atoms, tiny_model)
    assert abs(found["PotEng"][-1] - expected["energy"]) < FLOAT64["energy"] * len(atoms)
    assert abs(found["c_sum"][-1] - 1.0) < 1e-12
    stress = -found["Pxx"][-1] / bench.bar_per_ev_a3
    assert abs(stress - expected["stress"][0, 0]) < FLOAT64["stress"]
