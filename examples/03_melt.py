"""Melting (Na,K)Cl by heating in LAMMPS: structure before and after, diffusion, conductivity.

    python examples/03_melt.py
    python examples/03_melt.py --long

Runs the deck examples/in.nakcl_melt in examples/output/03_melt: a mixed crystal at 300 K, molten at
2200 K, cooled to 1300 K and run there. Takes about a quarter of an hour on two cores; `--long` runs
the melt for 100 ps, after which also the conductivity of the ions' common motion has a meaning. The
pressure comes from a model of 0 K-like labels without dispersion corrections, so expect its density
to be near, not equal to, that of the experiment.
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
    parser.add_argument("--crystal", type=int, default=1500, help="steps at 300 K")
    parser.add_argument("--melting", type=int, default=1000, help="steps at 2200 K")
    parser.add_argument("--cooling", type=int, default=1000, help="steps down to 1300 K")
    parser.add_argument("--steps", type=int, default=4000, help="steps at 1300 K")
    parser.add_argument("--long", action="store_true", help="100 ps at 1300 K")
    options = parser.parse_args()
    if options.long:
        options.steps = 100_000
    story = Story("03_melt", 2)
    deck = story.folder / "in.nakcl_melt"
    shutil.copy(HERE / deck.name, deck)

    total = options.crystal + options.melting + options.cooling + options.steps
    story.chapter(f"{total} steps of {deck.name} on {options.ranks} ranks")
    words = ["-var", "model", options.model]
    for name in ("crystal", "melting", "cooling", "steps"):
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
    crystal = read(story.folder / "nakcl_crystal.dump", ":", format="lammps-dump-text")
    _, before = partial_rdfs(crystal[len(crystal) // 2 :], r_max=9.0)
    temperature = float(thermo["Temp"][half].mean())
    rows = [["temperature (K)", f"{thermo['Temp'][half].mean():.0f}"]]
    rows += [["density (g/cm³)", f"{density:.3f}"]]
    coefficients = diffusion(frames)
    for symbol, value in coefficients.items():
        rows += [[f"diffusion of {symbol} (10⁻⁵ cm²/s)", f"{value:.1f}"]]
    rows += [
        [f"conductivity, {name} (S/cm)", f"{value:.1f}"]
        for name, value in conductivities(frames, coefficients, temperature).items()
        if options.long or name == "Nernst-Einstein"
    ]
    for pair in (("Cl", "Na"), ("Cl", "K")):
        for name, found in (("300 K", before), ("1300 K", functions)):
            peak = radii[np.argmax(found[pair])]
            rows += [[f"first peak of g(r), {pair[1]}-{pair[0]}, {name} (Å)", f"{peak:.2f}"]]
    order = {
        name: long_range_order(radii, found)
        for name, found in (("300 K", before), ("1300 K", functions))
    }
    rows += [[f"rms of g(r) - 1 from 6 to 9 Å, {n}", f"{v:.2f}"] for n, v in order.items()]
    text = table([f"(Na,K)Cl, {n_atoms} atoms", Path(options.model).stem], rows)
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)

    # heating, cooling and the melt in one picture; the minimization before them has no time
    whole = {
        key: np.concatenate([part[key] for part in run.thermo[-4:]])
        for key in ("Step", "PotEng", "Temp", "Volume")
    }
    records = {
        "time_ps": whole["Step"] * TIMESTEP_PS,
        "potential_energy_eV": whole["PotEng"],
        "temperature_K": whole["Temp"],
        "volume_A3": whole["Volume"],
    }
    series = plots.time_series({"300 K, melting, cooling, 1300 K": records}, n_atoms, "(Na,K)Cl")
    picture = plots.rdfs(
        radii, {"crystal, 300 K": before, "melt, 1300 K": functions}, "(Na,K)Cl before and after"
    )
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


def long_range_order(radii: np.ndarray, functions: dict) -> float:
    """Return the rms of g(r) - 1 beyond 6 angstrom over all pairs: large in a crystal."""
    far = radii > 6.0
    return float(np.sqrt(np.mean([(g[far] - 1.0) ** 2 for g in functions.values()])))


def conductivities(
    frames: list[Atoms], coefficients: dict[str, float], temperature: float
) -> dict[str, float]:
    """Return ionic conductivities in S/cm: of independent ions, and of their common motion.

    What an ion carries is its oxidation number, whatever charge of the model screens its
    interactions. Nernst-Einstein: sum_i n_i z_i^2 e^2 D_i / (V k T). Einstein: the slope of
    <|sum_i z_i (r_i(t) - r_i(0))|^2> over 6 V k T, with the origins and lags of `diffusion`.
    """
    symbols = np.array(frames[0].get_chemical_symbols())
    numbers = np.where(symbols == "Cl", -1.0, 1.0)
    volume = float(np.mean([atoms.get_volume() for atoms in frames]))
    # e^2/k = 1.8592e-15 C^2 K/J; 1e-5 cm^2/s over A^3, and A^2/ps over A^3, in S/cm
    factor = 1.8592e-15 / (volume * temperature)
    independent = sum(coefficients[s] for s in symbols) * 1e-5 * 1e24 * factor
    moments = np.array([numbers @ atoms.positions for atoms in frames])
    lags = np.arange(max(len(frames) // 4, 1), max(len(frames) // 2, 3))
    squares = [np.mean(np.sum((moments[lag:] - moments[:-lag]) ** 2, axis=1)) for lag in lags]
    slope = np.polyfit(lags * DUMP_EVERY * TIMESTEP_PS, squares, 1)[0]
    common = slope / 6.0 * 1e-4 * 1e24 * factor
    return {"Nernst-Einstein": independent, "Einstein": common}


if __name__ == "__main__":
    main()
