"""Drift of the total energy over a nanosecond of KCl at 900 K in LAMMPS.

    python -m benchmarks.lammps.constant_energy        (half an hour on one core)

216 atoms of the shipped `kcl` model, float32, `kspace_style equicalc 1e-5`, 2 fs: 10 ps with a
thermostat, then constant energy. The drift is the slope of a line through the total energy; the rms
about the line is what a time step of this length leaves. Writes constant_energy.{md,json,png} to
benchmarks/results/lammps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from equicalc import plots
from equicalc.lammps_run import LammpsRun, run_deck, write_data
from equicalc.models import resolve

RESULTS = Path(__file__).resolve().parent.parent / "results" / "lammps"
OUTPUT = Path(__file__).resolve().parent.parent / "output" / "constant_energy"
LATTICE_CONSTANT = 6.35
REPEATS = 3
PREPARATION_PS = 10.0

DECK = """\
units           metal
atom_style      charge
read_data       start.data
pair_style      equicalc precision {precision}
pair_coeff      * * {model} K Cl
kspace_style    equicalc 1.0e-5
timestep        {timestep}
velocity        all create 1800 20261 mom yes rot no dist gaussian   # half goes into the lattice
thermo          250
thermo_style    custom step temp pe etotal vol press
thermo_modify   flush yes lost error format float %.10g

fix             heat all nvt temp 900 900 0.1
run             {preparation}
unfix           heat
velocity        all zero linear
reset_timestep  0
fix             energy all nve
run             {steps}
"""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--precision", default="float32", choices=("float64", "float32"))
    parser.add_argument("--timestep", type=float, default=2.0, help="fs")
    parser.add_argument("--picoseconds", type=float, default=1000.0)
    options = parser.parse_args()
    atoms = bulk("KCl", "rocksalt", a=LATTICE_CONSTANT, cubic=True).repeat(REPEATS)
    n_atoms = len(atoms)
    run = run_at_constant_energy(options, atoms)
    thermo = run.thermo[-1]
    times = thermo["Step"] * options.timestep / 1000.0
    energies = 1000.0 * (thermo["TotEng"] - thermo["TotEng"][0]) / n_atoms
    slope, start = np.polyfit(times, energies, 1)
    found = {
        "picoseconds": float(times[-1]),
        "drift_meV_per_atom_ns": float(1000.0 * slope),
        "rms_meV_per_atom": float(np.std(energies - slope * times - start)),
        "temperature_K": float(thermo["Temp"].mean()),
    }
    text = "\n".join(
        [
            f"`{options.model}`, {n_atoms} atoms, {options.precision}, "
            f"`kspace_style equicalc 1e-5`, {options.timestep:g} fs, {options.ranks} rank(s).",
            "",
            "| length (ps) | mean T (K) | drift (meV/atom/ns) | rms about it (meV/atom) |",
            "|---|---|---|---|",
            f"| {found['picoseconds']:.0f} | {found['temperature_K']:.0f} "
            f"| {found['drift_meV_per_atom_ns']:+.4f} | {found['rms_meV_per_atom']:.4f} |",
        ]
    )
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "constant_energy.md").write_text(text + "\n")
    settings = {key: str(value) for key, value in vars(options).items()}
    (RESULTS / "constant_energy.json").write_text(
        json.dumps({"settings": settings, **found}, indent=1) + "\n"
    )
    plots.save(picture(times, energies, thermo["Temp"]), RESULTS / "constant_energy.png")


def run_at_constant_energy(options: argparse.Namespace, atoms: Atoms) -> LammpsRun:
    """Write structure and deck, run them, show a line for each 10 ps."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    write_data(OUTPUT / "start.data", atoms, ["K", "Cl"])
    deck = OUTPUT / "in.constant_energy"
    per_ps = 1000.0 / options.timestep
    deck.write_text(
        DECK.format(
            precision=options.precision,
            model=resolve(options.model).resolve(),
            timestep=options.timestep / 1000.0,
            preparation=round(PREPARATION_PS * per_ps),
            steps=round(options.picoseconds * per_ps),
        )
    )

    def show(line: str) -> None:
        words = line.split()
        if len(words) == 6 and words[0].isdigit() and int(words[0]) % round(10 * per_ps) == 0:
            print(f"  {line}", flush=True)

    return run_deck(deck, options.ranks, on_line=show)


def picture(times: np.ndarray, energies: np.ndarray, temperatures: np.ndarray):
    """Return total energy and temperature against time."""
    figure, axes = plots.new_figure(2, 1, (7.0, 4.6))
    series = (("total energy\n(meV/atom, from the start)", energies),)
    series += (("temperature (K)", temperatures),)
    for axis, (label, values) in zip(axes[:, 0], series, strict=True):
        axis.plot(times, values, color=plots.COLOURS[0], linewidth=0.8)
        axis.set_ylabel(label, fontsize=9)
    axes[-1, 0].set_xlabel("time (ps)")
    figure.suptitle("KCl at constant energy, 900 K", fontsize=10)
    return figure


if __name__ == "__main__":
    main()
