"""Coulomb energy of Gaussian charges: one definition, several solvers."""

from equicalc.electrostatics.charges import neutralise
from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.electrostatics.differentiable import coulomb_energies, coulomb_energy

__all__ = ["COULOMB_CONSTANT", "coulomb_energies", "coulomb_energy", "neutralise"]
