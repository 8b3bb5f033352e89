"""Thermal conductivity of crystalline KCl from the heat flux in equilibrium (Green and Kubo).

    python examples/07_thermal_conductivity.py

Runs the deck examples/in.kcl_heat_flux several times from different velocities, in
examples/output/07_thermal_conductivity. Each run gives three directions; the conductivity is

    kappa = V / (3 k T^2) integral of <j(0) . j(t)> dt,    j = J / V,

J the current of `compute heat/flux`. The error is that of the mean over runs and directions. Takes
about half an hour on two cores. 216 ions hold few long waves, which carry much of the heat of a
crystal: longer runs of larger cells (`--runs`, `--steps`) say how far that matters.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from ase import units
from shared import HERE, Story, ThermoProgress, table

from equicalc import plots
from equicalc.lammps_run import run_deck

STEP_PS = 0.002
EVERY_PS = 0.02  # between outputs of the flux: 10 steps of 2 fs, as in the deck
# 1 eV^2/(A^4 ps) A^3 / (eV/K K^2) = 1 eV/(ps A K) in W/(m K)
FACTOR = 1.602176634e-19 / 1e-12 / 1e-10


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--runs", type=int, default=3, help="from different velocities")
    parser.add_argument("--steps", type=int, default=50_000, help="of each run, 2 fs each")
    parser.add_argument(
        "--longest", type=float, default=10.0, help="upper limit of the integral, ps"
    )
    options = parser.parse_args()
    length = options.steps * STEP_PS
    if options.longest > 0.5 * length:
        parser.error(
            f"runs of {length:g} ps allow integrals up to {0.5 * length:g} ps, found --longest "
            f"{options.longest:g}; type --longest {0.5 * length:g} or more --steps"
        )
    story = Story("07_thermal_conductivity", options.runs + 1)
    deck = story.folder / "in.kcl_heat_flux"
    shutil.copy(HERE / deck.name, deck)
    integrals = []
    for seed in range(1, options.runs + 1):
        story.chapter(f"run {seed}: {options.steps} steps on {options.ranks} ranks")
        words = ["-var", "model", options.model, "-var", "steps", str(options.steps)]
        words += ["-var", "temperature", f"{options.temperature:g}", "-var", "seed", str(seed)]
        progress = ThermoProgress(5000 + options.steps, f"LAMMPS heat flux {seed}")
        thermo = run_deck(deck, options.ranks, arguments=words, on_line=progress).thermo[-1]
        integrals.append(conductivity_integrals(thermo, options.longest))

    story.chapter("conductivity")
    curves = np.concatenate(integrals)  # [3 runs, n_lags]
    times = EVERY_PS * np.arange(curves.shape[1])
    plateau = times > 0.5 * options.longest
    values = curves[:, plateau].mean(axis=1)
    error = values.std(ddof=1) / np.sqrt(len(values))
    name = Path(options.model).stem
    rows = [["thermal conductivity (W/(m K))", f"{values.mean():.2f} ± {error:.2f}"]]
    rows += [["temperature (K)", f"{options.temperature:g}"]]
    rows += [["integral up to (ps)", f"{0.5 * options.longest:g} to {options.longest:g}"]]
    text = table(["KCl, 216 atoms", name], rows)
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)
    story.end([plots.save(picture(times, curves), story.folder / "conductivity.png")])


def conductivity_integrals(thermo: dict[str, np.ndarray], longest: float) -> np.ndarray:
    """Return the running integrals of each direction, W/(m K), ``[3, n_lags]``."""
    flux = np.array([thermo[f"c_j[{k}]"] for k in (1, 2, 3)])
    volume = float(thermo["Volume"].mean())
    temperature = float(thermo["Temp"].mean())
    n_lags = min(int(longest / EVERY_PS) + 1, flux.shape[1] // 2)
    found = []
    for current in flux:
        products = autocorrelation(current, n_lags)
        steps = 0.5 * (products[1:] + products[:-1]) * EVERY_PS
        found.append(np.concatenate([[0.0], np.cumsum(steps)]))
    # J is V j: <J J> / V for V <j j>
    return FACTOR * np.array(found) / (volume * units.kB * temperature**2)


def autocorrelation(values: np.ndarray, n_lags: int) -> np.ndarray:
    """Return <a(0) a(t)> over all origins, for lags of 0 to n_lags - 1 outputs."""
    n = len(values)
    spectrum = np.abs(np.fft.rfft(values, 2 * n)) ** 2
    return np.fft.irfft(spectrum)[:n_lags] / (n - np.arange(n_lags))


def picture(times: np.ndarray, curves: np.ndarray):
    """Return the running integrals and their mean."""
    figure, axes = plots.new_figure(1, 1, (6.4, 3.8))
    axis = axes[0, 0]
    axis.plot(times, curves.T, color="0.75", linewidth=0.8)
    axis.plot(times, curves.mean(axis=0), color=plots.COLOURS[0], label="mean")
    axis.set_xlabel("upper limit of the integral (ps)")
    axis.set_ylabel("thermal conductivity (W/(m K))")
    axis.set_title("KCl: runs and directions", fontsize=10)
    axis.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
