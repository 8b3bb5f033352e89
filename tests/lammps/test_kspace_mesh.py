"""`kspace_style equicalc`: the numbers of the exact sum, in every deck that `pppm` is used in."""

import re

import numpy as np
import pytest

from equicalc import EquiCalculator
from equicalc.lammps_run import LammpsError
from tests.comparing import rms
from tests.lammps.conftest import CHARGE_MODELS, assert_same
from tests.lammps.test_charge_models import crystal
from tests.lammps.test_derivatives import LOOSE_NUMDIFF, pressures_and_slopes, worst_numdiff

COULOMB_FORCE = 14.4  # eV/angstrom, between two charges of 1 e at 1 angstrom
FINE = "equicalc 1.0e-6"
# What that accuracy allows: 1.4e-5 eV/angstrom rms; energies are better and pressures as good.
FINE_LIMITS = {
    "energy": 2e-6, "atom energies": 2e-4, "forces": 5e-5, "stress": 2e-6, "charges": 2e-6,
    "dipole": 1e-4, "steps": 100.0,
}  # fmt: skip


# ---- the numbers of others ---------------------------------------------------------------------


@pytest.mark.parametrize("accuracy", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("atoms", ["salt", "skewed_salt"])
def test_forces_are_as_exact_as_asked_for(bench, tiny_model, atoms, accuracy):
    atoms = getattr(bench, atoms)()
    expected = bench.from_ase(atoms, tiny_model)
    found = bench.evaluate(atoms, tiny_model, kspace=f"equicalc {accuracy}", ranks=2)
    error = rms(found["forces"] - expected["forces"])
    # ordered charges have a fraction of the error of uncorrelated ones; 3e-8 is the exact sum's
    assert 1e-3 * accuracy * COULOMB_FORCE < error < accuracy * COULOMB_FORCE
    assert abs(found["energy"] - expected["energy"]) / len(atoms) < accuracy
    assert abs(found["energy"] - found["atom energies"]) < 1e-9 * len(atoms)
    assert np.abs(found["stress"] - expected["stress"]).max() < 0.1 * accuracy
    assert np.abs(found["charges"] - expected["charges"]).max() < 1e-9


@pytest.mark.parametrize("charge", [0.0, 0.7])
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_every_charge_model_agrees_with_the_exact_sum_of_ase(bench, model_of, name, charge):
    atoms, model = crystal(bench, charge), model_of(name)
    found = bench.evaluate(atoms, model, kspace=FINE, ranks=2)
    assert_same(found, bench.from_ase(atoms, model), FINE_LIMITS)
    assert found["charges"].sum() == pytest.approx(charge, abs=1e-12)


@pytest.mark.parametrize("charge", [0.0, -1.0])
@pytest.mark.parametrize("name", ["fixed with widths", "equilibrated", "transferred"])
def test_slab_agrees_with_the_exact_sum_of_ase(bench, model_of, name, charge):
    atoms, model = bench.slab(), model_of(name)
    atoms.info["charge"] = charge
    found = bench.evaluate(atoms, model, kspace=FINE, ranks=2)
    assert_same(found, bench.from_ase(atoms, model), FINE_LIMITS)


@pytest.mark.parametrize("charge", [0.0, -1.0])
def test_slab_agrees_with_ewald_of_lammps(bench, tiny_model, charge):
    """The pressure too, which a slab has along its plane."""
    atoms = bench.slab()
    atoms.info["charge"] = charge
    expected = bench.evaluate(atoms, tiny_model)
    found = bench.evaluate(atoms, tiny_model, kspace="equicalc 1.0e-7")
    tenth = {key: 0.2 * limit for key, limit in FINE_LIMITS.items()}
    assert_same(found, expected, tenth)


def test_numbers_are_those_of_the_mesh_of_ase(bench, tiny_model):
    atoms = bench.skewed_salt()
    found = bench.evaluate(atoms, tiny_model, kspace="equicalc 1.0e-7")
    atoms.calc = EquiCalculator(
        str(tiny_model), dtype="float64", kspace="p3m", kspace_accuracy=1e-7, check=False
    )
    # 1.4e-6 and 5e-7 eV/angstrom were asked for
    assert np.abs(found["forces"] - atoms.get_forces()).max() < 4e-6
    assert np.abs(found["stress"] - atoms.get_stress(voigt=False)).max() < 1e-7
    assert abs(found["energy"] - atoms.get_potential_energy()) < 1e-6 * len(atoms)


# ---- derivatives -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "style", "kspace"),
    [
        ("fixed with widths", "", "equicalc 1.0e-3"),
        ("predicted with widths", "charge 1.0", "equicalc 1.0e-3"),
        ("equilibrated", "", "equicalc 1.0e-5"),
        ("transferred", "efield 0.1 -0.05 0.2", "equicalc 1.0e-4\nkspace_modify order 5"),
    ],
)
def test_forces_are_derivatives_of_the_energy_on_coarse_meshes_too(
    bench, model_of, name, style, kspace
):
    atoms = bench.salt((1, 1, 1))
    assert worst_numdiff(bench, model_of(name), atoms, kspace, style) < LOOSE_NUMDIFF


