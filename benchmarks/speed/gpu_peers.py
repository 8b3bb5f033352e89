"""Speed beside other codes on a CUDA device: energy, forces and stress through ASE.

    python -m benchmarks.speed.gpu_peers --python sevenn=PATH --python mace=PATH ...

Every code runs in a process of its own, by the interpreter that has its package; what its
interpreter lacks is left out, and the page says so. The same structures and networks for all,
float32; times are those that a user sees, neighbour lists included, which the codes search
on the CPU (equicalc again only when atoms have moved far enough).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.speed.common import RESULTS, markdown_table, quartiles, write_json, write_text
from benchmarks.speed.gpu import require_device
from benchmarks.speed.peers import (
    WORKER,
    imported_peer,
    imported_sevennet,
    random_network,
    random_peer,
)
from equicalc import plots

STRUCTURES = ("NaCl-512", "NaCl-1000", "NaCl-4096", "NaCl-8000", "NaCl-32768", "NaCl-97336")
SEVENNET, MACE = "SevenNet-0", "MACE 128x0e+128x1o"
NEQUIP = "NequIP 64 channels, l_max 1"
OEQ = "enable_OpenEquivariance"
# name of the network, code with the kernels it uses, its model
CONTESTANTS = (
    (SEVENNET, "sevenn", lambda _: "7net-0"),
    (SEVENNET, "sevenn+cueq", lambda _: "7net-0"),
    (SEVENNET, "sevenn+flash", lambda _: "7net-0"),
    (SEVENNET, "sevenn+oeq", lambda _: "7net-0"),
    (SEVENNET, "equicalc", imported_sevennet("7net-0")),
    (MACE, "mace", random_peer("mace", ".model")),
    (MACE, "mace+cueq", random_peer("mace", ".model")),
    (MACE, "mace+oeq", random_peer("mace", ".model")),
    (MACE, "equicalc", imported_peer("mace", ".model")),
    (NEQUIP, "nequip", random_peer("nequip", "_cuda.nequip.pt2", "cuda")),
    (NEQUIP, "nequip+oeq", random_peer("nequip", f"_cuda_{OEQ}.nequip.pt2", "cuda", OEQ)),
    (NEQUIP, "nequip+torch.compile", random_peer("nequip", ".ckpt")),
    (NEQUIP, "nequip+eager", random_peer("nequip", ".ckpt")),
    (NEQUIP, "equicalc", imported_peer("nequip", ".ckpt")),
    ("2 layers, l_max 2", "equicalc", random_network(2)),
)


def measure(
    kind: str, model: str, python: str, seconds: float, limit: float
) -> tuple[list[Any], str]:
    """Lines of one worker, and why it stopped if it did before the end."""
    task = {
        "kind": kind,
        "model": model,
        "dtype": "float32",
        "device": "cuda",
        "structures": STRUCTURES,
        "threads": 4,
        "warm_up": 5,
        "repeats": 30,
        "seconds": seconds,
    }
    command = [python, str(WORKER), json.dumps(task)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        output, words = done.stdout, done.stderr.strip().splitlines() or ["it printed nothing"]
        reason = words[-1] if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output, reason = (error.stdout or b"").decode(), f"stopped after {limit:.0f} s"
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return rows, reason


def plot(rows: list[dict[str, Any]]) -> Figure:
    """Time per atom against size."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["name"] for row in rows):
        points = [(row["n_atoms"], row["us"][1]) for row in rows if row["name"] == name]
        axes.loglog(*zip(*points, strict=True), "o-", label=name)
    axes.set_xlabel("atoms")
    axes.set_ylabel("µs per atom")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    return figure


