"""Time per atom on a CUDA device: ``python -m benchmarks.speed.gpu``.

Energies and gradients of edges (all that forces and stress are made of) of rattled rock salt, with
the default network and SevenNet-0, from 512 to 100,000 atoms in float32. Times are those between
events of the device around one evaluation through the model file, from positions to forces on the
CPU; neighbour searches are not in it. SevenNet-0 is measured
when the sevenn package, which has its weights, is installed, or from a file: ``--sevennet FILE``.
The Coulomb sum on the device, alone and in whole steps, has a page of its own (gpu_coulomb.py).
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from benchmarks.speed import gpu_coulomb
from benchmarks.speed.common import RESULTS, markdown_table, write_text
from benchmarks.speed.network import ELEMENTS, export, salt
from equicalc.core import load_library
from equicalc.short_range import OnDevice

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIDES = (4, 5, 6, 10, 16, 23)  # unit cells of 8 atoms along each edge
CUTOFF = 5.0
WARM_UP, REPEATS = 6, 15  # the first steps of a size are not recorded yet


def require_device() -> None:
    """Stop with what is missing unless there is a device with kernels."""
    load_library()
    if not torch.cuda.is_available():
        raise SystemExit(
            f"benchmarks.speed.gpu needs a CUDA device; torch {torch.__version__} found none on "
            "this machine"
        )
    if not torch.ops.equicalc.has_cuda_kernels():
        raise SystemExit(
            "this build of equicalc has no kernels for CUDA devices. Build it with nvcc in PATH: "
            "EQUICALC_CUDA=1 pip install --no-build-isolation --no-deps -e ."
        )


def card() -> str:
    """Return the kind of the device as part of file names: "h100" of "NVIDIA H100 80GB HBM3"."""
    words = re.sub(r"[^\w ]", "", torch.cuda.get_device_name()).lower().split()
    return next((word for word in words if re.search(r"\d", word)), "cuda")


def sevennet(path: str | None, folder: Path) -> str | None:
    """Model file of SevenNet-0 for the elements of the benchmark, when its weights are at hand."""
    if path is not None:
        return path
    try:
        from equicalc.deploy import export_network
        from equicalc.interop.sevennet import import_sevennet

        found = import_sevennet("7net-0", ELEMENTS)
    except Exception as error:
        print(f"SevenNet-0 is left out: {error}")
        return None
    return str(export_network(found.network, folder / "7net-0.pt", **found.about))


def measure(path: str, side: int, dtype: str) -> dict[str, Any]:
    """Milliseconds of one evaluation (lower quartile, median, upper quartile) and memory."""
    core, atoms = load_library(), salt(side)
    model = core.Model.load(path, dtype, "cuda")
    network, elements = OnDevice(model, 0.5, "cuda"), list(model.info.elements)
    species = torch.tensor([elements.index(s) for s in atoms.get_chemical_symbols()])

    def step() -> None:
        network.forward(species, atoms)
        network.forces(None, with_atom_virials=False)

    times = []
    torch.cuda.reset_peak_memory_stats()
    for repeat in range(WARM_UP + REPEATS):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        step()
        after.record()
        torch.cuda.synchronize()
        if repeat >= WARM_UP:
            times.append(before.elapsed_time(after))
    return {
        "atoms": len(atoms),
        "edges": network.steps.graph()[0].shape[1] / len(atoms),
        "ms": np.percentile(times, [25, 50, 75]).tolist(),
        "bytes": torch.cuda.max_memory_allocated() / len(atoms),
    }


def plot(rows: list[dict[str, Any]]) -> None:
    """Time per atom against size."""
    figure, axes = plt.subplots(figsize=(5, 3.6))
    for name in dict.fromkeys(row["network"] for row in rows):
        points = [
            (r["atoms"], 1000 * r["ms"][1] / r["atoms"]) for r in rows if r["network"] == name
        ]
        axes.loglog(*zip(*points, strict=True), "o-", label=name)
    axes.set_xlabel("atoms")
    axes.set_ylabel("µs per atom")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / f"gpu_{card()}.png", dpi=150)


def measure_networks(sevennet_path: str | None, dtype: str, folder: Path) -> list[dict[str, Any]]:
    """Rows of the table of networks, for sizes that fit into the memory of the device."""
    rows: list[dict[str, Any]] = []
    networks = {"default (2 layers, l_max 2)": export({}, folder)}
    networks["3 layers, l_max 2"] = export({"n_layers": 3}, folder)
    if found := sevennet(sevennet_path, folder):
        networks["SevenNet-0"] = found
    for name, path in networks.items():
        for side in SIDES:
            try:
                rows.append({"network": name, **measure(path, side, dtype)})
            except Exception as error:
                if "out of memory" not in str(error):
                    raise
                print(f"{name}: {8 * side**3} atoms do not fit into the device's memory")
                break
            print(rows[-1], flush=True)
    return rows


def write_networks(rows: list[dict[str, Any]], dtype: str) -> None:
    """Write the page and picture of the networks."""
    table = [
        [r["network"], r["atoms"], f"{r['edges']:.1f}",
         "{1:.2f} ({0:.2f} to {2:.2f})".format(*r["ms"]),
         f"{1000 * r['ms'][1] / r['atoms']:.3f}", f"{r['bytes'] / 1024:.1f} KiB"]
        for r in rows
    ]  # fmt: skip
    header = ["network", "atoms", "edges per atom", "ms per step (quartiles)", "µs per atom",
              "memory per atom"]  # fmt: skip
    intro = (
        f"Rattled NaCl, {dtype}, on {torch.cuda.get_device_name()}, torch "
        f"{torch.__version__}; made by `python -m benchmarks.speed.gpu`. A step is energies, "
        "forces and virial from positions, all on the CPU; neighbour searches are not in it."
    )
    page = ["# Time per atom on a CUDA device", intro, markdown_table(header, table)]
    write_text(f"gpu_{card()}", "\n\n".join(page))
    plot(rows)


def main() -> None:
    """Measure, write gpu_CARD.md, gpu_CARD.png, gpu_coulomb.md of benchmarks/results/speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="all", choices=["all", "networks", "coulomb"])
    parser.add_argument("--sevennet", help="model file of an imported SevenNet-0")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    arguments = parser.parse_args()
    require_device()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part != "coulomb":
            rows = measure_networks(arguments.sevennet, arguments.dtype, Path(folder))
            write_networks(rows, arguments.dtype)
        if arguments.part != "networks":
            gpu_coulomb.report(SIDES, Path(folder))


if __name__ == "__main__":
    main()
