"""Structures on which imported networks are compared with those they come from."""

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule

ELEMENTS = ("H", "O", "Na", "Si", "Cl")


def structures() -> dict[str, Atoms]:
    """A crystal, a triclinic cell, a surface, a molecule, a liquid; each without symmetry."""
    rng = np.random.default_rng(5)
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    triclinic = bulk("Si", "diamond", a=5.43)
    triclinic.symbols[1] = "O"
    triclinic.set_cell(triclinic.cell[:] @ (np.eye(3) + 0.08 * rng.normal(size=(3, 3))), True)
    surface = fcc111("Na", (2, 2, 3), a=5.2, vacuum=6.0)
    surface.symbols[-1] = "Cl"
    surface.pbc = (True, True, False)
    # the metal is not the point: a lone chlorine on sodium has all kinds of neighbours
    result = {
        "crystal": crystal,
        "triclinic": triclinic,
        "surface": surface,
        "molecule": molecule("H2O") + Atoms("Cl", [(0.3, 2.4, 0.5)]),
        "liquid": water(8, rng),
    }
    for atoms in result.values():
        atoms.rattle(0.08, rng=rng)
    return result


def water(n: int, rng: np.random.Generator) -> Atoms:
    """Water molecules in random orientations on a jittered grid, at the density of the liquid."""
    side = round(n ** (1 / 3))
    spacing = 3.1
    atoms = Atoms(cell=[side * spacing] * 3, pbc=True)
    for i in range(n):
        one = molecule("H2O")
        for axis in "xyz":
            one.rotate(rng.uniform(0.0, 360.0), axis, center="COM")
        cell = np.array([i % side, i // side % side, i // side**2])
        one.translate((cell + 0.1 * rng.normal(size=3)) * spacing)
        atoms += one
    atoms.wrap()
    return atoms