def test_forces_of_a_slab_are_derivatives_of_its_energy(bench, tiny_model):
    kspace = "equicalc 1.0e-3\nkspace_modify slab 3.0"
    worst = worst_numdiff(bench, tiny_model, bench.slab(), kspace, "charge 1.0", "p p f")
    assert worst < LOOSE_NUMDIFF


@pytest.mark.parametrize("style", ["", "charge 1.0"])
@pytest.mark.parametrize("boundary", ["p p p", "p p f"])
def test_pressure_is_the_derivative_under_strain_on_a_coarse_mesh(
    bench, tiny_model, style, boundary
):
    kspace = "equicalc 1.0e-3\nkspace_modify mesh 9 9 10 order 6"
    names = ["Pxx", "Pyy", "Pzz", "Pxy"]
    atoms = bench.salt((1, 1, 1))
    if boundary == "p p f":
        kspace = "equicalc 1.0e-3\nkspace_modify slab 3.0 mesh 9 9 50 order 6"
        atoms.center(vacuum=5.0, axis=2)
        names = ["Pxx", "Pyy", "Pzz"]
    else:
        names += ["Pxz", "Pyz"]
    deck = bench.deck(tiny_model, "", kspace=kspace, style=style)
    deck = deck.replace("atom_style", f"boundary {boundary}\natom_style")
    if boundary == "p p p":
        deck = deck.replace("pair_style", "change_box all triclinic\npair_style")
    pressures, slopes = pressures_and_slopes(bench, atoms, deck, names)
    # rounding of 100 eV over the step, relative to pressures of order 1e5 bar
    assert np.abs(pressures - slopes).max() < 1e-6 * np.abs(pressures).max()


SHARES = """compute s all stress/atom NULL
compute sums all reduce sum c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]
compute e all pe/atom
compute se all reduce sum c_e
compute p all pressure NULL virial
thermo_style custom step pe c_se vol c_sums[*] c_p[*]
thermo_modify format float %.15g
dump 1 all custom 1 out.dump id c_s[*]
dump_modify 1 sort id format float %.17g
run 0
"""


@pytest.mark.parametrize("boundary", ["p p p", "p p f"])
@pytest.mark.parametrize("style", ["", "charge 1.0", "device staged"])
def test_virials_of_atoms_are_those_of_ewald_and_sum_to_the_pressure(
    bench, model_of, style, boundary
):
    atoms = bench.skewed_salt() if boundary == "p p p" else bench.slab()
    found = []
    for kspace in ("equicalc 1.0e-6", "ewald 1.0e-10"):
        slab = "\nkspace_modify slab 3.0" if boundary == "p p f" else ""
        deck = bench.deck(model_of("predicted with widths"), SHARES, kspace + slab, style=style)
        deck = deck.replace("atom_style", f"boundary {boundary}\natom_style")
        table = bench.run(deck, atoms, ranks=2).thermo[-1]
        assert abs(table["c_se"][-1] - table["PotEng"][-1]) < 1e-9 * abs(table["PotEng"][-1])
        sums = np.array([-table[f"c_sums[{k}]"][-1] / table["Volume"][-1] for k in range(1, 7)])
        pressure = np.array([table[f"c_p[{k}]"][-1] for k in range(1, 7)])
        assert np.abs(sums - pressure).max() < 1e-9 * np.abs(pressure).max()
        found.append(bench.frames("out.dump")[-1][:, 1:] / bench.bar_per_ev_a3)
    # eV; the virial per atom at an accuracy of 1.4e-5 eV/angstrom
    assert np.abs(found[0] - found[1]).max() < 1e-4
    assert np.abs(found[1]).max() > 0.1


# ---- boxes that change -------------------------------------------------------------------------

MOVES = """velocity all create 300 7 loop geom
timestep 0.00025
neighbor 0.4 bin
neigh_modify every 1 delay 0 check yes
thermo_style custom step pe econserve press vol
thermo_modify format float %.15g
thermo 5
"""


@pytest.mark.parametrize(
    "fix",
    [
        "npt temp 300 300 0.1 iso 0 0 1.0",
        "nph tri 0 0 1.0",
        # the box flips at half its length
        "deform 1 xy erate 12.0 remap x flip yes",
    ],
)
def test_runs_in_changing_boxes_go_as_with_the_exact_sum(bench, tiny_model, fix):
    body = MOVES + f"fix 1 all {fix}\n"
    body += "fix 2 all nve\n" if "deform" in fix else ""
    body += "run 40\nrun 10\n"
    runs = {}
    for kspace in ("equicalc 1.0e-7", "ewald 1.0e-9"):
        deck = bench.deck(tiny_model, body, kspace=kspace)
        deck = deck.replace("pair_style", "change_box all triclinic xy final 2.5 remap\npair_style")
        runs[kspace] = bench.run(deck, bench.salt((1, 1, 1)), ranks=2)
    found, expected = (run.thermo for run in runs.values())
    for one, other in zip(found, expected, strict=True):
        for key in ("PotEng", "Press", "Volume"):
            # errors of 1e-6 eV/angstrom over some tens of steps
            scale = np.abs(other[key]).max()
            assert np.abs(one[key] - other[key]).max() < 1e-5 * scale, key


