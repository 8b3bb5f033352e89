"""Words after `pair_style equicalc`, and commands that the style must refuse or work with."""

import numpy as np
import pytest

from equicalc.lammps_run import LammpsError
from tests.lammps.test_errors import assert_says, message

THERMO = "thermo_style custom step pe\nthermo_modify format float %.17g\n"


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("device tpu", ["does not understand 'device tpu'", "[device cpu|cuda|auto]"]),
        ("precision", ["does not understand 'precision'", "float64|float32|mixed"]),
        ("skin_mask off", ["skin_mask off", "always left out", "skin_mask on"]),
        ("deviation 0", ["does not understand 'deviation 0'", "[deviation N]"]),
        ("ghosts none", ["does not understand 'ghosts none'", "[ghosts exchange|extended]"]),
    ],
)
def test_impossible_option_names_what_to_type(bench, tiny_model, style, words):
    assert_says(message(bench, bench.deck(tiny_model, "run 0\n", style=style)), *words)


def test_options_that_change_nothing_are_understood(bench, tiny_model):
    energies = []
    for style in ("", "device auto skin_mask on ghosts exchange precision float64 device cpu"):
        deck = bench.deck(tiny_model, THERMO + "run 0\n", style=style)
        energies.append(bench.run(deck, bench.salt((1, 1, 1))).thermo[-1]["PotEng"][-1])
    assert energies[0] == energies[1]


def test_mixed_precision_is_that_of_float32(bench, tiny_model):
    results = {}
    for word in ("float32", "mixed", "float64"):
        deck = bench.deck(tiny_model, THERMO + "run 0\n", style=f"precision {word}")
        run = bench.run(deck, bench.salt((1, 1, 1)))
        results[word] = run.thermo[-1]["PotEng"][-1]
        assert f"precision {word}" in run.log
        assert ("geometry and sums of energies in float64" in run.log) == (word != "float64")
    assert results["float32"] == results["mixed"] != results["float64"]
    # seven digits of 8 atoms with some eV each
    assert abs(results["mixed"] - results["float64"]) < 1e-4


RAMP = "variable ramp equal ramp(1.0,0.5)\nvariable small equal 0.1\n"

# ---- other commands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("group a type 1\ngroup b type 2\ncompute g a group/group b", ["compute g", "uncompute g"]),
        ("compute p all pair/local eng", ["compute p", "whole neighbourhoods", "uncompute p"]),
        ("fix q all qeq/point 1 8.0 1e-6 100 param.qeq", ["fix q", "predicts itself", "unfix q"]),
        ("fix q all charge/regulation 1 2 seed 5", ["fix q", "predicts itself", "unfix q"]),
        ("fix t all tune/kspace 10", ["fix t", "unfix t", "kspace_style equicalc 1e-5"]),
        ("fix a all adapt 1 kspace v_ramp", ["factor of kspace_style ewald", "unfix ID"]),
        ("run_style respa 2 2 inner 1 2.0 3.0 outer 2", ["no inner", "run_style respa", "pair 2"]),
        # their strains leave the box alone, in which the Coulomb energy is summed
        (
            "compute p all pressure NULL virial\ncompute b all born/matrix numdiff 1e-5 p",
            ["compute b", "not the box", "uncompute b", "change_box"],
        ),
        ("fix v all numdiff/virial 1 1e-5", ["fix v", "not the box", "unfix v", "change_box"]),
        # the model's cutoff is for KSPACE styles; it is no parameter
        ("compute f all fep 300 pair equicalc cut_coul 1 2 v_small", ["cut_coul not supported"]),
        ("fix a all adapt 1 pair equicalc cut_coul 1 2 v_small", ["cut_coul not supported"]),
    ],
)
def test_commands_that_need_something_else_are_refused(bench, tiny_model, command, words):
    (bench.directory / "param.qeq").write_text("1 5.0 8.0 0 0 0.0\n2 8.0 9.0 0 0 0.0\n")
    deck = bench.deck(tiny_model, f"{RAMP}fix nve all nve\n{command}\nrun 0\n")
    assert_says(message(bench, deck), *words)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("fix a all adapt 1 atom charge v_ramp", "fix a"),
        ("fix a all adapt 1 atom charge v_ramp scale yes", "fix a"),
        ("fix a all adapt/fep 1 atom charge 1 v_ramp", "fix a"),
        ("variable q atom 0.1\nfix a all set 1 1 type 1 charge v_q", "fix a"),
        ("compute a all fep 300 atom charge 1 v_small\nthermo_style custom c_a[1]", "compute a"),
    ],
)
def test_commands_that_change_charges_are_found_out(bench, tiny_model, command, name, ranks):
    """Whether `fix adapt` is about charges, LAMMPS does not tell; the charges do."""
    body = f"{RAMP}velocity all create 300 7\nfix nve all nve\n{command}\nthermo 1\nrun 3\n"
    deck = bench.deck(tiny_model, body, kspace="equicalc 1.0e-4")
    assert_says(message(bench, deck, ranks=ranks), name, "predicts itself", f"'un{name}'")


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("fix a all adapt 1 pair lj/cut epsilon 1 2 v_ramp", "v_ramp"),
        # trial moves change charges together with atoms, and take them back
        (
            "compute a all fep 300 pair lj/cut epsilon 1 2 v_small\n"
            "group gas type 1\nfix mc gas gcmc 1 3 3 1 29494 150 -2.0 0.2 full_energy",
            "c_a[1]",
        ),
    ],
)
def test_what_changes_other_parameters_may_stay(bench, tiny_model, command, value, ranks):
    body = (
        "pair_style hybrid/overlay equicalc contacts ignore lj/cut 6.0\n"
        f"pair_coeff * * equicalc {tiny_model} K Cl\npair_coeff * * lj/cut 0.2 2.5\n"
        f"{RAMP}{command}\nfix nve all nve\n"
        f"thermo_style custom step pe {value}\n"
        "thermo 1\nrun 6\n"
    )
    deck = bench.deck(tiny_model, body, kspace="equicalc 1.0e-4")
    assert len(bench.run(deck, bench.salt((1, 1, 1)), ranks=ranks).thermo[-1]["Step"]) == 7


