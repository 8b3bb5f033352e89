"""Networks of other codes from both kinds of files: ``python -m benchmarks.speed.files``.

The same weights (random ones, in the shape of SevenNet-0, of a MACE and of a small NequIP) as
``model.pt``, which is scripted, and as ``model.pt2``, which is compiled. Energy, forces and stress
of rattled rock salt through ASE, processor time of one thread; the files take turns, since the
speed of a shared machine changes within minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.common import markdown_table, processor, quartiles, write_json, write_text
from benchmarks.speed.network import ELEMENTS, SIDES, salt
from equicalc import EquiCalculator
from equicalc.deploy import export_network
from equicalc.nn.architectures import Settings, build
from equicalc.nn.gated_config import GatedNetworkConfig
from equicalc.nn.mace_config import MaceConfig

SUFFIXES = (".pt", ".pt2")
DTYPES = ("float32", "float64")
SILU_AND_TANH = {"e": ["silu", 1.679], "o": ["tanh", 1.594]}


def sevennet() -> Settings:
    """Return the shape of SevenNet-0."""
    return GatedNetworkConfig(
        elements=ELEMENTS,
        parity=False,
        features=["128x0e", *["128x0e+64x1e+32x2e"] * 4, "128x0e"],
        own=["linear"] * 5,
        scalars=SILU_AND_TANH,
        gates=SILU_AND_TANH,
        cutoff_function="xplor",
        cutoff_parameter=4.5,
        radial_hidden=[64, 64],
    )


def mace() -> Settings:
    """Return the shape of a MACE of 128x0e+128x1o, harmonics to degree 3, products of three."""
    features = "128x0e+128x1o"
    layers = [{"sent": "128x0e", "features": features}, {"sent": features, "features": "128x0e"}]
    return MaceConfig(elements=ELEMENTS, channels=128, layers=layers)  # type: ignore[arg-type]


def nequip() -> Settings:
    """Return the shape of a NequIP of 64 channels, l_max 1, 2 layers."""
    return GatedNetworkConfig(
        elements=ELEMENTS,
        l_max=1,
        features=["64x0e", "64x0e+64x0o+64x1o+64x1e", "64x0e"],
        own=["species", "species"],
        scalars=SILU_AND_TANH,
        gates=SILU_AND_TANH,
        radial_hidden=[64, 64],
    )


NETWORKS = {"SevenNet-0": sevennet, "MACE 128x0e+128x1o": mace, "NequIP 64, l_max 1": nequip}


def export(name: str, folder: Path) -> list[Path]:
    """Write both files of a network, unless they are there."""
    files = [folder / f"{name.split()[0]}{suffix}" for suffix in SUFFIXES]
    for path in files:
        if not path.is_file():
            torch.manual_seed(0)
            export_network(build(NETWORKS[name]()), path)
    return files


def compare(files: list[Path], n_atoms: int, dtype: str, seconds: float) -> dict[str, Any]:
    """Quartiles of the time per atom (microseconds) from each file, and of the ratio of turns."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    structures = []
    for path in files:
        atoms = salt(SIDES[n_atoms])
        atoms.calc = EquiCalculator(path, dtype=dtype, check=False)
        structures.append(atoms)

    def turn() -> list[float]:
        times = []
        for atoms in structures:
            atoms.positions += random.normal(scale=1e-4, size=atoms.positions.shape)
            start = time.thread_time()
            atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
            times.append(1e6 * (time.thread_time() - start) / len(atoms))
        return times

    turn(), turn()
    turns: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(turns) < 5 or time.perf_counter() < end:
        turns.append(turn())
    found: dict[str, Any] = {
        f"model{suffix}": quartiles(times)
        for suffix, times in zip(SUFFIXES, zip(*turns, strict=True), strict=True)
    }
    return {**found, "ratio": quartiles([second / first for first, second in turns])}


def page(results: dict[str, Any]) -> str:
    """Return the table in markdown."""
    rows = [
        [
            r["network"],
            r["dtype"],
            r["atoms"],
            *("{1:.1f} ({0:.1f} to {2:.1f})".format(*r[f"model{s}"]) for s in SUFFIXES),
            "{1:.2f} ({0:.2f} to {2:.2f})".format(*r["ratio"]),
        ]
        for r in results["times"]
    ]
    sizes = ", ".join(
        f"{name} {scripted:.1f} and {compiled:.1f} MB"
        for name, (scripted, compiled) in results["megabytes"].items()
    )
    header = ["network", "precision", "atoms", "model.pt", "model.pt2", "ratio of turns"]
    return (
        "Networks of other architectures (random weights) through ASE from model.pt and from "
        "model.pt2: energy, forces and stress of rattled NaCl, one thread, µs per atom, medians "
        "and quartiles of turns; made by `python -m benchmarks.speed.files` on "
        f"{results['processor']}, torch {results['torch']}. Sizes of the files: {sizes}.\n\n"
        + markdown_table(header, rows)
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each comparison")
    parser.add_argument("--atoms", type=int, nargs="+", default=[64, 512], choices=SIDES)
    parser.add_argument("--files", type=Path, help="folder in which files are kept")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "processor": processor(),
        "torch": torch.__version__,
        "megabytes": {},
        "times": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        written = {name: export(name, folder) for name in NETWORKS}
        for name, files in written.items():
            results["megabytes"][name] = [path.stat().st_size / 1e6 for path in files]
            for dtype in DTYPES:
                for n_atoms in options.atoms:
                    row = {"network": name, "dtype": dtype, "atoms": n_atoms}
                    row.update(compare(files, n_atoms, dtype, options.seconds))
                    results["times"].append(row)
                    print(json.dumps(row), flush=True)
    write_json("files", results)
    print(f"wrote {write_text('files', page(results))}")


if __name__ == "__main__":
    main()
