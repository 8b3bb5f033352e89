"""`kspace_style equicalc` on several ranks, which share its mesh: the numbers of one rank."""

import numpy as np
import pytest

from tests.lammps.conftest import assert_same

# The same sums in another order, and in float32.
ROUNDING = {
    "energy": 1e-11, "atom energies": 1e-9, "forces": 1e-10, "stress": 1e-11, "charges": 1e-10,
    "dipole": 1e-9, "steps": 0.5,
}  # fmt: skip
SINGLE = {
    "energy": 1e-6, "atom energies": 1e-4, "forces": 1e-5, "stress": 1e-6, "charges": 1e-10,
    "dipole": 1e-9, "steps": 0.5,
}  # fmt: skip
# Equilibrated charges are searched for until dE/dq is right to the tolerance of this accuracy.
SEARCHED = {
    "energy": 1e-9, "atom energies": 1e-7, "forces": 1e-6, "stress": 1e-8, "charges": 1e-6,
    "dipole": 1e-6, "steps": 1.5,
}  # fmt: skip
# Shares of atoms, of some eV and eV/angstrom: the same sums in another order, in float32 of meshes
# whose points have 7 digits.
EXACT, ROUGH = "equicalc 1.0e-5", "equicalc 1.0e-5 precision float32"
SHARES = {EXACT: 1e-12, ROUGH: 1e-6}

OUTPUT = """compute e all pe/atom
compute s all stress/atom NULL virial
dump 1 all custom 1 out.dump id fx fy fz c_e c_s[*]
dump_modify 1 sort id format float %.17g
run 0
"""


def salt_in_the_lowest_quarter(bench):
    atoms = bench.salt((1, 1, 2))
    atoms.cell[2] *= 4
    return atoms


def shares_of_atoms(bench, model, atoms, kspace, processors="1 1 1"):
    """Forces, energies (eV) and virials (eV) of atoms, in columns."""
    deck = bench.deck(model, OUTPUT, kspace=kspace)
    deck = deck.replace("read_data", f"processors {processors}\nread_data")
    bench.run(deck, atoms, ranks=int(np.prod([int(word) for word in processors.split()])))
    values = bench.frames("out.dump")[-1][:, 1:]
    values[:, 4:] /= bench.bar_per_ev_a3
    return values


@pytest.mark.parametrize("kspace", [EXACT, ROUGH])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_any_number_of_ranks_gives_the_same(bench, tiny_model, ranks, kspace):
    atoms = bench.skewed_salt()
    expected = bench.evaluate(atoms, tiny_model, kspace=kspace)
    found = bench.evaluate(atoms, tiny_model, kspace=kspace, ranks=ranks)
    assert_same(found, expected, SINGLE if kspace == ROUGH else ROUNDING)


@pytest.mark.parametrize("name", ["predicted with widths", "equilibrated with widths"])
def test_ranks_without_atoms_take_part(bench, model_of, name):
    atoms, model = salt_in_the_lowest_quarter(bench), model_of(name)
    expected = bench.evaluate(atoms, model, kspace=EXACT)
    found = bench.evaluate(atoms, model, kspace=EXACT, ranks=4, processors="1 1 4")
    assert_same(found, expected, SEARCHED if "equilibrated" in name else ROUNDING)


@pytest.mark.parametrize(
    ("processors", "kspace"),
    [("1 1 2", EXACT), ("1 1 3", EXACT), ("1 2 2", EXACT), ("1 2 2", ROUGH)],
)
def test_ranks_give_shares_of_atoms_of_one_rank(bench, model_of, processors, kspace):
    """Forces, energies and virials; cut along z all ranks but one have no atoms."""
    atoms, model = salt_in_the_lowest_quarter(bench), model_of("predicted with widths")
    expected = shares_of_atoms(bench, model, atoms, kspace)
    found = shares_of_atoms(bench, model, atoms, kspace, processors)
    assert np.abs(expected).max(axis=0).min() > 0.01
    assert np.abs(found - expected).max() < SHARES[kspace]


def test_more_ranks_than_planes(bench, tiny_model):
    """Some have no part of the mesh."""
    kspace = f"{EXACT}\nkspace_modify mesh 4 5 8 order 4"
    atoms = bench.salt((1, 1, 1))
    expected = shares_of_atoms(bench, tiny_model, atoms, kspace)
    found = shares_of_atoms(bench, tiny_model, atoms, kspace, "1 1 6")
    assert np.abs(found - expected).max() < SHARES[EXACT]


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_box_that_changes_at_every_step_goes_as_on_one_rank(bench, tiny_model, ranks):
    """Tables of the mesh are made anew by every rank, each its own rows."""
    body = (
        "velocity all create 300 7 loop geom\ntimestep 0.00025\nfix 1 all nph iso 0 0 0.1\n"
        "thermo_style custom step pe press vol\nthermo_modify format float %.15g\nthermo 1\n"
        "run 10\n"
    )
    tables = [
        bench.run(bench.deck(tiny_model, body, kspace=EXACT), bench.skewed_salt(), ranks=n).thermo[
            -1
        ]
        for n in (1, ranks)
    ]
    assert np.ptp(tables[0]["Volume"]) > 1e-3
    for key in ("PotEng", "Press", "Volume"):
        scale = np.abs(tables[0][key]).max()
        # rounding of ten steps
        assert np.abs(tables[1][key] - tables[0][key]).max() < 1e-9 * scale, key


def test_messages_of_many_atoms_give_the_same(bench, tiny_model):
    """MPI has other ways for more than half a megabyte; three quarters are of the second rank."""
    atoms = bench.salt((12, 12, 16), rattle=0.05)
    atoms.positions[:, 2] += 0.5 * atoms.cell[2, 2]
    atoms.cell[2] *= 1.5
    kspace = "equicalc 1.0e-3"
    expected = shares_of_atoms(bench, tiny_model, atoms, kspace)
    found = shares_of_atoms(bench, tiny_model, atoms, kspace, "1 1 2")
    assert np.abs(found - expected).max() < SHARES[EXACT]