def test_energy_is_conserved_in_a_box_that_moves(bench, tiny_model):
    """As well as with the exact sum: the mesh stays, and what is differentiated stays with it."""
    # by numbers of atoms: by places, the last digit of a place decides about a velocity
    moves = MOVES.replace("loop geom", "loop all")
    body = "minimize 0 1.0e-3 30 60\n" + moves + "fix 1 all nph iso 0 0 1.0\nrun 100\n"
    drifts = []
    for kspace in ("ewald 1.0e-8", "equicalc 1.0e-3", "equicalc 1.0e-3 precision float32"):
        table = bench.run(bench.deck(tiny_model, body, kspace=kspace), bench.salt()).thermo[-1]
        assert np.ptp(table["Volume"]) > 5.0
        drifts.append(np.ptp(table["Econserve"]) / 64)
    # the first is that of time step and barostat
    assert abs(drifts[1] - drifts[0]) < 0.1 * drifts[0]
    assert abs(drifts[2] - drifts[1]) < 0.5 * drifts[0]  # rounding


def test_each_run_chooses_its_mesh(bench, tiny_model):
    body = "run 0\nchange_box all x scale 1.5 remap\nrun 0\n"
    log = bench.run(bench.deck(tiny_model, body, kspace="equicalc 1.0e-4"), bench.salt()).log
    first, second = (
        [int(n) for n in found] for found in re.findall(r"grid = (\d+) (\d+) (\d+), splines", log)
    )
    assert first[0] == first[1] == first[2]
    assert second[0] > second[1] == second[2]


def test_box_that_outgrows_the_mesh_is_named(bench, tiny_model):
    body = MOVES + "fix 1 all deform 1 x scale 1.8 remap x\nrun 50\n"
    with pytest.raises(LammpsError) as caught:
        bench.run(bench.deck(tiny_model, body, kspace="equicalc 1.0e-5"), bench.salt((1, 1, 1)))
    for words in ("edge a", "when kspace_style equicalc chose its mesh", "kspace_modify mesh"):
        assert words in str(caught.value)


def test_frames_that_are_read_again_have_their_energies(bench, tiny_model):
    dump = "dump 1 all custom 5 out.dump id type x y z\ndump_modify 1 sort id format float %.17g\n"
    body = MOVES + "fix 1 all nph iso 0 0 0.1\n"
    deck = bench.deck(tiny_model, "", kspace="equicalc 1.0e-6")
    first = bench.run(deck + dump + body + "run 20\n", bench.salt((1, 1, 1))).thermo[-1]
    body = MOVES + "rerun out.dump dump x y z box yes\n"
    again = bench.run(deck + body, bench.salt((1, 1, 1)), ranks=2).thermo[-1]
    # 1.4e-5 eV/angstrom, on a mesh of the box at the start in both cases
    assert np.abs(again["PotEng"] - first["PotEng"]).max() < 1e-8


# ---- other styles ------------------------------------------------------------------------------


def test_atoms_of_no_element_take_no_part(bench, tiny_model):
    """Under hybrid styles, with a rank that has nothing else."""
    atoms = bench.salt((1, 1, 2))
    atoms.cell[2] *= 2
    body = "thermo_style custom step pe\nthermo_modify format float %.15g\nrun 0\n"
    deck = bench.deck(tiny_model, body, kspace="equicalc 1.0e-6")
    expected = bench.run(deck, atoms).thermo[-1]["PotEng"][-1]
    deck = deck.replace("read_data structure.data", "read_data structure.data extra/atom/types 1")
    deck = deck.replace("pair_style equicalc", "pair_style hybrid equicalc")
    deck = deck.replace(
        "pair_style hybrid equicalc ", "pair_style hybrid/overlay equicalc zero 4.0"
    )
    deck = deck.replace("* * ", "* * equicalc ").replace(
        "K Cl\n", "K Cl NULL\npair_coeff * * zero\n"
    )
    deck = deck.replace("pair_style", "mass 3 40\ncreate_atoms 3 single 3 3 20\npair_style", 1)
    found = bench.run(deck, atoms, ranks=2).thermo[-1]["PotEng"][-1]
    assert abs(found - expected) < 1e-9


def test_fixes_that_add_up_the_whole_energy_count_it_once(bench, model_of):
    body = (
        "group both type 1 2\nfix mc both atom/swap 1 4 271 0.001 ke no types 1 2\nthermo 1\n"
        "thermo_style custom step pe f_mc[2]\nthermo_modify format float %.15g\nrun 4\n"
    )
    tables = []
    for kspace in ("equicalc 1.0e-7", "ewald 1.0e-9"):
        deck = bench.deck(model_of("fixed with widths"), body, kspace=kspace)
        tables.append(bench.run(deck, bench.salt((1, 1, 1)), ranks=2).thermo[-1])
    assert np.array_equal(tables[0]["f_mc[2]"], tables[1]["f_mc[2]"])
    assert np.abs(tables[0]["PotEng"] - tables[1]["PotEng"]).max() < 1e-5
