"""What limits the transfer of NaCl from 64 to 512 atoms: force constants of the two sets of data.

    python -m benchmarks.long_range.force_constants

Forces of DFT, and errors of the shipped model, are fitted by springs between the ions of each shell
of neighbours, along the bond and across it, beside the Coulomb forces of fixed charges. In an
infinite crystal springs do not know the size of the cell: where those of the two sets differ, no
model can follow both. Least squares; takes a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import ase.io
import numpy as np
import numpy.typing as npt
from ase import Atoms
from matplotlib.figure import Figure

from benchmarks.long_range.common import DATA, markdown_table, options_of, publish
from equicalc import EquiCalculator, plots
from equicalc.data.neighbors import NeighborList
from equicalc.electrostatics import solve

Array = npt.NDArray[np.float64]

SETS = {"64 atoms": "nacl_pbesol_64.xyz", "512 atoms": "nacl_pbesol_512.xyz"}
CHARGE = 0.681  # Z*/sqrt(eps_inf) of DFT, e
SIGMA = 1.0
PAIRS = ("Na-Na", "Na-Cl", "Cl-Cl")
RANGES = (4.2, 5.0, 5.7, 6.4, 7.2, 8.2)  # of springs, angstrom
FAR = 5.7  # angstrom; no springs are needed beyond it in 512 atoms
K_E = 14.399645  # eV angstrom / e^2


@dataclass(frozen=True)
class Shell:
    """Neighbours at one distance."""

    steps: int  # squared distance in units of the distance of nearest neighbours
    pair: int  # of PAIRS
    distance: float  # angstrom


@dataclass
class Springs:
    """Forces of all structures of a set, and what they are fitted by."""

    forces: Array  # of DFT [n]
    errors: Array  # of the shipped model [n]
    coulomb: Array  # of charges of 1 e [n]
    shells: list[Shell]
    columns: Array  # [n, 2 shells]: springs of 1 eV/A^2 along and across the bond

    def within(self, near: float, far: float) -> list[int]:
        """Columns of the shells between two distances."""
        return [
            2 * k + part
            for k, shell in enumerate(self.shells)
            if near < shell.distance <= far
            for part in (0, 1)
        ]


def displacements_of(atoms: Atoms) -> tuple[Array, Array, float]:
    """Sites of the ideal crystal, displacements from them, and distance of nearest neighbours."""
    spacing = float(atoms.cell[0, 0]) / (2 * round((len(atoms) / 8) ** (1 / 3)))
    sites = np.round(atoms.positions / spacing) * spacing
    shifts = atoms.positions - sites
    return sites, shifts - shifts.mean(0), spacing


def columns_of(atoms: Atoms, shells: dict[tuple[int, int], Shell]) -> Array:
    """Forces [3 n, 2 shells] of springs of 1 eV/A^2; new shells are added to `shells`."""
    sites, shifts, spacing = displacements_of(atoms)
    index, vectors = NeighborList(max(RANGES), 0.0).update(sites, atoms.cell[:], atoms.pbc)
    i, j, bonds = index[0].numpy(), index[1].numpy(), vectors.numpy()
    steps = np.round((bonds**2).sum(1) / spacing**2).astype(int)
    pair = (atoms.numbers[i] == 17).astype(int) + (atoms.numbers[j] == 17)
    for key in sorted(set(zip(steps.tolist(), pair.tolist(), strict=True))):
        shells.setdefault(key, Shell(*key, spacing * np.sqrt(key[0])))
    directions = bonds / np.linalg.norm(bonds, axis=1)[:, None]
    stretch = shifts[j] - shifts[i]
    along = (stretch * directions).sum(1)[:, None] * directions
    result = np.zeros((2 * len(shells), *shifts.shape))
    for k, (n, kind) in enumerate(shells):
        own = (steps == n) & (pair == kind)
        np.add.at(result[2 * k], i[own], along[own])
        np.add.at(result[2 * k + 1], i[own], (stretch - along)[own])
    return result.reshape(2 * len(shells), -1).T


def springs_of(file: str) -> Springs:
    """Read a set and make what its forces are fitted by."""
    calculator = EquiCalculator("nacl", check=False)
    shells: dict[tuple[int, int], Shell] = {}
    forces, errors, coulomb, columns = [], [], [], []
    for atoms in ase.io.read(DATA / file, ":"):
        reference = atoms.get_forces()
        signs = np.where(atoms.symbols == "Na", 1.0, -1.0)
        unit = solve(signs, atoms.positions, atoms.cell[:], atoms.pbc, SIGMA)
        forces.append(reference.ravel())
        coulomb.append(unit.forces.ravel())
        columns.append(columns_of(atoms, shells))
        atoms.calc = calculator
        errors.append((atoms.get_forces() - reference).ravel())
    return Springs(
        np.concatenate(forces),
        np.concatenate(errors),
        np.concatenate(coulomb),
        list(shells.values()),
        np.concatenate(columns),
    )


def rms(values: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(values).mean()))


def fit(target: Array, columns: Array) -> tuple[Array, Array]:
    """Coefficients of least squares and their standard errors."""
    coefficients = np.linalg.lstsq(columns, target, rcond=None)[0]
    rest = target - columns @ coefficients
    variance = (rest @ rest) / (len(target) - columns.shape[1])
    return coefficients, np.sqrt(variance * np.diag(np.linalg.inv(columns.T @ columns)))


def beyond_charges(sets: dict[str, Springs]) -> tuple[list[list[str]], dict[str, Array]]:
    """Springs beside fixed charges in both sets: rows of a table, and the numbers."""
    found = {}
    for name, s in sets.items():
        values, errors = fit(s.forces - CHARGE**2 * s.coulomb, s.columns)
        found[name] = 1000.0 * np.stack([values[::2], errors[::2], values[1::2], errors[1::2]])
    rows = []
    for k, shell in enumerate(next(iter(sets.values())).shells):
        dipoles = 2000.0 * K_E * CHARGE**2 / shell.distance**3
        cells = [f"{v[2 * part, k]:.1f} ± {v[2 * part + 1, k]:.1f}"
                 for part in (0, 1) for v in found.values()]  # fmt: skip
        rows.append([f"{shell.distance:.2f}", PAIRS[shell.pair], *cells, f"{dipoles:.0f}"])
    return rows, found


def transfer(small: Springs, large: Springs) -> list[list[str]]:
    """Errors in both sets of springs and charges that were fitted to the small cells."""
    rows = []
    for reach in RANGES:
        of_small, of_large = (s.columns[:, s.within(0.0, reach)] for s in (small, large))
        both = np.column_stack([of_small, small.coulomb])
        free = fit(small.forces, both)[0]
        fixed = np.append(fit(small.forces - CHARGE**2 * small.coulomb, of_small)[0], CHARGE**2)
        own = fit(large.forces, np.column_stack([of_large, large.coulomb]))[0]
        cells = [f"{reach:g}"]
        for c in (free, fixed):
            charge = np.sqrt(max(c[-1], 0.0))
            for s, columns in ((small, both), (large, np.column_stack([of_large, large.coulomb]))):
                cells.append(f"{100 * rms(s.forces - columns @ c) / rms(s.forces):.2f} %")
            cells.insert(-2, f"{charge:.3f}")
        at_best = large.forces - np.column_stack([of_large, large.coulomb]) @ own
        cells += [
            f"{np.sqrt(max(own[-1], 0.0)):.3f}",
            f"{100 * rms(at_best) / rms(large.forces):.2f} %",
        ]
        rows.append(cells)
    return rows


def explained(sets: dict[str, Springs]) -> list[list[str]]:
    """Errors of the shipped model, and what is left of them without springs of far shells."""
    rows = []
    for name, s in sets.items():
        cells = [name, f"{100 * rms(s.errors) / rms(s.forces):.2f} %"]
        for near in (FAR, 0.0):
            columns = s.columns[:, s.within(near, max(RANGES))]
            rest = s.errors - columns @ fit(s.errors, columns)[0]
            cells.append(f"{100 * rms(rest) / rms(s.forces):.2f} %")
        rows.append(cells)
    return rows


def draw(sets: dict[str, Springs], found: dict[str, Array]) -> Figure:
    """Springs along the bond against distance."""
    figure, axes = plots.new_figure(1, 1, (6.0, 3.8))
    axis = axes[0, 0]
    shells = next(iter(sets.values())).shells
    far = [k for k, shell in enumerate(shells) if shell.distance > 4.5]
    for number, (name, values) in enumerate(found.items()):
        places = [shells[k].distance + 0.06 * (shells[k].pair - 1) for k in far]
        axis.errorbar(
            places, values[0, far], 2 * values[1, far], fmt="os"[number], ms=4, capsize=2,
            color=plots.COLOURS[number], label=f"{name} (± 2 standard errors)",
        )  # fmt: skip
    axis.axhline(0.0, color="0.6", lw=0.8)
    axis.set_xlabel("distance (Å)")
    axis.set_ylabel("spring along the bond (meV/Å²)")
    axis.legend(frameon=False, fontsize=8)
    return figure


def main() -> int:
    """Fit, and write page and picture."""
    options = options_of(__doc__)
    sets = {name: springs_of(file) for name, file in SETS.items()}
    rows, found = beyond_charges(sets)
    names = list(sets)
    text = (
        "# Force constants of NaCl in 64 and 512 atoms\n\n"
        f"Springs (meV/Å²) beside charges of ±{CHARGE} e in DFT, with standard errors; the last "
        "column is what the dipoles of these charges make along the bond.\n\n"
        + markdown_table(
            ["distance (Å)", "pair", *(f"along, {n}" for n in names),
             *(f"across, {n}" for n in names), "dipoles"],
            rows,
        )
        + "\n\nSprings up to a distance and a charge, fitted to the cells of 64 atoms (charge "
        "free, then fixed): errors of forces relative to their rms. The last two columns are "
        "fitted to "
        "512 atoms themselves.\n\n"
        + markdown_table(
            ["springs to (Å)", "charge (e)", "64", "512", "fixed charge (e)", "64", "512",
             "charge of 512 (e)", "512, fitted"],
            transfer(*sets.values()),
        )
        + "\n\nThe shipped model `nacl`, and what is left of its errors when springs beyond "
        f"{FAR} Å and all springs are taken off:\n\n"
        + markdown_table(
            ["cells", "error", f"without springs beyond {FAR} Å", "without springs"],
            explained(sets),
        )
    )  # fmt: skip
    publish("force_constants", text, draw(sets, found), options.quick)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
