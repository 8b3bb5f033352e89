"""Lattice constant, elastic constants, charges and phonons of KCl, next to DFT.

    python examples/01_crystal.py

Phonons come twice: without and with the non-analytic term that splits longitudinal from
transverse optical modes. Its Born charges are those of the model: the dipole that a displaced ion
makes, charges flowing in response included, times sqrt(eps_inf). The electronic dielectric constant
eps_inf is an input, since a model of energies and forces knows only the ratio Z*/sqrt(eps_inf).
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from shared import DATA, Story, table

from equicalc import EquiCalculator, plots
from equicalc.simulate import relax

# DFT (PBEsol). Lattice constant, eps_inf, Born charge, phonons: data/kcl_pbesol_phonons.json, which
# names its origin. Elastic constants: slopes of the acoustic branches of the same force constants,
# C11 = rho v_LA[100]^2, C44 = rho v_TA[100]^2, C12 = C11 - 2 rho v_TA[1-10]^2 along [110].
DFT_ELASTIC = {"C11": 42.6, "C12": 8.5, "C44": 5.9}  # GPa

STRAIN = 2e-3
DISPLACEMENT = 0.01  # angstrom
SUPERCELL = 4  # conventional cells along each axis, as in the reference
POINTS_PER_SEGMENT = 31  # as in the reference
# Coordinates in the reciprocal primitive cell of the face-centred cubic lattice.
PATH = {"G": (0, 0, 0), "X": (0.5, 0, 0.5), "U": (0.625, 0.25, 0.625), "K": (0.375, 0.375, 0.75)}
PATH["L"] = (0.5, 0.5, 0.5)


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    options = parser.parse_args()
    reference = json.loads((DATA / "kcl_pbesol_phonons.json").read_text())
    story = Story("01_crystal", 4)
    calculator = EquiCalculator(options.model, kspace_accuracy=1e-10)

    story.chapter("relaxing the cell")
    start = bulk("KCl", "rocksalt", a=reference["lattice_constant_A"], cubic=True)
    start.calc = calculator
    unit = relax(start, cell=True, fmax=1e-5).atoms
    a = unit.cell.lengths().mean()

    story.chapter("elastic constants from stresses of strained cells")
    elastic = elastic_constants(unit)

    story.chapter(f"phonons from two displacements in a cell of {8 * SUPERCELL**3} atoms")
    phonons, charge, born = calculate_phonons(unit, calculator)

    story.chapter("table and picture")
    eps = reference["epsilon_inf"]
    without = bands(phonons)
    phonons.nac_params = {
        "born": np.array([np.eye(3) * born, -np.eye(3) * born]) * np.sqrt(eps),
        "dielectric": np.eye(3) * eps,
        "factor": 14.399652,
    }
    with_term = bands(phonons)
    dft = [np.array(segment["frequencies_THz"]) for segment in reference["segments"]]
    figure = plots.phonon_bands(
        with_term["distances"],
        {
            "model, with the non-analytic term": with_term["frequencies"],
            "model, without": without["frequencies"],
            "DFT (PBEsol), with the non-analytic term": dft,
        },
        ticks(with_term["distances"]),
        title=f"KCl, model '{options.model}'",
    )
    picture = plots.save(figure, story.folder / "phonons.png")
    to, lo = with_term["frequencies"][0][0][3], with_term["frequencies"][0][0][5]
    to_dft, lo_dft = dft[0][0][3], dft[0][0][5]
    rows = [
        ["lattice constant (Å)", f"{a:.4f}", f"{reference['lattice_constant_A']:.4f}"],
        *([f"{k} (GPa)", f"{elastic[k]:.2f}", f"{DFT_ELASTIC[k]:.1f}"] for k in DFT_ELASTIC),
        ["charge of K (e)", f"{charge:.3f}", ""],
        [
            "Z*/sqrt(eps_inf) of K (e)",
            f"{born:.3f}",
            f"{reference['born_charge_e'] / np.sqrt(eps):.3f}",
        ],
        [
            f"Z* of K with eps_inf = {eps:.3f} (e)",
            f"{born * np.sqrt(eps):.3f}",
            f"{reference['born_charge_e']:.3f}",
        ],
        ["transverse optical at Γ (THz)", f"{to:.3f}", f"{to_dft:.3f}"],
        ["longitudinal optical at Γ (THz)", f"{lo:.3f}", f"{lo_dft:.3f}"],
        ["LO-TO gap (THz)", f"{lo - to:.3f}", f"{lo_dft - to_dft:.3f}"],
        [
            "rms difference of the bands (THz)",
            f"{rms(with_term['frequencies'], dft):.3f}",
            "reference",
        ],
    ]
    text = table(["KCl", "model", "DFT (PBEsol)"], rows)
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)
    print(f"DFT: {reference['origin']}")
    story.end([picture])


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
        print(f"  {atoms.symbols[index]} displaced by {np.round(u, 4)} Å", flush=True)
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


def bands(phonons) -> dict:
    """Return distances and frequencies (THz) along G-X-U, K-G-L."""
    from phonopy.phonon.band_structure import get_band_qpoints_and_path_connections

    paths = [[PATH[p] for p in "GXU"], [PATH[p] for p in "KGL"]]
    points, connections = get_band_qpoints_and_path_connections(paths, npoints=POINTS_PER_SEGMENT)
    phonons.run_band_structure(points, path_connections=connections)
    found = phonons.get_band_structure_dict()
    return {"distances": found["distances"], "frequencies": found["frequencies"]}


def ticks(distances) -> list[tuple[float, str]]:
    """Return the high-symmetry points of the path and where they are."""
    edges = [distances[0][0], *(segment[-1] for segment in distances)]
    return list(zip(edges, ["Γ", "X", "U|K", "Γ", "L"], strict=True))


def rms(first, second) -> float:
    """Return the root mean square difference of two sets of bands, segment by segment."""
    return float(
        np.sqrt(np.mean((np.concatenate(list(first)) - np.concatenate(list(second))) ** 2))
    )


if __name__ == "__main__":
    main()
