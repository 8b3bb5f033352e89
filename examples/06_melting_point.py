"""Melting point of NaCl in LAMMPS from crystal and melt in one cell.

    python examples/06_melting_point.py

Runs the deck examples/in.nacl_coexistence in examples/output/06_melting_point: 576 ions, half of
them molten, at constant enthalpy and zero pressure. While both phases are there, the temperature
goes to the melting point of the model. Takes about half an hour on two cores. Error bars are those
of block averages; a cell of this size is known to be good to some 20 K. `--guess` starts nearer to
the melting point of another model, where one of the phases would be gone too soon.
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
from equicalc.lammps_run import run_deck

TIMESTEP_PS = 0.002  # as in the deck
CELLS = (3, 3, 8)  # unit cells of the crystal, as in the deck
SLICES = 16
# Between a crystal near its melting point (0.6 to 0.8) and a melt of 36 ions in a slice (0.15)
ORDERED = 0.4
BLOCKS = 5


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nakcl", help="model file or shipped name")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--guess", type=float, default=900.0, help="K")
    parser.add_argument("--steps", type=int, default=40_000, help="at constant enthalpy, 2 fs each")
    options = parser.parse_args()
    story = Story("06_melting_point", 2)
    deck = story.folder / "in.nacl_coexistence"
    shutil.copy(HERE / deck.name, deck)

    total = 7000 + options.steps
    story.chapter(f"{total} steps of {deck.name} on {options.ranks} ranks")
    words = ["-var", "model", options.model, "-var", "guess", f"{options.guess:g}"]
    words += ["-var", "steps", str(options.steps)]
    progress = ThermoProgress(total, "LAMMPS coexistence")
    run = run_deck(deck, options.ranks, arguments=words, on_line=progress)

    story.chapter("temperature and phases")
    frames = read(story.folder / "nacl_coexistence.dump", ":", format="lammps-dump-text")
    thermo = run.thermo[-1]
    half = len(thermo["Temp"]) // 2
    means = [block.mean() for block in np.array_split(thermo["Temp"][half:], BLOCKS)]
    error = np.std(means, ddof=1) / np.sqrt(BLOCKS)
    profiles = np.array([order_along_z(atoms) for atoms in frames])
    share = (profiles > ORDERED).mean(axis=1)
    last = share[len(share) // 2 :]
    rows = [["melting point (K)", f"{np.mean(means):.0f} ± {error:.0f}"]]
    rows += [["experiment (K)", "1074"]]
    rows += [["crystalline at the start, at the end", f"{share[0]:.0%}, {share[-1]:.0%}"]]
    text = table([f"NaCl, {len(frames[0])} atoms", Path(options.model).stem], rows)
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)
    if last.min() < 0.1 or last.max() > 0.9:
        gone = "crystal" if last.min() < 0.1 else "melt"
        turn = "lower" if gone == "crystal" else "higher"
        print(
            f"The {gone} was gone before the end: the temperature is no melting point. "
            f"Try a {turn} one: --guess {options.guess + (-75 if turn == 'lower' else 75):g}"
        )
    story.end([plots.save(picture(thermo, profiles), story.folder / "coexistence.png")])


def order_along_z(atoms: Atoms) -> np.ndarray:
    """Return the order of each of SLICES along z: |sum exp(i k r)| / n, mean of two k in the plane.

    k are the first that the sodium ions of the crystal share with the chloride ions, (2, 0) and
    (0, 2) in units of 2 pi over the lattice constant: 1 in a crystal at rest, about 1 / sqrt(n) in
    a melt.
    """
    scaled = atoms.get_scaled_positions()
    index = np.minimum((scaled[:, 2] * SLICES).astype(int), SLICES - 1)
    counts = np.bincount(index, minlength=SLICES)
    found = np.zeros(SLICES)
    for axis in (0, 1):
        waves = np.exp(2j * np.pi * 2 * CELLS[axis] * scaled[:, axis])
        sums = np.bincount(index, waves.real, SLICES) + 1j * np.bincount(index, waves.imag, SLICES)
        found += 0.5 * np.abs(sums) / np.maximum(counts, 1)
    return found


def picture(thermo: dict[str, np.ndarray], profiles: np.ndarray):
    """Return temperature against time, and order against time and height."""
    figure, axes = plots.new_figure(2, 1, (7.0, 5.0))
    times = (thermo["Step"] - thermo["Step"][0]) * TIMESTEP_PS
    axes[0, 0].plot(times, thermo["Temp"], color=plots.COLOURS[0], linewidth=0.8)
    axes[0, 0].set_ylabel("temperature (K)", fontsize=9)
    image = axes[1, 0].imshow(
        profiles.T, aspect="auto", origin="lower", extent=(0.0, times[-1], 0.0, 1.0), vmin=0, vmax=1
    )
    axes[1, 0].set_ylabel("height (of the cell)", fontsize=9)
    axes[1, 0].set_xlabel("time (ps)")
    figure.colorbar(image, ax=axes[1, 0], label="order (crystal: near 1)")
    figure.suptitle("NaCl: crystal and melt at constant enthalpy", fontsize=10)
    return figure


if __name__ == "__main__":
    main()
