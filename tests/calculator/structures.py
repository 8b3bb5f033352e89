"""Structures of the tests of the calculator, and how it is asked."""

import numpy as np
from ase import Atoms
from ase.build import bulk

# The same sums in another order, energies of some 10 eV.
EXACT = 1e-10
# The Coulomb sum is truncated at this accuracy.
TIGHT = 1e-12
# Of single precision, eV/angstrom.
FLOAT32_FORCES = 1e-4


def crystal(charge=0.0):
    """Eight ions in a triclinic cell, far from equilibrium."""
    atoms = bulk("KCl", "rocksalt", a=6.0, cubic=True)
    strain = np.eye(3) + 0.06 * np.random.default_rng(0).normal(size=(3, 3))
    atoms.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
    atoms.rattle(0.2, seed=1)
    atoms.info["charge"] = charge
    return atoms


def molecule(charge=-1.0):
    atoms = Atoms("K2Cl3", np.random.default_rng(2).normal(scale=1.0, size=(5, 3)))
    atoms.positions += 2.5 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    atoms.info["charge"] = charge
    return atoms


def slab():
    atoms = bulk("KCl", "rocksalt", a=6.0, cubic=True)
    atoms.rattle(0.2, seed=3)
    atoms.pbc = (True, True, False)
    atoms.cell[2] = 0.0
    return atoms


STRUCTURES = {"crystal": crystal, "molecule": molecule, "slab": slab}


def results(calculator, atoms, wanted=("energy",)):
    calculator.calculate(atoms, list(wanted))
    return calculator.results
