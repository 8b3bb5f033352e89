"""Files of a run: written beside their place and moved there when complete, read without pickle."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from equicalc.errors import ConfigError, DataError, EquicalcError

CHECKPOINT_KIND = "equicalc checkpoint"
WEIGHTS_KIND = "equicalc weights"
VERSION = 1


class OutputError(EquicalcError):
    """A file of a run cannot be written; the file that was there before is untouched."""


def write_atomically(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that at any moment the old or the new one is complete.

    Parameters
    ----------
    path : str or Path
        The file.
    write : callable
        Writes the contents to the open binary file it is given.

    Raises
    ------
    OutputError
        When the disk is full, the directory is not writable, ...
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    # torch reports a failed write of its archive as RuntimeError
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        kept = "; the earlier file is kept" if path.exists() else ""
        raise OutputError(f"cannot write '{path}': {error}{kept}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save(path: str | Path, content: dict[str, Any]) -> None:
    """Save tensors and plain data atomically."""
    # In memory first: a failing disk then shows as OSError, not inside torch's archive writer.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, lambda stream: stream.write(buffer.getbuffer()))


def load(path: str | Path, kind: str, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Load a file written by `save`; no code in it is ever run.

    Raises
    ------
    DataError
        The file is missing, damaged, something else, or from a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file '{path}'; 'equicalc train CONFIG.yaml' writes it")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"'{path}' is damaged or not a file of equicalc train ({reason})") from None
    found = content.get("kind") if isinstance(content, dict) else None
    if found != kind:
        raise DataError(f"'{path}' is not {kind!r}; found {found or type(content).__name__!r}")
    if content["version"] > VERSION:
        raise DataError(
            f"'{path}' has version {content['version']}; this equicalc reads up to {VERSION}. "
            "Update with 'pip install -U equicalc'"
        )
    return content


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda stream: stream.write(text.encode()))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


class CsvLog:
    """Table of one line per epoch; floats are written so that they read back identical.

    Parameters
    ----------
    path : Path
        The file.
    columns : list of str
        Its header, ``epoch`` first.
    keep_until : int
        Lines of later epochs are dropped (they come again when a run resumes from a checkpoint).
    """

    def __init__(self, path: Path, columns: list[str], keep_until: int = 0):
        self.path = path
        self.columns = columns
        rows = []
        if keep_until > 0 and path.is_file():
            with path.open(newline="") as stream:
                reader = csv.DictReader(stream)
                if reader.fieldnames != columns:
                    raise ConfigError(
                        f"'{path}' has the columns {reader.fieldnames}, expected {columns}; start "
                        "again without --resume, in another run.directory"
                    )
                # A line that a crash cut short has no last column.
                rows = [r for r in reader if r[columns[-1]] is not None]
                rows = [r for r in rows if int(r["epoch"]) <= keep_until]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, buffer.getvalue())

    def append(self, row: dict[str, Any]) -> None:
        """Add a line; OutputError when the disk is full."""
        try:
            with self.path.open("a", newline="") as stream:
                csv.DictWriter(stream, self.columns, lineterminator="\n").writerow(
                    {k: repr(v) if isinstance(v, float) else v for k, v in row.items()}
                )
        except OSError as error:
            raise OutputError(f"cannot write '{self.path}': {error}") from error


def read_log(path: str | Path) -> dict[str, list[float]]:
    """Columns of a CSV log as numbers; missing entries are NaN."""
    with Path(path).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            columns.setdefault(key, []).append(float(value) if value else float("nan"))
    return columns
