"""`equicalc info` and `equicalc models`, and files that are no models."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import equicalc, fails
from tests.conftest import export_tiny, tiny_network


def test_info_prints_what_the_file_says(tiny_model, capsys):
    assert equicalc("info", tiny_model) == 0
    text = capsys.readouterr().out
    assert "K Cl" in text
    assert "predicted; K " in text
    assert "Gaussian widths" in text


def test_info_names_the_dispersion_that_is_added(tmp_path, capsys):
    d3 = {"functional": "pbe", "damping": "bj"}
    assert equicalc("info", export_tiny(tmp_path / "d3.pt", "fixed", dispersion=d3)) == 0
    assert "D3 (pbe, damping bj)" in capsys.readouterr().out


def test_info_as_json_holds_all_metadata(tiny_model, capsys):
    assert equicalc("info", tiny_model, "--json") == 0
    metadata = json.loads(capsys.readouterr().out)
    assert metadata["format_version"] == 2
    assert metadata["elements"] == ["K", "Cl"]
    assert metadata["file"] == str(tiny_model)


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_info_says_when_weights_are_damaged(tiny_model, tmp_path, capsys, json_option):
    """The words in the file are whole, and one weight is not a number."""
    damaged = tmp_path / "damaged.pt"
    with zipfile.ZipFile(tiny_model) as whole, zipfile.ZipFile(damaged, "w") as copy:
        inner = tiny_network("predicted").readout.inner
        weights = inner.weight.detach().numpy().tobytes()
        for member in whole.infolist():
            content = whole.read(member)
            if content == weights:
                content = np.float64(np.nan).tobytes() + content[8:]
                weights = b"found"
            copy.writestr(member.filename, content)
    assert weights == b"found"
    assert "may be damaged" in fails(capsys, "info", damaged, *json_option)
    assert equicalc("info", tiny_model) == 0
    assert "passed" in capsys.readouterr().out


def test_models_lists_each_shipped_model_once(capsys):
    from equicalc.models import shipped

    assert equicalc("models", "--json") == 0
    assert list(json.loads(capsys.readouterr().out or "{}")) == shipped()
    assert equicalc("models", "--markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == shipped()
    assert equicalc("models") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == shipped()


@pytest.mark.parametrize("content", [b"not a model", b""])
def test_a_file_that_is_no_model_is_named(content, tmp_path, capsys):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    assert f"'{path}' is not a TorchScript archive" in fails(capsys, "info", path)


def test_truncated_model_is_refused_by_every_command_that_loads_it(
    tiny_model, crystal, labelled, tmp_path, capsys
):
    path = tmp_path / "short.pt"
    path.write_bytes(Path(tiny_model).read_bytes()[:-2000])
    for words in (
        ("info", path),
        ("evaluate", path, labelled),
        ("relax", path, crystal, "-o", tmp_path / "out.xyz"),
        ("md", path, crystal),
    ):
        assert "short.pt" in fails(capsys, *words)


def test_unknown_model_lists_what_may_be_typed(capsys):
    message = fails(capsys, "info", "unobtainium")
    assert "'unobtainium' is neither a file nor a shipped model" in message
    assert "equicalc export" in message
