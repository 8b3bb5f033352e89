"""Phonons of the shipped models of crystals, with and without the non-analytic term, against DFT.

    python -m benchmarks.long_range.phonons

NaCl, KCl, MgO and AlN. DFT: force constants of second and third order, fitted by symfc to the DFT
forces of the data, with the non-analytic term of the charges Z*/sqrt(eps_inf) of DFT (only their
square enters, so eps_inf itself is not needed). Models: force constants from displacements in cells
of 512 atoms, with the non-analytic term of the model's own charges, and also without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import ase.io
import numpy as np
from ase import Atoms
from ase.spacegroup.symmetrize import refine_symmetry
from phonopy import Phonopy
from phonopy.phonon.band_structure import get_band_qpoints_and_path_connections
from phonopy.structure.atoms import PhonopyAtoms
from symfc import Symfc
from symfc.utils.utils import SymfcAtoms

from benchmarks.long_range.common import DATA, markdown_table, options_of, publish
from benchmarks.long_range.transfer import CATIONS, DFT_CHARGES, FILES
from equicalc import EquiCalculator, plots
from equicalc.electrostatics import COULOMB_CONSTANT

# Structures with larger displacements (rms of a component, angstrom) need higher orders.
LARGEST_DISPLACEMENT = 0.06
THIRD_ORDER_REACH = 4.5  # angstrom
# What is left of random displacements in their mean, at most; angstrom.
NOISE = 0.1
STEP = 0.01  # angstrom, displacement of the models' atoms
POINTS = 41  # per segment

CUBIC = 0.25 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
# Primitive vectors in those of the data's cell (columns), repetitions of that cell to 512 atoms.
CELLS = {
    "nacl": (CUBIC, (2, 2, 2)),
    "kcl": (CUBIC, (2, 2, 2)),
    "mgo": (CUBIC, (2, 2, 2)),
    "aln": (np.diag([0.25, 0.25, 0.5]), (2, 2, 1)),
}
CUBIC_PATH = [[("Γ", (0, 0, 0)), ("X", (0.5, 0, 0.5)), ("U", (0.625, 0.25, 0.625))],
              [("K", (0.375, 0.375, 0.75)), ("Γ", (0, 0, 0)), ("L", (0.5, 0.5, 0.5))]]  # fmt: skip
HEXAGONAL_PATH = [[("A", (0, 0, 0.5)), ("Γ", (0, 0, 0)), ("M", (0.5, 0, 0)),
                   ("K", (1 / 3, 1 / 3, 0)), ("Γ", (0, 0, 0))]]  # fmt: skip

Segments = list[np.ndarray]


@dataclass
class Bands:
    """Frequencies (THz) along the path [segment][q, band], and at the centre of the zone."""

    label: str
    charge: float | None
    segments: Segments
    distances: Segments
    transverse: float
    longitudinal: float

    def difference(self, other: Bands) -> float:
        """Return the rms difference along the path, THz."""
        pairs = zip(self.segments, other.segments, strict=True)
        return float(np.sqrt(np.mean(np.concatenate([(a - b).ravel() for a, b in pairs]) ** 2)))


def main() -> None:
    """Compute the phonons of every material, write table and picture."""
    options = options_of(__doc__, [("--only", {"nargs": "+", "choices": FILES})])
    found = {}
    for name in options.only or list(FILES):
        found[name] = compare(name)
        print(f"  {name} done", flush=True)
    publish("phonons", text_of(found), picture(found), options.quick or options.only is not None)


def compare(name: str) -> list[Bands]:
    """Return the bands of DFT and of the shipped model of a material."""
    perfect = equilibrium(name)
    results = [bands(name, "DFT", with_forces_of_data(name, perfect), DFT_CHARGES[name])]
    calculator = EquiCalculator(name, kspace_accuracy=1e-9)
    phonons, charge = with_forces_of(calculator, name, perfect)
    results.append(bands(name, "model", phonons, charge))
    results.append(bands(name, "model, no non-analytic term", phonons, None))
    return results


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


def phonopy_of(name: str, perfect: Atoms, repeat: tuple[int, ...]) -> Phonopy:
    """Return phonopy's object for a cell of the data, repeated."""
    cell = PhonopyAtoms(
        symbols=perfect.get_chemical_symbols(),
        cell=perfect.cell.array,
        scaled_positions=perfect.get_scaled_positions(),
    )
    return Phonopy(cell, np.diag(repeat), primitive_matrix=CELLS[name][0])


