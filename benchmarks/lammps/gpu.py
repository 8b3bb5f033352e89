"""Speed of `pair_style equicalc device cuda`: ``python -m benchmarks.lammps.gpu``.

Rattled NaCl at constant energy on one rank and one GPU in float32, the networks of
`benchmarks.lammps.speed`, from 512 to 97,336 atoms, without charges and with predicted ones, whose
Coulomb energy `kspace_style equicalc` sums on the GPU and `pppm` on the CPU. Times are LAMMPS' own,
of a run after a first one that is not counted; neighbour lists are rebuilt as LAMMPS does by
default. Writes gpu.json and gpu.md of benchmarks/results/lammps.
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch

from benchmarks.lammps.speed import ELEMENTS, OUTPUT, PARTS, RESULTS, Case, model_file, structure
from benchmarks.speed.gpu import require_device
from equicalc.lammps_run import run_deck, write_data

SIDES = (4, 5, 8, 10, 16, 23)
SECONDS = 2.0  # that a measurement should last
# kspace_style -> microseconds of a step per atom, more or less
SOLVERS = {"none": 0.5, "equicalc 1e-5": 0.7, "pppm 1e-5": 16.0}
LARGEST_PPPM = 32768  # atoms
DECK = """units metal
atom_style charge
newton on
read_data structure.data
pair_style equicalc device cuda precision float32
pair_coeff * * {model} Na Cl
{kspace}
velocity all create 300 7
fix 1 all nve
timestep 0.001
thermo 100
run {warm}
run {steps}
"""


def measure(side: int, solver: str) -> dict[str, Any]:
    """Run one deck: milliseconds of a step, in all and in LAMMPS' parts."""
    charges = solver != "none"
    case = Case("gpu", (side, side, side), charges=charges)
    folder = OUTPUT / "run"
    folder.mkdir(parents=True, exist_ok=True)
    write_data(folder / "structure.data", structure(case), ELEMENTS)
    each = 0.001 + 1e-6 * SOLVERS[solver] * case.n_atoms
    steps = max(int(SECONDS / each), 10)
    deck = folder / "in.gpu"
    kspace = f"kspace_style {solver}" if charges else ""
    deck.write_text(
        DECK.format(model=model_file(charges), kspace=kspace, warm=max(steps // 5, 8), steps=steps)
    )
    log = run_deck(deck, 1, arguments=("-log", "none")).log
    last = log[log.rindex("Loop time of") :]
    milliseconds = 1000 * float(last.split()[3]) / steps
    parts = {
        name: 1000 * float(average) / steps
        for name, average in re.findall(r"^(\w+) *\|[^|]*\| *([\d.e+-]+) *\|", last, re.MULTILINE)
    }
    return {
        "atoms": case.n_atoms, "solver": solver, "steps": steps, "ms": milliseconds,
        "parts": parts, "device": torch.cuda.get_device_name(), "torch": torch.__version__,
    }  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    """Text of the page."""
    named = [name for name in PARTS if name != "Other"]
    text = ["# Speed of `pair_style equicalc device cuda`", ""]
    text += [
        f"Default architecture (2 layers, degree 2, 64 channels, 5 Å), rattled NaCl, float32, one "
        f"rank, {rows[0]['device']}, torch {rows[0]['torch']}; made by `python -m "
        "benchmarks.lammps.gpu`. Without charges (none) and with charges, whose Coulomb energy "
        "`kspace_style equicalc` sums on the GPU and `pppm` on one core of the CPU; LAMMPS' own "
        "timing breakdown in ms per step.",
        "",
    ]
    text += ["| atoms | kspace_style | ms per step | µs per atom | " + " | ".join(named) + " |"]
    text += ["|---" * (4 + len(named)) + "|"]
    for row in rows:
        cells = [f"{row['parts'].get(name, 0.0):.2f}" for name in named]
        text += [
            f"| {row['atoms']} | {row['solver']} | **{row['ms']:.2f}** "
            f"| {1000 * row['ms'] / row['atoms']:.3f} | " + " | ".join(cells) + " |"
        ]
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure and write."""
    require_device()
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows = []
    for solver in SOLVERS:
        for side in SIDES:
            if solver.startswith("pppm") and 8 * side**3 > LARGEST_PPPM:
                continue
            rows.append(measure(side, solver))
            print({key: rows[-1][key] for key in ("atoms", "solver", "ms")}, flush=True)
            (RESULTS / "gpu.json").write_text(json.dumps(rows, indent=1) + "\n")
            (RESULTS / "gpu.md").write_text(page(rows))


if __name__ == "__main__":
    main()
