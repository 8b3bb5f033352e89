"""Speed of the Coulomb meshes at equal measured accuracy: equicalc, LAMMPS PPPM, torch-pme P3M.

    python -m benchmarks.mesh_speed                    (one thread, about 15 minutes)
    python -m benchmarks.mesh_speed --search           (only the meshes: no quiet machine)
    python -m benchmarks.mesh_speed --atoms 512        (goes on with what is measured already)

Rock salt with every atom off its place, charges of 1 e and sigma = 1 A (g_ewald = 0.5 / A), sum
over waves only. Every code gets, for each of its splines, the smallest mesh whose forces are right
to a target, measured against the exact sum; the fastest of these counts. Times are for one call on
new positions in an unchanged cell: forces of PPPM; forces, energy, potentials and virial of
equicalc; energy and forces of torch-pme, which takes the next power of two of the mesh asked for.
"solve" is equicalc as a user calls it, with the mesh it chooses and blends itself. The share of an
MD step is that of the Coulomb sum in `EquiCalculator("nakcl")`, a default network, in float32.

Meshes and exact forces are kept in benchmarks/output/mesh_speed; rows that are in the results are
not measured again, unless by --fresh. Writes benchmarks/results/mesh_speed.{json,md,png}.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from benchmarks.mesh_codes import (
    CODES,
    EDGES,
    SPACING,
    Call,
    Crystal,
    smallest,
    user_call,
    user_meshes,
)
from equicalc import EquiCalculator, plots
from equicalc.electrostatics import solve

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "output" / "mesh_speed"
TARGETS = (1e-3, 1e-4, 1e-5)  # rms error of a force, eV/A
USER = "equicalc solve"
NAMES = ["LAMMPS PPPM", "equicalc", "equicalc float32", USER, "torch-pme P3M"]
# No mesh is measured longer than this (s), three calls apart.
LONGEST = 1.5
# In larger crystals only splines from this order on are tried, the fastest in smaller ones.
EXHAUSTIVE, HIGH_ORDERS = 4096, "order 6"
DEFAULT_MODEL = "nakcl"
SHARE_ATOMS = (512, 4096)


def measure(call: Call, repeats: int) -> list[float]:
    """Seconds of one call, `repeats` times, or fewer when they take long."""
    call()
    times: list[float] = []
    block = getattr(call, "repeat", None)
    while len(times) < repeats and (len(times) < 3 or sum(times) < LONGEST):
        start = time.perf_counter()
        if block is None:
            call()
            times.append(time.perf_counter() - start)
        else:  # the start of a run is no part of a step
            block(5)
            times.append((time.perf_counter() - start) / 5)
    return times


def timing(call: Call, repeats: int) -> dict:
    """Median and quartiles, ms."""
    times = measure(call, repeats)
    return {
        "median_ms": 1e3 * float(np.median(times)),
        "quartiles_ms": [1e3 * float(np.quantile(times, q)) for q in (0.25, 0.75)],
    }


def searched(crystal: Crystal, target: float, code: str) -> dict[str, float]:
    """What reaches the target: points of the mesh for each spline, or the accuracy of `solve`.

    Kept in benchmarks/output, since the search takes longer than the measurement.
    """
    n_atoms = len(crystal.charges)
    known = kept(n_atoms, target, code)
    if known.is_file():
        return dict(json.loads(known.read_text()))
    found: dict[str, float] = {}
    if code == USER:
        accuracy = user_meshes(crystal, target)
        if accuracy is not None:
            found["accuracy"] = accuracy
    else:
        guesses = guesses_from_smaller(n_atoms, target, code)
        for name, make in CODES[code](crystal):
            slow = n_atoms > EXHAUSTIVE and name.startswith("order") and name < HIGH_ORDERS
            if slow or (guesses and name not in guesses):
                continue
            points = smallest(crystal, target, make, guesses.get(name))
            if points is not None:
                found[name] = points
    known.write_text(json.dumps(found))
    print(f"  searched: {crystal.charges.size} atoms, {target:.0e}, {code}: {found}", flush=True)
    return found


def kept(n_atoms: int, target: float, code: str) -> Path:
    """Where the meshes of a row are."""
    return OUTPUT / f"{code.replace(' ', '_')}_{n_atoms}_{target:.0e}.json"


def guesses_from_smaller(n_atoms: int, target: float, code: str) -> dict[str, int]:
    """Meshes of the same spacing as those found for the largest crystal that is smaller."""
    for smaller in sorted((n for n in EDGES if n < n_atoms), reverse=True):
        known = kept(smaller, target, code)
        if known.is_file():
            scale = EDGES[n_atoms] / EDGES[smaller]
            return {k: round(scale * v) for k, v in json.loads(known.read_text()).items()}
    return {}


def calls(crystal: Crystal, code: str, found: dict[str, float]) -> list[tuple[str, Call]]:
    """What is measured: labels, and calls that return forces."""
    if code == USER:
        return [
            (f"accuracy {accuracy:.1e}", user_call(crystal, accuracy))
            for accuracy in found.values()
        ]
    return [
        (f"{name}, {int(found[name])}³", make(int(found[name])))
        for name, make in CODES[code](crystal)
        if name in found
    ]


def fastest(crystal: Crystal, target: float, code: str, repeats: int) -> dict | None:
    """The fastest mesh of a code that reaches the target."""
    best = None
    for label, call in calls(crystal, code, searched(crystal, target, code)):
        entry = {
            "code": code,
            "n_atoms": len(crystal.charges),
            "target_eV_per_A": target,
            "error_eV_per_A": crystal.error(call()),
            "mesh": label,
            **timing(call, repeats),
        }
        if best is None or entry["median_ms"] < best["median_ms"]:
            best = entry
    return best


def share_of_a_step(n_atoms: int, accuracy: float, repeats: int) -> dict:
    """Time of the Coulomb sum, and of all that an MD step takes, with a default network."""
    edge = EDGES[n_atoms]
    sites = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
    symbols = np.where(sites.sum(1) % 2, "Cl", "Na")
    atoms = Atoms(symbols, SPACING * sites, cell=[SPACING * edge] * 3, pbc=True)
    atoms.rattle(0.1, seed=0)
    model = EquiCalculator(DEFAULT_MODEL, dtype="float32", kspace_accuracy=accuracy)
    atoms.calc = model
    charges, sigma = atoms.get_charges(), model.metadata["network"]["sigma"]

    def step() -> np.ndarray:
        atoms.positions += 1e-6
        return atoms.get_forces()

    def coulomb() -> np.ndarray:
        arguments = charges, atoms.positions, atoms.cell[:], [True] * 3, sigma, accuracy
        return solve(*arguments).forces

    parts = {"step": timing(step, repeats), "coulomb": timing(coulomb, repeats)}
    return {"n_atoms": n_atoms, "accuracy": accuracy, **parts}


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, nargs="+", default=list(EDGES), choices=list(EDGES))
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS))
    parser.add_argument("--codes", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--search", action="store_true", help="find the meshes, measure nothing")
    parser.add_argument("--fresh", action="store_true", help="measure rows again")
    parser.add_argument("--results", default=str(HERE / "results"), help="where to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    results = Results(Path(options.results))
    for n_atoms in options.atoms:
        crystal = Crystal.make(n_atoms, OUTPUT)
        for target in options.targets:
            for code in options.codes:
                if options.search:
                    searched(crystal, target, code)
                elif options.fresh or not results.has(n_atoms, target, code):
                    results.add(fastest(crystal, target, code, options.repeats))
        if not options.search and n_atoms in SHARE_ATOMS and USER in options.codes:
            for accuracy in (1e-4, 1e-5, 1e-6):
                results.add_share(share_of_a_step(n_atoms, accuracy, options.repeats))
    return 0


class Results:
    """What has been measured, in a folder that is brought up to date after every row."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "mesh_speed.json"
        known = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.rows: list[dict] = known.get("rows", [])
        self.shares: list[dict] = known.get("shares", [])

    def has(self, n_atoms: int, target: float, code: str) -> bool:
        """Whether this row is there."""
        return any(key_of(row) == (n_atoms, target, code) for row in self.rows)

    def add(self, entry: dict | None) -> None:
        """Add a row, in place of an older one."""
        if entry is None:
            return
        self.rows = [row for row in self.rows if key_of(row) != key_of(entry)] + [entry]
        self.rows.sort(key=lambda row: (row["n_atoms"], -row["target_eV_per_A"], order_of(row)))
        print(table_line(entry), flush=True)
        self.write()

    def add_share(self, entry: dict) -> None:
        """Add a row of the second table."""
        same = ("n_atoms", "accuracy")
        self.shares = [s for s in self.shares if any(s[k] != entry[k] for k in same)] + [entry]
        self.shares.sort(key=lambda share: (share["n_atoms"], -share["accuracy"]))
        print(share_line(entry), flush=True)
        self.write()

    def write(self) -> None:
        """Write tables, picture and numbers."""
        self.path.write_text(
            json.dumps({"rows": self.rows, "shares": self.shares}, indent=1) + "\n"
        )
        lines = [
            "# Coulomb sum over waves on a mesh: milliseconds at equal measured accuracy",
            "",
            "| atoms | rms force error asked for (eV/Å) | code | mesh | measured | ms (quartiles) "
            "| µs per atom |",
            "|---|---|---|---|---|---|---|",
            *(table_line(row) for row in self.rows),
            "",
            f"An MD step of `EquiCalculator({DEFAULT_MODEL!r})` (two layers, float32) in NaCl, and "
            "the Coulomb sum in it:",
            "",
            "| atoms | kspace_accuracy | step (ms) | Coulomb sum (ms) | share |",
            "|---|---|---|---|---|",
            *(share_line(share) for share in self.shares),
        ]
        (self.folder / "mesh_speed.md").write_text("\n".join(lines) + "\n")
        if self.rows:
            plots.save(draw(self.rows), self.folder / "mesh_speed.png")


