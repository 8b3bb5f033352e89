"""The same model in training, in ASE and in LAMMPS: largest differences of everything.

    python benchmarks/agreement.py                     (or: make bench)

Compares the Python training graph, the exported file in ASE, and LAMMPS on 1, 2 and 4 ranks (and
on a grid of ranks of which some own no atom), for rattled and sheared crystals, in float64 and
float32, with tight and with ordinary Coulomb sums. Reference: the training graph in float64 with a
tight sum. Writes benchmarks/results/agreement.json and agreement.md; exit code 1 when a float64
comparison with tight sums misses its limit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from equicalc import EquiCalculator
from equicalc.deploy import read_metadata
from equicalc.lammps_run import single_point
from equicalc.models import resolve

HERE = Path(__file__).resolve().parent
ELEMENTS = ["K", "Cl"]
QUANTITIES = ("energy", "forces", "stress", "charges")
UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "charges": "e"}

# What float64 with tight sums must reach: rounding of sums over some 1e4 terms, not physics.
LIMITS = {"energy": 1e-9, "forces": 1e-7, "stress": 1e-8, "charges": 1e-9}
# What float32 must reach: its rounding, 6e-8, times forces of some eV/A and sums of many terms.
FLOAT32_FORCE_LIMIT = 1e-4

TIGHT = {"ase": ("ewald", 1e-12), "lammps": "ewald 1.0e-12"}
ORDINARY = {"ase": ("auto", 1e-6), "lammps": "pppm 1.0e-5"}


@dataclass
class Case:
    """One row of the table: who computes, and how."""

    name: str
    compute: Callable[[Atoms], dict[str, np.ndarray]]
    dtype: str
    tight: bool


def structures(small: bool) -> dict[str, Atoms]:
    """Return the structures: a rattled crystal, a sheared cell, a crystal beside a vacuum."""
    cubic = bulk("KCl", "rocksalt", a=6.292, cubic=True)
    large = cubic.repeat(2 if small else 4)
    large.rattle(0.1, seed=1)
    sheared = cubic.repeat(2)
    cell = sheared.cell.array
    cell[1, 0], cell[2, 0], cell[2, 1] = 1.1, -0.8, 1.7
    cell[0, 0] *= 1.03
    sheared.set_cell(cell, scale_atoms=True)
    sheared.rattle(0.1, seed=2)
    # periodic in all directions, so that empty space belongs to some rank
    slab = cubic.repeat(2)
    slab.rattle(0.1, seed=3)
    slab.cell[2, 2] = 52.0
    return {
        f"rattled crystal, {len(large)} atoms": large,
        f"triclinic cell, {len(sheared)} atoms": sheared,
        f"crystal and vacuum, {len(slab)} atoms": slab,
    }


def training_graph(path: Path) -> Callable[[Atoms], dict[str, np.ndarray]]:
    """Return a function that evaluates the network as training does: one graph, plain autograd."""
    import torch

    from equicalc.data import collate, from_atoms, make_sample
    from equicalc.nn import EquiNetwork, NetworkConfig
    from equicalc.train.potential import Potential

    config = NetworkConfig(**read_metadata(path)["network"])
    network = EquiNetwork(config).double()
    exported = torch.jit.load(str(path)).state_dict()
    # the archive holds constant tables too, which the network builds itself
    network.load_state_dict({key: exported[f"network.{key}"] for key in network.state_dict()})
    potential = Potential(network, accuracy=TIGHT["ase"][1])

    def compute(atoms: Atoms) -> dict[str, np.ndarray]:
        sample = make_sample(from_atoms([atoms])[0], config.elements, config.cutoff)
        result = potential(collate([sample]), need_stress=True)
        return {
            "energy": result.energy[0].item(),
            "forces": result.forces.detach().numpy(),
            "stress": result.stress[0].detach().numpy(),
            "charges": result.charges.detach().numpy(),
        }

    return compute


def in_ase(model: str, dtype: str, tight: bool) -> Callable[[Atoms], dict[str, np.ndarray]]:
    """Return a function that evaluates the exported file with ASE's calculator."""
    kspace, accuracy = (TIGHT if tight else ORDINARY)["ase"]

    def compute(atoms: Atoms) -> dict[str, np.ndarray]:
        work = atoms.copy()
        work.calc = EquiCalculator(model, dtype=dtype, kspace=kspace, kspace_accuracy=accuracy)
        return {
            "energy": work.get_potential_energy(),
            "forces": work.get_forces(),
            "stress": work.get_stress(voigt=False),
            "charges": work.get_charges(),
        }

    return compute