def test_multiple_time_steps_without_inner_forces_are_velocity_verlet(bench, tiny_model):
    """`run_style respa` works with the pair style as one level."""
    body = "velocity all create 300 7\nfix 1 all nve\ntimestep 0.0005\n" + THERMO
    deck = bench.deck(tiny_model, body + "run 10\n", kspace="ewald 1.0e-8")
    expected = bench.run(deck, bench.salt((2, 1, 1)), ranks=2).thermo[-1]
    respa = deck.replace("run 10", "run_style respa 2 2 pair 2 kspace 2\nrun 10")
    found = bench.run(respa, ranks=2).thermo[-1]
    assert np.abs(found["PotEng"] - expected["PotEng"]).max() < 1e-9


EXCLUDED = "fix ID GROUP setforce 0 0 0"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "words", ["type 1 2", "group some some", "group all some", "molecule/intra some"]
)
def test_left_out_pairs_are_refused(bench, tiny_model, words, ranks):
    command = f"group some id 1 2 5\nneigh_modify exclude {words}\nrun 0\n"
    deck = bench.deck(tiny_model, command, kspace="pppm 1.0e-4")
    if words.startswith("molecule"):
        deck = deck.replace("structure.data", "structure.data\nfix m all property/atom mol")
    found = message(bench, deck, ranks=ranks)
    assert_says(found, f"neigh_modify exclude {words}'", "neigh_modify exclude none", EXCLUDED)


@pytest.mark.parametrize("ranks", [1, 2])
def test_atoms_without_neighbour_lists_are_refused(bench, tiny_model, ranks):
    deck = bench.deck(tiny_model, "neigh_modify include some\nrun 0\n", kspace="pppm 1.0e-4")
    first = "structure.data\ngroup some id 1 2 5\natom_modify first some\n"
    found = message(bench, deck.replace("structure.data\n", first), ranks=ranks)
    assert_says(found, "'neigh_modify include some'", "Leave that line out", EXCLUDED)


@pytest.mark.parametrize("ranks", [1, 2])
def test_atoms_without_ghosts_are_refused(bench, tiny_model, ranks):
    deck = bench.deck(tiny_model, "run 0\n", kspace="pppm 1.0e-4")
    first = "structure.data\ngroup some id 1 2 5\natom_modify first some\ncomm_modify group some\n"
    found = message(bench, deck.replace("structure.data\n", first), ranks=ranks)
    assert_says(found, "'comm_modify group some'", "Type 'comm_modify group all'")


@pytest.mark.parametrize("ranks", [1, 2])
def test_charges_of_atoms_without_an_element_are_refused(bench, tiny_model, ranks):
    """They would be summed with the model's, or be lost."""
    from equicalc.lammps_run import write_data

    atoms = bench.salt((1, 1, 1))
    atoms.append("Ar")
    atoms.positions[-1] = [1.6, 1.6, 1.6]
    write_data(bench.directory / "structure.data", atoms, ["K", "Cl", "Ar"])
    body = "set type 3 charge 0.5\nrun 0\n"
    deck = bench.deck(tiny_model, body).replace("K Cl\n", "K Cl NULL\n")
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, ranks=ranks)
    assert_says(str(caught.value), "atoms of type 3", "'set type 3 charge 0.0'")