def with_forces_of_data(name: str, perfect: Atoms) -> Phonopy:
    """Return phonons with force constants fitted to the DFT forces of the data."""
    displacements, forces = [], []
    sites = perfect.get_scaled_positions()
    for frame in ase.io.read(DATA / FILES[name], ":"):
        moved = frame.get_scaled_positions() - sites
        moved = (moved - np.round(moved)) @ perfect.cell.array
        moved -= moved.mean(axis=0)
        if moved.std() < LARGEST_DISPLACEMENT:
            displacements.append(moved)
            forces.append(frame.get_forces())
    cell = SymfcAtoms(cell=perfect.cell.array, scaled_positions=sites, numbers=perfect.numbers)
    fit = Symfc(cell, cutoff={3: THIRD_ORDER_REACH})
    fit.displacements, fit.forces = np.array(displacements), np.array(forces)
    fit.run(max_order=3, is_compact_fc=False)
    phonons = phonopy_of(name, perfect, (1, 1, 1))
    phonons.force_constants = fit.force_constants[2]
    return phonons


def with_forces_of(calculator: EquiCalculator, name: str, perfect: Atoms) -> tuple[Phonopy, float]:
    """Return phonons of a model from displacements in 512 atoms, and the cations' Born charge.

    The charge is that of the Coulomb energy, Z*/sqrt(eps_inf): the dipole of a displaced cation and
    of the charges that flow in response, over the displacement.
    """
    phonons = phonopy_of(name, perfect, CELLS[name][1])
    phonons.generate_displacements(distance=STEP)
    still = as_ase(phonons.supercell)
    still.calc = calculator
    charges = still.get_charges().copy()
    forces, born = [], []
    for displacement, cell in zip(
        phonons.displacements, phonons.supercells_with_displacements, strict=True
    ):
        atoms = as_ase(cell)
        atoms.calc = calculator
        forces.append(atoms.get_forces())
        index, moved = int(displacement[0]), np.array(displacement[1:], float)
        if atoms.symbols[index] == CATIONS[name]:
            arms = still.get_distances(index, range(len(atoms)), mic=True, vector=True)
            flow = (atoms.get_charges() - charges) @ (arms @ moved) / (moved @ moved)
            born.append(atoms.get_charges()[index] + flow)
    phonons.forces = np.array(forces)
    phonons.produce_force_constants()
    phonons.symmetrize_force_constants()
    return phonons, float(np.mean(born))


def as_ase(cell: PhonopyAtoms) -> Atoms:
    """Return phonopy's structure as one of ASE."""
    return Atoms(cell.symbols, scaled_positions=cell.scaled_positions, cell=cell.cell, pbc=True)


def bands(name: str, label: str, phonons: Phonopy, charge: float | None) -> Bands:
    """Return the bands along the path, with the non-analytic term unless `charge` is None."""
    phonons.nac_params = None
    if charge is not None:
        signs = [1.0 if s == CATIONS[name] else -1.0 for s in phonons.primitive.symbols]
        phonons.nac_params = {
            "born": charge * np.array(signs)[:, None, None] * np.eye(3),
            "dielectric": np.eye(3),
            "factor": COULOMB_CONSTANT,
        }
    path = HEXAGONAL_PATH if name == "aln" else CUBIC_PATH
    points, connections = get_band_qpoints_and_path_connections(
        [[q for _, q in part] for part in path], npoints=POINTS
    )
    phonons.run_band_structure(points, path_connections=connections)
    transverse, longitudinal = polar_modes(name, phonons)
    return Bands(
        label,
        charge,
        [np.array(f) for f in phonons.band_structure.frequencies],
        list(phonons.band_structure.distances),
        transverse,
        longitudinal,
    )


