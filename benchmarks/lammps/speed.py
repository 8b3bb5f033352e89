"""Speed of `pair_style equicalc`: time per atom and step, where it goes, and what ranks gain.

    python -m benchmarks.lammps.speed                  (or: make bench-lammps)

A random network of the default architecture (2 layers, degree 2, 64 channels, cutoff 5 A), without
charges and with predicted ones (`pppm 1e-5` and `equicalc 1e-5`), runs rattled NaCl at constant
energy in `lmp`:

- size: 64 to 13,824 atoms on one rank, float32 and float64;
- strong scaling: 4096 atoms on 1, 2 and 4 ranks; weak scaling: 1728 atoms per rank;
- the pair style beside the bare network: LAMMPS' pair time against forward and backward of the
  same graph in the C++ core.

Times are LAMMPS' own, of a run after a first one that is not counted. What is compared - numbers of
ranks, pair style and bare network - runs in turn, nine times; times are medians, ratios those of
one turn, given as their median and quartiles. Each measurement is kept in
benchmarks/results/lammps/speed.json as soon as it is made; what is there already is not repeated,
and `--seconds` ends a call early, so that long tables can be made in parts. Writes speed.md and
speed.png beside it. `--tables strong --again` measures the cases of a table once more.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from equicalc import plots
from equicalc.core import load_library
from equicalc.data.neighbors import full_list
from equicalc.deploy import export_network
from equicalc.lammps_run import run_deck, write_data
from equicalc.nn import EquiNetwork, NetworkConfig

RESULTS = Path(__file__).resolve().parent.parent / "results" / "lammps"
OUTPUT = Path(__file__).resolve().parent.parent / "output" / "lammps_speed"
ELEMENTS = ["Na", "Cl"]
LATTICE_CONSTANT = 5.64
NO_CHARGES, SOLVERS = "no charges", ("equicalc", "pppm")
SECONDS = 3.0  # that a measurement should last
ROUNDS = 9  # of every measurement, in turn with what it is compared with

DECK = """units metal
atom_style charge
newton on
processors {grid}
read_data structure.data
pair_style equicalc precision {precision}
pair_coeff * * {model} Na Cl
{kspace}
velocity all create 300 7
fix 1 all nve
timestep 0.0001
thermo 1000
run {warm}
run {steps}
shell "grep VmHWM /proc/$PPID/status"
"""
# LAMMPS' own words for where the time goes.
PARTS = ("Pair", "Kspace", "Neigh", "Comm", "Output", "Modify", "Other")


@dataclass(frozen=True)
class Case:
    """One measurement."""

    table: str
    repeat: tuple[int, int, int]
    ranks: int = 1
    precision: str = "float32"
    charges: bool = False
    solver: str = "pppm"  # of charges

    @property
    def key(self) -> str:
        fields = asdict(self)
        if self.solver == "pppm":
            del fields["solver"]  # keys of measurements from when there was no other
        return json.dumps(fields)

    @property
    def kspace(self) -> str:
        """The command of the deck."""
        return f"kspace_style {self.solver} 1.0e-5" if self.charges else ""

    @property
    def n_atoms(self) -> int:
        return 8 * int(np.prod(self.repeat))


def cases() -> Iterator[Case]:
    """What is measured, the short ones first."""
    cubes = [(n, n, n) for n in (2, 4, 6, 8, 12)]
    for repeat in cubes:
        yield Case("size", repeat)
        for solver in SOLVERS:
            yield Case("size", repeat, charges=True, solver=solver)
    for repeat in cubes[:4]:
        yield Case("size", repeat, precision="float64")
    for options in ({}, *({"charges": True, "solver": solver} for solver in SOLVERS)):
        for ranks in (1, 2, 4):
            yield Case("strong", (8, 8, 8), ranks, **options)
        for ranks in (1, 2, 4):
            yield Case("weak", (6, 6, 6 * ranks), ranks, **options)
    for repeat in cubes[:4]:
        yield Case("bare", repeat)
    yield Case("size", (18, 18, 18))
    yield Case("size", (24, 24, 24))


def model_file(charges: bool) -> Path:
    """Write the network once."""
    path = OUTPUT / f"default_{'charges' if charges else 'short'}.pt"
    if not path.exists():
        torch.manual_seed(1)
        kind = "predicted" if charges else "none"
        network = EquiNetwork(NetworkConfig(elements=ELEMENTS, charge_model=kind))
        nominal = {"Na": 0.7, "Cl": -0.7} if charges else None
        network.set_statistics({"Na": 0.0, "Cl": 0.0}, 0.5, 25.0, nominal)
        OUTPUT.mkdir(parents=True, exist_ok=True)
        export_network(network, path)
    return path


def structure(case: Case) -> Atoms:
    """Rattled rock salt."""
    atoms = bulk("NaCl", "rocksalt", a=LATTICE_CONSTANT, cubic=True) * case.repeat
    atoms.rattle(0.05, seed=1)
    return atoms


def in_lammps(case: Case) -> dict:
    """Run one deck: microseconds per atom and step, in all and in LAMMPS' parts."""
    folder = OUTPUT / "run"
    folder.mkdir(parents=True, exist_ok=True)
    write_data(folder / "structure.data", structure(case), ELEMENTS)
    grid = {1: "1 1 1", 2: "1 1 2", 4: "1 1 4" if case.table == "weak" else "1 2 2"}[case.ranks]
    guess = 60e-6 * case.n_atoms / min(case.ranks, 2) * (2 if case.precision == "float64" else 1)
    steps = max(int(SECONDS / guess), 4)
    deck = folder / "in.speed"
    deck.write_text(
        DECK.format(
            grid=grid, precision=case.precision, model=model_file(case.charges),
            kspace=case.kspace,
            warm=max(steps // 5, 2), steps=steps,
        )
    )  # fmt: skip
    log = run_deck(deck, case.ranks, arguments=("-log", "none")).log
    last = log[log.rindex("Loop time of") :]
    seconds = float(last.split()[3])
    scale = 1e6 / (case.n_atoms * steps)
    parts = dict.fromkeys(PARTS, 0.0)
    for name, average in re.findall(r"^(\w+) *\|[^|]*\| *([\d.e+-]+) *\|", last, re.MULTILINE):
        parts[name] = float(average) * scale
    other = re.search(r"^Other *\| *\| *([\d.e+-]+)", last, re.MULTILINE)
    parts["Other"] = float(other.group(1)) * scale if other else 0.0
    found: dict = {"us_per_atom": seconds * scale, "steps": steps, "parts": parts}
    memory = re.search(r"VmHWM:\s+(\d+) kB", log)
    if memory:
        found["peak_kB"] = int(memory.group(1))
    return found


def bare(case: Case) -> dict:
    """Forward and backward of the same graph in the C++ core, one thread, in turn with LAMMPS."""
    torch.set_num_threads(1)
    core = load_library()
    atoms = structure(case)
    edge_index, shifts = full_list(atoms.positions, atoms.cell.array, True, 5.0)
    i, j = edge_index
    vectors = atoms.positions[j] - atoms.positions[i] + shifts @ atoms.cell.array
    species = torch.tensor([ELEMENTS.index(symbol) for symbol in atoms.symbols])
    evaluator = core.Evaluator(core.Model.load(str(model_file(False)), dtype=case.precision))
    arguments = species, torch.tensor(edge_index), torch.tensor(vectors), len(atoms)

    def step() -> float:
        start = time.perf_counter()
        evaluator.forward(*arguments)
        evaluator.backward(None)
        return time.perf_counter() - start

    alone, pair = [], []
    for _ in range(ROUNDS):
        steps = max(int(SECONDS / 2 / min(step(), step())), 3)
        alone.append(1e6 * float(np.mean([step() for _ in range(steps)])) / len(atoms))
        pair.append(in_lammps(case)["parts"]["Pair"])
    return {"us_per_atom": float(np.median(alone)), "rounds": alone, "pair_rounds": pair}


def measured(group: list[Case]) -> list[dict]:
    """Measure cases in turn: for each the round of median time, and the times of all rounds."""
    if group[0].table == "bare":
        return [bare(case) for case in group]
    rounds = [[in_lammps(case) for case in group] for _ in range(ROUNDS)]
    found = []
    for results in zip(*rounds, strict=True):
        times = [result["us_per_atom"] for result in results]
        median = sorted(results, key=lambda result: result["us_per_atom"])[ROUNDS // 2]
        found.append({**median, "rounds": times})
    return found


def groups(wanted: list[Case]) -> Iterator[list[Case]]:
    """Cases to be measured in turn: those that differ by the number of ranks."""
    together: dict[tuple, list[Case]] = {}
    for case in wanted:
        alone = () if case.table in ("strong", "weak") else (case.repeat, case.precision)
        together.setdefault((case.table, case.charges, case.solver, *alone), []).append(case)
    yield from together.values()


def ratio(above: list[float], below: list[float]) -> str:
    """Median and quartiles of the ratios of rounds."""
    low, middle, high = np.quantile(np.divide(above, below), [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def solver_of(entry: dict) -> str:
    """What sums the charges of a measurement."""
    return str(entry.get("solver", "pppm")) if entry["charges"] else NO_CHARGES


def line(entry: dict) -> str:
    """One row of a table of times."""
    parts = entry.get("parts")
    cells = [f"{parts[name]:.1f}" for name in PARTS] if parts else [""] * len(PARTS)
    return (
        f"| {entry['n_atoms']} | {entry['ranks']} | {entry['precision']} "
        f"| {solver_of(entry)} | **{entry['us_per_atom']:.1f}** | " + " | ".join(cells) + " |"
    )


def tables(entries: list[dict]) -> str:
    """All tables."""
    head = "| atoms | ranks | precision | solver | µs/atom/step | " + " | ".join(PARTS) + " |"
    head += "\n" + "|---" * (5 + len(PARTS)) + "|"
    text = ["# Speed of `pair_style equicalc`", ""]
    text += ["Default architecture (2 layers, degree 2, 64 channels, 5 Å), rattled NaCl; LAMMPS'"]
    text += ["own timing breakdown in µs per atom and step.", ""]

    def of(table: str) -> list[dict]:
        return [entry for entry in entries if entry["table"] == table]

    text += ["## Size", "", head, *map(line, of("size")), ""]
    for table, title in (("strong", "Strong scaling"), ("weak", "Weak scaling")):
        text += [f"## {title}", "", head, *map(line, of(table)), ""]
        for solver in (NO_CHARGES, *SOLVERS):
            mine = {e["ranks"]: e for e in of(table) if solver_of(e) == solver}
            gains = [
                f"{ranks} ranks {ratio(mine[1]['rounds'], mine[ranks]['rounds'])}"
                for ranks in (2, 4)
                if 1 in mine and ranks in mine
            ]
            if gains:
                text += [f"Gain over one rank, {solver}: {', '.join(gains)}.", ""]
    text += ["## The pair style beside the bare network", ""]
    text += ["| atoms | bare (µs/atom) | LAMMPS' pair time (µs/atom/step) | pair time / bare |"]
    text += ["|---|---|---|---|"]
    for entry in of("bare"):
        pair, alone = entry["pair_rounds"], entry["rounds"]
        text += [
            f"| {entry['n_atoms']} | {np.median(alone):.1f} | {np.median(pair):.1f} "
            f"| {ratio(pair, alone)} |"
        ]
    text += ["", "## Memory on one rank, float32", ""]
    text += [
        "| atoms | solver | peak (MiB) | kB per atom beyond the smallest |",
        "|---|---|---|---|",
    ]
    measured = [e for e in of("size") if "peak_kB" in e and e["precision"] == "float32"]
    for entry in measured:
        least = min(
            (e for e in measured if solver_of(e) == solver_of(entry)), key=lambda e: e["n_atoms"]
        )
        extra = entry["n_atoms"] - least["n_atoms"]
        each = f"{(entry['peak_kB'] - least['peak_kB']) / extra:.1f}" if extra else ""
        text += [
            f"| {entry['n_atoms']} | {solver_of(entry)} | {entry['peak_kB'] / 1024:.0f} | {each} |"
        ]
    return "\n".join(text) + "\n"


def draw(entries: list[dict]):
    """Return the picture: time per atom against size, and gains by ranks."""
    figure, axes = plots.new_figure(1, 2, (8.0, 3.2))
    left, right = axes[0]
    series = [("float32", NO_CHARGES), ("float64", NO_CHARGES)]
    series += [("float32", solver) for solver in SOLVERS]
    for number, (precision, solver) in enumerate(series):
        mine = sorted(
            (e["n_atoms"], e["us_per_atom"]) for e in entries
            if e["table"] == "size" and e["precision"] == precision and solver_of(e) == solver
        )  # fmt: skip
        label = f"{precision}, {solver}"
        if mine:
            left.plot(*zip(*mine, strict=True), "o-", color=plots.COLOURS[number], label=label)
    left.set(xscale="log", xlabel="atoms", ylabel="µs per atom and step, one rank")
    left.set_ylim(bottom=0)
    left.legend(fontsize=8, frameon=False)
    scaling = [(table, s) for table in ("strong", "weak") for s in (NO_CHARGES, *SOLVERS)]
    for number, (table, solver) in enumerate(scaling):
        mine = {
            e["ranks"]: e["us_per_atom"] for e in entries
            if e["table"] == table and solver_of(e) == solver
        }  # fmt: skip
        if 1 in mine:
            ranks = sorted(mine)
            label = f"{table}, {solver}"
            gains = [mine[1] / mine[r] for r in ranks]
            right.plot(ranks, gains, "o-", color=plots.COLOURS[number], label=label)
    right.set(xlabel="ranks", ylabel="gain over one rank")
    right.legend(fontsize=8, frameon=False)
    return figure


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1e9, help="start nothing after these")
    parser.add_argument("--tables", nargs="+", default=["size", "strong", "weak", "bare"])
    parser.add_argument("--largest", type=int, default=200_000, help="atoms")
    parser.add_argument("--again", action="store_true", help="forget earlier ones of these tables")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    stored = RESULTS / "speed.json"
    entries: list[dict] = []
    if stored.exists():
        entries = json.loads(stored.read_text())
    if options.again:
        entries = [entry for entry in entries if entry["table"] not in options.tables]
    known = {entry["key"] for entry in entries}
    start = time.monotonic()
    wanted = [
        case for case in cases()
        if case.key not in known
        and case.table in options.tables
        and case.n_atoms <= options.largest
    ]  # fmt: skip
    for group in groups(wanted):
        if time.monotonic() - start > options.seconds:
            break
        for case, result in zip(group, measured(group), strict=True):
            entries.append({"key": case.key, "n_atoms": case.n_atoms, **asdict(case), **result})
            print(line(entries[-1]), flush=True)
        stored.write_text(json.dumps(entries, indent=1) + "\n")
    (RESULTS / "speed.md").write_text(tables(entries))
    plots.save(draw(entries), RESULTS / "speed.png")


if __name__ == "__main__":
    main()
