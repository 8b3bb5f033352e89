"""Time and memory of equicalc's own architecture: ``python -m benchmarks.speed.network``.

Energy, forces and stress of rattled rock salt with networks of random weights: the default one, one
of three layers, and one of the size of small NequIP models. Times of one thread are processor time,
which other programs on the machine disturb least; of two threads they are wall time. What a second
thread gains is measured apart, by calls with one thread and with two in turn, since the speed of a
shared machine changes within minutes. Phases are those of the evaluator; "list and forces" is what
turns positions into edges and gradients of edges into forces; what ASE takes beyond these is the
rest of the same calls. Peak memory is that of a process of its own, less that before the structure
was made.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from benchmarks.speed.common import RESULTS, markdown_table, processor, write_json, write_text
from benchmarks.speed.kernels import fma_peak
from benchmarks.speed.roofline import multiply_adds
from equicalc import EquiCalculator
from equicalc.core import load_library
from equicalc.data.neighbors import NeighborList
from equicalc.deploy import export_network
from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.short_range import short_range

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NETWORKS: dict[str, dict[str, Any]] = {
    "default (2 layers, l_max 2)": {},
    "3 layers, l_max 2": {"n_layers": 3},
    "2 layers, l_max 1": {"l_max": 1},
}
ELEMENTS = ["Na", "Cl"]
SIDES = {64: 2, 512: 4, 1728: 6}  # unit cells along each edge
MEMORY_SIDE = 14  # 21952 atoms


def salt(n_side: int) -> Atoms:
    """Rattled rock salt of ``8 n_side^3`` atoms."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * ((n_side,) * 3)
    atoms.rattle(0.1, seed=1)
    return atoms


def network_of(config: dict[str, Any]) -> EquiNetwork:
    """Return a network of random weights, without charges if not asked for."""
    torch.manual_seed(0)
    network = EquiNetwork(NetworkConfig(elements=ELEMENTS, **({"charge_model": "none"} | config)))
    network.set_statistics({"Na": -1.0, "Cl": -2.0}, 0.5, 25.0)
    return network


def export(config: dict[str, Any], folder: Path, suffix: str = ".pt") -> str:
    """Export such a network; return its path."""
    name = "_".join(f"{key}{value}" for key, value in config.items()) or "default"
    return str(export_network(network_of(config), folder / f"{name}{suffix}"))


def quartiles_of(run: Callable[[], Any], clock: Callable[[], float], seconds: float) -> list[float]:
    """Lower quartile, median and upper quartile of the time of a call, after two to warm up."""
    run(), run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 500):
        start = clock()
        run()
        times.append(clock() - start)
    return [float(t) for t in np.percentile(times, [25, 50, 75])]


class Timed:
    """Calls of an object, and the time that they took."""

    def __init__(self, timed: Any, clock: Callable[[], float]):
        self._timed, self._clock, self.seconds = timed, clock, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._timed, name)
        if not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            start = self._clock()
            result = found(*arguments)
            self.seconds += self._clock() - start
            return result

        return call


def measure(path: str, n_atoms: int, dtype: str, threads: int, seconds: float) -> dict[str, Any]:
    """Microseconds per atom of the phases of one evaluation."""
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    core, atoms = load_library(), salt(SIDES[n_atoms])
    evaluator = core.Evaluator(core.Model.load(path, dtype))
    species = torch.tensor([ELEMENTS.index(s) for s in atoms.get_chemical_symbols()])
    neighbors = NeighborList(5.0)
    index, vectors = neighbors.update(atoms.positions, atoms.cell[:], atoms.pbc)
    n = len(atoms)
    evaluator.forward(species, index, vectors, n)
    gradients = evaluator.backward(None)

    def network() -> None:
        evaluator.forward(species, index, vectors, n)
        evaluator.backward(None)

    def lists() -> None:
        neighbors.update(atoms.positions, atoms.cell[:], atoms.pbc)
        core.scatter_edges(index, vectors, gradients, n, n)

    atoms.calc = EquiCalculator(path, dtype=dtype)
    random = np.random.default_rng(0)

    inside = atoms.calc._network = Timed(atoms.calc._network, clock)
    beyond: list[float] = []

    def ase() -> None:
        atoms.positions += random.normal(scale=1e-4, size=atoms.positions.shape)
        start, inside.seconds = clock(), 0.0
        atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        beyond.append(clock() - start - inside.seconds)

    times = {
        "forward": quartiles_of(
            lambda: evaluator.forward(species, index, vectors, n), clock, seconds
        ),
        "network": quartiles_of(network, clock, seconds),
        "list and forces": quartiles_of(lists, clock, seconds),
        "ASE": quartiles_of(ase, clock, seconds),
    }
    per_atom = {key: [1e6 * t / n for t in value] for key, value in times.items()}
    return {
        "atoms": n,
        "edges per atom": index.shape[1] / n,
        "dtype": dtype,
        "threads": threads,
        "us/atom": per_atom,
        "ms beyond": float(np.median(beyond)) * 1e3,
    }