@pytest.mark.parametrize("hybrid", ["hybrid/overlay", "hybrid"])
def test_second_model_with_charges_is_refused(bench, tiny_model, model_of, hybrid):
    """Atoms have one charge each, and both models would sum those of the other, too."""
    elements = ("K Cl", "K Cl") if hybrid == "hybrid/overlay" else ("K NULL", "NULL Cl")
    coefficients = "".join(
        f"pair_coeff * * equicalc {k} {model} {words}\n"
        for k, model, words in zip(
            (1, 2), (tiny_model, model_of("fixed with widths")), elements, strict=True
        )
    )
    deck = bench.deck(tiny_model, "run 0\n").replace(
        f"pair_coeff * * {tiny_model} K Cl\n", coefficients
    )
    deck = deck.replace("pair_style equicalc", f"pair_style {hybrid} equicalc equicalc")
    assert_says(message(bench, deck), "two models with charges", hybrid, "MODEL MODEL El1")


def test_left_out_pairs_of_other_types_are_no_matter(bench, tiny_model):
    """Neither of types without an element, nor of a group without atoms of the model."""
    from equicalc.lammps_run import write_data

    atoms = bench.salt((2, 1, 1))
    energies = []
    for command in ("", "neigh_modify exclude type 1 3\n", "neigh_modify exclude group all ar\n"):
        everything = atoms.copy()
        everything.append("Ar")
        everything.positions[-1] = [1.6, 1.6, 1.6]
        write_data(bench.directory / "structure.data", everything, ["K", "Cl", "Ar"])
        body = f"group ar type 3\n{command}{THERMO}run 0\n"
        deck = bench.deck(tiny_model, body, kspace="pppm 1.0e-6").replace("K Cl\n", "K Cl NULL\n")
        energies.append(bench.run(deck).thermo[-1]["PotEng"][-1])
    assert energies[0] == energies[1] == energies[2]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "mover",
    [
        "fix mc all gcmc 1 0 20 0 29494 0.001 0.0 0.2 full_energy",
        "fix mc all atom/swap 1 4 29494 0.001 ke no types 1 2",
    ],
)
def test_monte_carlo_at_zero_temperature_never_raises_the_energy(bench, model_of, mover, ranks):
    """These fixes add up the whole energy themselves, and call KSPACE on their own."""
    # gcmc is about one type, and moves atoms of it
    mover = mover.replace("0 29494", "1 29494") if "gcmc" in mover else mover
    body = f"{mover}\n{THERMO}thermo 1\nrun 6\nrun 0\n"
    # atom/swap demands equal charges of all atoms of a type
    model = model_of("predicted with widths" if "gcmc" in mover else "fixed with widths")
    deck = bench.deck(model, body, kspace="pppm 1.0e-6")
    run = bench.run(deck, bench.salt((2, 1, 1), rattle=0.4), ranks=ranks)
    energies = run.thermo[0]["PotEng"]
    assert np.diff(energies).max() < 1e-6
    assert energies[-1] < energies[0] - 0.1
    # the state it arrived at has the energy that the pair style gives it
    assert run.thermo[1]["PotEng"][0] == pytest.approx(energies[-1], abs=1e-6)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", ["predicted with widths", "fixed with widths"])
@pytest.mark.parametrize("side", ["above", "below"])
def test_deletions_of_gcmc_cost_the_energy_of_a_vacancy(bench, model_of, side, name, ranks):
    """Near zero temperature an atom leaves when the chemical potential pays for its vacancy."""
    model = model_of(name)
    atoms = bench.salt((1, 1, 1), rattle=0.0)  # all sites are equal
    vacant = atoms.copy()
    del vacant[next(atom.index for atom in atoms if atom.symbol == "K")]
    energies = [bench.from_ase(s, model)["energy"] for s in (atoms, vacant)]
    # exp(mu / kT) over the thermal wavelength adds less than 0.2 eV at 150 K
    chemical_potential = energies[0] - energies[1] + (0.4 if side == "above" else -0.4)
    body = (
        "group gas type 1\nthermo 1\n"
        f"fix mc gas gcmc 1 1 0 1 29494 150 {chemical_potential} 0.2 full_energy\n"
        "thermo_style custom step atoms f_mc[3] f_mc[4] f_mc[5] f_mc[6]\nrun 12\n"
    )
    deck = bench.deck(model, body, kspace="pppm 1.0e-6", style="contacts ignore")
    table = bench.run(deck, atoms, ranks=ranks).thermo[-1]
    assert table["f_mc[5]"][-1] >= 3  # attempts
    if side == "above":
        assert np.all(table["f_mc[6]"] == 0)
        assert np.all(table["Atoms"] >= 8)
    else:  # later attempts meet another crystal
        first = np.flatnonzero(table["f_mc[5]"])[0]
        assert table["f_mc[6]"][first] == 1
        assert table["Atoms"][first] == 7


