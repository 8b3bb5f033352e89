"""Structures that are timed. Needs ASE and NumPy only, so that any interpreter can build them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

CUTOFF = 5.0  # angstrom, of all networks that are compared
NAMES = ("NaCl-64", "NaCl-512", "NaCl-1728", "water-192", "water-1536")


def structure(name: str) -> Atoms:
    """Return rattled rock salt or water by name, ``NaCl-64`` or ``water-192``."""
    kind, n_atoms = name.split("-")
    side = round((int(n_atoms) / (8 if kind == "NaCl" else 3)) ** (1 / 3))
    rng = np.random.default_rng(1)
    if kind == "NaCl":
        atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (side, side, side)
    else:
        atoms = water(side, rng)
    atoms.rattle(0.1 if kind == "NaCl" else 0.02, rng=rng)
    if len(atoms) != int(n_atoms):
        raise ValueError(f"there is no {name}; expected one of {', '.join(NAMES)}")
    return atoms


def water(side: int, rng: np.random.Generator) -> Atoms:
    """Return side^3 molecules in random orientations on a grid, at the density of the liquid."""
    spacing = 3.104  # angstrom: 0.997 g/cm^3
    atoms = Atoms(cell=[side * spacing] * 3, pbc=True)
    for corner in np.ndindex(side, side, side):
        one = molecule("H2O")
        for axis in "xyz":
            one.rotate(rng.uniform(0.0, 360.0), axis, center="COM")
        one.translate(spacing * np.array(corner))
        atoms += one
    return atoms
