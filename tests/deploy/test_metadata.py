"""Reading a model file's metadata: what is accepted and what each error says."""

import json
import zipfile

import pytest

from equicalc.deploy import read_metadata
from equicalc.errors import ModelFileError


def write_archive(path, metadata):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/extra/equicalc.json", json.dumps(metadata))
    return path


def good_metadata(**changes):
    keys = ["name", "elements", "cutoff", "n_layers", "exchange_width", "units", "charges"]
    return {"format_version": 2, **dict.fromkeys(keys), **changes}


def test_metadata_are_read_without_torch_unpickling(tmp_path):
    path = write_archive(tmp_path / "m.pt", good_metadata(name="x"))
    assert read_metadata(path)["name"] == "x"


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(ModelFileError, match="equicalc export"):
        read_metadata(tmp_path / "none.pt")


def test_a_text_file_is_not_a_model(tmp_path):
    path = tmp_path / "m.pt"
    path.write_text("hello")
    with pytest.raises(ModelFileError, match="not a TorchScript archive"):
        read_metadata(path)


def test_an_empty_file_is_not_a_model(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="0 bytes"):
        read_metadata(path)


def test_another_archive_is_told_from_a_model(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"")
    with pytest.raises(ModelFileError, match=r"without equicalc\.json"):
        read_metadata(path)


def test_a_newer_format_asks_for_an_update(tmp_path):
    path = write_archive(tmp_path / "m.pt", good_metadata(format_version=99))
    with pytest.raises(ModelFileError, match=r"format version 99.*pip install -U equicalc"):
        read_metadata(path)


def test_a_missing_key_is_named(tmp_path):
    metadata = good_metadata()
    del metadata["cutoff"]
    path = write_archive(tmp_path / "m.pt", metadata)
    with pytest.raises(ModelFileError, match="lacks cutoff"):
        read_metadata(path)