# ---- with other pair styles --------------------------------------------------------------------

LENNARD_JONES = "lj/cut 6.0"
LENNARD_JONES_COEFF = "pair_coeff * * lj/cut 0.05 2.5\n"


def forces(bench, deck, atoms=None, ranks=1):
    dump = (
        "dump 1 all custom 1 out.dump id fx fy fz\n"
        "dump_modify 1 sort id format float %.17g\nrun 0\n"
    )
    table = bench.run(deck + THERMO + dump, atoms, ranks=ranks).thermo[-1]
    return table["PotEng"][-1], bench.frames("out.dump")[-1][:, 1:]


@pytest.mark.parametrize("ranks", [1, 2])
def test_overlay_adds_another_style(bench, tiny_model, ranks):
    atoms = bench.skewed_salt()
    kspace = f"kspace_style {bench.tight}\n"
    ours = forces(bench, bench.deck(tiny_model, ""), atoms, ranks)
    alone = f"{bench.header}pair_style {LENNARD_JONES}\n" + LENNARD_JONES_COEFF.replace(
        "lj/cut", ""
    )
    theirs = forces(bench, alone, ranks=ranks)
    both = forces(
        bench,
        f"{bench.header}pair_style hybrid/overlay equicalc {LENNARD_JONES}\n"
        f"pair_coeff * * equicalc {tiny_model} K Cl\n{LENNARD_JONES_COEFF}{kspace}",
        ranks=ranks,
    )
    assert abs(theirs[0]) > 0.1
    assert both[0] == pytest.approx(ours[0] + theirs[0], abs=1e-9)
    assert np.abs(both[1] - ours[1] - theirs[1]).max() < 1e-9


@pytest.mark.parametrize("ranks", [1, 2])
def test_hybrid_leaves_other_types_to_another_style(bench, tiny_model, ranks):
    """A third type has Lennard-Jones interactions with all; the model describes the other two."""
    from equicalc.lammps_run import write_data

    salt = bench.salt((2, 1, 1))
    expected = bench.from_lammps(salt, tiny_model)
    atoms = salt.copy()
    atoms.append("Ar")
    atoms.positions[-1] = [1.6, 1.6, 1.6]
    write_data(bench.directory / "structure.data", atoms, ["K", "Cl", "Ar"])
    deck = (
        f"{bench.header}pair_style hybrid equicalc {LENNARD_JONES}\n"
        f"pair_coeff * * equicalc {tiny_model} K Cl NULL\n"
        "pair_coeff 1*3 3 lj/cut 0.02 2.0\n"
        f"kspace_style {bench.tight}\n"
    )
    energy, found = forces(bench, deck, ranks=ranks)
    lennard_jones = (
        f"{bench.header}pair_style {LENNARD_JONES}\npair_coeff * * 0.0 1.0\n"
        "pair_coeff 1*3 3 0.02 2.0\n"
    )
    extra_energy, extra = forces(bench, lennard_jones)
    assert np.abs(extra).max() > 1e-3
    assert energy == pytest.approx(expected["energy"] + extra_energy, abs=1e-9)
    assert np.abs(found[:-1] - extra[:-1] - expected["forces"]).max() < 1e-9
    assert np.abs(found[-1] - extra[-1]).max() < 1e-12


def test_wall_acts_beside_the_model(bench, tiny_model_without_charges):
    atoms = bench.cluster()
    deck = bench.deck(tiny_model_without_charges, "", kspace=None)
    deck = deck.replace("atom_style", "boundary f f f\natom_style")
    _, without = forces(bench, deck, atoms)
    _, found = forces(bench, deck + "fix wall all wall/harmonic zlo 3.0 0.5 1.0 4.0\n")
    depth = np.maximum(0.0, 3.0 + 4.0 - atoms.positions[:, 2])
    assert depth.max() > 0.5
    assert np.abs(found[:, 2] - without[:, 2] - 2.0 * 0.5 * depth).max() < 1e-9


def test_hybrid_without_all_pairs_is_reported(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n").replace(
        "pair_style equicalc", f"pair_style hybrid equicalc {LENNARD_JONES}"
    )
    deck = deck.replace("pair_coeff * *", "pair_coeff * * equicalc").replace("K Cl\n", "K NULL\n")
    with pytest.raises(LammpsError, match="pair coeff"):
        bench.run(deck, bench.salt((1, 1, 1)))