def page(rows: list[dict[str, Any]], stopped: dict[str, str]) -> str:
    """Text of the page."""
    others_of: dict[tuple[str, int, str], list[float]] = {}
    for row in rows:
        if row["kind"] != "equicalc":
            key = row["network"], row["n_atoms"], row["device"]
            others_of.setdefault(key, []).append(row["us"][1])
    table = []
    for row in rows:
        others = others_of.get((row["network"], row["n_atoms"], row["device"]), [])
        ours = row["kind"] == "equicalc" and others
        table.append([
            row["network"], row["kind"], card_of(row), row["n_atoms"],
            f"{row['edges_per_atom']:.1f}",
            "{1:.3g} ({0:.3g} to {2:.3g})".format(*row["us"]),
            f"{row['peak_MB']:.0f}" if row["peak_MB"] else "not measured",
            f"{min(others) / row['us'][1]:.1f}" if ours else "",
        ])  # fmt: skip
    header = ["network", "code", "device", "atoms", "edges per atom", "µs per atom (quartiles)",
              "memory of the device (MB)", "faster than the fastest other"]  # fmt: skip
    devices = ", ".join(sorted({row["device"] for row in rows}))
    intro = (
        f"Rattled NaCl, float32, on {devices}; made by `python -m benchmarks.speed.gpu_peers`. "
        "Energy, forces and stress through ASE, neighbour lists included; atoms move by 0.01 Å "
        "between calls."
    )
    parts = ["# Speed beside other codes on a CUDA device", intro, markdown_table(header, table)]
    parts += [f"{name} stopped early: {reason}." for name, reason in stopped.items()]
    measured = {row["name"] for row in rows}
    missing = [name for name in map(name_of, CONTESTANTS) if name not in measured]
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.")
    return "\n\n".join(parts)


def card_of(row: dict[str, Any]) -> str:
    """Kind of the device of a row: "H100" of "NVIDIA H100 80GB HBM3, torch 2.11.0"."""
    return str(row["device"]).removeprefix("NVIDIA ").split(",")[0].split()[0]


def name_of(contestant: tuple[Any, ...]) -> str:
    """Name in tables and pictures."""
    return f"{contestant[0]} in {contestant[1]}"


def main() -> None:
    """Measure, write gpu_peers.json, gpu_peers.md and gpu_peers.png after each code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", action="append", default=[], metavar="CODE=PATH")
    parser.add_argument("--only", default="", metavar="WORDS", help="of '<network> in <code>'")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each structure")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each code")
    parser.add_argument("--page", action="store_true", help="only write page and picture again")
    options = parser.parse_args()
    pythons = dict(word.split("=", 1) for word in options.python) | {"equicalc": sys.executable}
    path = RESULTS / "gpu_peers.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"rows": [], "stopped": {}}
    if not options.page:
        require_device()
    for contestant in [] if options.page else CONTESTANTS:
        network, kind, model = contestant
        code, name = kind.split("+")[0], name_of(contestant)
        if options.only not in name:
            continue
        if code not in pythons:
            print(f"left out: {name}; for it: --python {code}=PATH")
            continue
        try:
            limits = options.seconds, options.limit
            found, reason = measure(kind, model(pythons), pythons[code], *limits)
        except subprocess.CalledProcessError as error:
            found, reason = [], f"its model could not be made: {error}"
        for row in found:
            row |= {"network": network, "kind": kind, "name": name}
            row["device"] = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
            row["us"] = [1e6 * q / row["n_atoms"] for q in quartiles(row.pop("seconds"))]
            print(f"{name}, {row['n_atoms']} atoms: {row['us'][1]:.3f} us/atom", flush=True)
        kept["rows"] = [row for row in kept["rows"] if row["name"] != name] + found
        kept["stopped"].pop(name, None)
        if reason:
            kept["stopped"][name] = f"{len(found)} sizes, then {reason[:90]}"
        publish(kept)
    publish(kept)


def publish(kept: dict[str, Any]) -> None:
    """Write what is measured so far."""
    write_json("gpu_peers", kept)
    write_text("gpu_peers", page(kept["rows"], kept["stopped"]))
    plots.save(plot(kept["rows"]), RESULTS / "gpu_peers.png")


if __name__ == "__main__":
    main()
