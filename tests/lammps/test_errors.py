"""Every wrong input stops LAMMPS with a message that names what was found and what to type."""

import json
import shutil
import zipfile

import pytest

from equicalc.lammps_run import LammpsError

OURS = "kspace_style equicalc 1e-5"


def message(bench, deck, atoms=None, ranks=1):
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, bench.salt((1, 1, 1)) if atoms is None else atoms, ranks=ranks)
    return str(caught.value)


def assert_says(text, *words):
    assert text.count("ERROR") >= 1
    for word in words:
        assert word in text, f"{word!r} is missing in:\n{text}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("K Cl\n", "K Na\n", ["does not know the element 'Na'", "K Cl"]),
        ("K Cl\n", "K\n", ["names 1 elements but there are 2 atom types"]),
        ("K Cl\n", "NULL NULL\n", ["maps every atom type to NULL"]),
        ("pair_coeff * *", "pair_coeff 1 1", ["Pair_coeff must start with * *"]),
        ("kspace_style", "#", ["has charges", OURS]),
        ("ewald 1.0e-12", "msm 1.0e-4", ["cannot use kspace_style msm", OURS]),
        ("ewald 1.0e-12", "zero 1.0e-4", ["per-atom energies", "zero", OURS]),
        ("ewald 1.0e-12", "pppm/cg 1.0e-4", ["leaves out atoms", OURS]),
        (
            "run 0",
            "kspace_modify gewald 0.3\nrun 0",
            ["kspace_modify gewald 0.3", "kspace_modify gewald 0"],
        ),
        ("units metal", "units cgs", ["found 'units cgs'", "Type 'units metal'"]),
        ("units metal", "units metal\nnewton off", ["newton off", "Type 'newton on'"]),
        ("units metal", "units metal\ndielectric 2.0", ["Type 'dielectric 1.0'"]),
        ("equicalc \n", "equicalc precision half\n", ["precision half", "float64|float32"]),
        ("equicalc \n", "equicalc speed 9\n", ["does not understand 'speed 9'"]),
        ("equicalc \n", "equicalc charge\n", ["does not understand 'charge'"]),
    ],
)
def test_wrong_command_names_the_line_to_type(bench, tiny_model, old, new, words):
    deck = bench.deck(tiny_model, "run 0\n")
    assert old in deck
    assert_says(message(bench, deck.replace(old, new)), *words)


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("efield 0.1", ["does not understand 'efield 0.1'", "[efield Ex Ey Ez]"]),
        ("efield 0.1 0.2", ["does not understand 'efield 0.1 0.2'", "[efield Ex Ey Ez]"]),
        ("efield 0 0 x", ["x"]),
        ("efield 0 0 0.1", ["found 'efield 0 0 0.1'", "direction z", "fixed or transferred"]),
    ],
)
def test_impossible_field_is_named(bench, tiny_model, style, words):
    assert_says(message(bench, bench.deck(tiny_model, "run 0\n", style=style)), *words)


@pytest.mark.parametrize("units", ["metal", "si"])
def test_masses_of_other_elements_than_those_of_pair_coeff_are_warned_about(
    bench, tiny_model, units
):
    atoms = bench.salt((1, 1, 1))
    deck = bench.deck(tiny_model, "run 0\nrun 0\n", kspace="pppm 1.0e-4")
    if units == "si":
        box = "region r block 0 6.29e-10 0 6.29e-10 0 6.29e-10\ncreate_box 2 r\n"
        box += "create_atoms 1 single 1e-10 1e-10 1e-10\ncreate_atoms 2 single 4e-10 1e-10 1e-10\n"
        box += "mass 1 6.492e-26\nmass 2 5.887e-26\nneighbor 1e-10 bin\n"
        deck = deck.replace("units metal", "units si").replace("read_data structure.data", box)
    assert "has the mass of" not in bench.run(deck, atoms).log
    log = bench.run(deck.replace("K Cl\n", "Cl K\n"), atoms).log
    assert log.count("WARNING: pair_style equicalc: type 1 has the mass of K") == 1
    assert "pair_coeff * * MODEL K Cl" in log
    # masses that are those of no element of the model are none of our business
    rounded = deck.replace("run 0\nrun 0", "mass * 36.0\nrun 0")
    if units == "metal":
        assert "has the mass of" not in bench.run(rounded, atoms).log


