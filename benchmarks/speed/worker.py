"""Times one calculator on structures; run by the interpreter that has the calculator's package.

``python worker.py '{"kind": "sevenn", "model": "7net-0", ...}'`` prints a line of JSON for each.
Knows nothing of equicalc unless that is what it times.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

task = json.loads(sys.argv[1])
# before any library that reads it
os.environ["OMP_NUM_THREADS"] = str(task["threads"])
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from ase.neighborlist import neighbor_list  # noqa: E402
from random_peers import write_random_structure  # noqa: E402
from structures import CUTOFF, structure  # noqa: E402

KERNELS = {
    "cueq": "cuequivariance_ops_torch",
    "oeq": "openequivariance",
    "flash": "flashTP_e3nn.flashtp_large_kernel",
}
# angstrom: as far as atoms go in a step of molecular dynamics
STEP = 0.01


def calculator(kind: str, model: str, dtype: str, device: str):  # type: ignore[no-untyped-def]
    """Return ASE's calculator of a code; what follows a ``+`` is the kernels that it uses.

    cueq (cuEquivariance), oeq (OpenEquivariance), flash (FlashTP), and of symmetrix kokkos.
    """
    code, *extras = kind.split("+")
    kernels = [extra for extra in extras if extra in KERNELS]
    for extra in kernels:
        # where they are missing, some codes go on with plain torch operations
        importlib.import_module(KERNELS[extra])
    enabled = {f"enable_{extra}": True for extra in kernels}
    if code == "equicalc":
        from equicalc import EquiCalculator

        return EquiCalculator(model, dtype=dtype, device=device, check=False)
    if code == "sevenn":
        from sevenn.calculator import SevenNetCalculator

        return SevenNetCalculator(model, device=device, **enabled)
    if code == "mace":
        from mace.calculators import MACECalculator

        return MACECalculator(model_paths=model, device=device, default_dtype=dtype, **enabled)
    if code == "nequip":
        from nequip.ase import NequIPCalculator

        if not model.endswith(".ckpt"):
            return NequIPCalculator.from_compiled_model(model, device=device)
        mode = "compile" if "torch.compile" in extras else "eager"
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            write_random_structure(Path("random.xyz"))  # the checkpoint asks for it
            return NequIPCalculator._from_saved_model(model, device=device, compile_mode=mode)
    if code == "symmetrix":
        from symmetrix import Symmetrix

        return Symmetrix(model, dtype=dtype, use_kokkos="kokkos" in extras)
    raise SystemExit(f"worker.py knows no calculator {kind!r}")


def peak_memory(device: str) -> float:
    """Return the largest memory so far, MB: resident size of the process, or of the device."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def timed(atoms, load_seconds: float, device: str):  # type: ignore[no-untyped-def]
    """Time energy, forces and stress of slightly moving atoms."""
    rng = np.random.default_rng(0)
    positions = atoms.get_positions()
    before = peak_memory(device)
    seconds, begin = [], time.perf_counter()
    for step in range(-task["warm_up"], task["repeats"]):
        atoms.set_positions(positions + STEP * rng.normal(size=positions.shape))
        start = time.perf_counter()
        energy = atoms.get_potential_energy()
        forces, stress = atoms.get_forces(), atoms.get_stress()
        if step >= 0:
            seconds.append(time.perf_counter() - start)
        if len(seconds) >= 3 and time.perf_counter() - begin > task["seconds"]:
            break
    atoms.set_positions(positions)
    n_edges = len(neighbor_list("i", atoms, CUTOFF))
    assert np.isfinite([energy, *forces.ravel(), *stress]).all()
    return {
        "seconds": seconds,
        "load_seconds": load_seconds,
        "peak_MB": peak_memory(device),
        "peak_MB_before": before,
        "n_atoms": len(atoms),
        "edges_per_atom": n_edges / len(atoms),
        "energy_per_atom": atoms.get_potential_energy() / len(atoms),
        "torch": torch.__version__,
    }


def main() -> None:
    """Print a line for each structure, as long as they fit into memory."""
    torch.set_num_threads(task["threads"])
    device = task.get("device", "cpu")
    if device != "cpu":
        torch.cuda.init()  # or its statistics stay zero when only C++ takes memory
    start = time.perf_counter()
    of_code = calculator(task["kind"], task["model"], task["dtype"], device)
    load_seconds = time.perf_counter() - start
    for name in task["structures"]:
        atoms = structure(name)
        atoms.calc = of_code
        print(json.dumps({"structure": name, **timed(atoms, load_seconds, device)}), flush=True)


main()
