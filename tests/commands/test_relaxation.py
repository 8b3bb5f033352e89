"""`equicalc relax`: what it writes, and what it says when something is wrong."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from tests.commands.conftest import equicalc, fails


def test_relax_writes_the_relaxed_structure(tiny_model, crystal, tmp_path, capsys):
    out = tmp_path / "out.xyz"
    assert equicalc("relax", tiny_model, crystal, "-o", out, "--fmax", 0.05) == 0
    relaxed = read(out)
    assert np.linalg.norm(relaxed.get_forces(), axis=1).max() <= 0.05
    assert f"wrote {out}" in capsys.readouterr().out


def test_relax_of_the_cell_removes_the_stress(tiny_model, crystal, tmp_path):
    out = tmp_path / "out.xyz"
    words = ("relax", tiny_model, crystal, "-o", out, "--cell", "--hydrostatic", "--fmax", 0.02)
    assert equicalc(*words, "--optimizer", "fire") == 0
    relaxed = read(out)
    # FrechetCellFilter's generalised force on the cell is stress times volume, per cell vector
    assert abs(np.trace(relaxed.get_stress(voigt=False))) * relaxed.get_volume() / 3 < 0.2


def test_relax_takes_the_frame_asked_for(tiny_model, tmp_path):
    frames = [bulk("KCl", "rocksalt", a=a, cubic=True) for a in (6.2, 6.6)]
    write(tmp_path / "two.xyz", frames)
    out = tmp_path / "out.xyz"
    assert equicalc("relax", tiny_model, f"{tmp_path / 'two.xyz'}@0", "-o", out) == 0
    assert read(out).cell[0, 0] == pytest.approx(6.2)
    assert equicalc("relax", tiny_model, tmp_path / "two.xyz", "-o", out) == 0
    assert read(out).cell[0, 0] == pytest.approx(6.6)


def test_unconverged_structure_goes_beside_and_keeps_the_old_result(
    tiny_model, crystal, tmp_path, capsys
):
    out = tmp_path / "out.xyz"
    out.write_text("precious")
    message = fails(capsys, "relax", tiny_model, crystal, "-o", out, "--steps", 1, "--fmax", 1e-9)
    assert "not converged in 1 steps" in message
    assert out.read_text() == "precious"
    assert len(read(tmp_path / "out.unconverged.xyz")) == 8


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.xyz", None, "no file"),
        ("empty.xyz", "", "holds no structures"),
        ("text.xyz", "hello\nworld\n", "cannot be read as structures"),
    ],
)
def test_bad_structure_files_are_named(name, content, words, tiny_model, tmp_path, capsys):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    message = fails(capsys, "relax", tiny_model, path, "-o", tmp_path / "out.xyz")
    assert str(path) in message
    assert words in message


def test_frame_that_is_no_number_is_refused(tiny_model, crystal, tmp_path, capsys):
    message = fails(capsys, "relax", tiny_model, f"{crystal}@last", "-o", tmp_path / "o.xyz")
    assert "'last'" in message


def test_unknown_element_names_it_and_those_of_the_model(tiny_model, tmp_path, capsys):
    write(tmp_path / "mgo.xyz", bulk("MgO", "rocksalt", a=4.2, cubic=True))
    out = tmp_path / "out.xyz"
    message = fails(capsys, "relax", tiny_model, tmp_path / "mgo.xyz", "-o", out)
    assert "Mg" in message
    assert "K, Cl" in message
    assert not out.exists()


def test_positions_that_are_not_numbers_are_refused(tiny_model, tmp_path, capsys):
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.positions[0, 0] = np.nan
    write(tmp_path / "nan.xyz", atoms)
    assert "finite" in fails(
        capsys, "relax", tiny_model, tmp_path / "nan.xyz", "-o", tmp_path / "out.xyz"
    )


def test_unwritable_output_is_refused_before_working(tiny_model, crystal, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    for out, words in (
        (tmp_path / "nowhere" / "out.xyz", "does not exist"),
        (tmp_path / "folder", "is a directory"),
    ):
        assert words in fails(capsys, "relax", tiny_model, crystal, "-o", out)
        assert words in fails(capsys, "md", tiny_model, crystal, "-o", out)


@pytest.mark.parametrize("name", ["out.nonsense", "out", "out.traj.gz"])
def test_output_format_that_ase_does_not_know_is_refused_before_working(
    tiny_model, crystal, tmp_path, capsys, monkeypatch, name
):
    monkeypatch.setattr("equicalc.commands.simulation.relax_atoms", None)
    before = sorted(tmp_path.iterdir())
    message = fails(capsys, "relax", tiny_model, crystal, "-o", tmp_path / name)
    assert f"'{tmp_path / name}' cannot be written" in message
    assert sorted(tmp_path.iterdir()) == before


def test_a_trajectory_is_not_replaced_by_one_relaxed_frame(tiny_model, crystal, tmp_path, capsys):
    frames = [bulk("KCl", "rocksalt", a=a, cubic=True) for a in (6.2, 6.6)]
    path = tmp_path / "two.xyz"
    write(path, frames)
    assert "would destroy" in fails(capsys, "relax", tiny_model, f"{path}@0", "-o", path)
    assert len(read(path, ":")) == 2
    # a single structure may be
    assert equicalc("relax", tiny_model, crystal, "-o", crystal, "--fmax", 0.5) == 0


def test_full_disk_names_the_file_and_keeps_the_earlier_one(
    tiny_model, crystal, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out.xyz"
    out.write_text("precious")

    def full(path, atoms, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("equicalc.commands.simulation.check_format", lambda *_: None)
    monkeypatch.setattr("ase.io.write", full)
    message = fails(capsys, "relax", tiny_model, crystal, "-o", out, "--fmax", 0.5)
    assert f"cannot write '{out}': No space left on device; the earlier file is kept" in message
    assert out.read_text() == "precious"


@pytest.mark.parametrize("word", [("--pressure", "1"), ("--hydrostatic",)])
def test_settings_of_the_cell_without_the_cell_are_refused(
    tiny_model, crystal, tmp_path, capsys, word
):
    message = fails(capsys, "relax", tiny_model, crystal, "-o", tmp_path / "out.xyz", *word)
    assert "--cell" in message
