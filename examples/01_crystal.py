"""Lattice constant, elastic constants, charges and phonons of KCl, next to DFT.

    python examples/01_crystal.py

Phonons come twice: without and with the non-analytic term that splits longitudinal from
transverse optical modes. Its Born charges are those of the model: the dipole that a displaced ion
makes, charges flowing in response included, times sqrt(eps_inf). The electronic dielectric constant
eps_inf is an input, since a model of energies and forces knows only the ratio Z*/sqrt(eps_inf).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from shared import Story, table

from equicalc import EquiCalculator, plots
from equicalc.relaxation import relax

# DFT (PBEsol), harmonic, at the lattice constant of the training data, which is not relaxed but
# near the experiment at room temperature: values of the KCl calculation of A. Togo et al.,
# J. Phys.: Condens. Matter 34, 365401 (2022). Elastic constants are slopes of its acoustic
# branches: C11 = rho v_LA[100]^2, C44 = rho v_TA[100]^2, C12 = C11 - 2 rho v_TA[1-10]^2 for [110].
DFT_LATTICE_CONSTANT = 6.292  # angstrom
DFT_EPS_INF = 2.365
DFT_BORN_CHARGE = 1.129  # e
# frequencies in THz at the ends of the path, the non-analytic term included
DFT_FREQUENCIES = {
    "G": (0.00, 0.00, 0.00, 4.15, 4.15, 6.15),
    "X": (1.71, 1.71, 3.15, 4.30, 4.30, 4.45),
    "U": (2.25, 2.84, 2.97, 3.96, 4.29, 4.38),
    "L": (3.02, 3.02, 3.26, 3.26, 4.41, 4.59),
}
DFT_ELASTIC = {"C11": 42.6, "C12": 8.5, "C44": 5.9}  # GPa

STRAIN = 2e-3
DISPLACEMENT = 0.01  # angstrom
SUPERCELL = 4  # conventional cells along each axis, as in the reference
POINTS_PER_SEGMENT = 31
# Coordinates in the reciprocal primitive cell of the face-centred cubic lattice.
PATH = {"G": (0, 0, 0), "X": (0.5, 0, 0.5), "U": (0.625, 0.25, 0.625), "K": (0.375, 0.375, 0.75)}
PATH["L"] = (0.5, 0.5, 0.5)


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    options = parser.parse_args()
    story = Story("01_crystal", 4)
    calculator = EquiCalculator(options.model, kspace_accuracy=1e-10)

    eps = DFT_EPS_INF

    story.chapter("relaxing the cell")
    given = bulk("KCl", "rocksalt", a=DFT_LATTICE_CONSTANT, cubic=True)
    given.calc = calculator
    relaxed = relax(given, cell=True, fmax=1e-5).atoms
    pressure = -np.trace(given.get_stress(voigt=False)) / 3.0 / units.GPa
    print(f"  pressure of the model in the cell of the DFT phonons: {pressure:+.2f} GPa")

    columns = []
    for label, unit in (("relaxed", relaxed), ("in the cell of DFT", given)):
        story.chapter(f"elastic constants and phonons, {label} ({8 * SUPERCELL**3} atoms)")
        columns.append(measure(unit, calculator, eps))
        columns[-1]["rms"] = rms_at_points(columns[-1]["bands"])

    story.chapter("table and picture")
    columns.append(
        {
            "a": DFT_LATTICE_CONSTANT,
            **DFT_ELASTIC,
            "born": DFT_BORN_CHARGE / np.sqrt(eps),
            "bands": [[DFT_FREQUENCIES["G"]]],
        }
    )
    text = table(["KCl", "model, relaxed", "model, DFT's cell", "DFT"], rows(columns, eps))
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)
    model = columns[1]
    figure = plots.phonon_bands(
        model["distances"],
        {
            "model, with the non-analytic term": model["bands"],
            "model, without": model["bands without"],
        },
        ticks(model["distances"]),
        dft_points(model["distances"]),
        title=f"KCl, a = {model['a']:.3f} Å, model '{Path(options.model).stem}'",
    )
    story.end([plots.save(figure, story.folder / "phonons.png")])


def measure(unit: Atoms, calculator: EquiCalculator, eps: float) -> dict:
    """Return lattice constant, elastic constants, charges and phonons of a conventional cell."""
    phonons, charge, born = calculate_phonons(unit, calculator)
    _, without = bands(phonons)
    phonons.nac_params = {
        "born": np.array([np.eye(3) * born, -np.eye(3) * born]) * np.sqrt(eps),
        "dielectric": np.eye(3) * eps,
        "factor": 14.399652,
    }
    distances, with_term = bands(phonons)
    return {
        "a": unit.cell.lengths().mean(),
        **elastic_constants(unit),
        "charge": charge,
        "born": born,
        "distances": distances,
        "bands": with_term,
        "bands without": without,
    }


def rows(columns: list[dict], eps: float) -> list[list[str]]:
    """Return the rows of the table: both states of the model, and DFT."""
    for column in columns:
        # the first point of the first segment is the centre of the zone, approached along X
        column["TO"], column["LO"] = column["bands"][0][0][3], column["bands"][0][0][5]
        column["gap"] = column["LO"] - column["TO"]
        column["Z"] = column["born"] * np.sqrt(eps)
    quantities = (
        ("lattice constant (Å)", "a", 4),
        ("C11 (GPa)", "C11", 1),
        ("C12 (GPa)", "C12", 1),
        ("C44 (GPa)", "C44", 1),
        ("charge of K (e)", "charge", 3),
        ("Z*/√ε∞ of K (e)", "born", 3),
        (f"Z* of K with ε∞ = {eps:.3f} (e)", "Z", 3),
        ("transverse optical at Γ (THz)", "TO", 2),
        ("longitudinal optical at Γ (THz)", "LO", 2),
        ("LO-TO gap (THz)", "gap", 2),
        ("rms difference at Γ, X, U, L (THz)", "rms", 2),
    )
    return [
        [label, *(f"{c[key]:.{digits}f}" if key in c else "" for c in columns)]
        for label, key, digits in quantities
    ]


def elastic_constants(unit: Atoms) -> dict[str, float]:
    """Return C11, C12, C44 in GPa of a cubic crystal whose ions sit on inversion centres.

    There no ion moves when the cell is strained a little, so the strained cells need no
    relaxation. Central differences of the stress.
    """

    def stress(strain: np.ndarray) -> np.ndarray:
        atoms = unit.copy()
        atoms.set_cell(unit.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = unit.calc
        return atoms.get_stress(voigt=False)

    stretch = np.zeros((3, 3))
    stretch[0, 0] = STRAIN
    shear = np.zeros((3, 3))
    shear[1, 2] = shear[2, 1] = 0.5 * STRAIN
    stretched = (stress(stretch) - stress(-stretch)) / (2.0 * STRAIN) / units.GPa
    sheared = (stress(shear) - stress(-shear)) / (2.0 * STRAIN) / units.GPa
    return {
        "C11": stretched[0, 0],
        "C12": 0.5 * (stretched[1, 1] + stretched[2, 2]),
        "C44": sheared[1, 2],
    }


def calculate_phonons(unit: Atoms, calculator: EquiCalculator):
    """Return phonopy's object with force constants, the charge of K, and its Born charge, e.

    The Born charge along the displacement u of the K ion is
    (q u + sum_j (q_j - q_j^0) (r_j - r_K).u/|u|) / |u|, with nearest images; it is that of the
    charges themselves, not yet multiplied by sqrt(eps_inf).
    """
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=unit.get_chemical_symbols(),
        cell=unit.cell.array,
        scaled_positions=unit.get_scaled_positions(),
    )
    phonons = Phonopy(cell, np.eye(3, dtype=int) * SUPERCELL, primitive_matrix="F")
    phonons.generate_displacements(distance=DISPLACEMENT)
    perfect = as_ase(phonons.supercell)
    perfect.calc = calculator
    charges = perfect.get_charges().copy()
    forces, born = [], float("nan")
    for displacement, supercell in zip(
        phonons.displacements, phonons.supercells_with_displacements, strict=True
    ):
        atoms = as_ase(supercell)
        atoms.calc = calculator
        forces.append(atoms.get_forces())
        index, u = int(displacement[0]), np.array(displacement[1:], float)
        if atoms.symbols[index] == "K":
            flow = atoms.get_charges() - charges
            arms = perfect.get_distances(index, range(len(atoms)), mic=True, vector=True)
            length = np.linalg.norm(u)
            born = atoms.get_charges()[index] + flow @ (arms @ u) / length**2
    phonons.forces = forces
    phonons.produce_force_constants()
    phonons.symmetrize_force_constants()
    return phonons, charges[perfect.numbers == 19].mean(), born


def as_ase(structure) -> Atoms:
    """Return phonopy's structure as one of ASE."""
    return Atoms(
        structure.symbols,
        scaled_positions=structure.scaled_positions,
        cell=structure.cell,
        pbc=True,
    )


