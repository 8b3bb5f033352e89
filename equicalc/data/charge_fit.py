"""Charges per element from forces alone, before any network: springs between pairs plus Coulomb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from equicalc.data.neighbors import full_list
from equicalc.data.statistics import composition_matrix, guess_charges
from equicalc.data.structures import Structure
from equicalc.electrostatics import solve

Array = npt.NDArray[np.float64]

# Structures that enter, those with the smallest forces first: near equilibrium springs suffice.
MAX_STRUCTURES = 30
# Range of the springs where the cell allows it, angstrom: second neighbours in most crystals.
LONGEST_SPRING = 5.0
# Radial functions of each pair of elements: enough to reach every shell of a crystal on its own.
N_RADIAL = 10
# Directions of the spring space below this part of the largest are rounding.
RANK_TOLERANCE = 1e-7
# A formal charge is the most that an element carries.
LARGEST_CHARGE = 4.0


@dataclass(frozen=True)
class ChargeFit:
    """Charges and how well they explain the forces.

    Attributes
    ----------
    charges
        e for each element.
    error, error_without
        rms force error of springs with and without Coulomb, eV/angstrom.
    reach
        Range of the springs, angstrom.
    n_structures
        Structures that entered.
    """

    charges: dict[str, float]
    error: float
    error_without: float
    reach: float
    n_structures: int


def fit_charges(
    structures: Sequence[Structure],
    elements: Sequence[str],
    sigmas: dict[str, float],
) -> ChargeFit | None:
    r"""Charges which, with springs between near pairs, explain the forces best.

    .. math:: F_i = \sum_j \sum_k c^{z_i z_j}_k g_k(r_{ij}) \hat r_{ij}
        - \nabla_i E_C(q_{z_1}, q_{z_2}, \dots)

    least squares in the spring constants c and the charges q of the elements, for neutral
    compositions. Springs reach half of the smallest height of the cells (at most 5 angstrom), so
    that they see every pair through one image only: springs with a longer reach imitate the
    Coulomb forces inside the periodic cell, and the charge is lost. In crystals near equilibrium
    the result is close to Z*/sqrt(eps_inf), Z* the Born charge.

    Parameters
    ----------
    structures : sequence of Structure
        With forces; those with the smallest forces are used.
    elements : sequence of str
        Elements of the model.
    sigmas : dict
        Gaussian width of each element, angstrom.

    Returns
    -------
    ChargeFit or None
        None when there is nothing to fit: no forces, a single element, charged structures only, or
        Coulomb forces that do not help.
    """
    usable = [s for s in structures if s.forces is not None and s.total_charge == 0.0]
    usable = [s for s in usable if s.pbc.sum() != 1]
    if len(elements) < 2 or not usable:
        return None
    usable.sort(key=lambda s: float(np.square(_forces(s)).mean()))
    usable = usable[:MAX_STRUCTURES]
    reach = min([LONGEST_SPRING, *(0.5 * _smallest_height(s) for s in usable)])
    forces = np.concatenate([np.ravel(_forces(s)) for s in usable])
    springs = np.concatenate([_spring_forces(s, elements, reach) for s in usable])
    coulomb = np.concatenate([_coulomb_forces(s, elements, sigmas) for s in usable])
    basis = _orthonormal(springs)

    def beyond_springs(columns: Array) -> Array:
        return np.asarray(columns - basis @ (basis.T @ columns))

    rest, products = beyond_springs(forces), beyond_springs(coulomb)
    charges = _solve_for_charges(rest, products, usable, elements)
    if charges is None:
        return None
    remaining = rest - products @ _pair_products(charges)
    return ChargeFit(
        charges=dict(zip(elements, charges.tolist(), strict=True)),
        error=float(np.sqrt(np.mean(remaining**2))),
        error_without=float(np.sqrt(np.mean(rest**2))),
        reach=reach,
        n_structures=len(usable),
    )


def _solve_for_charges(
    rest: Array, products: Array, structures: Sequence[Structure], elements: Sequence[str]
) -> Array | None:
    """Neutral charges that minimise |rest - products @ (q_a q_b)|; None when they vanish."""
    counts = composition_matrix(structures, elements)
    _, singular, directions = np.linalg.svd(np.unique(counts, axis=0), full_matrices=True)
    rank = int((singular > 1e-9 * singular[0]).sum())
    neutral = directions[rank:].T
    guess = np.array(list(guess_charges(structures, elements).values()))
    if neutral.shape[1] == 0:
        return None
    # The minimum depends on these few numbers only: triangular factor of the columns.
    factor = np.linalg.qr(np.column_stack([products, rest]), mode="r")

    def residual(coordinates: Array) -> Array:
        weights = np.append(-_pair_products(neutral @ coordinates), 1.0)
        return np.asarray(factor @ weights)

    start = neutral.T @ guess
    if not np.abs(start).max() > 1e-3:
        return None
    solution = least_squares(residual, start)
    charges = neutral @ solution.x
    # The energy does not change with the sign of all charges: electronegativities decide.
    charges *= 1.0 if charges @ guess >= 0.0 else -1.0
    sensible = 0.05 < np.abs(charges).max() < LARGEST_CHARGE
    return charges if sensible else None


def _pair_products(charges: Array) -> Array:
    """q_a q_b for a <= b."""
    first, second = np.triu_indices(len(charges))
    return np.asarray(charges[first] * charges[second])


def _forces(structure: Structure) -> Array:
    assert structure.forces is not None
    return structure.forces


def _smallest_height(structure: Structure) -> float:
    """Smallest distance between opposite faces of the cell along periodic directions."""
    if not structure.pbc.all():
        return np.inf
    volume = abs(np.linalg.det(structure.cell))
    faces = np.cross(np.roll(structure.cell, -1, axis=0), np.roll(structure.cell, -2, axis=0))
    return float(volume / np.linalg.norm(faces, axis=1).max())


def _species(structure: Structure, elements: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.array([list(elements).index(s) for s in structure.symbols])


def _spring_forces(structure: Structure, elements: Sequence[str], reach: float) -> Array:
    """Forces of every pair of elements and radial function, [3 N, n_pairs N_RADIAL]."""
    (receiver, sender), shifts = full_list(
        structure.positions, structure.cell, structure.pbc, reach
    )
    positions, species = structure.positions, _species(structure, elements)
    vectors = positions[sender] - positions[receiver] + shifts @ structure.cell
    distance = np.linalg.norm(vectors, axis=1)[:, None]
    x = distance / reach
    envelope = 1.0 - 28.0 * x**6 + 48.0 * x**7 - 21.0 * x**8
    radial = np.sin(np.pi * x * np.arange(1, N_RADIAL + 1)) / distance * envelope
    low = np.minimum(species[receiver], species[sender])
    high = np.maximum(species[receiver], species[sender])
    columns = []
    for a, b in zip(*np.triu_indices(len(elements)), strict=True):
        chosen = (low == a) & (high == b)
        forces = np.zeros((len(structure), 3, N_RADIAL))
        terms = radial[chosen, None, :] * (vectors / distance)[chosen, :, None]
        np.add.at(forces, receiver[chosen], terms)
        columns.append(forces.reshape(-1, N_RADIAL))
    return np.concatenate(columns, axis=1)


def _coulomb_forces(
    structure: Structure, elements: Sequence[str], sigmas: dict[str, float]
) -> Array:
    """Forces of charge products q_a q_b, a <= b: [3 N, n_pairs]."""
    species = _species(structure, elements)
    width = np.array([sigmas[e] for e in elements])[species]
    equal = np.ptp(width) == 0.0

    def forces(*charged: int) -> Array:
        charges = np.isin(species, charged).astype(np.float64)
        return np.ravel(
            solve(
                charges,
                structure.positions,
                structure.cell,
                structure.pbc,
                float(width[0]) if equal else width,
            ).forces
        )

    own = [forces(a) for a in range(len(elements))]
    columns = []
    for a, b in zip(*np.triu_indices(len(elements)), strict=True):
        columns.append(own[a] if a == b else forces(int(a), int(b)) - own[a] - own[b])
    return np.stack(columns, axis=1)


def _orthonormal(columns: Array) -> Array:
    """Orthonormal basis of the space that columns span."""
    scale = np.linalg.norm(columns, axis=0)
    columns = columns[:, scale > 0.0] / scale[scale > 0.0]
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, singular > RANK_TOLERANCE * singular.max(initial=0.0)])
