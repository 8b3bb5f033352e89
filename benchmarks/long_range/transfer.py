"""Models trained on small cells, with and without charges, in cells of eight times the size.

    python -m benchmarks.long_range.transfer

For NaCl, KCl, MgO and AlN two models learn the same data with the same network and budget, that of
examples/train_*.yaml: one with the Coulomb energy of fixed charges, one without. Compared are the
force errors on validation cells, those on NaCl cells of 512 atoms when training saw 64, the charge
with Z*/sqrt(eps_inf) of DFT, and the splitting of the optical modes at the centre of the zone.
Finished trainings in benchmarks/output/long_range/transfer are used again; --fresh repeats them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.spacegroup.symmetrize import refine_symmetry

from benchmarks.long_range.common import (
    BENCHMARKS,
    DATA,
    calculator_of,
    folder_of,
    markdown_table,
    options_of,
    publish,
)
from equicalc import EquiCalculator
from equicalc.electrostatics import COULOMB_CONSTANT
from equicalc.evaluate import evaluate
from equicalc.train import run

EXAMPLES = BENCHMARKS.parent / "examples"
# Z*/sqrt(eps_inf) of the cation, e: DFT response calculations of the systems of the data
DFT_CHARGES = {"nacl": 0.681, "kcl": 0.734, "mgo": 1.100, "aln": 1.201}
CATIONS = {"nacl": "Na", "kcl": "K", "mgo": "Mg", "aln": "Al"}
FILES = {
    "nacl": "nacl_pbesol_64.xyz",
    "kcl": "kcl_pbesol_64.xyz",
    "mgo": "mgo_pbesol_64.xyz",
    "aln": "aln_pbesol_128.xyz.gz",
}
LARGE_CELLS = {"nacl": "nacl_pbesol_512.xyz"}
DISPLACEMENT = 0.01  # angstrom
# What is left of random displacements in their mean, at most; angstrom.
NOISE = 0.1
# THz of sqrt(eV / angstrom^2 / amu)
THZ = 15.633302
KINDS = {"with": None, "without": "none"}


@dataclass
class Row:
    """Errors (percent of the rms force, meV/angstrom) of one model."""

    label: str
    small: tuple[float, float]
    large: tuple[float, float] | None
    charge: float | None


def main() -> None:
    """Train what is missing, compare, write table and picture."""
    arguments = [("--fresh", {"action": "store_true", "help": "train again"})]
    arguments.append(("--only", {"nargs": "+", "choices": FILES, "help": "materials"}))
    options = options_of(__doc__, arguments)
    chosen = options.only or list(FILES)
    rows, modes = [], []
    for name in chosen:
        for kind in KINDS:
            directory = trained(name, kind, options.quick, options.fresh)
            rows.append(compare(name, kind, directory))
            if kind == "with":
                modes.append(optical_modes(name, calculator_of(directory, kspace_accuracy=1e-9)))
    text = "\n\n".join([error_table(rows), mode_table(modes), NOTE])
    publish("transfer", text, picture(rows), options.quick or options.only is not None)


def trained(name: str, kind: str, quick: bool, fresh: bool) -> Path:
    """Return the run directory of a finished training."""
    directory = folder_of("transfer_quick" if quick else "transfer") / f"{name}_{kind}"
    if fresh:
        shutil.rmtree(directory, ignore_errors=True)
    if not (directory / "metrics.json").is_file():
        shutil.rmtree(directory, ignore_errors=True)
        overrides = {"run.directory": str(directory), "run.plots": False}
        if KINDS[kind]:
            overrides |= {"model.charge_model": KINDS[kind], "model.initial_charges": None}
        if quick:
            overrides["training.max_epochs"] = 3
        run(EXAMPLES / f"train_{name}.yaml", overrides=overrides)
    return directory


def compare(name: str, kind: str, directory: Path) -> Row:
    """Read the errors on validation cells and evaluate the large ones."""
    metrics = json.loads((directory / "metrics.json").read_text())["validation"]
    large = None
    if name in LARGE_CELLS:
        large = relative(evaluate(calculator_of(directory), DATA / LARGE_CELLS[name]))
    charges = metrics.get("charge_mean_e_per_element") if kind == "with" else None
    return Row(
        f"{name} {kind} charges",
        relative(metrics),
        large,
        charges[CATIONS[name]] if charges else None,
    )


def relative(metrics: dict) -> tuple[float, float]:
    """Return the rms force error in percent of the rms force, and in meV/angstrom."""
    error = metrics["forces_rmse_meV_per_A"]
    return 100.0 * error / metrics["forces_rms_reference_meV_per_A"], error


def optical_modes(name: str, calculator: EquiCalculator) -> list[str]:
    """Return a row: optical modes at the centre of the zone, and the longitudinal ones along z.

    The transverse ones come from displacements in a periodic cell; a longitudinal wave adds the
    field of its own polarisation, ``4 pi k_e / V (sum_i q_i e_iz / sqrt(m_i))^2``.
    """
    atoms = equilibrium(name)
    atoms.calc = calculator
    charges = atoms.get_charges()
    matrix = zone_centre_matrix(atoms)
    pull = np.zeros((len(atoms), 3))
    pull[:, 2] = charges / np.sqrt(atoms.get_masses())
    # equal charges of translated copies add up coherently: amplitude of the whole cell
    field = 4.0 * np.pi * COULOMB_CONSTANT / atoms.get_volume()
    dft = pull * DFT_CHARGES[name] / abs(charges[atoms.symbols == CATIONS[name]].mean())

    def polar(levels: np.ndarray, vectors: np.ndarray, direction: np.ndarray) -> float:
        strength = (direction.ravel() @ vectors) ** 2
        return float(frequency(levels[strength.argmax()]))

    levels, vectors = np.linalg.eigh(matrix)
    along_z = polar(levels, vectors, pull)
    found = [along_z]
    for vector in (pull, dft):
        flat = vector.ravel()
        split = np.linalg.eigh(matrix + field * np.outer(flat, flat))
        found.append(polar(*split, pull))
    return [name, *(f"{value:.2f}" for value in found)]


def equilibrium(name: str) -> Atoms:
    """Return the mean of the structures that are displaced least, its noise taken out.

    Random displacements cancel; what is left of them is taken out by symmetry.
    """
    frames = ase.io.read(DATA / FILES[name], ":")
    forces = [np.sqrt(np.mean(f.get_forces() ** 2)) for f in frames]
    near = [f for f, force in zip(frames, forces, strict=True) if force < 2.0 * min(forces)]
    mean = near[0].copy()
    start = mean.get_scaled_positions()
    shifts = [f.get_scaled_positions() - start for f in near]
    mean.set_scaled_positions(start + np.mean([s - np.round(s) for s in shifts], axis=0))
    refine_symmetry(mean, symprec=NOISE)
    return mean


def zone_centre_matrix(atoms: Atoms) -> np.ndarray:
    """Mass-weighted force constants [3 N, 3 N] of a cell, eV/angstrom^2/amu."""
    masses = np.repeat(atoms.get_masses(), 3)
    matrix = np.zeros((3 * len(atoms),) * 2)
    for index in range(3 * len(atoms)):
        forces = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[index // 3, index % 3] += sign * DISPLACEMENT
            forces.append(moved.get_forces().ravel())
        matrix[index] = (forces[1] - forces[0]) / (2.0 * DISPLACEMENT)
    matrix /= np.sqrt(np.outer(masses, masses))
    return 0.5 * (matrix + matrix.T)


def frequency(level: float) -> float:
    """THz of an eigenvalue in eV/angstrom^2/amu; negative when the mode is unstable."""
    return np.sign(level) * np.sqrt(abs(level)) * THZ


def error_table(rows: list[Row]) -> str:
    """Return the table of errors and charges."""

    def cell(value: tuple[float, float] | None) -> str:
        return f"{value[0]:.2f} % ({value[1]:.2f})" if value else ""

    lines = []
    for row in rows:
        name = row.label.split()[0]
        charge = f"{row.charge:.3f} ({DFT_CHARGES[name]:.3f})" if row.charge is not None else ""
        lines.append([row.label, cell(row.small), cell(row.large), charge])
    header = [
        "model",
        "force error, validation cells",
        "force error, 512 atoms",
        "charge of the cation (DFT Z*/√ε∞), e",
    ]
    return "Percent of the rms force (meV/Å).\n\n" + markdown_table(header, lines)


def mode_table(modes: list[list[str]]) -> str:
    """Return the table of optical modes."""
    header = [
        "THz",
        "polar mode, transverse",
        "longitudinal",
        "longitudinal with the charge of DFT",
    ]
    return markdown_table(header, modes)


NOTE = (
    "Same network, data and number of epochs with and without charges. Validation cells have 64 "
    "atoms (AlN 128), like those of the training."
)


def picture(rows: list[Row]):
    """Return bars of the errors in small and large cells."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.0), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    axes.bar(places - 0.2, [r.small[0] for r in rows], 0.4, label="cells of the training's size")
    large = [(p, r.large[0]) for p, r in zip(places, rows, strict=True) if r.large]
    axes.bar([p + 0.2 for p, _ in large], [v for _, v in large], 0.4, label="512 atoms")
    axes.set_xticks(places, [r.label.replace(" charges", "\ncharges") for r in rows], fontsize=8)
    axes.set_ylabel("force error (% of the rms force)")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