def speedups(path: str, n_atoms: int, dtype: str, seconds: float) -> list[float]:
    """Quartiles of the time of a call with one thread over that of the next call with two."""
    core, atoms = load_library(), salt(SIDES[n_atoms])
    evaluator = core.Evaluator(core.Model.load(path, dtype))
    species = torch.tensor([ELEMENTS.index(s) for s in atoms.get_chemical_symbols()])
    index, vectors = NeighborList(5.0).update(atoms.positions, atoms.cell[:], atoms.pbc)

    def call(threads: int) -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        evaluator.forward(species, index, vectors, n_atoms)
        evaluator.backward(None)
        return time.perf_counter() - start

    call(1), call(2)
    ratios: list[float] = []
    end = time.perf_counter() + 4 * seconds
    while len(ratios) < 5 or time.perf_counter() < end:
        ratios.append(call(1) / call(2))
    return [float(r) for r in np.percentile(ratios, [25, 50, 75])]


def through_ase(
    path: str, n_atoms: int, dtype: str, seconds: float, compiled: bool = False
) -> list[float]:
    """Quartiles of the time of a call through ASE with one thread, microseconds per atom."""
    torch.set_num_threads(1)
    atoms, random = salt(SIDES[n_atoms]), np.random.default_rng(0)
    atoms.calc = EquiCalculator(path, dtype=dtype)
    if compiled:
        model = load_library().Model.load(path, dtype, compiled=True)
        atoms.calc._network = short_range(model, atoms.calc.parameters["skin"], "cpu")

    def call() -> None:
        atoms.positions += random.normal(scale=1e-4, size=atoms.positions.shape)
        atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    return [1e6 * t / n_atoms for t in quartiles_of(call, time.thread_time, seconds)]


def peak_memory(path: str, dtype: str) -> float:
    """Bytes per atom at the peak of one evaluation of a large structure through the evaluator."""
    atoms = salt(MEMORY_SIDE)
    core = load_library()
    evaluator = core.Evaluator(core.Model.load(path, dtype))
    species = torch.tensor([ELEMENTS.index(s) for s in atoms.get_chemical_symbols()])
    index, vectors = NeighborList(5.0).update(atoms.positions, atoms.cell[:], atoms.pbc)
    # what the search for neighbours took is over; what it left stays
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    evaluator.forward(species, index, vectors, len(atoms))
    gradients = evaluator.backward(None)
    core.scatter_edges(index, vectors, gradients, len(atoms), len(atoms))
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    graph = index.nbytes + vectors.nbytes + species.nbytes
    return (peak - now + graph) / len(atoms)


def memory_in_process(path: str, dtype: str) -> float:
    """Run `peak_memory` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.network", "--memory-of", path, dtype]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def share_of_peak(results: dict[str, Any], row: dict[str, Any]) -> str:
    """Return the part of the core's peak at which a network of two layers runs."""
    config = NETWORKS[row["network"]]
    if row["threads"] > 1 or config.get("n_layers", 2) != 2:
        return ""
    arithmetic = 2e-3 * multiply_adds(network_of(config), row["edges per atom"])
    share = arithmetic / row["us/atom"]["network"][1] / results["peak GFLOP/s"][row["dtype"]]
    return f"{100 * share:.0f} %"


