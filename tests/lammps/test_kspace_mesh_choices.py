"""What `kspace_style equicalc` chooses, what it says, and what it refuses."""

import re

import pytest

from equicalc.lammps_run import LammpsError
from tests.lammps.test_kspace_mesh import COULOMB_FORCE


def log_of(bench, model, kspace, style="", atoms=None):
    deck = bench.deck(model, "run 0\n", kspace=kspace, style=style)
    return bench.run(deck, bench.salt((1, 1, 1)) if atoms is None else atoms).log


def test_mesh_and_order_of_the_deck_are_taken(bench, tiny_model):
    log = log_of(bench, tiny_model, "equicalc 1.0e-4\nkspace_modify mesh 15 16 18 order 7")
    assert "grid = 15 16 18, splines of order 7" in log
    log = log_of(bench, tiny_model, "equicalc 1.0e-3\nkspace_modify order 5")
    assert "splines of order 5" in log


def test_log_estimates_the_error_of_forces(bench, tiny_model):
    log = log_of(bench, tiny_model, "equicalc 1.0e-5", atoms=bench.salt())
    estimate = float(re.search(r"absolute RMS force accuracy = (\S+)", log).group(1))
    # numbers of points are rounded up to fast ones
    assert 1e-6 * COULOMB_FORCE < estimate <= 1e-5 * COULOMB_FORCE
    coarse = log_of(bench, tiny_model, "equicalc 1.0e-5\nkspace_modify mesh 9 9 9 order 5")
    worse = float(re.search(r"absolute RMS force accuracy = (\S+)", coarse).group(1))
    assert worse > 1e-5 * COULOMB_FORCE


@pytest.mark.parametrize(
    ("kspace", "style", "expected"),
    [
        ("equicalc 1.0e-5", "", "float64"),
        ("equicalc 1.0e-5", "precision float32", "float32"),
        ("equicalc 1.0e-8", "precision float32", "float64"),
        ("equicalc 1.0e-5 precision float64", "precision float32", "float64"),
        ("equicalc 1.0e-5 precision float32 device cpu", "", "float32"),
    ],
)
def test_precision_is_that_of_the_network_where_it_suffices(
    bench, tiny_model, kspace, style, expected
):
    log = log_of(bench, tiny_model, kspace, style)
    assert f"device cpu, precision {expected}\n" in log


def test_equilibrated_charges_are_summed_in_float64(bench, model_of):
    log = log_of(bench, model_of("equilibrated"), "equicalc 1.0e-5", "precision float32")
    assert "device cpu, precision float64\n" in log


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1.0e-5", "", ["does not understand ''", "kspace_style equicalc 1e-5"]),
        ("1.0e-5", "-1", ["does not understand '-1'"]),
        ("1.0e-5", "1.0e-5 speed 9", ["does not understand 'speed 9'", "[device cpu|cuda|auto]"]),
        ("1.0e-5", "1.0e-5 precision half", ["does not understand 'precision half'"]),
        ("1.0e-5", "1.0e-5 device", ["does not understand 'device'"]),
        ("1.0e-5", "1.0e-12", ["reaches a relative accuracy", "Type 'kspace_style ewald 1e-12'"]),
        ("1.0e-5", "1.0e-8 precision float32", ["float32 reaches", "Type 'precision float64'"]),
        ("run 0", "kspace_modify order 9\nrun 0", ["orders 4 to 8", "kspace_modify order 9"]),
        ("1.0e-5", "1.0e-7\nkspace_modify order 4",
         ["order 4 reach", "Type 'kspace_modify order 8'"]),
        ("run 0", "kspace_modify mesh 3 9 9\nrun 0", ["a mesh of 3 9 9 points is too small"]),
        ("run 0", "kspace_modify mesh 50000 50000 50000\nrun 0",
         ["no memory for a mesh of 50000 x 50000 x 50000", "'change_box'", "'boundary f f f'"]),
        ("run 0", "kspace_modify slab 3.0\nrun 0", ["'kspace_modify slab' needs 'boundary p p f'"]),
        ("pair_style equicalc", "pair_style lj/cut/coul/long 5 #",
         ["sums the charges of 'pair_style equicalc'", "found 'pair_style lj/cut/coul/long'"]),
    ],
)  # fmt: skip
def test_what_cannot_be_done_names_the_line_to_type(bench, tiny_model, old, new, words):
    deck = bench.deck(tiny_model, "run 0\n", kspace="equicalc 1.0e-5")
    assert old in deck
    deck = deck.replace(old, new)
    if "lj/cut" in deck:
        deck = re.sub("pair_coeff.*", "pair_coeff * * 0.1 3.0", deck)
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, bench.salt((1, 1, 1)), ranks=2)
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in:\n{caught.value}"


@pytest.mark.parametrize("ranks", [1, 2])
def test_charges_that_are_no_numbers_are_named(bench, model_of, ranks):
    """Equilibrated charges are searched for from those of the deck, here infinite ones."""
    kspace = "equicalc 1.0e-5\nkspace_modify mesh 16 16 16 order 6"
    body = "variable much atom 1e200*1e200\nset type 1 charge v_much\nrun 0\n"
    deck = bench.deck(model_of("equilibrated"), body, kspace=kspace)
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, bench.salt((1, 1, 1)), ranks=ranks)
    for words in ("kspace_style equicalc: at step 0", "not a finite number", "'set type 1 charge"):
        assert words in str(caught.value)


def test_slab_without_its_correction_is_refused(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n", kspace="equicalc 1.0e-5")
    deck = deck.replace("atom_style", "boundary p p f\natom_style")
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, bench.slab())
    for words in ("three periodic directions", "'kspace_modify slab 3.0'"):
        assert words in str(caught.value)
