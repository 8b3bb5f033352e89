"""The commands of simulations: dynamics, minimisation, cells that change, restarts."""

import numpy as np
import pytest

# Masses of 35-39 u, forces of some eV/angstrom: 0.25 fs is far below any period.
TIME_STEP = 0.00025
# Rounding of velocities of order 10 angstrom/ps times masses, summed over 64 atoms.
MOMENTUM = 1e-9
# The same structure again: rounding of 100 eV, through text with 17 digits.
SAME_ENERGY = 1e-9

DUMP = (
    "dump 1 all custom {every} {name} id x y z fx fy fz q\n"
    "dump_modify 1 sort id format float %.17g\n"
)
THERMO = (
    "thermo_style custom step temp pe etotal econserve press vol\n"
    "thermo_modify format float %.15g\nthermo {every}\n"
)


def relaxed_salt(bench, model):
    """Atoms near a minimum: dynamics of a random network from elsewhere would be violent."""
    atoms = bench.salt((2, 2, 2), rattle=0.05)
    body = DUMP.format(every=1000, name="relaxed.dump") + "minimize 0 1.0e-3 30 60\n"
    bench.run(bench.deck(model, body, kspace="ewald 1.0e-8"), atoms)
    atoms.positions = bench.frames("relaxed.dump")[-1][:, 1:4]
    return atoms


def test_energy_and_momentum_are_conserved(bench, tiny_model):
    atoms = relaxed_salt(bench, tiny_model)
    body = (
        "velocity all create 300 7 mom yes\n"
        + THERMO.format(every=10)
        + "compute p all momentum\n"
        + "thermo_style custom step etotal ke c_p[*]\nthermo_modify format float %.15g\n"
        + "fix 1 all nve\n"
    )
    errors = {}
    for halved in (1, 2):
        run = f"timestep {TIME_STEP / halved}\nrun {100 * halved}\n"
        table = bench.run(bench.deck(tiny_model, body + run, kspace="ewald 1.0e-9"), atoms, 2)
        energy = table.thermo[-1]["TotEng"]
        errors[halved] = np.abs(energy - energy[0]).max() / len(atoms)
        momentum = [np.abs(table.thermo[-1][f"c_p[{k}]"]).max() for k in (1, 2, 3)]
        assert max(momentum) < MOMENTUM
    assert errors[1] < 1e-4
    # Velocity Verlet's error is quadratic in the time step when forces are the derivatives.
    assert errors[2] < 0.35 * errors[1]


@pytest.mark.parametrize("name", ["equilibrated with widths", "transferred"])
def test_energy_of_charge_models_is_conserved(bench, model_of, name):
    atoms = relaxed_salt(bench, model_of(name))
    body = "velocity all create 300 7\nfix 1 all nve\n" + THERMO.format(every=10)
    body += f"timestep {TIME_STEP}\nrun 100\n"
    table = bench.run(bench.deck(model_of(name), body, kspace="pppm 1.0e-6"), atoms, 2).thermo[-1]
    assert np.abs(table["TotEng"] - table["TotEng"][0]).max() / len(atoms) < 1e-4


def test_energy_in_a_field_is_conserved(bench, model_of):
    """Crystals in a field drift through the boundary: the dipole goes on."""
    atoms = relaxed_salt(bench, model_of("transferred"))
    body = "velocity all create 300 7\nvelocity all set 5.0 NULL NULL sum yes\nfix 1 all nve\n"
    body += "neigh_modify every 5 delay 0 check no\n"  # atoms are wrapped then
    body += THERMO.format(every=10) + f"timestep {TIME_STEP}\nrun 100\n"
    style = "efield 0.05 0 0.02"
    deck = bench.deck(model_of("transferred"), body, kspace="pppm 1.0e-6", style=style)
    table = bench.run(deck, atoms, 2).thermo[-1]
    assert np.abs(table["TotEng"] - table["TotEng"][0]).max() / len(atoms) < 1e-4


def test_second_run_continues_the_first(bench, tiny_model):
    atoms = relaxed_salt(bench, tiny_model)
    start = f"velocity all create 300 7\nfix 1 all nve\ntimestep {TIME_STEP}\n" + THERMO.format(
        every=10
    )
    once = bench.run(bench.deck(tiny_model, start + "run 20\n", kspace="ewald 1.0e-9"), atoms)
    twice = bench.run(
        bench.deck(tiny_model, start + "run 10\nrun 10\n", kspace="ewald 1.0e-9"), atoms
    )
    assert abs(once.thermo[-1]["TotEng"][-1] - twice.thermo[-1]["TotEng"][-1]) < SAME_ENERGY


