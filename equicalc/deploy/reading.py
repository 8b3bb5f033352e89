"""From a model file back to the network it was written from, to train it further."""

from __future__ import annotations

import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from equicalc.core import load_library
from equicalc.deploy.compiled import SUFFIX, read_weights
from equicalc.deploy.metadata import METADATA_MEMBER, read_metadata
from equicalc.errors import ModelFileError
from equicalc.nn.architectures import build, settings_of
from equicalc.nn.charged_network import ChargedNetwork


def is_model_file(path: str | Path) -> bool:
    """Whether a file is an exported model, and not, for example, a checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/extra/" + METADATA_MEMBER) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read_network(path: str | Path) -> ChargedNetwork:
    """Return the network of a model file in float64, with gradients for its parameters.

    Parameters
    ----------
    path : str or Path
        A file written by `export_network`.

    Raises
    ------
    ModelFileError
        The file is missing, damaged or not a model, or its weights do not fit its description.
    """
    metadata = read_metadata(path)
    load_library()  # operators that the archive names
    try:
        if Path(path).suffix == SUFFIX:
            stored = read_weights(path)
        else:
            stored = torch.jit.load(str(path), map_location="cpu").network.state_dict()
        network = build(settings_of(metadata.get("architecture", "equicalc"), metadata["network"]))
        # constant tables are stored as well; a network makes its own
        network.load_state_dict({name: stored[name] for name in network.state_dict()})
    except (
        AttributeError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        UnpicklingError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(
            f"the network of '{path}' does not fit its description ({reason}). The file is damaged "
            "or from another version; write it again with 'equicalc export RUN -o model.pt'"
        ) from None
    return network


def describe_model(path: str | Path) -> tuple[ChargedNetwork, dict[str, Any]]:
    """Return the network of a model file and the arguments of `export_network` about it.

    Raises
    ------
    ModelFileError
        See `read_network`.
    """
    network = read_network(path)
    metadata = read_metadata(path)
    known = (
        "name",
        "level_of_theory",
        "training",
        "origin",
        "training_dtype",
        "authors",
        "licence",
        "citation",
    )
    return network, {key: metadata[key] for key in known if key in metadata}
