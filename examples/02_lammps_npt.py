"""A LAMMPS input deck: KCl at 300 K and constant pressure, on two MPI ranks.

    python examples/02_lammps_npt.py

The deck, examples/in.kcl_npt, needs no Python: this script runs it in examples/output/02_lammps_npt
and draws what it wrote.
"""

from __future__ import annotations

import argparse
import shutil

import numpy as np
from ase.io import read
from shared import HERE, Story, ThermoProgress

from equicalc import plots
from equicalc.analysis import partial_rdfs
from equicalc.lammps_run import run_deck

TIMESTEP_PS = 0.002  # as in the deck


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    story = Story("02_lammps_npt", 2)
    deck = story.folder / "in.kcl_npt"
    shutil.copy(HERE / deck.name, deck)

    story.chapter(f"running {deck.name} on {options.ranks} ranks")
    words = ["-var", "model", options.model, "-var", "steps", str(options.steps)]
    progress = ThermoProgress(options.steps, "LAMMPS NPT")
    thermo = run_deck(deck, options.ranks, arguments=words, on_line=progress).thermo[-1]

    story.chapter("averages over the second half, and pictures")
    frames = read(story.folder / "kcl_npt.dump", ":", format="lammps-dump-text")
    n_atoms = len(frames[0])
    half = slice(len(thermo["Step"]) // 2, None)
    volume = thermo["Volume"][half].mean()
    print(f"  lattice constant {np.cbrt(8 * volume / n_atoms):.4f} Å")
    print(f"  temperature      {thermo['Temp'][half].mean():.1f} K")
    print(f"  pressure         {thermo['Press'][half].mean():.0f} bar")
    print(f"  largest charge   {thermo['c_q_of_K'][half].mean():.4f} e")
    records = {
        "time_ps": thermo["Step"] * TIMESTEP_PS,
        "potential_energy_eV": thermo["PotEng"],
        "temperature_K": thermo["Temp"],
        "volume_A3": thermo["Volume"],
    }
    series = plots.time_series({f"LAMMPS, {options.ranks} ranks": records}, n_atoms, "KCl, NPT")
    radii, functions = partial_rdfs(frames[len(frames) // 2 :], r_max=9.0)
    story.end(
        [
            plots.save(series, story.folder / "energy_temperature_volume.png"),
            plots.save(
                plots.rdfs(radii, {"300 K": functions}, "KCl"),
                story.folder / "radial_distribution.png",
            ),
        ]
    )


if __name__ == "__main__":
    main()