def tables(results: dict[str, Any]) -> str:
    """Return the page in markdown."""
    header = ["network", "precision", "threads", "atoms", "network (quartiles)", "of the peak",
              "forward", "list and forces", "through ASE", "ASE beyond these"]  # fmt: skip
    rows = []
    for row in results["times"]:
        t = row["us/atom"]
        low, middle, high = t["network"]
        rows.append(
            [row["network"], row["dtype"], row["threads"], row["atoms"],
             f"{middle:.1f} ({low:.1f} to {high:.1f})", share_of_peak(results, row),
             f"{t['forward'][1]:.1f}",
             f"{t['list and forces'][1]:.2f}", f"{t['ASE'][1]:.1f}", f"{row['ms beyond']:.2f} ms"]
        )  # fmt: skip
    memory = [
        [r["network"], r["dtype"], f"{r['bytes per atom'] / 1024:.1f} KiB",
         f"{r['bytes per atom'] * 1e6 / 2**30:.1f} GiB"]
        for r in results["memory"]
    ]  # fmt: skip
    gains = [
        [r["network"], r["dtype"], r["atoms"],
         "{1:.2f} ({0:.2f} to {2:.2f})".format(*r["gain"])]
        for r in results["gains"]
    ]  # fmt: skip
    files = [
        [r["file"], r["atoms"], "{1:.1f} ({0:.1f} to {2:.1f})".format(*r["us/atom"])]
        for r in results["files"]
    ]
    edges = results["times"][0]["edges per atom"]
    return "\n\n".join(
        [
            "# Time and memory of equicalc's own architecture",
            f"Rattled NaCl, cutoff 5 Å, {edges:.1f} edges per atom; energy, forces and stress. "
            "Medians in µs per atom; made by `python -m benchmarks.speed.network` on "
            f"{results['processor']}, torch {results['torch']}. Of the peak: multiply-adds "
            "per time of networks of two layers (benchmarks/speed/roofline.py) over what a "
            "core does with registers alone, "
            + " and ".join(f"{v:.0f} GFLOP/s in {k}" for k, v in results["peak GFLOP/s"].items())
            + ".",
            markdown_table(header, rows),
            "What a second thread gains: time of a call with one thread over that of the next call "
            "with two, medians and quartiles of many such pairs.",
            markdown_table(["network", "precision", "atoms", "gain (quartiles)"], gains),
            "The default network through ASE from both kinds of files, one thread, float32: from "
            "the weights in either, and by the compiled program in model.pt2.",
            markdown_table(["file", "atoms", "µs per atom (quartiles)"], files),
            f"Memory of evaluator and graph per atom, measured with {8 * MEMORY_SIDE**3} atoms, "
            "and what it makes for a million:",
            markdown_table(["network", "precision", "per atom", "1,000,000 atoms"], memory),
        ]
    )


def plot(results: dict[str, Any]) -> None:
    """Time per atom against size, one thread."""
    figure, axes = plt.subplots(figsize=(5, 3.6))
    for network in NETWORKS:
        for dtype, style in (("float32", "o-"), ("float64", "s--")):
            points = [
                (r["atoms"], r["us/atom"]["network"][1])
                for r in results["times"]
                if (r["network"], r["dtype"], r["threads"]) == (network, dtype, 1)
            ]
            axes.loglog(*zip(*points, strict=True), style, label=f"{network}, {dtype}")
    axes.set_xlabel("atoms")
    axes.set_ylabel("µs per atom")
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS / "network.png", dpi=150)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(peak_memory(*options.memory_of))
        return
    results: dict[str, Any] = {
        "processor": processor(),
        "torch": torch.__version__,
        "peak GFLOP/s": dict(zip(("float32", "float64"), fma_peak(), strict=True)),
        "times": [],
        "gains": [],
        "files": [],
        "memory": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for suffix, compiled in ((".pt", False), (".pt2", False), (".pt2", True)):
            path = export({}, Path(folder), suffix)
            for n_atoms in SIDES:
                times = through_ase(path, n_atoms, "float32", options.seconds, compiled)
                name = f"model{suffix}" + (", its program" if compiled else "")
                row = {"file": name, "atoms": n_atoms, "us/atom": times}
                results["files"].append(row)
                print(json.dumps(row), flush=True)
        for name, config in NETWORKS.items():
            path = export(config, Path(folder))
            for dtype in ("float32", "float64"):
                for threads in (1, 2):
                    for n_atoms in SIDES:
                        row = measure(path, n_atoms, dtype, threads, options.seconds)
                        results["times"].append({"network": name, **row})
                        print(json.dumps(results["times"][-1]), flush=True)
                for n_atoms in SIDES:
                    gain = speedups(path, n_atoms, dtype, options.seconds)
                    row = {"network": name, "dtype": dtype, "atoms": n_atoms, "gain": gain}
                    results["gains"].append(row)
                    print(json.dumps(row), flush=True)
                results["memory"].append(
                    {
                        "network": name,
                        "dtype": dtype,
                        "bytes per atom": memory_in_process(path, dtype),
                    }
                )
                print(json.dumps(results["memory"][-1]), flush=True)
    write_json("network", results)
    write_text("network", tables(results))
    plot(results)


if __name__ == "__main__":
    main()
