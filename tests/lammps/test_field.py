"""Boxes that change in an electric field: the voltages along the box stay, so energy, forces and
pressure are those of one function."""

import numpy as np
import pytest

from equicalc.lammps_run import BAR_PER_EV_A3

FIELD = "efield 0.05 -0.03 0.08"
# This field moves the pressure of the random network by some 100 bar.
PRESSURE = 0.1  # bar
RELAXED = 1.0  # bar, from 1e5
OUTPUT = (
    "thermo_style custom step pe vol pxx pyy pxy lx ly xy xz yz\nthermo 1\n"
    "thermo_modify format float %.15g\n"
)
TILTED = "change_box all triclinic\nkspace_style ewald 1.0e-10\n"


def run(bench, model, body, ranks=1, kspace="ewald 1.0e-10", atoms=None):
    atoms = bench.salt((1, 1, 1)) if atoms is None else atoms
    deck = bench.deck(model, OUTPUT + body, kspace=kspace, style=FIELD)
    return bench.run(deck, atoms, ranks)


@pytest.mark.parametrize("name", ["fixed", "transferred"])
def test_pressure_is_the_derivative_at_fixed_voltages(bench, model_of, name):
    """Atoms rest in the box; its energy changes as its pressure says."""
    body = TILTED + (
        "fix strain all deform 1 x erate 1.0e-2 y erate -2.0e-2 xy erate 3.0e-2 remap x\n"
        "timestep 0.001\nrun 5\n"
    )
    table = run(bench, model_of(name), body, ranks=2).thermo[-1]
    # the first box is that of steps 0 and 1; lengths are printed when the next box is there already
    slope = np.array([1.0, -8.0, 8.0, -1.0]) @ table["PotEng"][[1, 2, 4, 5]] / 12.0
    step = [(table[key][3] - table[key][1]) / 2.0 for key in ("Lx", "Ly", "Xy")]
    x, y, xy = (table[key][2] for key in ("Lx", "Ly", "Xy"))
    # rows of the box: (x, 0), (xy, y); velocity gradient = its inverse times its change
    gradient = np.linalg.solve([[x, 0.0], [xy, y]], [[step[0], 0.0], [step[2], step[1]]])
    pressures = [table[key][3] for key in ("Pxx", "Pyy", "Pxy")]
    works = np.array([gradient[0, 0], gradient[1, 1], gradient[0, 1] + gradient[1, 0]])
    volume = table["Volume"][3] / BAR_PER_EV_A3
    allowed = PRESSURE + 1e-4 * np.abs(pressures).max()  # of the volume in printed pressures
    assert abs(slope + volume * np.dot(pressures, works)) < volume * allowed * np.abs(works).max()


def test_relaxed_boxes_have_the_pressure_asked_for(bench, model_of):
    body = (
        "fix 1 all box/relax aniso 0 vmax 0.01\nmin_modify line quadratic\n"
        "thermo 100\nminimize 0 1.0e-6 1000 5000\n"
    )
    table = run(bench, model_of("transferred"), body).thermo[-1]
    assert max(abs(table[key][-1]) for key in ("Pxx", "Pyy")) < RELAXED


@pytest.mark.parametrize("tilts", ["xy erate 0.9", "yz erate -0.9", "xz erate 0.9"])
def test_boxes_that_are_turned_over_keep_the_field(bench, model_of, tilts):
    """`flip no` and `flip yes` are the same crystal in the same field."""
    body = TILTED + "fix strain all deform 1 {} remap x flip {}\ntimestep 0.01\nrun 80\n"
    model, key = model_of("transferred"), tilts[:2].capitalize()
    plain, turned = (
        run(bench, model, body.format(tilts, flip)).thermo[-1] for flip in ("no", "yes")
    )
    assert np.ptp(plain[key]) > 0.6 * plain["Lx"][0]
    assert np.abs(turned[key]).max() < 0.6 * plain["Lx"][0]
    # a field that were turned over with the box would be off by its own size: 0.1 eV and more
    assert np.abs(plain["PotEng"] - turned["PotEng"]).max() < 1e-6


def test_the_log_says_that_voltages_stay(bench, model_of):
    found = run(bench, model_of("fixed"), "fix 1 all deform 1 x erate 0.1\nrun 0\n").log
    assert "fix 1 (deform) changes the box" in found
