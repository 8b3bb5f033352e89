"""`equicalc import`: where a model says it comes from."""

from pathlib import Path

from tests.commands.conftest import equicalc, fails


def test_import_writes_a_model_that_says_where_it_comes_from(tmp_path, monkeypatch, capsys):
    checkpoint = Path(__file__).parents[1] / "reference" / "sevennet_rotations.pth"
    monkeypatch.chdir(tmp_path)
    assert equicalc("import", "sevennet", checkpoint, "--elements", "Na", "Cl") == 0
    printed = capsys.readouterr().out
    assert "float32: energy" in printed
    assert "wrote sevennet_rotations.pt" in printed
    assert equicalc("info", "sevennet_rotations.pt") == 0
    printed = capsys.readouterr().out
    assert "SevenNet 0.11.0 checkpoint 'sevennet_rotations.pth'" in printed
    assert "elements         Na Cl" in printed
    assert "Park" in printed


def test_import_of_what_is_not_there_names_what_could_be(tmp_path, capsys):
    assert "7net-0" in fails(capsys, "import", "sevennet", "8net", "-o", tmp_path / "m.pt")
    message = fails(capsys, "import", "sevennet", "7net-0", "--elements", "Xx")
    assert "'Xx' in --elements is not a chemical symbol" in message
