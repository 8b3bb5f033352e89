"""Speed beside other codes: energy, forces and stress through ASE, the same structures for all.

    python -m benchmarks.speed.peers --python sevenn=/path/to/its/bin/python ...

Every timing is a process of its own, run by the interpreter that has the code's package; codes
whose interpreter is not given are left out, and the page says so. ``--only`` measures again what
matches, and keeps the rest of the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.speed.common import (
    OUTPUT,
    RESULTS,
    markdown_table,
    processor,
    quartiles,
    write_json,
    write_text,
)
from benchmarks.speed.kernels import fma_peak
from benchmarks.speed.roofline import multiply_adds
from benchmarks.speed.structures import NAMES
from equicalc import plots
from equicalc.nn import EquiNetwork, NetworkConfig

WORKER = Path(__file__).resolve().parent / "worker.py"
ELEMENTS = ["H", "O", "Na", "Cl"]


@dataclass(frozen=True)
class Contestant:
    """One network in one code.

    Parameters
    ----------
    name : str
        In tables and pictures.
    kind : str
        What runs it, as `worker.py` names it: a code, and after ``+`` a part of the code.
    model : callable
        Returns the model's name or file, given the interpreters of the peers.
    dtype : str
    of : tuple of str
        Names of contestants that it is compared with: the same network in other codes.
    largest : int
        Atoms beyond which it is not run, for want of memory or patience.
    most_threads : int
        Threads beyond which it is not run, because it would not use them.
    """

    name: str
    kind: str
    model: Callable[[dict[str, str]], str]
    dtype: str = "float32"
    of: tuple[str, ...] = ()
    largest: int = 1_000_000
    most_threads: int = 1_000

    @property
    def code(self) -> str:
        """Code whose interpreter runs it."""
        return self.kind.partition("+")[0]

    def runs(self, structure: str, threads: int) -> bool:
        """Whether it is run on a structure with so many threads."""
        return int(structure.split("-")[1]) <= self.largest and threads <= self.most_threads


def network_of(l_max: int) -> EquiNetwork:
    """Return a network of equicalc with random weights."""
    torch.manual_seed(0)
    network = EquiNetwork(NetworkConfig(elements=ELEMENTS, l_max=l_max, charge_model="none"))
    network.set_statistics(dict.fromkeys(ELEMENTS, 0.0), 1.0, 26.0)
    return network


def random_network(l_max: int) -> Callable[[dict[str, str]], str]:
    """Return a function that writes a network of equicalc with random weights."""

    def write(_: dict[str, str]) -> str:
        from equicalc.deploy import export_network

        path = OUTPUT / f"random_l{l_max}.pt"
        if not path.is_file():
            OUTPUT.mkdir(parents=True, exist_ok=True)
            export_network(network_of(l_max), path)
        return str(path)

    return write


def imported_sevennet(name: str) -> Callable[[dict[str, str]], str]:
    """Return a function that imports weights of the package sevenn."""

    def write(pythons: dict[str, str]) -> str:
        from equicalc.deploy import export_network
        from equicalc.interop.sevennet import import_sevennet
        from equicalc.interop.sevennet_checkpoint import SHIPPED

        path = OUTPUT / f"{name}.pt"
        if not path.is_file():
            find = "import importlib.util as u; print(u.find_spec('sevenn').origin)"
            package = subprocess.run(
                [pythons["sevenn"], "-c", find], capture_output=True, text=True, check=True
            ).stdout.strip()
            OUTPUT.mkdir(parents=True, exist_ok=True)
            checkpoint = Path(package).parent / "pretrained_potentials" / SHIPPED[name]
            found = import_sevennet(checkpoint, ELEMENTS)
            export_network(found.network, path, **found.about)
        return str(path)

    return write


def random_peer(code: str, suffix: str, *arguments: str) -> Callable[[dict[str, str]], str]:
    """Return a function that lets another code write a network with random weights.

    ``random_peers.py CODE FOLDER ARGUMENTS`` writes the file ``CODE`` + `suffix`.
    """

    def write(pythons: dict[str, str]) -> str:
        path = OUTPUT / f"{code}{suffix}"
        if not path.is_file():
            OUTPUT.mkdir(parents=True, exist_ok=True)
            maker = Path(__file__).resolve().parent / "random_peers.py"
            command = [pythons[code], str(maker), code, str(OUTPUT), *arguments]
            subprocess.run(command, check=True)
        return str(path)

    return write


def imported_peer(code: str, suffix: str) -> Callable[[dict[str, str]], str]:
    """Return a function that imports such a network."""

    def write(pythons: dict[str, str]) -> str:
        from equicalc.deploy import export_network
        from equicalc.interop import import_network

        path = OUTPUT / f"{code}.pt"
        if not path.is_file():
            found = import_network(code, random_peer(code, suffix)(pythons))
            export_network(found.network, path, **found.about)
        return str(path)

    return write


CONTESTANTS = (
    Contestant("SevenNet-0 in sevenn", "sevenn", lambda _: "7net-0", largest=600),
    Contestant(
        "SevenNet-0 in equicalc",
        "equicalc",
        imported_sevennet("7net-0"),
        of=("SevenNet-0 in sevenn",),
    ),
    Contestant(
        "SevenNet-0 in equicalc, float64", "equicalc", imported_sevennet("7net-0"), "float64"
    ),
    Contestant("MACE 128x0e+128x1o in mace", "mace", random_peer("mace", ".model"), largest=600),
    Contestant(
        "MACE 128x0e+128x1o in equicalc",
        "equicalc",
        imported_peer("mace", ".model"),
        of=("MACE 128x0e+128x1o in mace",),
    ),
    Contestant(
        "MACE 128x0e+128x1o in symmetrix, float64",
        "symmetrix",
        random_peer("symmetrix", ".json"),
        "float64",
        most_threads=1,
    ),
    Contestant(
        "MACE 128x0e+128x1o in symmetrix with Kokkos, float64",
        "symmetrix+kokkos",
        random_peer("symmetrix", ".json"),
        "float64",
        most_threads=1,  # so its package starts Kokkos, whatever OMP_NUM_THREADS says
    ),
    Contestant(
        "MACE 128x0e+128x1o in equicalc, float64",
        "equicalc",
        imported_peer("mace", ".model"),
        "float64",
        of=(
            "MACE 128x0e+128x1o in symmetrix, float64",
            "MACE 128x0e+128x1o in symmetrix with Kokkos, float64",
        ),
    ),
    Contestant(
        "NequIP 64 channels, l_max 1 in nequip", "nequip", random_peer("nequip", ".nequip.pt2")
    ),
    Contestant(
        "NequIP 64 channels, l_max 1 in equicalc",
        "equicalc",
        imported_peer("nequip", ".ckpt"),
        of=("NequIP 64 channels, l_max 1 in nequip",),
    ),
    Contestant("equicalc, 2 layers, l_max 2", "equicalc", random_network(2)),
    Contestant("equicalc, 2 layers, l_max 1", "equicalc", random_network(1)),
)


def main() -> None:
    """Measure, and write JSON, page and picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="CODE=PATH",
        help="interpreter with a peer's package, of sevenn, mace, symmetrix or nequip",
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="of '<name> <structure> <n>'")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each timing")
    parser.add_argument("--page", action="store_true", help="only write page and picture again")
    options = parser.parse_args()
    pythons = dict(word.split("=", 1) for word in options.python)
    pythons["equicalc"] = sys.executable
    results = _read()
    for contestant in [] if options.page else CONTESTANTS:
        for structure in NAMES:
            for threads in options.threads:
                key = f"{contestant.name} | {structure} | {threads}"
                if options.only in key and contestant.runs(structure, threads):
                    _measure(contestant, structure, threads, pythons, options, results, key)
    results["peak_gflops"] = fma_peak()[0]
    _publish(results, pythons)