def in_lammps(
    model: str, dtype: str, tight: bool, ranks: int, processors: str = "* * *"
) -> Callable[[Atoms], dict[str, np.ndarray]]:
    """Return a function that evaluates the exported file with the pair style."""

    def compute(atoms: Atoms) -> dict[str, np.ndarray]:
        return single_point(
            atoms,
            model,
            ELEMENTS,
            HERE / "output" / "agreement",
            ranks=ranks,
            kspace=(TIGHT if tight else ORDINARY)["lammps"],
            precision=dtype,
            processors=processors,
        )

    return compute


def cases(model: str) -> list[Case]:
    """Return the rows of the table."""
    rows = []
    for dtype in ("float64", "float32"):
        for tight in (True, False):
            rows.append(Case("ASE", in_ase(model, dtype, tight), dtype, tight))
            for ranks in (1, 2, 4):
                compute = in_lammps(model, dtype, tight, ranks)
                rows.append(Case(f"LAMMPS, {ranks} ranks", compute, dtype, tight))
            compute = in_lammps(model, dtype, tight, 4, "1 1 4")
            rows.append(Case("LAMMPS, 1 × 1 × 4 ranks", compute, dtype, tight))
    return rows


def deviations(found: dict, reference: dict, n_atoms: int) -> dict[str, float]:
    """Return the largest difference of each quantity (the energy per atom)."""
    scale = {"energy": 1.0 / n_atoms}
    return {
        key: float(np.abs(np.asarray(found[key]) - reference[key]).max() * scale.get(key, 1.0))
        for key in QUANTITIES
    }


def missed(row: dict) -> list[str]:
    """Return which limits a row misses; ordinary Coulomb sums have none of their own."""
    if row["dtype"] == "float32":
        over = row["tight"] and row["forces"] > FLOAT32_FORCE_LIMIT
        return ["forces"] if over else []
    return [key for key in QUANTITIES if row["tight"] and not row[key] <= LIMITS[key]]


def markdown(rows: list[dict], model: str) -> str:
    """Return the table as text for people."""
    lines = [f"# Agreement of the front ends, model `{model}`", ""]
    lines += ["Largest differences from the training graph (float64, tight Coulomb sum)."]
    lines += [f"Tight: `{TIGHT['lammps']}` in LAMMPS, {TIGHT['ase'][1]:g} in ASE;"]
    lines += [f"ordinary: `{ORDINARY['lammps']}` in LAMMPS, {ORDINARY['ase'][1]:g} in ASE."]
    for name in dict.fromkeys(row["structure"] for row in rows):
        header = [f"{key} ({UNITS[key]})" for key in QUANTITIES]
        lines += [
            "",
            f"## {name}",
            "",
            "| front end | precision | sum | " + " | ".join(header) + " |",
        ]
        lines += ["|---|---|---|" + "---|" * len(header)]
        for row in rows:
            if row["structure"] == name:
                numbers = [f"{row[key]:.1e}" for key in QUANTITIES]
                words = [row["case"], row["dtype"], "tight" if row["tight"] else "ordinary"]
                lines.append("| " + " | ".join(words + numbers) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    parser.add_argument("--small", action="store_true", help="64 instead of 512 atoms")
    parser.add_argument("--results", default=str(HERE / "results"), help="where to write")
    options = parser.parse_args()
    path = resolve(options.model)
    model = str(path.resolve())
    reference_of = training_graph(path)
    rows, failures = [], []
    for name, atoms in structures(options.small).items():
        print(f"{name}: training graph", flush=True)
        reference = reference_of(atoms)
        for case in cases(model):
            row = {"structure": name, "case": case.name, "dtype": case.dtype, "tight": case.tight}
            row.update(deviations(case.compute(atoms), reference, len(atoms)))
            rows.append(row)
            over = missed(row)
            failures += [f"{name}: {case.name} {case.dtype}: {key} {row[key]:.1e}" for key in over]
            numbers = "  ".join(f"{key} {row[key]:.1e}" for key in QUANTITIES)
            label = f"{case.name:<24}{case.dtype} {'tight   ' if case.tight else 'ordinary'}"
            print(
                f"  {label}  {numbers}{'  MISSED: ' + ', '.join(over) if over else ''}", flush=True
            )
    results = Path(options.results)
    results.mkdir(parents=True, exist_ok=True)
    summary = {"model": options.model, "limits": LIMITS, "rows": rows}
    (results / "agreement.json").write_text(json.dumps(summary, indent=1) + "\n")
    (results / "agreement.md").write_text(markdown(rows, options.model))
    print(f"wrote {results / 'agreement.md'} and agreement.json")
    print("\n".join(["limits missed:", *failures]) if failures else "all limits met")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
