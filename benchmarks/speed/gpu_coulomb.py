"""The Coulomb mesh on a CUDA device: alone, and in whole steps of the ASE calculator.

Part of ``python -m benchmarks.speed.gpu``; what is measured is said in WHAT.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.common import markdown_table, write_text
from benchmarks.speed.network import export, salt
from equicalc import EquiCalculator, _core
from equicalc.electrostatics import device_mesh, lattice, mesh, solve

ACCURACIES = (1e-4, 1e-5, 1e-6)
BULK = (True, True, True)
WARM_UP, REPEATS = 6, 15  # the first steps of a size are not recorded yet
WHAT = (
    'Charges are those of the ions, sigma is 1 Å. "device" is the sum on one mesh between events '
    'of the device, positions and charges being there; "solve" is the wall time of a whole call '
    "with arrays of the host, where two meshes may be blended. A step is the wall time of new "
    "forces after atoms have moved: edges, network, charges, Coulomb sum, forces and what ASE "
    "adds, without neighbour searches."
)


def quartiles(run: Callable[[], float]) -> list[float]:
    """Lower quartile, median and upper quartile of what `run` returns, after a few calls."""
    times = [run() for _ in range(WARM_UP + REPEATS)][WARM_UP:]
    return [float(t) for t in np.percentile(times, [25, 50, 75])]


def on_device(run: Callable[[], Any]) -> float:
    """Milliseconds between events of the device."""
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    run()
    after.record()
    torch.cuda.synchronize()
    return float(before.elapsed_time(after))


def on_clock(run: Callable[[], Any]) -> float:
    """Milliseconds of wall time of something that ends with results on the host."""
    start = time.perf_counter()
    run()
    return 1000.0 * (time.perf_counter() - start)


def measure_mesh(side: int, accuracy: float, single: bool) -> dict[str, Any]:
    """Time of the sum on the mesh of the device, and of a call of `solve`."""
    atoms = salt(side)
    charges = np.where(atoms.numbers == 11, 1.0, -1.0)
    positions, cell, sigmas = atoms.positions, atoms.cell.array, np.ones(len(atoms))
    order, spacing = mesh.choose_spline(sigmas, accuracy, "cuda")
    first = mesh.blended_meshes(cell, order, spacing)[0]
    sent = device_mesh.send(charges, positions, sigmas, (1.0,), "cuda")
    edge = lattice.wave_range(sigmas, _core.mesh_wave_accuracy(accuracy))

    def alone() -> torch.Tensor:
        return device_mesh.wave_sum(sent, first.cell, first.points, order, (1.0,), edge, single)

    def whole() -> None:
        solve(charges, positions, cell, BULK, 1.0, accuracy, "p3m", single=single, device="cuda")

    return {
        "atoms": len(atoms),
        "accuracy": accuracy,
        "type": "float32" if single else "float64",
        "mesh": f"order {order}, {'x'.join(map(str, first.points))}",
        "device": quartiles(lambda: on_device(alone)),
        "solve": quartiles(lambda: on_clock(whole)),
    }


def measure_step(path: str, side: int, accuracy: float | None) -> dict[str, Any]:
    """Time of a step of the calculator in float32; no accuracy for networks without charges."""
    atoms = salt(side)
    atoms.calc = EquiCalculator(
        path, device="cuda", dtype="float32", kspace="p3m", kspace_accuracy=accuracy
    )
    moves = 1e-3 * np.random.default_rng(2).standard_normal((2, *atoms.positions.shape))
    start, n_steps = atoms.positions.copy(), 0

    def step() -> None:
        nonlocal n_steps
        n_steps += 1
        atoms.positions[:] = start + moves[n_steps % 2]
        atoms.get_forces()

    return {
        "atoms": len(atoms),
        "accuracy": accuracy,
        "step": quartiles(lambda: on_clock(step)),
    }


def measure_steps(sides: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Rows of the table of steps, for sizes that fit into the memory of the device."""
    rows: list[dict[str, Any]] = []
    networks = {
        "none": export({}, folder),
        "predicted": export({"charge_model": "predicted"}, folder),
    }
    for charges, path in networks.items():
        for accuracy in ACCURACIES if charges == "predicted" else (None,):
            for side in sides:
                try:
                    row = measure_step(path, side, accuracy)
                except Exception as error:
                    if "out of memory" not in str(error):
                        raise
                    print(f"{8 * side**3} atoms do not fit into the device's memory")
                    break
                row["charges"] = "none" if accuracy is None else f"{accuracy:.0e}"
                rows.append(row)
                print(row, flush=True)
    return rows


def shown(times: list[float], n_atoms: int) -> list[str]:
    """Milliseconds with quartiles, and microseconds per atom, for a table."""
    low, middle, high = times
    return [f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{1000 * middle / n_atoms:.3f}"]


def report(sides: Sequence[int], folder: Path) -> None:
    """Measure, write benchmarks/results/speed/gpu_coulomb.md; models go into `folder`."""
    meshes = []
    for single in (False, True):
        for accuracy in ACCURACIES:
            for side in sides:
                row = measure_mesh(side, accuracy, single)
                print(row, flush=True)
                times = [*shown(row["device"], row["atoms"]), *shown(row["solve"], row["atoms"])]
                meshes.append([row["type"], f"{accuracy:.0e}", row["atoms"], row["mesh"], *times])
    steps = [
        [row["atoms"], row["charges"], *shown(row["step"], row["atoms"])]
        for row in measure_steps(sides, folder)
    ]
    quantity = "ms (quartiles)"
    header = ["mesh in", "accuracy", "atoms", "mesh", f"device, {quantity}", "µs per atom",
              f"solve, {quantity}", "µs per atom"]  # fmt: skip
    page = [
        "# The Coulomb sum on a CUDA device",
        f"Rattled NaCl on {torch.cuda.get_device_name()}, torch {torch.__version__}; made by "
        f"`python -m benchmarks.speed.gpu --part coulomb`. {WHAT}",
        markdown_table(header, meshes),
        "Steps with the default network in float32, the mesh in float64:",
        markdown_table(["atoms", "Coulomb accuracy", f"step, {quantity}", "µs per atom"], steps),
    ]
    write_text("gpu_coulomb", "\n\n".join(page))
