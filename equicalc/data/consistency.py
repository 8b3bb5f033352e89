"""Labels that contradict each other: other units, the opposite sign, outliers, copies.

Training and evaluation run with such data, and what comes out is nonsense. Nothing here is sure
enough to stop them: each finding is a sentence for the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import units

from equicalc.data.selection import composition, energy_per_atom, largest_force
from equicalc.data.structures import Structure

Array = npt.NDArray[np.float64]

# Two structures are compared when no atom is further away from its place in the other, angstrom,
# and no component of the strain between their cells is larger.
LARGEST_STEP = 0.8
LARGEST_STRAIN = 0.05
# Fewer comparisons tell nothing.
FEWEST_PAIRS = 5
# Energies and forces that belong together have slopes from 0.9 (cells that change without stress)
# to 1.05 in the data of the examples; Hartree with Hartree/bohr has 1.89.
SLOPES = (0.6, 1.6)
# Part of the energy differences that the work explains at least, where they go together at all.
EXPLAINED = 0.9
# Slopes of the work of stress, blurred by displacements in strained cells (0.7 in the examples).
STRESS_SLOPES = (0.3, 3.0)
# How near a slope is to a factor between units that it is called by.
NEAR = 0.15
# A structure this far above the lowest of its composition (eV/atom) holds broken numbers or atoms
# on each other; so does one with such a force on an atom (eV/angstrom).
OUTLYING_ENERGY = 20.0
OUTLYING_FORCE = 300.0
HARTREE, BOHR, KCAL, GPA = units.Hartree, units.Bohr, units.kcal / units.mol, units.GPa


def doubts(structures: Sequence[Structure]) -> list[str]:
    """What is suspicious about labelled structures; nothing for sound data.

    Parameters
    ----------
    structures : sequence of Structure
        All of a data set.

    Returns
    -------
    list of str
        Sentences that name what was found and what to do.
    """
    found = [*_zeros(structures), *_sizes(structures), *_outliers(structures)]
    return [*_unread_stress(structures), *(found or _work(structures))]


def copies(training: Sequence[Structure], validation: Sequence[Structure]) -> list[str]:
    """Sentence about validation structures that are training structures as well."""
    known = {_fingerprint(structure): structure for structure in training}
    same = [(s, known[_fingerprint(s)]) for s in validation if _fingerprint(s) in known]
    if not same:
        return []
    second, first = same[0]
    return [
        f"{len(same)} of {len(validation)} validation structures are also in the training data, "
        f"for example {second.source} = {first.source}; validation errors will be too small. "
        "Remove them from one of the two"
    ]


def _fingerprint(structure: Structure) -> bytes:
    """Equal for equal structures, to the digits that files keep."""
    return b"".join(
        [
            " ".join(structure.symbols).encode(),
            np.round(structure.positions, 6).tobytes(),
            np.round(structure.cell, 6).tobytes(),
            structure.pbc.tobytes(),
        ]
    )


def _unread_stress(structures: Sequence[Structure]) -> Iterable[str]:
    """Stresses under another name, or virials instead of stresses."""
    for structure in structures:
        for name in structure.unread:
            if structure.stress is not None:
                break
            if "stress" in name.lower():
                yield (
                    f"{structure.source}: no stress, but '{name}', which is not read. If it is the "
                    f"stress in eV/angstrom^3, name it: data.keys: {{stress: {name}}}"
                )
                return
            if "virial" in name.lower():
                yield (
                    f"{structure.source}: no stress, but '{name}', which is not read. To learn "
                    "from it write stress = -virial / volume (eV/angstrom^3) into the file"
                )
                return


def _zeros(structures: Sequence[Structure]) -> Iterable[str]:
    """Labels that are zero everywhere: they were never calculated."""
    larger = [s for s in structures if len(s) > 1]
    for name, values in (
        ("forces", [s.forces for s in larger if s.forces is not None]),
        ("energies", [s.energy for s in larger if s.energy is not None]),
    ):
        if len(values) > 1 and not any(np.any(value) for value in values):
            yield (
                f"{larger[0].source} and all others: the {name} are zero. If they were not "
                "calculated, label the structures first"
            )


def _outliers(structures: Sequence[Structure]) -> Iterable[str]:
    """Structures with absurd energies or forces."""
    labelled = [s for s in structures if s.energy is not None]
    # the middle, so that one energy far below the others is the outlier, and not all others
    groups: dict[tuple[tuple[str, float], ...], list[float]] = {}
    for structure in labelled:
        groups.setdefault(composition(structure), []).append(energy_per_atom(structure))
    middle = {key: float(np.median(values)) for key, values in groups.items()}
    for structure in labelled:
        above = energy_per_atom(structure) - middle[composition(structure)]
        if abs(above) > OUTLYING_ENERGY:
            yield (
                f"{structure.source}: its energy is {above:+.4g} eV/atom from the middle of the "
                "structures of its composition. Correct it or leave it out "
                "(data.max_energy_above_min: 5)"
            )
            return
    for structure in structures:
        if largest_force(structure) > OUTLYING_FORCE:
            yield (
                f"{structure.source}: an atom feels {largest_force(structure):.4g} eV/angstrom. "
                "Correct it or leave it out (data.max_force: 50)"
            )
            return


def _sizes(structures: Sequence[Structure]) -> Iterable[str]:
    """Energies that do not grow with the number of atoms: they are per atom already."""
    by_composition: dict[tuple[tuple[str, float], ...], list[Structure]] = {}
    for structure in structures:
        if structure.energy is not None:
            by_composition.setdefault(composition(structure), []).append(structure)
    for group in by_composition.values():
        sizes = np.array([float(len(s)) for s in group])
        energies = np.array([s.energy for s in group], dtype=np.float64)
        if sizes.max() < 1.5 * sizes.min() or len(group) < FEWEST_PAIRS:
            continue
        # spread of the energy per atom if they are totals, and if they are per atom already
        as_totals, as_given = np.std(energies / sizes), np.std(energies)
        if as_given < 0.2 * as_totals:
            yield (
                f"{group[0].source} and others of its composition: structures of "
                f"{int(sizes.min())} to {int(sizes.max())} atoms have nearly the same energy; it "
                "is probably per atom, expected is the total energy of each structure in eV"
            )
            return


@dataclass
class _Pair:
    """Energy difference of two structures, and work of forces and stress between them, eV."""

    energy: float
    forces: float
    stress: float
    n_atoms: int


def _pairs(structures: Sequence[Structure]) -> Iterable[_Pair]:
    """Neighbours in the order of the files that are small distortions of each other."""
    last: dict[tuple[object, ...], Structure] = {}
    for structure in structures:
        if structure.energy is None or structure.forces is None:
            continue
        key = (tuple(structure.symbols), structure.total_charge, structure.pbc.tobytes())
        before, last[key] = last.get(key), structure
        pair = None if before is None else _pair(before, structure)
        if pair is not None:
            yield pair


def _pair(first: Structure, second: Structure) -> _Pair | None:
    """Compare two structures by the trapezoidal rule; None when they are too far apart.

    E_b - E_a = -(F_a + F_b)/2 . u + (V_a s_a + V_b s_b)/2 : e, exact for harmonic energies.
    """
    assert first.energy is not None
    assert second.energy is not None
    assert first.forces is not None
    assert second.forces is not None
    strain, moved = np.zeros((3, 3)), second.positions - first.positions
    if first.pbc.all():
        if abs(np.linalg.det(first.cell)) < 1e-6 or abs(np.linalg.det(second.cell)) < 1e-6:
            return None
        deformation = np.linalg.solve(first.cell, second.cell)
        moved = second.positions - first.positions @ deformation
        moved = moved - np.round(moved @ np.linalg.inv(second.cell)) @ second.cell
        strain = 0.5 * (deformation + deformation.T) - np.eye(3)
    elif not np.array_equal(first.cell, second.cell):
        return None
    moved = moved - moved.mean(axis=0)
    if np.abs(moved).max() > LARGEST_STEP or np.abs(strain).max() > LARGEST_STRAIN:
        return None
    strained = 0.0
    if np.abs(strain).max() > 1e-9:
        if first.stress is None or second.stress is None:
            return None
        volumes = [abs(float(np.linalg.det(s.cell))) for s in (first, second)]
        virials = volumes[0] * first.stress + volumes[1] * second.stress
        strained = 0.5 * float((virials * strain).sum())
    work = -0.5 * float(((first.forces + second.forces) * moved).sum())
    return _Pair(second.energy - first.energy, work, strained, len(first))


def _work(structures: Sequence[Structure]) -> Iterable[str]:
    """Energy differences against the work of forces (and stress) on the way."""
    pairs = list(_pairs(structures))
    fixed = [p for p in pairs if p.stress == 0.0]
    # cells that differ need the stress to be right as well: forces first, on their own
    slope = _slope([p.energy for p in fixed], [p.forces for p in fixed])
    if slope is not None and not SLOPES[0] < slope < SLOPES[1]:
        sizes = {p.n_atoms for p in fixed}
        yield (
            f"differences of energies are {slope:.3g} times the work of the forces on the way "
            f"(expected 1, over {len(fixed)} pairs of similar structures): "
            f"{_reason(slope, sizes)}. Energies are totals in eV, forces -dE/dr in eV/angstrom"
        )
        return
    strained = [p for p in pairs if p.stress != 0.0]
    slope = _slope([p.energy - p.forces for p in strained], [p.stress for p in strained])
    if slope is not None and not STRESS_SLOPES[0] < slope < STRESS_SLOPES[1]:
        yield (
            f"differences of energies between strained cells are {slope:.3g} times the work of "
            f"the stress (expected 1, over {len(strained)} pairs of similar structures): "
            f"{_stress_reason(slope)}. Stress is dE/(V de) in eV/angstrom^3, positive under tension"
        )


def _slope(differences: Sequence[float], works: Sequence[float]) -> float | None:
    """Slope of energy differences over work; None where they do not go together."""
    y, x = np.array(differences), np.array(works)
    if len(y) < FEWEST_PAIRS or not x @ x > 0.0 or not y @ y > 0.0:
        return None
    slope = float(x @ y / (x @ x))
    explained = 1.0 - float(np.square(y - slope * x).sum() / (y @ y))
    return slope if explained > EXPLAINED else None


def _near(value: float, factor: float) -> bool:
    return abs(value / factor - 1.0) < NEAR


def _reason(slope: float, sizes: set[int]) -> str:
    """What a slope of energies over the work of forces comes from."""
    known = (
        (-1.0, "forces have the opposite sign"),
        (1.0 / HARTREE, "energies seem to be in Hartree"),
        (1.0 / KCAL, "energies seem to be in kcal/mol"),
        (HARTREE / BOHR, "forces seem to be in Hartree/bohr"),
        (KCAL, "forces seem to be in kcal/mol/angstrom"),
        (1.0 / BOHR, "energies seem to be in Hartree and forces in Hartree/bohr"),
    )
    if len(sizes) == 1 and _near(slope, 1.0 / next(iter(sizes))):
        return "energies seem to be per atom"
    for factor, reason in known:
        if _near(slope, factor):
            return reason
    return "units or signs differ"


def _stress_reason(slope: float) -> str:
    """What a slope of energies over the work of the stress comes from."""
    sign = ", of the opposite sign" if slope < 0 else ""
    for factor, unit in ((GPA, "GPa"), (0.1 * GPA, "kbar")):
        if _near(abs(slope), factor):
            return f"it seems to be in {unit}{sign}"
    return "it has the opposite sign" if _near(slope, -1.0) else "its unit or sign differs"