def test_minimisation_reaches_small_forces(bench, tiny_model):
    table = bench.run(
        bench.deck(tiny_model, "thermo_style custom step pe fmax\nminimize 0 1.0e-4 300 600\n"),
        bench.salt((2, 1, 1)),
    ).thermo[-1]
    assert table["PotEng"][-1] < table["PotEng"][0] - 0.1
    assert table["Fmax"][-1] < 2e-3


def test_relaxed_box_has_no_pressure(bench, tiny_model):
    body = (
        "thermo_style custom step pe press\nfix r all box/relax iso 0.0 vmax 0.005\n"
        "min_modify line quadratic\nminimize 0 1.0e-5 300 900\n"
    )
    table = bench.run(bench.deck(tiny_model, body), bench.salt((2, 1, 1), rattle=0.02)).thermo[-1]
    assert table["PotEng"][-1] < table["PotEng"][0]
    assert abs(table["Press"][-1]) < 0.02 * abs(table["Press"][0]) + 50.0


@pytest.mark.parametrize(
    ("barostat", "name"),
    [("aniso", "predicted"), ("tri", "predicted"), ("aniso", "equilibrated with widths")],
)
def test_energies_of_a_changing_box_are_those_of_its_snapshots(
    bench, tiny_model, model_of, barostat, name
):
    """The lattice sum follows the box: `rerun` sets up every snapshot anew."""
    atoms = bench.salt((2, 2, 1), rattle=0.05)
    body = (
        f"velocity all create 300 7\nfix 1 all npt temp 300 300 0.1 {barostat} 0 0 0.5\n"
        f"timestep {TIME_STEP}\n"
        + THERMO.format(every=10)
        + DUMP.format(every=10, name="npt.dump")
        + "run 30\nundump 1\nunfix 1\nrerun npt.dump dump x y z q\n"
    )
    model = tiny_model if name == "predicted" else model_of(name)
    deck = bench.deck(model, body, kspace="ewald 1.0e-12")
    deck = deck.replace("pair_style", "change_box all triclinic\npair_style")
    first, again = bench.run(deck, atoms, ranks=2).thermo
    assert np.abs(first["Volume"] - again["Volume"]).max() < 1e-9
    assert np.ptp(first["Volume"]) > 1e-3
    assert np.abs(first["PotEng"] - again["PotEng"]).max() < SAME_ENERGY


def test_restart_continues_after_repeating_the_pair_style(bench, tiny_model):
    atoms = bench.salt((2, 1, 1), rattle=0.05)
    fixes = f"fix 1 all nve\ntimestep {TIME_STEP}\n" + THERMO.format(every=5)
    body = "velocity all create 300 7\n" + fixes + "run 5\nwrite_restart half\nrun 5\n"
    whole = bench.run(bench.deck(tiny_model, body), atoms).thermo[-1]
    lines = bench.deck(tiny_model, fixes + "run 5\n").replace("atom_style charge\n", "")
    lines = lines.replace("atom_modify map yes\n", "")
    second = bench.run(lines.replace("read_data structure.data", "read_restart half")).thermo[-1]
    assert abs(whole["TotEng"][-1] - second["TotEng"][-1]) < SAME_ENERGY


def test_data_file_round_trip_keeps_energy_and_charges(bench, tiny_model):
    atoms = bench.salt((2, 1, 1))
    body = THERMO.format(every=1) + "run 0\nwrite_data again.data\n"
    first = bench.run(bench.deck(tiny_model, body), atoms).thermo[-1]
    deck = bench.deck(tiny_model, body).replace("structure.data", "again.data")
    second = bench.run(deck.replace("write_data again.data\n", "")).thermo[-1]
    assert abs(first["PotEng"][-1] - second["PotEng"][-1]) < SAME_ENERGY


def test_other_styles_can_follow_in_the_same_input(bench, tiny_model):
    """The KSPACE style is given back: the next pair style has it to itself."""
    kspace = "ewald 1.0e-6"
    other = """pair_style lj/cut/coul/long 4.0
pair_coeff * * 0.01 3.0
set type 1 charge 1.0
set type 2 charge -1.0
thermo_style custom step pe elong
run 0
"""
    body = "thermo_style custom step pe elong\nrun 0\n" + other
    first, second = bench.run(
        bench.deck(tiny_model, body, kspace=kspace), bench.salt((1, 1, 1))
    ).thermo
    alone = bench.run(bench.header + f"kspace_style {kspace}\n" + other).thermo[-1]
    assert first["E_long"][-1] == 0.0  # it is in E_coul
    assert second["E_long"][-1] == pytest.approx(alone["E_long"][-1], abs=SAME_ENERGY)
    assert second["PotEng"][-1] == pytest.approx(alone["PotEng"][-1], abs=SAME_ENERGY)
