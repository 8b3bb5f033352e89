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


def test_mode_is_chosen_at_import_and_named_by_the_file(tmp_path, monkeypatch, capsys):
    checkpoint = Path(__file__).parents[1] / "reference" / "sevennet_modes.pth"
    monkeypatch.chdir(tmp_path)
    options = ["--elements", "Na", "Cl"]
    assert equicalc("import", "sevennet", checkpoint, "--modal", "r2scan", *options) == 0
    assert "mode r2scan" in capsys.readouterr().out
    assert equicalc("info", "sevennet_modes-r2scan.pt") == 0
    assert "checkpoint 'sevennet_modes.pth', mode r2scan" in capsys.readouterr().out


def test_missing_and_unknown_modes_are_answered_with_those_there_are(capsys):
    reference = Path(__file__).parents[1] / "reference"
    modal = reference / "sevennet_modes.pth"
    for options, found in (([], "no mode was chosen"), (["--modal", "PBE"], "found mode 'PBE'")):
        message = fails(capsys, "import", "sevennet", modal, *options)
        assert f"has the modes pbe, r2scan; {found}. Type:" in message
        assert f"equicalc import sevennet {modal} --modal pbe" in message
    plain = reference / "sevennet_rotations.pth"
    message = fails(capsys, "import", "sevennet", plain, "--modal", "pbe")
    assert "has no modes, found --modal pbe; leave it out" in message
    message = fails(capsys, "import", "mace", reference / "mace_vectors.model", "--modal", "pbe")
    assert "networks of kind mace have no modes; leave out --modal pbe" in message
    assert "have no heads; leave out" in fails(capsys, "import", "sevennet", plain, "--head", "one")


def test_import_of_what_is_not_there_names_what_could_be(tmp_path, capsys):
    assert "7net-0" in fails(capsys, "import", "sevennet", "8net", "-o", tmp_path / "m.pt")
    message = fails(capsys, "import", "sevennet", "7net-0", "--elements", "Xx")
    assert "'Xx' in --elements is not a chemical symbol" in message
