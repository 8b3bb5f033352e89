"""Commands typed once more, between runs or during one: what they change holds from there on."""

import subprocess
import sys

import numpy as np
import pytest

from equicalc.lammps_run import LammpsError, write_data
from tests.lammps.test_errors import assert_says, message

# Rounding of 100 eV, and of sums over ranks in another order.
SAME = 1e-9
OUT = (
    "thermo_style custom step pe\nthermo_modify format float %.17g\n"
    "dump 1 all custom 1 out.dump id type fx fy fz q\ndump_modify 1 sort id format float %.17g\n"
)


def last_frame(bench, deck, atoms=None, ranks=1):
    """Energy; types, forces and charges of all atoms."""
    table = bench.run(deck, atoms, ranks).thermo[-1]
    return table["PotEng"][-1], bench.frames("out.dump")[-1][:, 1:]


def swapped_salt(bench):
    """Atoms 3 (K) and 14 (Cl) have changed their elements."""
    atoms = bench.salt((2, 1, 1))
    assert [atoms.symbols[2], atoms.symbols[13]] == ["K", "Cl"]
    atoms.symbols[2], atoms.symbols[13] = "Cl", "K"
    return atoms


# ---- types ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("ghosts", ["exchange", "extended"])
@pytest.mark.parametrize("how", ["set", "fix set"])
def test_ghosts_have_the_types_of_their_owners(bench, deep_model, how, ghosts, ranks):
    """`set type` changes those of owners, and without a new neighbour list nobody else does."""
    expected = bench.deck(deep_model, OUT + "run 0\n")
    energy, atoms = last_frame(bench, expected, swapped_salt(bench))
    command = {
        "set": "run 0\nset atom 3 type 2\nset atom 14 type 1\nrun 1 pre no\n",
        "fix set": 'variable t atom "type + (id==3)*(2-type) + (id==14)*(1-type)"\n'
        "neigh_modify delay 100\nrun 0\nfix a all set 1 1 group all type v_t\nrun 2\n",
    }[how]
    deck = bench.deck(deep_model, OUT + command, style=f"ghosts {ghosts}")
    found = last_frame(bench, deck, bench.salt((2, 1, 1)), ranks)
    assert found[0] == pytest.approx(energy, abs=SAME)
    assert np.abs(found[1] - atoms).max() < SAME


@pytest.mark.parametrize("ranks", [1, 2])
def test_type_that_sees_farther_than_the_list_is_refused(bench, tiny_model, model_of, ranks):
    """Atoms without an element have no neighbours; wide Gaussians have distant ones."""
    body = "run 0\nset type 3 type 1\nrun 1 pre no\n"
    deck = bench.deck(tiny_model, body).replace("K Cl\n", "K Cl NULL\n")
    atoms = bench.salt((2, 1, 1))
    atoms.append("Ar")
    atoms.positions[-1] = [1.6, 1.6, 1.6]
    write_data(bench.directory / "structure.data", atoms, ["K", "Cl", "Ar"])
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, ranks=ranks)
    assert_says(str(caught.value), "belongs to other atoms", "set type", "without 'pre no'")
    body = "run 0\nset atom 1*16 type 1\nrun 1 pre no\n"
    deck = bench.deck(model_of("fixed with widths"), body)
    text = message(bench, deck, bench.salt((2, 1, 1)), ranks)
    assert_says(text, "belongs to other atoms", "without 'pre no'")


# ---- pair_style and pair_coeff ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("precision float64", "precision float32"),
        ("precision float32", "precision float64"),
        ("ghosts exchange", "ghosts extended"),
        ("ghosts extended", "ghosts exchange"),
        ("device cpu", "device staged"),
        ("charge 0", "charge 1"),
    ],
)
def test_options_typed_once_more_are_those_of_the_next_run(bench, deep_model, first, second):
    """LAMMPS keeps the model: it is loaded with the new options."""
    atoms = bench.salt((2, 1, 1))
    alone = last_frame(bench, bench.deck(deep_model, OUT + "run 0\n", style=second), atoms, 2)
    body = f"run 0\npair_style equicalc {second}\n{OUT}run 0\n"
    again = last_frame(bench, bench.deck(deep_model, body, style=first), atoms, 2)
    assert again[0] == alone[0]
    assert np.array_equal(again[1], alone[1])


def test_option_typed_once_more_is_checked_with_the_model(bench, tiny_model):
    body = "run 0\npair_style equicalc deviation 10\nrun 0\n"
    assert_says(message(bench, bench.deck(tiny_model, body)), "'deviation 10' and one model")


def test_wrong_pair_coeff_leaves_no_half_of_a_model(bench, tiny_model_without_charges):
    """A script that catches the error and goes on meets the next one."""
    write_data(bench.directory / "structure.data", bench.salt((1, 1, 1)), bench.elements)
    deck = bench.deck(tiny_model_without_charges, "run 0\n", kspace=None)
    wrong = f"pair_coeff * * {tiny_model_without_charges} K Xx"
    code = f"""
from lammps import lammps
instance = lammps(cmdargs=["-screen", "none", "-log", "none"])
instance.commands_string({deck!r})
for command in ({wrong!r}, "run 0"):
    try:
        instance.command(command)
        print("no error")
    except Exception as error:
        print(error)
"""
    words = [sys.executable, "-c", code]
    text = subprocess.run(words, cwd=bench.directory, capture_output=True, text=True).stdout
    assert "no error" not in text
    assert_says(text, "'Xx'", "has no model yet", "pair_coeff * * MODEL")
