"""Structures from any file that ASE reads, with errors that say where in the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, open_with_compression

from equicalc.errors import DataError


def read_atoms(path: str | Path, index: str, expected: str) -> list[Atoms]:
    """Read structures from a file that is there and not empty.

    Parameters
    ----------
    path : str or Path
        The file.
    index : str
        Which of its structures, as ASE has it: ``":"`` all, ``"-1"`` the last, ``"3"``.
    expected : str
        What the file should have been, for messages.

    Raises
    ------
    DataError
        ASE cannot read the file, it has no such structure, or it holds lines that ASE leaves out.
    """
    try:
        if _kind(path) == "lammps-dump-text":
            _check_elements_of_dump(path)
        found = ase.io.read(path, index)
        if _kind(path) in XYZ:
            _check_blank_lines(path)
    except DataError:
        raise
    # ASE's readers raise whatever their parsing stumbles over
    except Exception as error:
        if index != ":" and isinstance(error, (StopIteration, IndexError)):
            n_frames = len(read_atoms(path, ":", expected))
            raise DataError(
                f"'{path}' has no structure {index}: it holds {n_frames}, counted from 0"
            ) from None
        raise DataError(
            f"'{path}' cannot be read as structures{_place(path)} "
            f"({type(error).__name__}: {str(error).strip()}); expected {expected}"
        ) from None
    return found if isinstance(found, list) else [found]


XYZ = ("extxyz", "xyz")


def _kind(path: str | Path) -> str:
    """ASE's name of the format; empty when it knows none."""
    with suppress(UnknownFileTypeError):
        return str(filetype(str(path)))
    return ""


def _check_elements_of_dump(path: str | Path) -> None:
    """Raise DataError for a LAMMPS dump without elements: ASE takes type 1 for hydrogen."""
    with _lines(path) as lines:
        columns = next((line for line in lines if line.startswith("ITEM: ATOMS")), "")
    if "element" not in columns.split():
        raise DataError(
            f"'{path}' is a LAMMPS dump without elements (found '{columns.strip()}'). Write it "
            "with 'dump 1 all custom 100 FILE id element x y z' and 'dump_modify 1 element K Cl', "
            "the elements of types 1, 2, ..."
        )


def _check_blank_lines(path: str | Path) -> None:
    """Raise DataError where a blank line hides what follows: ASE's reader ends there."""
    with _lines(path) as lines:
        starts, end, _ = _layout(lines)
        hidden = next((number for number, line in enumerate(lines, end + 1) if line.strip()), None)
    if hidden is not None:
        raise DataError(
            f"'{path}': the file ends for its reader at the blank line {end}, after {len(starts)} "
            f"structures, but line {hidden} goes on. Remove blank lines between structures"
        )


def _place(path: str | Path) -> str:
    """Say which structure of an XYZ file is the first that cannot be read; else nothing."""
    if _kind(path) not in XYZ:
        return ""
    n_whole = 0
    with suppress(Exception):  # again the error that is being reported, or a file that is no text
        with _lines(path) as lines:
            starts, end, text = _layout(lines)
        if text:
            return f" from line {end} on, after {len(starts)} structures"
        with suppress(Exception):
            for _ in ase.io.iread(path):
                n_whole += 1
        return f" from structure {n_whole} on, which begins in line {starts[n_whole]}"
    return ""


def _layout(lines: Iterator[str]) -> tuple[list[int], int, str]:
    """Where structures of an XYZ file begin, and which line begins none and what it says.

    Lines are counted from 1; the text is empty where the file ends or a line is blank.
    """
    starts: list[int] = []
    number = 1
    for line in lines:
        if line.lstrip().startswith("VEC"):  # cell vectors after the atoms
            number += 1
            continue
        if not line.strip().isdigit():
            return starts, number, line.strip()
        starts.append(number)
        number += 1
        for _ in range(int(line) + 1):
            if next(lines, None) is None:
                return starts, number, ""
            number += 1
    return starts, number, ""


@contextmanager
def _lines(path: str | Path) -> Iterator[Iterator[str]]:
    """Lines of a text file, compressed or not."""
    with open_with_compression(str(path)) as stream:
        yield iter(stream)
