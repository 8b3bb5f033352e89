"""Molecular dynamics with any ASE calculator, with the choices made here once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units

from equicalc.errors import ConfigError, ExplosionError
from equicalc.integrators import (
    centre_at_rest,
    draw_velocities,
    make_integrator,
    temperature_of,
)
from equicalc.relaxation import require_calculator

ENSEMBLES = ("nve", "nvt", "npt")
THERMOSTATS = ("nose-hoover", "langevin")
BAROSTATS = ("isotropic", "full")

# A run whose temperature passes this has exploded; no melt of interest is near it.
EXPLOSION_TEMPERATURE = 1.0e5  # K


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
    require_calculator(atoms)
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
