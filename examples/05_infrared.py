"""Infrared spectrum of alpha quartz from the polarisation along a molecular dynamics run.

    python examples/05_infrared.py

The model `sio2` has learned energies, forces, stress, polarisation and Born charges together. The
absorption follows from the fluctuations of the dipole M of the cell,

    alpha(w) n(w) ~ | integral dM/dt exp(i w t) dt |^2   (classical, linear response),

where jumps of M by e times lattice vectors - atoms that cross the boundary - are removed. The
spectrum is averaged over the run and broadened; experimental peaks of alpha quartz are marked.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase import units
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from matplotlib.figure import Figure
from shared import DATA, Story, bar, table

from equicalc import EquiCalculator, plots

# Transverse optical modes of alpha quartz that absorb strongly, cm^-1: F. Gervais, B. Piriou,
# Phys. Rev. B 11, 3944 (1975).
EXPERIMENT = (394.0, 450.0, 697.0, 797.0, 1065.0)
TIMESTEP = 1.0  # fs
WIDTH = 12.0  # cm^-1, of the Gaussian that broadens the spectrum
CM_PER_INVERSE_FS = 33356.40952  # wavenumber of 1/fs


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sio2", help="model file or shipped name")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--equilibration", type=int, default=500, help="steps")
    parser.add_argument("--steps", type=int, default=4000, help="steps of 1 fs that are analysed")
    options = parser.parse_args()
    story = Story("05_infrared", 2)

    story.chapter(f"{options.equilibration + options.steps} steps of 72 atoms")
    dipoles = run(options)
    np.save(story.folder / "dipoles.npy", dipoles)

    story.chapter("spectrum")
    wavenumbers, spectrum = absorption(dipoles, TIMESTEP)
    found = peaks(wavenumbers, spectrum)
    rows = [[f"{v:.0f}", f"{min(found, key=lambda p: abs(p - v)):.0f}"] for v in EXPERIMENT]
    text = table(["experiment, TO (cm⁻¹)", "nearest peak"], rows, "infrared peaks of alpha quartz")
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)
    story.end([plots.save(picture(wavenumbers, spectrum), story.folder / "infrared.png")])


def run(options: argparse.Namespace) -> np.ndarray:
    """Return the dipole of the cell after every step, [steps, 3] in e angstrom."""
    atoms = read(DATA / "sio2_72.xyz.gz", "0")
    atoms.calc = EquiCalculator(options.model, dtype="float32")
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=options.temperature, rng=rng)
    progress = bar(options.equilibration + options.steps, "ASE")
    thermostat = Langevin(
        atoms,
        TIMESTEP * units.fs,
        temperature_K=options.temperature,
        friction=0.02 / units.fs,
        rng=rng,
    )
    thermostat.attach(progress.update, 1, 1)
    thermostat.run(options.equilibration)
    dipoles: list[np.ndarray] = []

    def record() -> None:
        dipole = atoms.calc.results["polarization"].copy()
        if dipoles:
            quanta = np.round(np.linalg.solve(atoms.cell[:].T, dipole - dipoles[-1]))
            dipole -= quanta @ atoms.cell[:]
        dipoles.append(dipole)
        progress.update(1)

    # no thermostat while the spectrum is taken: friction broadens it
    dynamics = VelocityVerlet(atoms, TIMESTEP * units.fs)
    dynamics.attach(record, 1)
    dynamics.run(options.steps)
    progress.close()
    return np.array(dipoles)


def absorption(dipoles: np.ndarray, timestep: float) -> tuple[np.ndarray, np.ndarray]:
    """Return wavenumbers (cm^-1) and the broadened spectrum of dM/dt, largest value 1."""
    velocity = np.gradient(dipoles, timestep, axis=0)
    window = np.hanning(len(velocity))[:, None]
    power = (np.abs(np.fft.rfft((velocity - velocity.mean(axis=0)) * window, axis=0)) ** 2).sum(1)
    wavenumbers = np.fft.rfftfreq(len(velocity), timestep) * CM_PER_INVERSE_FS
    grid = np.arange(100.0, 1400.0, 2.0)
    weights = np.exp(-0.5 * ((grid[:, None] - wavenumbers) / WIDTH) ** 2)
    spectrum = weights @ power / weights.sum(axis=1)
    return grid, spectrum / spectrum.max()


def peaks(wavenumbers: np.ndarray, spectrum: np.ndarray) -> list[float]:
    """Return the wavenumbers of maxima above 2 % of the largest."""
    inner = spectrum[1:-1]
    top = (inner > spectrum[:-2]) & (inner > spectrum[2:]) & (inner > 0.02)
    return wavenumbers[1:-1][top].tolist()


def picture(wavenumbers: np.ndarray, spectrum: np.ndarray) -> Figure:
    """Return the spectrum with experimental peaks as lines."""
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(wavenumbers, spectrum, label="model")
    for index, value in enumerate(EXPERIMENT):
        axes.axvline(
            value, color="0.6", ls="--", lw=1, label="" if index else "experiment (TO modes)"
        )
    axes.set_xlabel("wavenumber (cm⁻¹)")
    axes.set_ylabel("absorption (arbitrary units)")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