def _read() -> dict[str, Any]:
    path = RESULTS / "peers.json"
    empty: dict[str, Any] = {"timings": {}, "skipped": {}}
    return json.loads(path.read_text()) if path.is_file() else empty


def _measure(
    contestant: Contestant,
    structure: str,
    threads: int,
    pythons: dict[str, str],
    options: argparse.Namespace,
    results: dict[str, Any],
    key: str,
) -> None:
    """Run one worker and keep what it prints; what cannot be run is kept with the reason."""
    if contestant.code not in pythons:
        results["skipped"][contestant.name] = f"no interpreter: --python {contestant.code}=PATH"
        return
    task = {
        "kind": contestant.kind,
        "model": contestant.model(pythons),
        "dtype": contestant.dtype,
        "structures": [structure],
        "threads": threads,
        "warm_up": 2,
        "repeats": 50,
        "seconds": options.seconds,
    }
    done = subprocess.run(
        [pythons[contestant.code], str(WORKER), json.dumps(task)], capture_output=True, text=True
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        print(f"{key}: failed: {reason}", flush=True)
        results["skipped"][contestant.name] = f"{structure}: {reason}"
        return
    found = json.loads(done.stdout.splitlines()[-1])
    low, middle, high = (1e6 * q / found["n_atoms"] for q in quartiles(found.pop("seconds")))
    found |= {"us_per_atom": middle, "lower_quartile": low, "upper_quartile": high}
    found |= {"threads": threads, "structure": structure, "name": contestant.name}
    found |= {"dtype": contestant.dtype, "processor": processor()}
    results["timings"][key] = found
    results["skipped"].pop(contestant.name, None)
    print(f"{key}: {middle:.1f} us/atom, {found['peak_MB']:.0f} MB", flush=True)


def _publish(results: dict[str, Any], pythons: dict[str, str]) -> None:
    path = write_json("peers", results)
    page = write_text("peers", _page(results))
    picture = plots.save(_picture(results), RESULTS / "peers.png")
    print(f"written: {path}\n         {page}\n         {picture}")


def _page(results: dict[str, Any]) -> str:
    timings = results["timings"]
    processors = {entry["processor"] for entry in timings.values()}
    lines = [
        "# Speed beside other codes",
        "",
        "Energy, forces and stress through ASE, µs per atom: median (quartiles), atoms moving by",
        "0.01 Å between calls; memory is the largest resident size of the process, and in brackets",
        "what the evaluation added. The last columns compare with the same network in other codes:",
        "with the fastest of them, and the largest difference of the energy.",
        f"{'; '.join(sorted(processors))}.",
        "",
    ]
    for threads in (1, 2):
        rows = []
        for contestant in CONTESTANTS:
            for structure in NAMES:
                entry = timings.get(f"{contestant.name} | {structure} | {threads}")
                if entry is not None:
                    rows.append(_row(entry, _others(timings, contestant, structure, threads)))
        header = ["network", "precision", "structure", "edges/atom", "µs/atom", "memory (MB)"]
        header += ["faster by", "differs by (eV/atom)"]
        word = "thread" if threads == 1 else "threads"
        lines += [f"## {threads} {word}", "", markdown_table(header, rows), ""]
    lines += [f"Left out: {name} ({reason})." for name, reason in results["skipped"].items()]
    return "\n".join(lines)


def _others(
    timings: dict[str, Any], contestant: Contestant, structure: str, threads: int
) -> list[dict[str, Any]]:
    """Return what the contestant is compared with."""
    keys = [f"{name} | {structure} | {threads}" for name in contestant.of]
    return [timings[key] for key in keys if key in timings]


def _row(entry: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    low, high = entry["lower_quartile"], entry["upper_quartile"]
    fastest = min((other["us_per_atom"] for other in others), default=None)
    differences = [entry["energy_per_atom"] - other["energy_per_atom"] for other in others]
    added = entry["peak_MB"] - entry["peak_MB_before"]
    return [
        entry["name"],
        entry["dtype"],
        entry["structure"],
        f"{entry['edges_per_atom']:.1f}",
        f"{entry['us_per_atom']:.4g} ({low:.4g} to {high:.4g})",
        f"{entry['peak_MB']:.0f} (+{added:.0f})",
        f"{fastest / entry['us_per_atom']:.1f}" if fastest else "",
        f"{max(map(abs, differences)):.0e}" if differences else "",
    ]


def _picture(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for column, kind in enumerate(("NaCl", "water")):
        for contestant in CONTESTANTS:
            points = [
                (entry["n_atoms"], entry["us_per_atom"])
                for entry in results["timings"].values()
                if entry["name"] == contestant.name
                and entry["structure"].startswith(kind)
                and entry["threads"] == 1
            ]
            if points:
                axes[column].loglog(*zip(*sorted(points), strict=True), "o-", label=contestant.name)
        _mark_floor(axes[column], results, kind)
        sizes = [int(name.split("-")[1]) for name in NAMES if name.startswith(kind)]
        axes[column].set_xticks(sizes, [str(size) for size in sizes])
        axes[column].minorticks_off()
        axes[column].set_title(f"{kind}, one thread")
        axes[column].set_xlabel("atoms")
        axes[column].grid(alpha=0.3, which="both")
    axes[0].set_ylabel("µs per atom")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, ncols=3, loc="outside lower center")
    return figure


def _mark_floor(axes: Axes, results: dict[str, Any], kind: str) -> None:
    """Draw the time that the arithmetic of the default network takes at the peak of the core."""
    edges = [
        entry["edges_per_atom"]
        for entry in results["timings"].values()
        if entry["structure"].startswith(kind)
    ]
    if edges:
        arithmetic = multiply_adds(network_of(2), max(edges))
        floor = 2e-3 * arithmetic / results["peak_gflops"]
        axes.axhline(floor, ls="--", color="gray", lw=1)
        axes.text(
            0.98, floor, "arithmetic of 2 layers, l_max 2 at the core's peak", fontsize=6,
            ha="right", va="bottom", transform=axes.get_yaxis_transform(),
        )  # fmt: skip


if __name__ == "__main__":
    main()
