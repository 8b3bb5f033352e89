"""Shared by the proofs: options, training in a run directory, tables and where results go."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure

from equicalc import plots
from equicalc.calculator import EquiCalculator
from equicalc.deploy import export_run
from equicalc.train import run

BENCHMARKS = Path(__file__).resolve().parent.parent
DATA = BENCHMARKS.parent / "examples" / "data"
RESULTS = BENCHMARKS / "results" / "long_range"
OUTPUT = BENCHMARKS / "output" / "long_range"


def options_of(
    description: str, arguments: Sequence[tuple[str, dict[str, Any]]] = ()
) -> argparse.Namespace:
    """Options of a proof: ``--quick``, ``--threads`` and its own ``(name, keywords)``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="little training, to see that it runs; results go to benchmarks/output/long_range",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    for name, keywords in arguments:
        parser.add_argument(name, **keywords)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def folder_of(name: str) -> Path:
    """Return a folder for what a proof writes on its way; it may be deleted at any time."""
    folder = OUTPUT / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def labelled(
    atoms: Atoms, energy: float, forces: Any, charges: Any = None, total_charge: float = 0.0
) -> Atoms:
    """Return a copy of a structure with results as a reference calculation would store them."""
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, energy=float(energy), forces=forces)
    if charges is not None:
        copy.arrays["charges"] = charges
    if total_charge:
        copy.info["charge"] = total_charge
    return copy


def train_model(
    folder: Path,
    name: str,
    sections: Mapping[str, Mapping[str, Any]],
    training: Sequence[Atoms],
    validation: Sequence[Atoms],
    threads: int = 1,
) -> Path:
    """Train a model from scratch and return its run directory.

    Parameters
    ----------
    folder : Path
        Where data, configuration and the run directory ``name`` go.
    name : str
        Name of the model.
    sections : mapping
        Sections ``model``, ``loss`` and ``training`` of the configuration.
    training, validation : sequence of Atoms
        Structures with results.
    threads : int
        CPU threads.
    """
    files = {}
    for part, structures in (("train", training), ("validation", validation)):
        files[part] = f"{name}_{part}.xyz"
        ase.io.write(folder / files[part], list(structures), format="extxyz")
    directory = folder / name
    shutil.rmtree(directory, ignore_errors=True)
    config = {key: dict(section) for key, section in sections.items()}
    config["about"] = {"name": name}
    config["data"] = files
    config["run"] = {
        "directory": str(directory),
        "threads": threads,
        "progress": False,
        "plots": False,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    start = time.perf_counter()
    run(path)
    print(f"  trained {name} in {time.perf_counter() - start:.0f} s", flush=True)
    return directory


def calculator_of(directory: Path, **parameters: Any) -> EquiCalculator:
    """Export the best weights of a run and return ASE's calculator of the model file."""
    return EquiCalculator(export_run(directory, directory / "model.pt"), **parameters)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def publish(name: str, text: str, figure: Figure, quick: bool) -> None:
    """Print the text of a proof, and write it and its picture where results go."""
    folder = OUTPUT if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text.rstrip() + "\n")
    picture = plots.save(figure, folder / f"{name}.png")
    print(f"\n{text}\n\nwritten: {folder / (name + '.md')}\n         {picture}", flush=True)
