"""Shared by the commands: reading structures, making calculators, writing files safely."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equicalc.errors import DataError, EquicalcError

if TYPE_CHECKING:
    from ase import Atoms

    from equicalc.calculator import EquiCalculator


class OutputError(EquicalcError):
    """A result cannot be written where it was asked for."""


def read_frames(path: str | Path, index: str = ":") -> list[Atoms]:
    """Read structures from any file ASE understands.

    Raises
    ------
    DataError
        The file is missing, empty, of a kind ASE does not know, or has no such frame.
    """
    import ase.io

    if not Path(path).is_file():
        raise DataError(f"no file '{path}' to read structures from")
    if Path(path).stat().st_size == 0:
        raise DataError(f"'{path}' is empty (0 bytes): it holds no structures")
    try:
        frames = ase.io.read(path, index)
    # ASE's readers raise whatever their parsing stumbles over
    except Exception as error:
        raise DataError(
            f"'{path}' cannot be read as structures ({type(error).__name__}: {error}); expected "
            "a file ASE knows by its ending, for example .xyz (extended XYZ), .cif or POSCAR"
        ) from None
    frames = frames if isinstance(frames, list) else [frames]
    if not frames or any(len(atoms) == 0 for atoms in frames):
        raise DataError(f"'{path}' holds no structures, or one without atoms")
    return frames


def read_structure(text: str) -> Atoms:
    """Read one structure: ``FILE``, or ``FILE@INDEX`` for a frame other than the last."""
    path, index = text, "-1"
    if not Path(text).is_file() and "@" in text:
        path, index = text.rsplit("@", 1)
        if not index.lstrip("-").isdigit():
            raise DataError(f"'{index}' in '{text}' is not the number of a frame")
    return read_frames(path, index)[0]


def make_calculator(options: argparse.Namespace) -> EquiCalculator:
    """Return the calculator that the options ``model``, ``device``, ``dtype``, ``threads`` name."""
    import torch

    from equicalc.calculator import EquiCalculator

    if options.threads:
        torch.set_num_threads(options.threads)
    return EquiCalculator(options.model, device=options.device, dtype=options.dtype)


def check_writable(path: str | Path | None, endings: tuple[str, ...] = ()) -> None:
    """Raise OutputError before any work is done when a file could not be written in the end."""
    if path is None:
        return
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"'{path}' is a directory; give the name of a file in it")
    if endings and path.suffix.lower() not in endings:
        raise OutputError(f"'{path}' ends in '{path.suffix}'; expected {', '.join(endings)}")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"the directory '{folder}' does not exist; create it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the directory '{folder}' is not writable for you")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` that replaces it on success and vanishes on failure.

    The temporary name keeps the ending, by which ASE and matplotlib choose the format.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_structure(path: str | Path, atoms: Atoms | list[Atoms]) -> None:
    """Write structures in the format of the ending; raise OutputError when that fails."""
    import ase.io

    try:
        with replacing(path) as temporary:
            ase.io.write(temporary, atoms)
    except OSError:
        raise
    # unknown endings and missing writers have no common class in ASE
    except Exception as error:
        raise OutputError(
            f"'{path}' cannot be written ({type(error).__name__}: {error}); expected an ending "
            "ASE knows, for example .xyz, .cif or .vasp"
        ) from None


def progress_bar(total: int, description: str, unit: str = "step") -> Any:
    """Return a tqdm bar on standard error; in a log file it speaks only every ten seconds."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
        dynamic_ncols=True,
    )
