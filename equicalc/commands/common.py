"""Shared by the commands: reading structures, making calculators, writing files safely."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
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
    from equicalc.data.reading import read_atoms

    if not Path(path).is_file():
        raise DataError(f"no file '{path}' to read structures from")
    if Path(path).stat().st_size == 0:
        raise DataError(f"'{path}' is empty (0 bytes): it holds no structures")
    known = "a file ASE knows by its ending, for example .xyz (extended XYZ), .cif or POSCAR"
    frames = read_atoms(path, index, known)
    if not frames or any(len(atoms) == 0 for atoms in frames):
        raise DataError(f"'{path}' holds no structures, or one without atoms")
    return frames


def read_structure(text: str) -> Atoms:
    """Read one structure: ``FILE``, or ``FILE@INDEX`` for a frame other than the last."""
    path, index = split_index(text)
    return read_frames(path, index)[0]


def split_index(text: str) -> tuple[str, str]:
    """Path and index of ``FILE`` (its last frame) or ``FILE@INDEX``."""
    if Path(text).is_file() or "@" not in text:
        return text, "-1"
    path, index = text.rsplit("@", 1)
    if not index.lstrip("-").isdigit():
        raise DataError(f"'{index}' in '{text}' is not the number of a frame")
    return path, index


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


def check_spared(output: str | Path | None, source: str | Path) -> None:
    """Raise OutputError when writing a file would destroy the one that is read."""
    if output is not None and Path(output).exists() and Path(output).samefile(source):
        raise OutputError(
            f"writing '{output}' would destroy the structures that are read from it; give another "
            "name for the output, or rename the input"
        )


@contextmanager
def naming(path: str | Path, is_replaced: bool = True) -> Iterator[None]:
    """Say which file cannot be written, where the system only says why.

    With `is_replaced` a file that is there stays as it is until the new one is complete.
    """
    try:
        yield
    except OSError as error:
        kept = "; the earlier file is kept" if is_replaced and Path(path).exists() else ""
        raise OutputError(f"cannot write '{path}': {error.strerror or error}{kept}") from None


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` that replaces it on success and vanishes on failure.

    The temporary name keeps the ending, by which ASE and matplotlib choose the format.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with naming(path):
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
    except OutputError:
        raise
    # unknown endings and missing writers have no common class in ASE
    except Exception as error:
        raise OutputError(
            f"'{path}' cannot be written ({type(error).__name__}: {error}); expected an ending "
            "ASE knows, for example .xyz, .cif or .vasp"
        ) from None


def check_format(path: str | Path, atoms: Atoms | list[Atoms]) -> None:
    """Raise OutputError, before any work is done, when ASE cannot write such structures there."""
    with tempfile.TemporaryDirectory(prefix="equicalc-") as folder:
        trial = Path(folder) / Path(path).name
        try:
            write_structure(trial, atoms)
        except OutputError as error:
            raise OutputError(str(error).replace(str(trial), str(path))) from None


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
