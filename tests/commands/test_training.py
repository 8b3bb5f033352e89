"""`equicalc train` and `equicalc export`, and how files are replaced."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from equicalc import cli
from equicalc.commands.common import OutputError, replacing
from equicalc.deploy.metadata import read_metadata
from equicalc.deploy.reading import read_network
from equicalc.errors import EquicalcError
from tests.commands.conftest import equicalc, fails


@pytest.fixture
def small_run(labelled, tmp_path, monkeypatch):
    """The configuration small.yaml of one epoch, in the current directory."""
    monkeypatch.chdir(tmp_path)
    config = {
        "model": {"cutoff": 4.0, "channels": 2, "n_radial": 2, "l_max": 1, "correlation": 2},
        "data": {"train": labelled.name, "validation_fraction": 0.34},
        "training": {"max_epochs": 1, "batch_size": 1},
        "run": {"plots": False, "progress": False, "dtype": "float64"},
    }
    Path("small.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.usefixtures("small_run")
def test_ctrl_c_after_the_last_epoch_says_how_to_get_the_rest(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("equicalc.train.pipeline.compare", interrupted)
    assert equicalc("train", "small.yaml") == cli.EXIT_INTERRUPTED
    message = "epoch 1 is kept in 'runs/small'. Go on with: equicalc train small.yaml --resume"
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("small_run")
def test_train_export_and_evaluate_work_in_a_row(labelled, capsys):
    assert equicalc("train", "small.yaml", "--threads", 1) == 0
    assert "equicalc export" in capsys.readouterr().out
    # a run is never overwritten by accident, and a finished one may be resumed
    assert "--resume" in fails(capsys, "train", "small.yaml")
    assert equicalc("train", "small.yaml", "--resume") == 0
    assert equicalc("export", "runs/small", "-o", "small.pt") == 0
    # compared on the training data, whose file is still there, and the self-check
    assert "in torch and float64, 4 structures" in capsys.readouterr().out
    assert equicalc("info", "small.pt", "--json") == 0
    metadata = json.loads(capsys.readouterr().out)
    assert sorted(metadata["elements"]) == ["Cl", "K"]
    error = metadata["training"]["errors"]["validation"]["forces_rmse_meV_per_A"]
    assert equicalc("info", "small.pt") == 0
    assert f"{error:.3g} meV/Å (validation)" in capsys.readouterr().out
    assert equicalc("evaluate", "small.pt", labelled, "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_structures"] == 3


def test_train_of_a_missing_configuration_says_where_examples_are(tmp_path, capsys):
    message = fails(capsys, "train", tmp_path / "none.yaml")
    assert "examples/train_*.yaml" in message


def test_train_names_an_unknown_key(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"modle": {}}))
    assert "modle" in fails(capsys, "train", path)


def test_export_of_a_missing_run_says_what_writes_one(tmp_path, capsys):
    message = fails(capsys, "export", tmp_path / "run", "-o", tmp_path / "model.pt")
    assert "equicalc train" in message


def test_models_are_written_anew_from_their_files(tiny_model, tmp_path, capsys):
    out = tmp_path / "again.pt"
    assert equicalc("export", tiny_model, "-o", out) == 0
    assert "float32: energy" in capsys.readouterr().out
    assert read_metadata(out) == read_metadata(tiny_model)
    found, expected = (read_network(path).state_dict() for path in (out, tiny_model))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_failed_export_keeps_the_old_model(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    out = tmp_path / "model.pt"
    out.write_text("precious")
    fails(capsys, "export", tmp_path / "run", "-o", out)
    assert out.read_text() == "precious"


def test_export_insists_on_the_ending_that_models_have(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert "expected .pt" in fails(capsys, "export", tmp_path / "run", "-o", tmp_path / "model")


def test_replacing_gives_the_new_file_or_keeps_the_old(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_and_stop():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OutputError("stop")

    with pytest.raises(OutputError):
        write_and_stop()
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert issubclass(OutputError, EquicalcError)
