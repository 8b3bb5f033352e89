"""Velocities, temperature and integrators of molecular dynamics with ASE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom

from equicalc.errors import ConfigError

if TYPE_CHECKING:
    from equicalc.dynamics import MDSettings


def draw_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Draw Maxwell-Boltzmann velocities without total momentum, at exactly the temperature."""
    masses = atoms.get_masses()[:, None]
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature)
    if not atoms.constraints and len(atoms) > 1:
        momenta -= masses * (momenta.sum(axis=0) / masses.sum())
    atoms.set_momenta(momenta)
    found = temperature_of(atoms)
    if found > 0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / found))


def temperature_of(atoms: Atoms) -> float:
    """Return the kinetic temperature in K; without constraints the centre of mass is at rest."""
    removed = sum(constraint.get_removed_dof(atoms) for constraint in atoms.constraints)
    if not atoms.constraints and len(atoms) > 1:
        removed = 3
    degrees = max(3 * len(atoms) - removed, 1)
    return float(2.0 * atoms.get_kinetic_energy() / (degrees * units.kB))


@contextmanager
def centre_at_rest(atoms: Atoms, settings: MDSettings) -> Iterator[None]:
    """Keep Langevin's noise from moving the centre of mass; other integrators conserve it."""
    noisy = settings.ensemble == "nvt" and settings.thermostat == "langevin"
    if not noisy or atoms.constraints or len(atoms) == 1:
        yield
        return
    atoms.set_constraint(FixCom())
    try:
        yield
    finally:
        atoms.set_constraint()


def make_integrator(atoms: Atoms, settings: MDSettings, rng: np.random.Generator) -> Any:
    """Return the ASE integrator of the settings."""
    from ase.md.langevin import Langevin
    from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
    from ase.md.verlet import VelocityVerlet

    timestep = settings.timestep_fs * units.fs
    tau_t = settings.tau_t_fs * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if settings.ensemble == "nvt" and settings.thermostat == "langevin":
        return Langevin(
            atoms,
            timestep,
            temperature_K=settings.temperature,
            friction=1.0 / tau_t,
            rng=rng,
            fixcm=False,
        )
    if atoms.constraints:
        raise ConfigError(
            "Nose-Hoover chains and npt know no constraints, found "
            f"{', '.join(type(c).__name__ for c in atoms.constraints)}; use nvt with the langevin "
            "thermostat, or remove them: atoms.set_constraint()"
        )
    if settings.temperature == 0:
        raise ConfigError("a Nose-Hoover thermostat needs a temperature above 0 K")
    dynamics: Any
    if settings.ensemble == "nvt":
        dynamics = NoseHooverChainNVT(
            atoms, timestep, temperature_K=settings.temperature, tdamp=tau_t
        )
    else:
        dynamics = (IsotropicMTKNPT if settings.barostat == "isotropic" else MTKNPT)(
            atoms,
            timestep,
            temperature_K=settings.temperature,
            pressure_au=settings.pressure_gpa * units.GPa,
            tdamp=tau_t,
            pdamp=settings.tau_p_fs * units.fs,
        )
    if len(atoms) > 1:
        # ASE shares 3 N kT/2 among the 3 N - 3 degrees of freedom that a centre of mass at rest
        # leaves, which heats N atoms to N / (N - 1) times the temperature.
        dynamics._thermostat._num_atoms_global -= 1
    return dynamics
