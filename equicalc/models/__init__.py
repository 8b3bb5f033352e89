"""Trained models that ship with the package: one `<name>.pt` per model in this directory."""

from __future__ import annotations

from pathlib import Path

from equicalc.errors import ModelFileError

DIRECTORY = Path(__file__).resolve().parent


def shipped() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(path.stem for path in DIRECTORY.glob("*.pt"))


def resolve(model: str | Path) -> Path:
    """Return the file of a model given by path or by the name of a shipped one.

    A file on disk wins over a shipped model of the same name.

    Raises
    ------
    ModelFileError
        Neither a file nor a shipped name; the text lists the names.
    """
    path = Path(model)
    if path.is_file():
        return path
    if str(model) in shipped():
        return DIRECTORY / f"{model}.pt"
    raise ModelFileError(
        f"'{model}' is neither a file nor a shipped model. Shipped models: "
        f"{', '.join(shipped()) or 'none'}. Write one with 'equicalc export RUN -o model.pt'"
    )
