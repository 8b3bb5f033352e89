"""The same dynamics in ASE and in LAMMPS, and paths through files: the same positions."""

import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

from equicalc import EquiCalculator

# Velocity Verlet in both, from the same numbers. Units of mass, time and energy agree to 1e-8
# (LAMMPS' constants have eight digits), which is 1e-8 of a path of some angstrom.
POSITIONS = 1e-6  # angstrom
STEPS = 100
# The same numbers again, through text with 17 digits or binary files.
SAME = 1e-9


def moving_salt(bench):
    """Sixteen atoms with velocities of 600 K."""
    atoms = bench.salt((2, 1, 1), rattle=0.05)
    noise = np.random.default_rng(2).normal(size=(len(atoms), 3))
    velocities = noise * np.sqrt(units.kB * 600.0 / atoms.get_masses())[:, None]
    atoms.set_velocities(velocities - velocities.mean(axis=0))
    return atoms


@pytest.mark.parametrize("ranks", [1, 2])
def test_hundred_steps_end_where_ase_ends(bench, tiny_model, ranks):
    atoms = moving_salt(bench)
    body = (
        "fix 1 all nve\ntimestep 0.0005\ndump 1 all custom 100 out.dump id xu yu zu vx vy vz q\n"
        f"dump_modify 1 sort id format float %.17g\nrun {STEPS}\n"
    )
    bench.run(bench.deck(tiny_model, body), atoms, ranks)
    first, last = bench.frames("out.dump")
    # LAMMPS' own positions: the data file rounds them to 17 digits and wraps them
    atoms.positions += first[:, 1:4] - atoms.positions
    atoms.calc = EquiCalculator(str(tiny_model), kspace="ewald", kspace_accuracy=1e-12, check=False)
    VelocityVerlet(atoms, 0.5 * units.fs).run(STEPS)
    assert np.abs(atoms.positions - first[:, 1:4]).max() > 0.1
    assert np.abs(last[:, 1:4] - atoms.positions).max() < POSITIONS
    velocities = atoms.get_velocities() * 1000.0 * units.fs  # angstrom/ps
    assert np.abs(last[:, 4:7] - velocities).max() < 1e-4
    assert np.abs(last[:, 7] - atoms.get_charges()).max() < 1e-6


@pytest.mark.parametrize("ranks", [2, 3])
def test_rerun_of_a_trajectory_gives_its_energies(bench, tiny_model, ranks):
    body = (
        "fix 1 all nve\ntimestep 0.0005\nthermo 5\nthermo_style custom step pe press\n"
        "thermo_modify format float %.17g\ndump 1 all custom 5 out.dump id x y z fx fy fz q\n"
        "dump_modify 1 sort id format float %.17g\nrun 20\nundump 1\nunfix 1\n"
        "dump 2 all custom 5 again.dump id x y z fx fy fz q\n"
        "dump_modify 2 sort id format float %.17g\n"
        "rerun out.dump dump x y z q\n"
    )
    run = bench.run(bench.deck(tiny_model, body), moving_salt(bench), ranks)
    assert np.abs(run.thermo[0]["PotEng"] - run.thermo[1]["PotEng"]).max() < SAME
    for first, again in zip(bench.frames("out.dump"), bench.frames("again.dump"), strict=True):
        assert np.abs(first[:, 4:] - again[:, 4:]).max() < SAME


@pytest.mark.parametrize("name", ["predicted with widths", "equilibrated with widths"])
def test_restart_on_other_ranks_goes_on(bench, model_of, name):
    """Written by two ranks, read by three."""
    model = model_of(name)
    rest = (
        "fix 1 all nve\ntimestep 0.0005\nthermo 5\nthermo_style custom step etotal\n"
        "thermo_modify format float %.17g\n"
    )
    body = rest + "run 5\nwrite_restart half.restart\nrun 10\n"
    whole = bench.run(bench.deck(model, body), moving_salt(bench), 2).thermo[-1]
    deck = bench.deck(model, rest + "run 10\n").replace("atom_style charge\n", "")
    deck = deck.replace("atom_modify map yes\n", "")
    deck = deck.replace("read_data structure.data", "read_restart half.restart")
    second = bench.run(deck, ranks=3).thermo[-1]
    assert np.abs(whole["TotEng"] - second["TotEng"]).max() < 1e-8
