"""The user's `kspace_style` is the solver: which styles, in which order, which boundaries."""

import numpy as np
import pytest
from ase import Atoms

FORCES = 5e-4  # 3 x the error that an accuracy of 1e-5 asks for (1e-5 * 14.4 eV/angstrom)
ENERGY = 1e-2  # eV for 64 atoms at that accuracy
ROUNDING = 1e-9


@pytest.mark.parametrize(
    "kspace",
    [
        "ewald 1.0e-5",
        "pppm 1.0e-5",
        "pppm 1.0e-5\nkspace_modify diff ad",
        "pppm 1.0e-5\nkspace_modify order 7",
        "pppm/stagger 1.0e-5",
    ],
)
def test_usable_styles_agree_within_their_accuracy(bench, tiny_model, kspace):
    atoms = bench.salt()
    expected = bench.from_ase(atoms, tiny_model)
    style, *modify = kspace.split("\n")
    found = bench.from_lammps(atoms, tiny_model, ranks=2, kspace=style, extra="\n".join(modify))
    assert np.abs(found["forces"] - expected["forces"]).max() < FORCES
    assert abs(found["energy"] - expected["energy"]) < ENERGY


@pytest.mark.parametrize("style", ["ewald", "pppm"])
def test_styles_with_threads_agree(bench, tiny_model, style):
    atoms = bench.salt()
    expected = bench.from_ase(atoms, tiny_model)
    deck = bench.deck(tiny_model, "thermo_style custom step pe\nrun 0\n", kspace=f"{style} 1.0e-5")
    found = bench.run(deck, atoms, words=("-sf", "omp", "-pk", "omp", "1")).thermo[-1]
    assert abs(found["PotEng"][-1] - expected["energy"]) < ENERGY


def test_order_of_kspace_and_pair_commands_does_not_matter(bench, tiny_model):
    atoms = bench.salt((2, 1, 1))
    body = (
        "thermo_style custom step pe press\nthermo_modify format float %.15g\n"
        "fix 1 all nve\nvelocity all create 300 3\ntimestep 0.0005\nrun 5\n"
    )
    after = bench.deck(tiny_model, body)
    line = f"kspace_style {bench.tight}\n"
    before = after.replace(line, "").replace("pair_style", line + "pair_style")
    between = after.replace(line, "").replace("pair_coeff", line + "pair_coeff")
    tables = [bench.run(deck, atoms).thermo[-1] for deck in (after, before, between)]
    for table in tables[1:]:
        for key, values in table.items():
            assert np.abs(values - tables[0][key]).max() <= ROUNDING * np.abs(values).max()


def test_kspace_style_may_change_between_runs(bench, tiny_model):
    body = (
        "thermo_style custom step pe\nthermo_modify format float %.15g\nrun 0\n"
        "kspace_style pppm 1.0e-6\nrun 0\n"
        f"kspace_style {bench.tight}\nrun 0\n"
    )
    first, mesh, last = bench.run(bench.deck(tiny_model, body), bench.salt()).thermo
    assert abs(first["PotEng"][-1] - last["PotEng"][-1]) < ROUNDING
    assert 0 < abs(first["PotEng"][-1] - mesh["PotEng"][-1]) < ENERGY


def test_zero_charges_of_the_data_file_do_not_matter(bench, tiny_model):
    """KSPACE styles choose their grid from the charges: nominal ones stand in for missing ones."""
    body = "thermo_style custom step pe\nthermo_modify format float %.15g\nrun 0\n"
    deck = bench.deck(tiny_model, body, kspace="pppm 1.0e-5")
    without = bench.run(deck, bench.salt()).thermo[-1]
    given = deck.replace("pair_style", "set type 1 charge 0.7\nset type 2 charge -0.7\npair_style")
    with_charges = bench.run(given).thermo[-1]
    assert without["PotEng"][-1] == with_charges["PotEng"][-1]


def test_atoms_created_after_the_pair_style_get_nominal_charges_too(bench, tiny_model):
    deck = f"""units metal
atom_style charge
lattice custom 6.29 basis 0 0 0 basis 0 0.5 0.5 basis 0.5 0 0.5 basis 0.5 0.5 0 &
  basis 0.5 0 0 basis 0 0.5 0 basis 0 0 0.5 basis 0.5 0.5 0.5
region r block 0 2 0 2 0 2
create_box 2 r
mass * 36.0
kspace_style pppm 1.0e-5
pair_style equicalc
pair_coeff * * {tiny_model} K Cl
create_atoms 2 box basis 1 1 basis 2 1 basis 3 1 basis 4 1
thermo_style custom step atoms pe
run 0
"""
    found = bench.run(deck)
    atoms = bench.salt(rattle=0.0)
    expected = bench.from_ase(atoms, tiny_model)["energy"]
    assert found.thermo[-1]["Atoms"][-1] == len(atoms)
    assert abs(found.thermo[-1]["PotEng"][-1] - expected) < ENERGY
    assert "no charge" not in found.log


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kspace", ["equicalc 1.0e-6", "pppm 1.0e-5", "ewald 1.0e-6"])
def test_a_box_may_be_empty_and_be_filled_later(bench, tiny_model, kspace, ranks):
    deck = f"""units metal
atom_style charge
region r block 0 10 0 10 0 10
create_box 2 r
mass * 36.0
pair_style equicalc
pair_coeff * * {tiny_model} K Cl
kspace_style {kspace}
thermo_style custom step atoms pe
run 0
create_atoms 1 single 1 2 3
create_atoms 2 single 3.8 2 3
run 0
delete_atoms group all
run 0
"""
    found = bench.run(deck, ranks=ranks)
    atoms = Atoms("KCl", [[1, 2, 3], [3.8, 2, 3]], cell=[10, 10, 10], pbc=True)
    expected = [0.0, bench.from_ase(atoms, tiny_model)["energy"], 0.0]
    assert [table["Atoms"][-1] for table in found.thermo] == [0, 2, 0]
    for table, energy in zip(found.thermo, expected, strict=True):
        assert abs(table["PotEng"][-1] - energy) < ENERGY


@pytest.mark.parametrize("ranks", [1, 2])
def test_cluster_agrees_with_ase_without_a_kspace_style(bench, tiny_model, ranks):
    atoms = bench.salt((1, 1, 1))
    atoms.center(vacuum=8.0)
    atoms.pbc = False
    body = (
        "dump 1 all custom 1 out.dump id fx fy fz q\ndump_modify 1 sort id format float %.17g\n"
        "compute e all pe/atom\ncompute sum all reduce sum c_e\n"
        "thermo_style custom step pe c_sum\nthermo_modify format float %.17g\nrun 0\n"
    )
    deck = bench.deck(tiny_model, body, kspace=None)
    deck = deck.replace("atom_style", "boundary f f f\natom_style")
    table = bench.run(deck, atoms, ranks=ranks).thermo[-1]
    rows = bench.frames("out.dump")[-1]
    expected = bench.from_ase(atoms, tiny_model)
    assert abs(table["PotEng"][-1] - expected["energy"]) < ROUNDING * len(atoms)
    assert abs(table["c_sum"][-1] - expected["energy"]) < ROUNDING * len(atoms)
    assert np.abs(rows[:, 1:4] - expected["forces"]).max() < 1e-8
    assert np.abs(rows[:, 4] - expected["charges"]).max() < ROUNDING
