"""What the ASE calculator reads of a structure, and how it keeps one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from ase import Atoms

from equicalc.errors import DataError

Array = npt.NDArray[np.float64]
# xx, yy, zz, yz, xz, xy of a flat 3 x 3 matrix and of its transpose
VOIGT, VOIGT_TRANSPOSED = [0, 4, 8, 5, 2, 1], [0, 4, 8, 7, 6, 3]


def copy_of(atoms: Atoms, last: Atoms | None) -> Atoms:
    """Copy into the last copy where the structure has only moved: a new one takes much longer."""
    if (
        last is None
        or type(last) is not type(atoms)
        or last.arrays.keys() != atoms.arrays.keys()
        or any(
            last.arrays[name].shape != array.shape or last.arrays[name].dtype != array.dtype
            for name, array in atoms.arrays.items()
        )
        or atoms.constraints
        or last.constraints
    ):
        return atoms.copy()
    for name, array in atoms.arrays.items():
        last.arrays[name][:] = array
    last.cell.array[:] = atoms.cell.array
    last.pbc[:] = atoms.pbc
    last.info = dict(atoms.info)
    return last


def voigt(tensors: Array) -> Array:
    """Symmetric part of matrices [..., 3, 3] in Voigt order, [..., 6]."""
    flat = tensors.reshape(*tensors.shape[:-2], 9)
    return np.asarray(0.5 * (flat[..., VOIGT] + flat[..., VOIGT_TRANSPOSED]))


def volume_of(atoms: Atoms) -> float:
    """Return the volume of the cell, angstrom^3."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = atoms.cell.array.tolist()
    across = (by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx)
    return abs(ax * across[0] + ay * across[1] + az * across[2])


def total_charge_of(atoms: Atoms) -> float:
    """Return the total charge that a structure states, e; DataError when it is not a number."""
    value = atoms.info.get("charge", 0.0)
    try:
        charge = float(value)
    except (TypeError, ValueError):
        charge = float("nan")
    if not math.isfinite(charge):
        raise DataError(
            f'found atoms.info["charge"] = {value!r}, expected the total charge as a number in e'
        )
    return charge


def periodic_projection(atoms: Atoms) -> Array:
    """Projection on the periodic directions of a slab: strains that do work."""
    first, second = atoms.cell[:][atoms.pbc]
    normal = np.cross(first, second)
    return np.asarray(np.eye(3) - np.outer(normal, normal) / (normal @ normal))
