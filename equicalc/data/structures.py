"""Structures with labels, from extended XYZ (or anything ASE reads), checked before they are used.

A data set is wrong in many ways that training would only show hours later as a bad model; each of
them stops here with the file and the number of the structure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from equicalc.data.reading import read_atoms
from equicalc.errors import DataError

Array = npt.NDArray[np.float64]

# Vacuum permittivity in e^2/(eV angstrom): eps_inf = 1 + alpha / (eps_0 V).
VACUUM_PERMITTIVITY = 0.005526349406


@dataclass
class Structure:
    """One structure and what a reference calculation says about it; None: not in the data.

    Parameters
    ----------
    symbols : list of str
        Chemical symbols, N atoms.
    positions : array [N, 3]
        angstrom.
    cell : array [3, 3]
        Cell vectors as rows, angstrom.
    pbc : array [3] of bool
        Periodic directions.
    source : str
        File and number, for messages.
    total_charge : float
        e.
    weight : float
        Factor of this structure in the loss.
    energy : float
        eV.
    forces : array [N, 3]
        eV/angstrom.
    stress : array [3, 3]
        eV/angstrom^3, positive under tension.
    charges : array [N]
        e.
    dipole : array [3]
        About the origin, e angstrom.
    polarization : array [3]
        Polarisation times volume of a periodic cell, up to e times lattice vectors, e angstrom.
    born : array [N, 3, 3]
        dP_a/dr_b, e.
    epsilon_inf : float
        Mean electronic dielectric constant.
    unread : tuple of str
        Names in the file that sound like energies, forces or stresses and were not asked for.
    """

    symbols: list[str]
    positions: Array
    cell: Array
    pbc: npt.NDArray[np.bool_]
    source: str
    total_charge: float = 0.0
    weight: float = 1.0
    energy: float | None = None
    forces: Array | None = None
    stress: Array | None = None
    charges: Array | None = None
    dipole: Array | None = None
    polarization: Array | None = None
    born: Array | None = None
    epsilon_inf: float | None = None
    unread: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.symbols)


# What can have another name in a file.
LABELS = (
    "energy",
    "forces",
    "stress",
    "charges",
    "dipole",
    "polarization",
    "born_effective_charges",
)


def read_structures(path: str | Path, keys: Mapping[str, str] | None = None) -> list[Structure]:
    """Read all structures of a file with their labels.

    Parameters
    ----------
    path : str or Path
        Extended XYZ, or another format that ASE reads with energies and forces. Energy, forces and
        stress are the calculator's results; ``charge`` (total charge), ``weight``, ``dipole``,
        ``polarizability`` in ``info``, ``charges`` and ``born_effective_charges`` in ``arrays``.
    keys : mapping, optional
        Other names of labels in the file: ``{"energy": "REF_energy"}``.

    Returns
    -------
    list of Structure

    Raises
    ------
    DataError
        When the file is missing, empty, unreadable, or holds labels of a wrong shape or NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no data file '{path}'; give the path of an extended-XYZ file")
    if path.stat().st_size == 0:
        raise DataError(f"the data file '{path}' is empty (0 bytes)")
    frames = read_atoms(
        path, ":", "extended XYZ with energy in the comment line and forces as a column"
    )
    if not frames:
        raise DataError(f"the data file '{path}' holds no structures")
    return from_atoms(frames, str(path), keys)


def from_atoms(
    frames: Iterable[Atoms], source: str = "structures", keys: Mapping[str, str] | None = None
) -> list[Structure]:
    """Turn ASE structures with results into `Structure`s; `keys`, DataError: `read_structures`."""
    return [
        _convert(atoms, f"{source}, structure {i}", keys or {}) for i, atoms in enumerate(frames)
    ]