def polar_modes(name: str, phonons: Phonopy) -> tuple[float, float]:
    """Frequencies (THz) of the modes that move the sublattices against each other.

    Across and along a direction in which all such waves are of one kind: z.
    """
    masses = phonons.primitive.masses
    signs = np.array([1.0 if s == CATIONS[name] else -1.0 for s in phonons.primitive.symbols])
    # the direction of the wave in reciprocal vectors of the primitive cell
    along_z = phonons.primitive.cell @ [0, 0, 1]
    found = []
    for axis in (0, 2):
        pattern = np.zeros((len(masses), 3))
        pattern[:, axis] = signs / np.sqrt(masses)
        phonons.run_qpoints([[0, 0, 0]], nac_q_direction=along_z, with_eigenvectors=True)
        vectors = phonons.qpoints.eigenvectors[0]
        strength = np.abs(pattern.ravel() @ vectors) ** 2
        found.append(float(phonons.qpoints.frequencies[0][strength.argmax()]))
    return found[0], found[1]


def text_of(found: dict[str, list[Bands]]) -> str:
    """Return the table."""
    rows = []
    for name, results in found.items():
        for result in results:
            difference = "" if result is results[0] else f"{result.difference(results[0]):.2f}"
            charge = "" if result.charge is None else f"{result.charge:.3f}"
            numbers = (f"{result.transverse:.2f}", f"{result.longitudinal:.2f}", difference)
            rows.append([name, result.label, charge, *numbers])
    header = [
        "material", "force constants of", "Z*/√ε∞ (e)", "polar mode, transverse", "longitudinal",
        "rms difference from DFT along the path",
    ]  # fmt: skip
    return (
        "THz. The polar mode moves cations against anions, across and along the wave (z). DFT: "
        "force constants fitted to the forces of the data.\n\n" + markdown_table(header, rows)
    )


STYLES = (
    {"color": "black", "lw": 2.6, "alpha": 0.35},
    {"color": plots.COLOURS[0], "lw": 1.1},
    {"color": plots.COLOURS[1], "lw": 0.9, "ls": "--"},
)


def picture(found: dict[str, list[Bands]]):
    """Return one panel of bands for each material."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure, axes = plots.new_figure(rows, columns, (5.0 * columns, 3.6 * rows + 0.4))
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (name, results) in zip(axes.flat, found.items(), strict=False):
        for result, style in zip(results, STYLES, strict=True):
            for x, y in zip(result.distances, result.segments, strict=True):
                lines = axis.plot(x, y, **style)
            if axis is axes[0, 0]:
                lines[0].set_label(result.label)
        path = HEXAGONAL_PATH if name == "aln" else CUBIC_PATH
        draw_ticks(axis, path, results[0].distances)
        axis.set_title(name, fontsize=10)
        axis.set_ylabel("frequency (THz)")
    figure.legend(loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    return figure


def draw_ticks(axis, path, distances: Segments) -> None:
    """Mark the high-symmetry points."""
    edges = [distances[0][0], *(segment[-1] for segment in distances)]
    names = [path[0][0][0]]
    for number, part in enumerate(path):
        inner = [label for label, _ in part[1:]]
        if number:
            names[-1] += f"|{part[0][0]}"
        names += inner
    for edge in edges:
        axis.axvline(edge, color=plots.GREY, linewidth=0.6)
    axis.axhline(0.0, color=plots.GREY, linewidth=0.6)
    axis.set_xticks(edges, names)
    axis.set_xlim(edges[0], edges[-1])


if __name__ == "__main__":
    main()
