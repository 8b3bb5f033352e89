"""What the data fix before training: reference energies, scales, and the charges to start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from equicalc.data.electronegativity import PAULING
from equicalc.data.neighbors import full_list
from equicalc.data.selection import energy_per_atom
from equicalc.data.structures import Structure
from equicalc.errors import DataError

# For elements that Pauling's scale leaves out.
MIDDLE_ELECTRONEGATIVITY = 2.0
# e per unit of Pauling's scale: alkali halides come out near +-0.55, below the +-0.7 that training
# finds, so that the first steps strengthen charges rather than reverse them.
CHARGE_PER_ELECTRONEGATIVITY = 0.5
# Singular values below this part of the largest are left out of the fit of reference energies:
# with one composition the elements cannot be told apart, and the smallest solution shares equally.
SINGULAR_VALUE_CUTOFF = 1e-8


def composition_matrix(
    structures: Sequence[Structure], elements: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Atoms of each element in each structure, [S, n_elements]."""
    return np.array([[s.symbols.count(e) for e in elements] for s in structures], dtype=np.float64)


def fit_reference_energies(
    structures: Sequence[Structure],
    elements: Sequence[str],
    explained: npt.NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """Energy of each element that explains the energies best: least squares of smallest norm.

    Minimises sum_s ((E_s - E0_s - sum_e n_se x_e) / N_s)^2.

    Parameters
    ----------
    structures : sequence of Structure
        With energies.
    elements : sequence of str
        The model's elements.
    explained : array [S], optional
        E0, energies that the model gives already, eV.

    Returns
    -------
    dict
        eV for each element.

    Raises
    ------
    DataError
        When there is no structure, or one without an energy.
    """
    if not structures:
        raise DataError("no structures to fit reference energies to")
    counts = composition_matrix(structures, elements)
    size = counts.sum(axis=1)
    per_atom = np.array([energy_per_atom(s) for s in structures])
    if explained is not None:
        per_atom = per_atom - explained / size
    solution = np.linalg.lstsq(counts / size[:, None], per_atom, rcond=SINGULAR_VALUE_CUTOFF)[0]
    return dict(zip(elements, solution.tolist(), strict=True))


def rms_force(structures: Sequence[Structure]) -> float:
    """Root mean square force component, eV/angstrom; 1 when all forces vanish."""
    squares = np.concatenate([np.ravel(s.forces) ** 2 for s in structures if s.forces is not None])
    rms = float(np.sqrt(squares.mean()))
    return rms if rms > 0.0 else 1.0


def guess_charges(structures: Sequence[Structure], elements: Sequence[str]) -> dict[str, float]:
    """Charges to start from: the less electronegative an element, the more positive.

    q_e = 0.5 (X_mean - X_e) with Pauling's X and the mean over all atoms of the data, so that the
    data as a whole are neutral. Only signs and the rough size matter: from zero charges the Coulomb
    energy has no slope in them, and training would not know where to go.

    Returns
    -------
    dict
        e for each element.
    """
    counts = composition_matrix(structures, elements).sum(axis=0)
    values = np.array([PAULING.get(e, MIDDLE_ELECTRONEGATIVITY) for e in elements])
    mean = float(counts @ values / counts.sum())
    charges = CHARGE_PER_ELECTRONEGATIVITY * (mean - values)
    return dict(zip(elements, charges.tolist(), strict=True))


def shortest_distances(
    structures: Iterable[Structure], elements: Sequence[str], cutoff: float
) -> dict[str, float]:
    """How close two atoms of each pair of elements come; closer, a model extrapolates.

    Parameters
    ----------
    structures : iterable of Structure
        Training data.
    elements : sequence of str
        The model's elements.
    cutoff : float
        Pairs beyond it are not looked at, angstrom.

    Returns
    -------
    dict
        angstrom for "A-B", A before B in `elements`; pairs that never meet are left out.
    """
    number = {element: k for k, element in enumerate(elements)}
    found: dict[str, float] = {}
    for structure in structures:
        (i, j), shifts = full_list(structure.positions, structure.cell, structure.pbc, cutoff)
        vectors = structure.positions[j] - structure.positions[i] + shifts @ structure.cell
        distances = np.linalg.norm(vectors, axis=1)
        species = np.array([number[symbol] for symbol in structure.symbols])
        codes = species[i] * len(elements) + species[j]
        for code in np.unique(codes[species[i] <= species[j]]):
            a, b = divmod(int(code), len(elements))
            key = f"{elements[a]}-{elements[b]}"
            shortest = float(distances[codes == code].min())
            found[key] = min(found.get(key, shortest), shortest)
    return found


def mean_epsilon_inf(structures: Sequence[Structure]) -> float:
    """Mean electronic dielectric constant of the structures that have one; 1 without any."""
    values = [s.epsilon_inf for s in structures if s.epsilon_inf is not None]
    return float(np.mean(values)) if values else 1.0


def mean_born_charges(
    structures: Sequence[Structure], elements: Sequence[str]
) -> dict[str, float] | None:
    """Mean isotropic Born charge of each element, e; None unless the data have all elements."""
    values: dict[str, list[float]] = {e: [] for e in elements}
    for structure in structures:
        if structure.born is not None:
            thirds = np.trace(structure.born, axis1=1, axis2=2) / 3.0
            for symbol, value in zip(structure.symbols, thirds.tolist(), strict=True):
                values[symbol].append(value)
    if not all(values.values()):
        return None
    return {e: float(np.mean(v)) for e, v in values.items()}


def check_per_element(values: Mapping[str, float], elements: Sequence[str], key: str) -> None:
    """Raise DataError unless there is exactly one value for each element."""
    missing = [e for e in elements if e not in values]
    unknown = [e for e in values if e not in elements]
    problems = [f"no value for {', '.join(missing)}"] if missing else []
    problems += [f"a value for {', '.join(unknown)}"] if unknown else []
    if problems:
        raise DataError(
            f"{key} has {' and '.join(problems)}; the model has the elements "
            f"{', '.join(elements)}: give each of them one number"
        )
