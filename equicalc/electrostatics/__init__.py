"""Coulomb energy of Gaussian charges: one definition, several solvers."""

from equicalc.electrostatics.charges import neutralise
from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.electrostatics.differentiable import coulomb_energies, coulomb_energy
from equicalc.electrostatics.equilibrate import equilibrate
from equicalc.electrostatics.equilibrated import equilibrated_charges
from equicalc.electrostatics.solver import CoulombResult, solve

__all__ = [
    "COULOMB_CONSTANT",
    "CoulombResult",
    "coulomb_energies",
    "coulomb_energy",
    "equilibrate",
    "equilibrated_charges",
    "neutralise",
    "solve",
]
