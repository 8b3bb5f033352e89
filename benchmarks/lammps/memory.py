"""Memory of `pair_style equicalc`: what an atom costs, and a million atoms in one process.

    python -m benchmarks.lammps.memory                    (50,000 and 200,000 atoms)
    python -m benchmarks.lammps.memory --cells 50 --steps 1   (a million)

A random network of the default architecture with predicted charges (2 layers, degree 2, 64
channels, cutoff 5 A) runs a few steps of rattled KCl in float32 with `pppm 1e-4`, in one process.
Peaks are those that the system reports at the end of the run; an atom costs the slope between two
sizes. Each measurement is kept in benchmarks/results/lammps/memory.json as soon as it is made;
writes memory.md beside it.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch

from equicalc.deploy import export_network
from equicalc.lammps_run import run_deck
from equicalc.nn import EquiNetwork, NetworkConfig

RESULTS = Path(__file__).resolve().parent.parent / "results" / "lammps"
OUTPUT = Path(__file__).resolve().parent.parent / "output" / "lammps_memory"

DECK = """units metal
atom_style charge
lattice custom 6.29 basis 0 0 0 basis 0 0.5 0.5 basis 0.5 0 0.5 basis 0.5 0.5 0 &
  basis 0.5 0 0 basis 0 0.5 0 basis 0 0 0.5 basis 0.5 0.5 0.5
region all block 0 {cells} 0 {cells} 0 {cells}
create_box 2 all
create_atoms 1 box basis 5 2 basis 6 2 basis 7 2 basis 8 2
mass 1 39.0983
mass 2 35.45
displace_atoms all random 0.05 0.05 0.05 1
pair_style equicalc precision float32
pair_coeff * * {model} K Cl
kspace_style pppm 1.0e-4
velocity all create 300 7
fix 1 all nve
timestep 0.001
thermo 1
thermo_style custom step atoms temp pe etotal press
run {steps}
shell "grep -E 'VmHWM' /proc/$PPID/status"
"""


def model_file() -> Path:
    """Write the network once."""
    path = OUTPUT / "default.pt"
    if not path.exists():
        torch.manual_seed(1)
        network = EquiNetwork(NetworkConfig(elements=["K", "Cl"], charge_model="predicted"))
        network.set_statistics({"K": 0.0, "Cl": 0.0}, 0.5, 18.0, {"K": 0.7, "Cl": -0.7})
        OUTPUT.mkdir(parents=True, exist_ok=True)
        export_network(network, path)
    return path


def peak_kb(log: str) -> int:
    """Peak of the resident memory that the deck printed, kB."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", log)[-1])


def measure(cells: int, steps: int) -> dict:
    """Peak and time of a run of 8 cells^3 atoms."""
    model = model_file()
    deck = OUTPUT / "in.memory"
    deck.write_text(DECK.format(cells=cells, model=model, steps=steps))
    log = run_deck(deck, arguments=("-log", "none")).log
    loop = re.search(r"Loop time of ([\d.]+)", log)
    pairs = re.search(r"Ave neighs/atom = ([\d.]+)", log)
    if loop is None or pairs is None:
        raise SystemExit(f"the run of {deck} has no timing breakdown")
    return {
        "n_atoms": 8 * cells**3,
        "peak_kB": peak_kb(log),
        "seconds_per_step": float(loop.group(1)) / steps,
        "neighbours_with_skin": float(pairs.group(1)),
    }


def table(entries: list[dict]) -> str:
    """The table of all measurements, smallest first."""
    text = ["# Memory of `pair_style equicalc`", ""]
    text += ["Default architecture with predicted charges (2 layers, degree 2, 64 channels, 5 Å),"]
    text += ["rattled KCl, float32, `pppm 1e-4`, one process, a few steps of dynamics.", ""]
    text += ["| atoms | peak (GiB) | kB per atom | kB per atom beyond the smallest |"]
    text += ["|---|---|---|---|"]
    least = entries[0]
    for entry in entries:
        more = entry["n_atoms"] - least["n_atoms"]
        slope = f"{(entry['peak_kB'] - least['peak_kB']) / more:.2f}" if more else ""
        text.append(
            f"| {entry['n_atoms']} | {entry['peak_kB'] / 2**20:.2f} "
            f"| {entry['peak_kB'] / entry['n_atoms']:.2f} | {slope} |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", type=int, default=[18, 29], help="along each axis")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    stored = RESULTS / "memory.json"
    entries = json.loads(stored.read_text()) if stored.exists() else []
    for cells in options.cells:
        found = measure(cells, options.steps)
        print(found, flush=True)
        entries = [entry for entry in entries if entry["n_atoms"] != found["n_atoms"]]
        entries = sorted([*entries, found], key=lambda entry: entry["n_atoms"])
        stored.write_text(json.dumps(entries, indent=1) + "\n")
    (RESULTS / "memory.md").write_text(table(entries))


if __name__ == "__main__":
    main()