def key_of(row: dict) -> tuple[int, float, str]:
    """What a row is about."""
    return row["n_atoms"], row["target_eV_per_A"], row["code"]


def order_of(row: dict) -> int:
    """Place of a code in tables and pictures."""
    return NAMES.index(row["code"])


def table_line(row: dict) -> str:
    """One row of the table."""
    low, high = row["quartiles_ms"]
    return (
        f"| {row['n_atoms']} | {row['target_eV_per_A']:.0e} | {row['code']} "
        f"| {row['mesh']} | {row['error_eV_per_A']:.1e} "
        f"| {row['median_ms']:.2f} ({low:.2f} to {high:.2f}) "
        f"| {1e3 * row['median_ms'] / row['n_atoms']:.2f} |"
    )


def share_line(share: dict) -> str:
    """One row of the second table."""
    step, coulomb = share["step"]["median_ms"], share["coulomb"]["median_ms"]
    return (
        f"| {share['n_atoms']} | {share['accuracy']:.0e} | {step:.2f} | {coulomb:.2f} "
        f"| {100.0 * coulomb / step:.0f} % |"
    )


def draw(rows: list[dict]):
    """Return the picture: time per atom against the number of atoms, a panel for each target."""
    targets = sorted({row["target_eV_per_A"] for row in rows}, reverse=True)
    figure, axes = plots.new_figure(1, len(targets), (3.3 * len(targets) + 1.2, 3.8))
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    values = [1e3 * row["median_ms"] / row["n_atoms"] for row in rows]
    for axis, target in zip(axes[0], targets, strict=True):
        for number, code in enumerate(NAMES):
            mine = [r for r in rows if r["code"] == code and r["target_eV_per_A"] == target]
            axis.loglog(
                [r["n_atoms"] for r in mine],
                [1e3 * r["median_ms"] / r["n_atoms"] for r in mine],
                "o" + plots.LINE_STYLES[number % len(plots.LINE_STYLES)],
                color=plots.COLOURS[number],
                ms=5,
                label=code if target == targets[0] else None,
            )
        axis.minorticks_off()
        axis.set_xticks(list(EDGES), [str(n) for n in EDGES])
        axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axis.set_xlim(400, 17500)
        axis.set_ylim(0.7 * min(values), 1.5 * max(values))
        axis.grid(axis="y", lw=0.4, alpha=0.5)
        axis.set(xlabel="atoms", ylabel="µs per atom")
        axis.set_title(f"rms force error {target:.0e} eV/Å", fontsize=9)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
