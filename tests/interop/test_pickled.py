"""Pickles of other codes are read without those codes and without running anything."""

import os
import pickle

import pytest
import torch

from equicalc.errors import ModelFileError
from equicalc.interop.pickled import StandIn, load_pickled


class Runs:
    """Pickles as a call, which ordinary unpickling makes."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_calls_in_a_file_are_not_made(tmp_path):
    target = tmp_path / "made"
    torch.save({"weights": torch.ones(2), "other": Runs(str(target))}, tmp_path / "bad.pt")
    found = load_pickled(tmp_path / "bad.pt")
    assert not target.exists()
    assert torch.equal(found["weights"], torch.ones(2))
    assert isinstance(found["other"], StandIn)
    assert found["other"].kind == "mkdir"
    # the file does what the test believes
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert target.exists()


def test_modules_keep_parameters_buffers_and_attributes(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).double()
    torch.save(module, tmp_path / "module.pt")
    found = load_pickled(tmp_path / "module.pt")
    assert [child.kind for child in found.children()] == ["Linear", "BatchNorm1d"]
    assert torch.equal(found.get("0").tensor("weight"), module[0].weight)
    assert found.get("0.in_features") == 2
    assert torch.equal(found.get("1").tensor("running_var"), torch.ones(3))
    assert not found.has("2")
    with pytest.raises(ModelFileError, match=r"no tensor 'scale' in a .*Linear"):
        found.get("0").tensor("scale")


def test_files_that_are_no_pickles_are_refused(tmp_path):
    (tmp_path / "text").write_text("text")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_pickled(tmp_path / "text")
    with pytest.raises(ModelFileError, match="no file"):
        load_pickled(tmp_path / "missing")
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_pickled(tmp_path / "plain")
