"""Loading is strict: each way a file can be wrong gives its own text, with what to do about it."""

import struct
import zipfile
from pathlib import Path

import pytest
import torch

from equicalc.errors import EquicalcError, ModelFileError


def refused(core_module, path, match):
    with pytest.raises(ModelFileError, match=match) as caught:
        core_module.Model.load(str(path))
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_attributes_reach_the_model_info(core_module, mock_path):
    info = core_module.Model.load(str(mock_path)).info
    assert (info.format_version, info.name, info.elements) == (2, "mock", ["K", "Cl"])
    assert (info.cutoff, info.n_layers, info.exchange_width) == (4.0, 2, 6)
    assert (info.charge_model, info.sigmas) == ("predicted", [1.0, 1.2])
    assert (info.nominal_charges, info.formal_charges) == ([0.7, -0.7], [0, 0])
    assert info.json == '{"format_version": 2}'


def test_missing_file_is_named_with_the_way_to_list_models(core_module, tmp_path):
    assert "equicalc models" in refused(core_module, tmp_path / "none.pt", "no such file")


def test_directory_is_not_a_model(core_module, tmp_path):
    assert "equicalc export" in refused(core_module, tmp_path, "this is a directory")


def test_text_file_is_recognised(core_module, tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("cutoff: 5.0\n")
    assert "equicalc export" in refused(core_module, path, "found a text file")


def test_empty_file_is_recognised(core_module, tmp_path):
    path = tmp_path / "model.pt"
    path.touch()
    refused(core_module, path, "the file is empty")


def test_other_binary_file_is_recognised(core_module, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(bytes(range(256)))
    refused(core_module, path, "a file of another kind")


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_truncated_file_is_recognised(core_module, mock_path, tmp_path, fraction):
    data = Path(mock_path).read_bytes()
    path = tmp_path / "model.pt"
    path.write_bytes(data[: int(fraction * len(data))])
    refused(core_module, path, "truncated or damaged")


@pytest.mark.parametrize("member", ["data/0", ".py", "extra/equicalc.json"])
def test_one_flipped_bit_is_recognised(core_module, write_model, tmp_path, member):
    """Torch alone loads such a file without complaint, and with wrong weights."""
    metadata = {"format_version": 2, "name": "a name that may be damaged without breaking JSON"}
    source = write_model(metadata)
    data = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(member))
    name_length, extra_length = struct.unpack_from("<HH", data, info.header_offset + 26)
    start = info.header_offset + 30 + name_length + extra_length
    data[start + info.compress_size // 2] ^= 1
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    refused(core_module, path, "truncated or damaged")


def test_checkpoint_is_not_a_model(core_module, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": torch.ones(3)}, path)
    assert "equicalc export" in refused(core_module, path, "without equicalc.json")


def test_newer_format_in_the_metadata_is_refused_before_the_network_loads(core_module, write_model):
    path = write_model(metadata={"name": "x", "format_version": 3})
    assert "pip install -U equicalc" in refused(core_module, path, "found format_version 3")


def test_newer_format_in_the_attributes_is_refused(core_module, write_model):
    refused(core_module, write_model(format_version=3), "found format_version 3")


def test_metadata_without_format_version_are_refused(core_module, write_model):
    refused(core_module, write_model(metadata={"name": "x"}), "no integer format_version")


class Incomplete(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.format_version: int = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_missing_attribute_is_named(core_module, tmp_path):
    path = tmp_path / "model.pt"
    torch.jit.save(
        torch.jit.script(Incomplete()),
        str(path),
        _extra_files={"equicalc.json": '{"format_version": 2}'},
    )
    refused(core_module, path, "no attribute 'name' .expected str")


def test_attribute_of_wrong_type_is_named(core_module, write_model):
    refused(core_module, write_model(cutoff=4), "attribute 'cutoff' is a Int, expected float")


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"cutoff": -1.0}, "found cutoff -1"),
        ({"sigmas": [1.0, 0.0]}, "found sigma 0"),
        ({"nominal_charges": [0.7]}, "found 1 nominal charges for 2 elements"),
    ],
)
def test_impossible_values_are_refused(core_module, write_model, attributes, match):
    refused(core_module, write_model(**attributes), match)


def test_unknown_dtype_is_refused(core_module, mock_path):
    with pytest.raises(EquicalcError, match="'float16', expected 'float64' or 'float32'"):
        core_module.Model.load(str(mock_path), dtype="float16")
