"""Every charge model, with one width and several: LAMMPS gives the numbers of ASE."""

import numpy as np
import pytest

from tests.lammps.conftest import CHARGE_MODELS

# As in test_agreement.py: rounding only. Equilibrated charges are searched by both until dE/dq is
# right to 1e-8 V, and a charge is as exact as that over a hardness of 10 V/e.
LIMITS = {"energy": 1e-9, "forces": 1e-7, "stress": 1e-8, "charges": 5e-9, "dipole": 1e-7}
# `pppm 1e-5`, as in test_agreement.py.
PPPM_FORCES = 1.44e-4
PPPM_ENERGY = 1e-4
# The same sums in another order.
ROUNDING = {"energy": 1e-11, "forces": 1e-10, "stress": 1e-11, "charges": 1e-10, "dipole": 1e-9}
SHARES = 1e-9
FIELD = (0.1, -0.05, 0.2)  # V/angstrom
ACROSS = (0.0, 0.0, 0.2)


def crystal(bench, charge=0.0):
    """16 rattled atoms in a triclinic cell."""
    atoms = bench.salt((2, 1, 1))
    strain = np.array([[0.02, 0.05, -0.04], [0.0, -0.01, 0.07], [0.0, 0.0, 0.03]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.info["charge"] = charge
    return atoms


def assert_equal(bench, found, expected, limits):
    for key, deviation in bench.differences(found, expected).items():
        if key in limits:
            assert deviation < limits[key], f"{key} differ by {deviation:.1e}"
    assert abs(found["atom energies"] - found["energy"]) < SHARES * len(found["forces"])


@pytest.mark.parametrize("charge", [0.0, 0.7])
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_crystal_agrees_with_ase(bench, model_of, name, charge):
    atoms, model = crystal(bench, charge), model_of(name)
    found, expected = bench.evaluate(atoms, model), bench.from_ase(atoms, model)
    assert {"energy", "forces", "stress", "charges"} <= expected.keys()
    assert np.ptp(expected["charges"]) > 0.5
    assert_equal(bench, found, expected, LIMITS)
    assert found["charges"].sum() == pytest.approx(charge, abs=1e-12)


@pytest.mark.parametrize("charge", [0.0, -1.0])
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_slab_agrees_with_ase(bench, model_of, name, charge):
    atoms, model = bench.slab(), model_of(name)
    atoms.info["charge"] = charge
    assert_equal(bench, bench.evaluate(atoms, model), bench.from_ase(atoms, model), LIMITS)


@pytest.mark.parametrize("charge", [0.0, -1.0])
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_cluster_agrees_with_ase(bench, model_of, name, charge):
    atoms, model = bench.cluster(), model_of(name)
    atoms.info["charge"] = charge
    found, expected = bench.evaluate(atoms, model), bench.from_ase(atoms, model)
    assert "dipole" in expected
    assert_equal(bench, found, expected, LIMITS)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_any_number_of_ranks_gives_the_same(bench, model_of, name, ranks):
    atoms, model = bench.skewed_salt(), model_of(name)
    expected = bench.evaluate(atoms, model, kspace="ewald 1.0e-8")
    found = bench.evaluate(atoms, model, kspace="ewald 1.0e-8", ranks=ranks)
    assert_equal(bench, found, expected, ROUNDING)
    assert found["steps"] == expected["steps"]


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("name", ["predicted with widths", "equilibrated with widths"])
def test_ranks_without_atoms_take_part(bench, model_of, name, periodic):
    atoms, model = bench.salt((1, 1, 2)), model_of(name)
    atoms.cell[2] *= 4  # all atoms in the lowest quarter: three of four ranks have none
    if not periodic:
        atoms.positions += 0.5
        atoms.pbc = False
    expected = bench.evaluate(atoms, model, kspace="ewald 1.0e-8")
    found = bench.evaluate(atoms, model, kspace="ewald 1.0e-8", ranks=4, processors="1 1 4")
    assert_equal(bench, found, expected, ROUNDING)


@pytest.mark.parametrize("name", ["predicted with widths", "equilibrated with widths"])
def test_pppm_agrees_within_the_accuracy_asked_for(bench, model_of, name):
    atoms, model = bench.skewed_salt(), model_of(name)
    found = bench.evaluate(atoms, model, kspace="pppm 1.0e-5", ranks=2)
    deviations = bench.differences(found, bench.from_ase(atoms, model))
    assert deviations["forces"] < PPPM_FORCES
    assert deviations["energy"] < PPPM_ENERGY


def test_equilibration_starts_from_the_steps_before(bench, model_of):
    body = (
        "compute d all pair equicalc\nthermo_style custom step etotal c_d[4]\nthermo 1\n"
        "thermo_modify format float %.12g\nvelocity all create 300 3\nfix 1 all nve\n"
        "timestep 0.001\nneigh_modify every 1 delay 0 check no\nrun 10\n"
    )
    deck = bench.deck(model_of("equilibrated with widths"), body, kspace="pppm 1.0e-5")
    one, two = (bench.run(deck, bench.salt(), ranks=ranks).thermo[-1] for ranks in (1, 2))
    # one step knows one, the next two, all others three before them
    assert one["c_d[4]"][0] > one["c_d[4]"][1] > one["c_d[4]"][3:].max() > 0
    # the energy does not depend on where the search began: the square of 1e-6 V over a hardness
    assert np.abs(one["TotEng"] - two["TotEng"]).max() < 1e-8


# ---- electric field --------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("charge", [0.0, 0.7])
@pytest.mark.parametrize("name", ["fixed", "fixed with widths", "transferred"])
def test_crystal_in_a_field_agrees_with_ase(bench, model_of, name, charge, ranks):
    atoms, model = crystal(bench, charge), model_of(name)
    found = bench.evaluate(atoms, model, field=FIELD, ranks=ranks)
    expected = bench.from_ase(atoms, model, field=FIELD)
    assert "dipole" in expected
    assert_equal(bench, found, expected, LIMITS)


@pytest.mark.parametrize("charge", [0.0, -1.0])
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_cluster_in_a_field_agrees_with_ase(bench, model_of, name, charge):
    atoms, model = bench.cluster(), model_of(name)
    atoms.info["charge"] = charge
    found = bench.evaluate(atoms, model, field=FIELD)
    assert_equal(bench, found, bench.from_ase(atoms, model, field=FIELD), LIMITS)


@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_slab_in_a_field_across_it_agrees_with_ase(bench, model_of, name):
    atoms, model = bench.slab(), model_of(name)
    found = bench.evaluate(atoms, model, field=ACROSS)
    assert_equal(bench, found, bench.from_ase(atoms, model, field=ACROSS), LIMITS)


def test_energy_is_continuous_when_atoms_cross_the_boundary(bench, model_of):
    """Two displacements of the crystal: LAMMPS wraps atoms at each run, the dipole does not."""
    atoms = bench.salt((1, 1, 1))
    body = (
        "compute d all pair equicalc\nthermo_style custom step pe c_d[*]\n"
        "thermo_modify format float %.17g\nrun 0\n"
    )
    body += "displace_atoms all move 0.5 0.3 -0.2\nrun 0\n" * 2
    style = "efield " + " ".join(map(str, FIELD))
    tables = bench.run(bench.deck(model_of("transferred"), body, style=style), atoms).thermo
    energies = [table["PotEng"][-1] for table in tables]
    dipoles = [table["c_d[1]"][-1] for table in tables]
    # a neutral crystal does not feel where it is
    assert np.ptp(energies) < LIMITS["energy"] * len(atoms)
    assert np.ptp(dipoles) < LIMITS["dipole"]


def test_dipole_is_there_on_every_step_that_asks_for_it(bench, model_of):
    """Steps in between do without it."""
    body = (
        "compute d all pair equicalc\nthermo_style custom step c_d[1]\n"
        "thermo_modify format float %.12g\nvelocity all create 300 3\nfix 1 all nve\n"
        "timestep 0.001\n"
    )
    fix = "fix a all ave/time 3 1 3 c_d[1] file dipole.txt format ' %.12g'\n"
    deck = bench.deck(model_of("transferred"), body, kspace="ewald 1.0e-8")
    every = bench.run(deck + "thermo 1\nrun 12\n", bench.salt((1, 1, 1))).thermo[-1]["c_d[1]"]
    bench.run(deck + fix + "thermo 12\nrun 12\n", bench.salt((1, 1, 1)), ranks=2)
    found = np.loadtxt(bench.directory / "dipole.txt")
    assert found[:, 0].tolist() == [0, 3, 6, 9, 12]
    assert np.ptp(every) > 1e-3
    # rounding, which twelve steps magnify
    np.testing.assert_allclose(found[:, 1], every[::3], rtol=0, atol=1e-8)
