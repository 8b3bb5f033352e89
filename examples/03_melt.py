"""Melting (Na,K)Cl and running the melt at 1300 K in LAMMPS: structure and diffusion.

    python examples/03_melt.py

Runs the deck examples/in.nakcl_melt in examples/output/03_melt; takes about a quarter of an hour on
two cores. The pressure comes from a model of 0 K-like labels without dispersion corrections, so
expect its density to be near, not equal to, that of the experiment.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from shared import HERE, Story, ThermoProgress, table

from equicalc import plots
from equicalc.analysis import partial_rdfs
from equicalc.lammps_run import run_deck

TIMESTEP_PS = 0.001  # as in the deck
DUMP_EVERY = 50  # steps, as in the deck


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nakcl", help="model file or shipped name")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--melting", type=int, default=1000, help="steps at 2200 K")
    parser.add_argument("--cooling", type=int, default=1000, help="steps down to 1300 K")
    parser.add_argument("--steps", type=int, default=4000, help="steps at 1300 K")
    options = parser.parse_args()
    story = Story("03_melt", 2)
    deck = story.folder / "in.nakcl_melt"
    shutil.copy(HERE / deck.name, deck)

    total = options.melting + options.cooling + options.steps
    story.chapter(f"{total} steps of {deck.name} on {options.ranks} ranks")
    words = ["-var", "model", options.model]
    for name in ("melting", "cooling", "steps"):
        words += ["-var", name, str(getattr(options, name))]
    progress = ThermoProgress(total, "LAMMPS melt")
    run = run_deck(deck, options.ranks, arguments=words, on_line=progress)

    story.chapter("structure and diffusion")
    frames = read(story.folder / "nakcl_melt.dump", ":", format="lammps-dump-text")
    n_atoms = len(frames[0])
    thermo = run.thermo[-1]
    half = slice(len(thermo["Step"]) // 2, None)
    mass = frames[0].get_masses().sum()
    density = 1.66053906660 * mass / thermo["Volume"][half].mean()
    radii, functions = partial_rdfs(frames[len(frames) // 4 :], r_max=9.0)
    rows = [["temperature (K)", f"{thermo['Temp'][half].mean():.0f}"]]
    rows += [["density (g/cm³)", f"{density:.3f}"]]
    for symbol, value in diffusion(frames).items():
        rows += [[f"diffusion of {symbol} (10⁻⁵ cm²/s)", f"{value:.1f}"]]
    for pair in (("Cl", "Na"), ("Cl", "K")):
        peak = radii[np.argmax(functions[pair])]
        rows += [[f"first peak of g(r), {pair[1]}-{pair[0]} (Å)", f"{peak:.2f}"]]
    text = table([f"(Na,K)Cl, {n_atoms} atoms", Path(options.model).stem], rows)
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)

    # heating, cooling and the melt in one picture; the minimization before them has no time
    whole = {
        key: np.concatenate([part[key] for part in run.thermo[-3:]])
        for key in ("Step", "PotEng", "Temp", "Volume")
    }
    records = {
        "time_ps": whole["Step"] * TIMESTEP_PS,
        "potential_energy_eV": whole["PotEng"],
        "temperature_K": whole["Temp"],
        "volume_A3": whole["Volume"],
    }
    series = plots.time_series({"melting, cooling, 1300 K": records}, n_atoms, "(Na,K)Cl")
    picture = plots.rdfs(radii, {"1300 K": functions}, "(Na,K)Cl melt")
    story.end(
        [
            plots.save(series, story.folder / "energy_temperature_volume.png"),
            plots.save(picture, story.folder / "radial_distribution.png"),
        ]
    )


def diffusion(frames: list[Atoms]) -> dict[str, float]:
    """Return self-diffusion coefficients, 1e-5 cm^2/s, from unwrapped positions.

    Slope of the mean square displacement over lags of a quarter to a half of the trajectory,
    divided by six; averaged over time origins.
    """
    positions = np.array([atoms.positions for atoms in frames])
    positions -= positions.mean(axis=1, keepdims=True)
    lags = np.arange(max(len(frames) // 4, 1), max(len(frames) // 2, 3))
    symbols = np.array(frames[0].get_chemical_symbols())
    found = {}
    for symbol in dict.fromkeys(symbols.tolist()):
        moved = positions[:, symbols == symbol]
        squares = [np.mean(np.sum((moved[lag:] - moved[:-lag]) ** 2, axis=2)) for lag in lags]
        slope = np.polyfit(lags * DUMP_EVERY * TIMESTEP_PS, squares, 1)[0]
        found[symbol] = slope / 6.0 * 10.0  # 1 A^2/ps = 1e-4 cm^2/s
    return found


if __name__ == "__main__":
    main()
