"""The description inside a model file, readable without loading the network."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from equicalc.errors import ModelFileError

FORMAT_VERSION = 2
METADATA_MEMBER = "equicalc.json"
REQUIRED_KEYS = (
    "format_version",
    "name",
    "elements",
    "cutoff",
    "n_layers",
    "exchange_width",
    "units",
    "charges",
)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a model file.

    Parameters
    ----------
    path : str or Path
        A file written by `equicalc export`.

    Returns
    -------
    dict
        Keys as listed in the README under "The model file".

    Raises
    ------
    ModelFileError
        The file is missing, is not a model, is damaged, lacks a key, or has a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(
            f"no model file '{path}'. Give the path of a file written by 'equicalc export RUN -o "
            "model.pt', or the name of a shipped model ('equicalc models' lists them)"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.namelist() if m.endswith("/extra/" + METADATA_MEMBER)]
            if not members:
                raise ModelFileError(
                    f"'{path}' is a zip archive without {METADATA_MEMBER}: perhaps a checkpoint or "
                    "another code's model. Write a model with 'equicalc export RUN -o model.pt'"
                )
            text = archive.read(members[0]).decode()
        metadata = json.loads(text)
    except zipfile.BadZipFile:
        raise ModelFileError(
            f"'{path}' is not a TorchScript archive, or it is truncated ({path.stat().st_size} "
            "bytes). Copy it again, or write it with 'equicalc export RUN -o model.pt'"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"the {METADATA_MEMBER} of '{path}' is damaged: {error}") from None
    _check(path, metadata)
    return metadata


def _check(path: Path, metadata: Any) -> None:
    """Raise unless the metadata have a format and the keys this version understands."""
    if not isinstance(metadata, dict) or "format_version" not in metadata:
        raise ModelFileError(f"the {METADATA_MEMBER} of '{path}' has no format_version")
    version = metadata["format_version"]
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"'{path}' has the impossible format_version {version!r}")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"'{path}' has format version {version}; this equicalc reads up to {FORMAT_VERSION}. "
            "Update with 'pip install -U equicalc'"
        )
    if version < FORMAT_VERSION:
        raise ModelFileError(
            f"'{path}' has format version {version}; this equicalc reads {FORMAT_VERSION}. "
            "Write it again from its run: equicalc export RUN -o model.pt"
        )
    missing = [key for key in REQUIRED_KEYS if key not in metadata]
    if missing:
        raise ModelFileError(f"the {METADATA_MEMBER} of '{path}' lacks {', '.join(missing)}")