def test_kspace_style_without_a_pair_style_is_reported(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n", kspace="equicalc 1.0e-5")
    deck = "\n".join(line for line in deck.split("\n") if not line.startswith("pair_"))
    assert_says(message(bench, deck), "found 'pair_style none'", "Type 'pair_style equicalc'")


def test_field_without_charges_is_refused(bench, tiny_model_without_charges):
    deck = bench.deck(tiny_model_without_charges, "run 0\n", kspace=None, style="efield 0 0 0.1")
    assert_says(message(bench, deck), "has no charges", "type 'pair_style equicalc'")


def test_fix_efield_is_warned_about(bench, tiny_model):
    deck = bench.deck(tiny_model, "fix field all efield 0 0 0.1\nrun 0\n")
    assert "pair_style equicalc efield Ex Ey Ez" in bench.run(deck, bench.salt((1, 1, 1))).log


def test_pair_coeff_without_a_model_shows_a_whole_line(bench):
    deck = bench.deck("MODEL", "run 0\n").replace("MODEL K Cl", "")
    assert_says(message(bench, deck), "pair_coeff * * MODEL El1 El2", "pair_coeff * * kcl K Cl")


def test_charged_model_needs_atoms_with_charges(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n")
    deck = deck.replace("atom_style charge", "atom_style atomic")
    deck = deck.replace(
        "read_data structure.data",
        "region r block 0 6 0 6 0 6\ncreate_box 2 r\ncreate_atoms 1 single 1 1 1\n"
        "create_atoms 2 single 4 4 4\nmass * 1.0",
    )
    assert_says(message(bench, deck), "found 'atom_style atomic'", "Type 'atom_style charge'")


def test_model_without_charges_refuses_a_kspace_style(bench, tiny_model_without_charges):
    deck = bench.deck(tiny_model_without_charges, "run 0\n")
    assert_says(message(bench, deck), "has no charges", "kspace_style none")


@pytest.mark.parametrize("ranks", [1, 2])
def test_missing_model_lists_the_shipped_ones(bench, ranks):
    deck = bench.deck("no_such_model", "run 0\n")
    text = message(bench, deck, ranks=ranks)
    assert_says(text, "no_such_model", "shipped model", "equicalc export")


def test_text_file_is_not_a_model(bench):
    path = bench.directory / "notes.pt"
    path.write_text("this is not a model\n" * 100)
    assert_says(message(bench, bench.deck(path, "run 0\n")), "notes.pt")


def test_truncated_model_is_refused(bench, tiny_model):
    path = bench.directory / "half.pt"
    content = tiny_model.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_says(message(bench, bench.deck(path, "run 0\n")), "half.pt")


def test_damaged_model_is_refused(bench, tiny_model):
    path = bench.directory / "flipped.pt"
    content = bytearray(tiny_model.read_bytes())
    for position in range(len(content) // 3, len(content) // 3 + 400):
        content[position] ^= 0xFF
    path.write_bytes(bytes(content))
    assert_says(message(bench, bench.deck(path, "run 0\n")), "flipped.pt")


def test_newer_format_version_is_refused(bench, tiny_model):
    path = bench.directory / "newer.pt"
    with zipfile.ZipFile(tiny_model) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith("equicalc.json"):
                content = json.dumps({**json.loads(content), "format_version": 99}).encode()
            new.writestr(item, content)
    assert_says(message(bench, bench.deck(path, "run 0\n")), "99")


def test_position_that_is_not_a_number_is_reported_with_atom_and_step(bench, tiny_model):
    # An infinite force makes the position of atom 3 infinite one step later, between two
    # neighbour searches, where LAMMPS itself does not look.
    body = """neigh_modify delay 100 check no
group one id 3
variable kick equal "ternary(step == 2, 1.0e308 * 10.0, 0.0)"
fix kick one addforce v_kick 0 0
fix 1 all nve
run 5
"""
    text = message(bench, bench.deck(tiny_model, body), bench.salt((2, 2, 2)))
    assert_says(text, "atom 3", "step 3")


def test_overlapping_atoms_are_reported(bench, tiny_model):
    atoms = bench.salt((2, 2, 2))
    atoms.positions[1] = atoms.positions[0]
    text = message(bench, bench.deck(tiny_model, "run 0\n"), atoms)
    assert_says(text, "not a finite number", "step 0")


def test_pair_style_without_coefficients_is_reported(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n")
    deck = "\n".join(line for line in deck.split("\n") if not line.startswith("pair_coeff"))
    assert_says(message(bench, deck), "pair")


def test_failure_on_one_rank_stops_all(bench, tiny_model):
    atoms = bench.salt((1, 1, 4))
    atoms.positions[0] = atoms.positions[1] = [1.0, 1.0, 1.0]
    deck = bench.deck(tiny_model, "run 0\n").replace("read_data", "processors 1 1 2\nread_data")
    assert_says(message(bench, deck, atoms, ranks=2), "not a finite number")


def test_error_leaves_other_files_alone(bench, tiny_model):
    copy = bench.directory / "copy.pt"
    shutil.copy(tiny_model, copy)
    message(bench, bench.deck(copy, "run 0\n").replace("K Cl\n", "K Na\n"))
    assert copy.read_bytes() == tiny_model.read_bytes()