def file_hash(paths: Sequence[str | Path]) -> str:
    """SHA-256 of the contents of files, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _convert(atoms: Atoms, source: str, keys: Mapping[str, str]) -> Structure:
    """Check and convert one ASE structure."""
    n = len(atoms)
    if n == 0:
        raise DataError(f"{source}: no atoms")
    symbols = atoms.get_chemical_symbols()
    if "X" in symbols:
        raise DataError(
            f"{source}: atom {symbols.index('X')} has the unknown element 'X'; every atom needs a "
            "chemical symbol"
        )
    results = dict(atoms.calc.results) if atoms.calc is not None else {}

    def find(name: str) -> Any:
        key = keys.get(name, name)
        # Energies, forces and stress under their own names are results and nothing else: ASE puts
        # them there, and what is left in `info` or `arrays` may be anybody's.
        plain = name in ("energy", "forces", "stress") and key == name
        for place in (results,) if plain else (results, atoms.info, atoms.arrays):
            if place.get(key) is not None:
                return place[key]
        return None

    def label(name: str, shape: tuple[int, ...]) -> Array | None:
        value = find(name)
        return None if value is None else check_array(value, shape, keys.get(name, name), source)

    energy = label("energy", ())
    if energy is None and "energy" not in keys and results.get("free_energy") is not None:
        energy = check_array(results["free_energy"], (), "free_energy", source)
    born = label("born_effective_charges", (n, 9))
    return Structure(
        symbols=symbols,
        positions=check_array(atoms.positions, (n, 3), "positions", source),
        cell=check_array(np.asarray(atoms.cell), (3, 3), "cell", source),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        source=source,
        total_charge=_info_number(atoms, "charge", 0.0, source),
        weight=_weight(atoms, source),
        energy=None if energy is None else float(energy),
        forces=label("forces", (n, 3)),
        stress=_stress(find("stress"), source),
        charges=label("charges", (n,)),
        dipole=label("dipole", (3,)),
        polarization=_polarization(label("polarization", (3,)), atoms, source),
        born=None if born is None else born.reshape(n, 3, 3),
        epsilon_inf=_epsilon_inf(atoms, results, source),
        unread=tuple(
            str(name)
            for name in (*atoms.info, *atoms.arrays)
            if name not in keys.values() and _sounds_like_a_label(str(name))
        ),
    )


def _sounds_like_a_label(name: str) -> bool:
    return any(word in name.lower() for word in ("energy", "force", "stress", "virial"))


def check_array(values: Any, shape: tuple[int, ...], name: str, source: str) -> Array:
    """Values as float64 of the given shape, all of them finite; DataError otherwise."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{source}: {name} holds something that is not a number") from None
    if array.size == np.prod(shape, dtype=int) and array.shape[:1] == shape[:1]:
        array = array.reshape(shape)
    if array.shape != shape:
        raise DataError(f"{source}: {name} has the shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        first = f", first at index {where}" if where else ""
        raise DataError(
            f"{source}: {name} holds NaN or infinity{first}; correct it or leave out the structure"
        )
    return array


def _info_number(atoms: Atoms, key: str, default: float, source: str) -> float:
    return float(check_array(atoms.info.get(key, default), (), key, source))


def _weight(atoms: Atoms, source: str) -> float:
    weight = _info_number(atoms, "weight", 1.0, source)
    if weight < 0.0:
        raise DataError(f"{source}: weight is {weight}, expected 0 or more")
    return weight


def _stress(values: Any, source: str) -> Array | None:
    """Stress as a symmetric matrix, from ASE's Voigt order (xx, yy, zz, yz, xz, xy) or 3x3."""
    if values is None:
        return None
    if np.size(values) == 6:
        return full_stress(check_array(np.ravel(values), (6,), "stress", source))
    square = np.reshape(values, (3, 3)) if np.size(values) == 9 else values
    full = check_array(square, (3, 3), "stress", source)
    return 0.5 * (full + full.T)


def full_stress(voigt: Array) -> Array:
    """Symmetric [3, 3] matrix of ASE's six components (xx, yy, zz, yz, xz, xy)."""
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _polarization(values: Array | None, atoms: Atoms, source: str) -> Array | None:
    if values is not None and not atoms.pbc.all():
        raise DataError(
            f"{source}: polarization needs three periodic directions, found pbc = "
            f"{atoms.pbc.tolist()}; for a cluster give dipole instead"
        )
    return values


def _epsilon_inf(atoms: Atoms, results: dict[str, Any], source: str) -> float | None:
    """Isotropic electronic dielectric constant: given, or from the polarisability of the cell."""
    if "epsilon_inf" in atoms.info:
        value = _info_number(atoms, "epsilon_inf", 1.0, source)
    else:
        values = results.get("polarizability", atoms.info.get("polarizability"))
        if values is None or not atoms.pbc.all():
            return None
        alpha = check_array(np.ravel(values), (np.size(values),), "polarizability", source)
        if alpha.size not in (1, 9):
            raise DataError(
                f"{source}: polarizability has {alpha.size} values, expected 1 or 9 (3x3)"
            )
        mean = float(np.trace(alpha.reshape(3, 3))) / 3.0 if alpha.size == 9 else float(alpha[0])
        value = 1.0 + mean / (VACUUM_PERMITTIVITY * float(atoms.cell.volume))
    if value < 1.0:
        raise DataError(f"{source}: the dielectric constant is {value}, expected 1 or more")
    return value