def bands(phonons) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return distances and frequencies (THz) along G-X-U, K-G-L."""
    from phonopy.phonon.band_structure import get_band_qpoints_and_path_connections

    paths = [[PATH[p] for p in "GXU"], [PATH[p] for p in "KGL"]]
    points, connections = get_band_qpoints_and_path_connections(paths, npoints=POINTS_PER_SEGMENT)
    phonons.run_band_structure(points, path_connections=connections)
    found = phonons.band_structure
    return list(found.distances), [np.array(f) for f in found.frequencies]


def ticks(distances) -> list[tuple[float, str]]:
    """Return the high-symmetry points of the path and where they are."""
    edges = [distances[0][0], *(segment[-1] for segment in distances)]
    return list(zip(edges, ["Γ", "X", "U|K", "Γ", "L"], strict=True))


def dft_points(distances) -> list[tuple[float, float, str]]:
    """Return the frequencies of DFT at the high-symmetry points, as markers."""
    places = [x for x, _ in ticks(distances)]
    return [
        (x, frequency, "DFT (PBEsol)")
        for x, name in zip(places, "GXUGL", strict=True)
        for frequency in DFT_FREQUENCIES[name]
    ]


def rms_at_points(bands) -> float:
    """Return the root mean square difference from DFT at the high-symmetry points, THz."""
    # segments G-X, X-U, K-G, G-L
    found = [bands[0][0], bands[0][-1], bands[1][-1], bands[3][-1]]
    differences = np.array(found) - np.array([DFT_FREQUENCIES[name] for name in "GXUL"])
    return float(np.sqrt(np.mean(differences**2)))


if __name__ == "__main__":
    main()
