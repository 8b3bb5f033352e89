"""Relaxation and molecular dynamics with any ASE calculator, with the choices made here once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter

from equicalc.errors import ConfigError, DataError, EquicalcError
from equicalc.integrators import (
    centre_at_rest,
    draw_velocities,
    make_integrator,
    temperature_of,
)

OPTIMIZERS = ("lbfgs", "fire", "bfgs")
ENSEMBLES = ("nve", "nvt", "npt")
THERMOSTATS = ("nose-hoover", "langevin")
BAROSTATS = ("isotropic", "full")

# A run whose temperature passes this has exploded; no melt of interest is near it.
EXPLOSION_TEMPERATURE = 1.0e5  # K


class NotConvergedError(EquicalcError):
    """A relaxation stopped at its step limit."""


class ExplosionError(EquicalcError):
    """A molecular dynamics run left the physical range (not finite, or absurdly hot)."""


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
    _require_calculator(atoms)
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


@dataclass
class MDSettings:
    """What a molecular dynamics run does.

    Parameters
    ----------
    ensemble : {"nve", "nvt", "npt"}
        Velocity Verlet; Nose-Hoover chain or Langevin; Martyna-Tobias-Klein.
    temperature : float
        Of the initial velocities and of the thermostat, K.
    pressure_gpa : float
        External pressure of npt, GPa.
    timestep_fs : float
        Time step, fs.
    steps : int
        Number of steps.
    thermostat : {"nose-hoover", "langevin"}
        For nvt; npt always has Nose-Hoover chains.
    barostat : {"isotropic", "full"}
        For npt: only the volume, or all six cell variables.
    tau_t_fs, tau_p_fs : float
        Time scales of thermostat and barostat, fs. Langevin's friction is 1 / tau_t.
    seed : int
        Of the initial velocities and of Langevin's noise.
    keep_velocities : bool
        Start from the velocities the structure has instead of drawing new ones.
    interval : int
        Steps between records.
    """

    ensemble: str = "nve"
    temperature: float = 300.0
    pressure_gpa: float = 0.0
    timestep_fs: float = 1.0
    steps: int = 1000
    thermostat: str = "nose-hoover"
    barostat: str = "isotropic"
    tau_t_fs: float = 100.0
    tau_p_fs: float = 1000.0
    seed: int = 1
    keep_velocities: bool = False
    interval: int = 10

    def check(self) -> None:
        """Raise ConfigError when a value is unknown or impossible."""
        for name, allowed in (
            ("ensemble", ENSEMBLES),
            ("thermostat", THERMOSTATS),
            ("barostat", BAROSTATS),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is '{getattr(self, name)}'; expected one of {', '.join(allowed)}"
                )
        for name in ("timestep_fs", "tau_t_fs", "tau_p_fs", "interval"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a positive number")
        for name in ("temperature", "steps"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected zero or more")
        if not np.isfinite(self.pressure_gpa):
            raise ConfigError(f"pressure_gpa is {self.pressure_gpa}; expected a finite number")
        if self.pressure_gpa != 0.0 and self.ensemble != "npt":
            raise ConfigError(
                f"a pressure of {self.pressure_gpa:g} GPa acts only in the ensemble npt, found "
                f"{self.ensemble}; choose npt (CLI: --ensemble npt)"
            )


COLUMNS = (
    "step",
    "time_ps",
    "temperature_K",
    "potential_energy_eV",
    "kinetic_energy_eV",
    "total_energy_eV",
    "conserved_energy_eV",
    "volume_A3",
    "pressure_GPa",
)


def run_md(
    atoms: Atoms,
    settings: MDSettings,
    *,
    on_record: Callable[[Atoms, dict[str, float]], None] | None = None,
) -> dict[str, np.ndarray]:
    """Run molecular dynamics; the argument's positions, velocities and cell move along.

    The conserved energy is the total energy for nve, the extended energy for Nose-Hoover chains
    and Martyna-Tobias-Klein (their numerical quality shows there), and NaN for Langevin, which
    has none. NPT pressures include the kinetic part.

    Parameters
    ----------
    atoms : Atoms
        Structure with a calculator.
    settings : MDSettings
        What to run.
    on_record : callable, optional
        Called at step 0 and every `settings.interval` steps with the atoms and the record (keys
        as in the result).

    Returns
    -------
    dict of str to array [n_records]
        Keys: step, time_ps, temperature_K, potential_energy_eV, kinetic_energy_eV,
        total_energy_eV, conserved_energy_eV, volume_A3, pressure_GPa (NaN without a full cell).

    Raises
    ------
    ConfigError
        An impossible setting, or npt for a structure that is not periodic.
    ExplosionError
        Energies are not finite or the temperature passes 1e5 K.
    """
    _require_calculator(atoms)
    settings.check()
    periodic = bool(atoms.pbc.all()) and atoms.cell.rank == 3
    if settings.ensemble == "npt" and not periodic:
        raise ConfigError(
            f"npt needs three periodic directions, found pbc {atoms.pbc.tolist()}; use nvt"
        )
    rng = np.random.default_rng(settings.seed)
    if not settings.keep_velocities:
        draw_velocities(atoms, settings.temperature, rng)
    dynamics = make_integrator(atoms, settings, rng)
    records: list[dict[str, float]] = []

    def record() -> None:
        if dynamics.nsteps % settings.interval:
            return
        records.append(_measure(atoms, dynamics, settings, periodic))
        if on_record is not None:
            on_record(atoms, records[-1])

    dynamics.attach(record)
    with centre_at_rest(atoms, settings):
        dynamics.run(settings.steps)
    return {key: np.array([r[key] for r in records]) for key in COLUMNS}


def _require_calculator(atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise DataError("the structure has no atoms")
    if atoms.calc is None:
        raise DataError("the structure has no calculator; set atoms.calc = EquiCalculator(MODEL)")


def _measure(atoms: Atoms, dynamics: Any, settings: MDSettings, periodic: bool) -> dict[str, float]:
    """Return one record; raise ExplosionError when the run has left the physical range."""
    potential = float(atoms.get_potential_energy())
    kinetic = float(atoms.get_kinetic_energy())
    temperature = temperature_of(atoms)
    if not np.isfinite(potential + kinetic) or temperature > EXPLOSION_TEMPERATURE:
        raise ExplosionError(
            f"the run exploded at step {dynamics.nsteps}: potential energy {potential:.6g} eV, "
            f"temperature {temperature:.6g} K. Relax the structure first, or take a smaller "
            f"timestep than {settings.timestep_fs:g} fs"
        )
    conserved = potential + kinetic
    if hasattr(dynamics, "get_conserved_energy"):
        conserved = dynamics.get_conserved_energy()
    elif settings.ensemble != "nve":
        conserved = float("nan")
    pressure = volume = float("nan")
    if periodic:
        volume = float(atoms.get_volume())
        stress = atoms.get_stress(voigt=False, include_ideal_gas=True)
        pressure = -float(np.trace(stress)) / 3.0 / units.GPa
    values = (
        dynamics.nsteps,
        dynamics.nsteps * settings.timestep_fs / 1000.0,
        temperature,
        potential,
        kinetic,
        potential + kinetic,
        conserved,
        volume,
        pressure,
    )
    return dict(zip(COLUMNS, values, strict=True))
