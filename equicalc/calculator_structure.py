"""What the ASE calculator reads of a structure."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from ase import Atoms

from equicalc.errors import DataError

Array = npt.NDArray[np.float64]


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
