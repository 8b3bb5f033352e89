"""Files of a run: complete or not there, and nothing in them is executed."""

import pickle
import resource

import pytest
import torch

from equicalc.errors import ConfigError, DataError
from equicalc.train import checkpoint

KIND = checkpoint.WEIGHTS_KIND


def content(value: float) -> dict:
    return {
        "kind": KIND,
        "version": checkpoint.VERSION,
        "state": {"w": torch.full((100, 100), value, dtype=torch.float64)},
    }


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path / "a.pt", content(0.1))
    loaded = checkpoint.load(tmp_path / "a.pt", KIND)
    assert torch.equal(loaded["state"]["w"], content(0.1)["state"]["w"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_full_disk_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, content(1.0))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # the kernel refuses to write beyond this size, as it refuses on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(
            checkpoint.OutputError, match=r"cannot write .*the earlier file is kept"
        ):
            checkpoint.save(path, content(2.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_an_interrupted_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, content(1.0))

    def interrupted(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_atomically(path, interrupted)
    assert float(checkpoint.load(path, KIND)["state"]["w"][0, 0]) == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_missing_directory_is_an_output_error(tmp_path):
    with pytest.raises(checkpoint.OutputError, match="cannot write"):
        checkpoint.save(tmp_path / "nowhere" / "a.pt", content(1.0))


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, content(1.0))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"a.pt' is damaged"):
        checkpoint.load(path, KIND)


def test_a_text_file_is_named(tmp_path):
    (tmp_path / "a.pt").write_text("not a checkpoint")
    with pytest.raises(DataError, match=r"a.pt' is damaged or not a file of equicalc train"):
        checkpoint.load(tmp_path / "a.pt", KIND)


def test_another_kind_of_file_is_named(tmp_path):
    torch.save({"something": 1}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="is not 'equicalc weights'; found 'dict'"):
        checkpoint.load(tmp_path / "a.pt", KIND)


def test_a_file_of_a_newer_version_is_named(tmp_path):
    checkpoint.save(tmp_path / "a.pt", {**content(1.0), "version": 99})
    with pytest.raises(DataError, match="has version 99; this equicalc reads up to 1"):
        checkpoint.load(tmp_path / "a.pt", KIND)


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a file was run')",))


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"kind": KIND, "version": 1, "state": Malicious()}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="damaged or not a file"):
        checkpoint.load(tmp_path / "a.pt", KIND)
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(DataError, match="damaged or not a file"):
        checkpoint.load(tmp_path / "b.pt", KIND)


def test_the_log_drops_lines_after_the_checkpoint_and_half_lines(tmp_path):
    path = tmp_path / "log.csv"
    log = checkpoint.CsvLog(path, ["epoch", "loss"])
    for epoch in (1, 2, 3):
        log.append({"epoch": epoch, "loss": 0.1 * epoch})
    with path.open("a") as stream:
        stream.write("4")
    log = checkpoint.CsvLog(path, ["epoch", "loss"], keep_until=2)
    log.append({"epoch": 3, "loss": 1 / 3})
    assert checkpoint.read_log(path) == {"epoch": [1, 2, 3], "loss": [0.1, 0.2, 1 / 3]}


def test_a_log_with_other_columns_is_refused(tmp_path):
    checkpoint.CsvLog(tmp_path / "log.csv", ["epoch", "loss"])
    with pytest.raises(ConfigError, match="has the columns"):
        checkpoint.CsvLog(tmp_path / "log.csv", ["epoch", "error"], keep_until=1)
