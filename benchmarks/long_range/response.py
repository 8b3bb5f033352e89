"""Polarisation, Born charges and dielectric constants of the models that learned them.

    python -m benchmarks.long_range.response

For SiO2 and BaTiO3: errors of energy, forces, stress, polarisation and Born charges on validation
structures, evaluated through the model files in ASE. Of quartz and of tetragonal BaTiO3, relaxed in
the cell of the data, also the static dielectric constant in two ways that share nothing but the
model: relaxed ions in a finite field, and Born charges with the vibrations of the zone centre.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.io import read
from matplotlib.figure import Figure

from benchmarks.long_range.common import (
    BENCHMARKS,
    DATA,
    markdown_table,
    options_of,
    publish,
)
from equicalc import EquiCalculator
from equicalc.data.structures import VACUUM_PERMITTIVITY
from equicalc.evaluate import Comparison, compare
from equicalc.relaxation import relax
from equicalc.train.config import load_config
from equicalc.train.pipeline import load_data

MODELS = ("sio2", "batio3")
DISPLACEMENT = 0.01  # angstrom
QUANTITIES = {
    "energy": ("energy (meV/atom)", 1000.0),
    "forces": ("forces (meV/Å)", 1000.0),
    "stress": ("stress (meV/Å³)", 1000.0),
    "polarization": ("polarisation x volume (e Å)", 1.0),
    "born": ("Born charges (e)", 1.0),
}
AXES = {"x": 0, "z": 2}


@dataclass(frozen=True)
class Crystal:
    """A crystal to relax: name, file, field (V/angstrom), largest force left (eV/angstrom)."""

    name: str
    file: str
    field: float
    tolerance: float


# BaTiO3 has a soft mode across its polarisation: its response is linear in weak fields only
CRYSTALS = {
    "sio2": Crystal("quartz", "sio2_72.xyz.gz", 0.01, 5e-4),
    "batio3": Crystal("BaTiO3", "batio3_135.xyz.gz", 0.0005, 2e-5),
}


def main() -> None:
    """Evaluate, relax in fields, write table and picture."""
    options = options_of(__doc__)
    comparisons = {}
    for name in MODELS:
        _, validation = load_data(
            load_config(BENCHMARKS.parent / "examples" / f"train_{name}.yaml")
        )
        if options.quick:
            validation = validation[:2]
        comparisons[name] = compare(EquiCalculator(name), validation)
    parts = [errors(comparisons), dielectric(options.quick)]
    publish("response", "\n\n".join(parts), picture(comparisons), options.quick)


def errors(comparisons: dict[str, Comparison]) -> str:
    """Return the table of errors."""
    rows = []
    for quantity, (label, factor) in QUANTITIES.items():
        row = [label]
        for comparison in comparisons.values():
            reference, predicted = comparison.flat(quantity)
            error = factor * np.sqrt(np.mean((predicted - reference) ** 2))
            # polarisations are defined up to lattice vectors and have no spread
            spread = f" ({factor * np.std(reference):.3g})" if quantity != "polarization" else ""
            row.append(f"{error:.3g}{spread}")
        rows.append(row)
    text = "Root mean square errors on validation structures (in brackets: spread of the data)."
    return text + "\n\n" + markdown_table(["", *comparisons], rows)


def dielectric(quick: bool) -> str:
    """Return the table of dielectric constants."""
    rows = []
    for model, crystal in CRYSTALS.items():
        if quick:
            crystal = replace(crystal, tolerance=0.5)
        atoms = read(DATA / crystal.file, "0")
        atoms.calc = EquiCalculator(model, kspace_accuracy=1e-9)
        epsilon_inf = atoms.calc.metadata["charges"]["epsilon_inf"]
        relaxed = relax(atoms, fmax=crystal.tolerance).atoms
        by_modes = ionic_part_of_modes(relaxed, model)
        for label, axis in AXES.items():
            by_field = ionic_part_in_field(relaxed, model, axis, crystal)
            values = (epsilon_inf, epsilon_inf + by_field, epsilon_inf + by_modes[axis])
            rows.append(
                [
                    f"{crystal.name}, along {label}",
                    f"{crystal.field:g}",
                    *(f"{value:.3f}" for value in values),
                ]
            )
    header = ["", "F (V/Å)", "ε∞ (mean of the data)", "ε0, finite field"]
    header.append("ε0, Born charges + modes")
    text = "Static dielectric constants: ions relaxed in fields ±F, and harmonic modes."
    return text + "\n\n" + markdown_table(header, rows)


def ionic_part_in_field(relaxed: Atoms, model: str, axis: int, crystal: Crystal) -> float:
    """Return (M(F) - M(-F)) / (2 F V eps_v) with ions relaxed in each field."""
    dipoles = []
    for sign in (1.0, -1.0):
        field = np.zeros(3)
        field[axis] = sign * crystal.field
        atoms = relaxed.copy()
        atoms.calc = EquiCalculator(model, kspace_accuracy=1e-9, electric_field=field)
        atoms = relax(atoms, fmax=crystal.tolerance).atoms
        atoms.get_potential_energy()
        dipoles.append(atoms.calc.results["polarization"][axis])
    scale = 2.0 * crystal.field * relaxed.get_volume() * VACUUM_PERMITTIVITY
    return (dipoles[0] - dipoles[1]) / scale


def ionic_part_of_modes(relaxed: Atoms, model: str) -> np.ndarray:
    """Return sum_m (Z* e_m)^2 / (w_m^2 V eps_v) over the modes of the zone centre, [3]."""
    calculator = EquiCalculator(model, kspace_accuracy=1e-9)
    atoms = relaxed.copy()
    atoms.calc = calculator
    born = calculator.get_property("born_effective_charges", atoms).copy()
    levels, vectors = np.linalg.eigh(zone_centre_matrix(atoms))
    masses = np.repeat(np.sqrt(atoms.get_masses()), 3)
    strength = np.einsum(
        "iab,ibm->am", born, (vectors / masses[:, None]).reshape(-1, 3, len(levels))
    )
    optical = np.abs(levels) > 1e-4 * np.abs(levels).max()
    total = (strength[:, optical] ** 2 / levels[optical]).sum(axis=1)
    return total / (relaxed.get_volume() * VACUUM_PERMITTIVITY)


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


def picture(comparisons: dict[str, Comparison]) -> Figure:
    """Return predicted against reference Born charges and polarisations."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for panel, quantity, label in (
        (axes[0], "born", "Born charge (e)"),
        (axes[1], "polarization", "polarisation x volume, nearest branch (e Å)"),
    ):
        for name, comparison in comparisons.items():
            reference, predicted = comparison.flat(quantity)
            panel.plot(reference, predicted, ".", ms=2, alpha=0.4, label=name)
        panel.axline((0.0, 0.0), slope=1.0, color="0.5", lw=0.8)
        panel.set_xlabel(f"reference: {label}")
        panel.set_ylabel(f"model: {label}")
        panel.legend(markerscale=6)
    return figure


if __name__ == "__main__":
    main()
