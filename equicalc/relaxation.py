"""Relaxation with any ASE calculator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter

from equicalc.errors import ConfigError, DataError, ExplosionError

OPTIMIZERS = ("lbfgs", "fire", "bfgs")


@dataclass
class Relaxation:
    """Result of `relax`.

    Parameters
    ----------
    atoms : Atoms
        The relaxed structure, with its calculator.
    converged : bool
        Whether the largest force (and, with the cell, stress) fell below the limits.
    steps : int
        Optimizer steps taken.
    energy : float
        Potential energy, eV.
    fmax : float
        Largest force on an atom, eV/A.
    max_stress : float or None
        Largest component of stress plus external pressure, eV/A^3; None without cell relaxation.
    energies : list of float
        Potential energy after each step, eV.
    """

    atoms: Atoms
    converged: bool
    steps: int
    energy: float
    fmax: float
    max_stress: float | None
    energies: list[float] = field(default_factory=list)


def relax(
    atoms: Atoms,
    *,
    cell: bool = False,
    fmax: float = 0.005,
    steps: int = 500,
    pressure_gpa: float = 0.0,
    hydrostatic: bool = False,
    optimizer: str = "lbfgs",
    on_step: Callable[[int, float, float], None] | None = None,
) -> Relaxation:
    """Relax positions, and with ``cell=True`` the cell too; a copy is relaxed, not the argument.

    Parameters
    ----------
    atoms : Atoms
        Structure with a calculator (and constraints, if any).
    cell : bool
        Relax the cell with the exponential strain variables of ase.filters.FrechetCellFilter.
    fmax : float
        Limit for the largest force, eV/A (for the cell: of its generalised force per atom).
    steps : int
        Largest number of steps.
    pressure_gpa : float
        External pressure for the cell, GPa.
    hydrostatic : bool
        Keep the shape of the cell, change only its volume.
    optimizer : {"lbfgs", "fire", "bfgs"}
        FIRE is slower and more forgiving for structures far from a minimum.
    on_step : callable, optional
        Called with (step, energy in eV, largest generalised force in eV/A).

    Raises
    ------
    ConfigError
        An unknown optimizer, or cell relaxation of a structure that has no full cell.
    DataError
        A structure without calculator or without atoms.
    """
    require_calculator(atoms)
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"optimizer is '{optimizer}'; expected one of {', '.join(OPTIMIZERS)}")
    if cell and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ConfigError(
            f"cell relaxation needs three periodic directions, found pbc {atoms.pbc.tolist()}; "
            "leave out the cell (CLI: without --cell)"
        )
    if not fmax > 0 or steps < 0:
        raise ConfigError(f"fmax is {fmax} and steps is {steps}; expected fmax > 0 and steps >= 0")
    if not np.isfinite(pressure_gpa):
        raise ConfigError(f"the pressure is {pressure_gpa} GPa; expected a finite number")
    if not cell and (hydrostatic or pressure_gpa != 0.0):
        raise ConfigError(
            f"hydrostatic = {hydrostatic} and a pressure of {pressure_gpa:g} GPa act on the cell, "
            "which is kept: relax it too with cell=True (CLI: --cell)"
        )
    work = atoms.copy()
    work.calc = atoms.calc
    external = pressure_gpa * units.GPa
    target: Any = work
    if cell:
        target = FrechetCellFilter(work, hydrostatic_strain=hydrostatic, scalar_pressure=external)

    from ase.optimize import BFGS, FIRE, LBFGS

    dynamics = {"lbfgs": LBFGS, "fire": FIRE, "bfgs": BFGS}[optimizer](target, logfile=None)
    energies: list[float] = []

    def record() -> None:
        energies.append(work.get_potential_energy())
        largest = float(np.linalg.norm(target.get_forces(), axis=1).max())
        if not np.isfinite(largest):
            raise ExplosionError(
                f"forces are not finite after {dynamics.nsteps} relaxation steps; start from a "
                "structure without overlapping atoms, or use the optimizer 'fire'"
            )
        if on_step is not None:
            on_step(dynamics.nsteps, energies[-1], largest)

    dynamics.attach(record)
    converged = bool(dynamics.run(fmax=fmax, steps=steps))
    max_stress = None
    if cell:
        stress = work.get_stress(voigt=False) + external * np.eye(3)
        if hydrostatic:
            stress = np.trace(stress) / 3.0 * np.eye(3)
        max_stress = float(np.abs(stress).max())
    forces = work.get_forces()
    return Relaxation(
        atoms=work,
        converged=converged,
        steps=dynamics.nsteps,
        energy=work.get_potential_energy(),
        fmax=float(np.linalg.norm(forces, axis=1).max()),
        max_stress=max_stress,
        energies=energies,
    )


def require_calculator(atoms: Atoms) -> None:
    """Raise DataError for a structure without atoms or without calculator."""
    if len(atoms) == 0:
        raise DataError("the structure has no atoms")
    if atoms.calc is None:
        raise DataError("the structure has no calculator; set atoms.calc = EquiCalculator(MODEL)")
