"""`equicalc evaluate`: what it prints and draws, and what it says of bad data."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from tests.commands.conftest import equicalc, fails


def test_evaluate_prints_the_errors(tiny_model, labelled, capsys):
    assert equicalc("evaluate", tiny_model, labelled, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["n_structures"] == 3
    assert metrics["n_atoms"] == 24
    assert metrics["energy_rmse_meV_per_atom"] == pytest.approx(8.0, abs=1e-3)
    assert metrics["energy_mae_meV_per_atom"] == pytest.approx(8.0, abs=1e-3)
    assert metrics["forces_rmse_meV_per_A"] == pytest.approx(100.0, abs=1e-3)
    assert metrics["forces_mae_meV_per_A"] == pytest.approx(100.0, abs=1e-3)
    # the data have no stress
    assert "stress_rmse_meV_per_A3" not in metrics
    assert equicalc("evaluate", tiny_model, labelled) == 0
    table = capsys.readouterr().out
    assert "3 structures, 24 atoms" in table
    assert "meV/atom" in table


def test_evaluate_removes_an_offset_only_when_asked(tiny_model, labelled, capsys):
    assert equicalc("evaluate", tiny_model, labelled, "--json", "--align") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["energy_rmse_meV_per_atom"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["energy_offset_removed_meV_per_atom"] == pytest.approx(-8.0, abs=1e-3)


def test_evaluate_draws_a_parity_plot(tiny_model, labelled, tmp_path):
    path = tmp_path / "parity.png"
    assert equicalc("evaluate", tiny_model, labelled, "--plot", path) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", [None, ""])
def test_evaluate_of_missing_or_empty_data_says_so(content, tiny_model, tmp_path, capsys):
    path = tmp_path / "data.xyz"
    if content is not None:
        path.write_text(content)
    assert str(path) in fails(capsys, "evaluate", tiny_model, path)


def test_evaluate_of_unlabelled_data_says_what_is_missing(tiny_model, crystal, capsys):
    assert "energy" in fails(capsys, "evaluate", tiny_model, crystal)


def test_evaluate_of_unknown_elements_names_them(tiny_model, tmp_path, capsys):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((8, 3)))
    write(tmp_path / "nacl.xyz", atoms)
    message = fails(capsys, "evaluate", tiny_model, tmp_path / "nacl.xyz")
    assert "Na" in message
    assert "K" in message


def test_evaluate_refuses_an_impossible_picture_before_working(tiny_model, labelled, capsys):
    message = fails(capsys, "evaluate", tiny_model, labelled, "--plot", "parity.xlsx")
    assert "expected .png, .pdf, .svg" in message


def test_evaluate_names_contradicting_and_missing_labels(tiny_model, labelled, capsys):
    frames = read(labelled, ":")
    for atoms in frames:
        atoms.calc.results["forces"] = np.zeros((len(atoms), 3))
    del frames[1].calc.results["energy"]
    write(labelled, frames)
    assert equicalc("evaluate", tiny_model, labelled) == 0
    warnings = [w for w in capsys.readouterr().err.splitlines() if w.startswith("warning: ")]
    assert "1 of 3 structures have no energy, first " in warnings[0]
    assert "structure 1" in warnings[0]
    assert "the forces are zero" in warnings[1]


@pytest.mark.parametrize("value", ["nan", "-1"])
def test_evaluate_refuses_an_impossible_limit(tiny_model, labelled, capsys, value):
    assert "above 0" in fails(capsys, "evaluate", tiny_model, labelled, "--within", value)
