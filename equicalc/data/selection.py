"""What a data set must have for training, and which of its structures are used for what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase.data import atomic_numbers

from equicalc.data.structures import Structure
from equicalc.errors import DataError


def check_training_labels(structures: Sequence[Structure]) -> None:
    """Raise DataError unless every structure has energy and forces."""
    if not structures:
        raise DataError("the data set holds no structures")
    for structure in structures:
        if structure.energy is None:
            raise DataError(
                f"{structure.source}: no energy. In extended XYZ it is 'energy=-12.3' in the "
                "comment line (eV); under another name, name it: data.keys: {energy: "
                f"{_other_name(structure, 'energy')}}}"
            )
        if structure.forces is None:
            raise DataError(
                f"{structure.source}: no forces. In extended XYZ they are three columns named in "
                "the comment line, 'Properties=species:S:1:pos:R:3:forces:R:3' (eV/angstrom); "
                f"under another name, name it: data.keys: {{forces: "
                f"{_other_name(structure, 'force')}}}"
            )


def _other_name(structure: Structure, word: str) -> str:
    """Name in the file under which a missing label may be meant."""
    return next((name for name in structure.unread if word in name.lower()), "NAME")


def check_boundaries(structures: Iterable[Structure]) -> None:
    """Raise DataError for a structure that a model with charges has no Coulomb sum for."""
    for structure in structures:
        if int(structure.pbc.sum()) == 1:
            raise DataError(
                f"{structure.source}: one periodic direction ({structure.pbc.tolist()}) has no "
                'Coulomb sum. Give the wire vacuum on both sides and pbc="T T T", or train '
                "without charges (model.charge_model: none)"
            )


def elements_of(structures: Iterable[Structure]) -> list[str]:
    """Chemical symbols in the structures, in the order of the periodic table."""
    symbols = {symbol for structure in structures for symbol in structure.symbols}
    return sorted(symbols, key=lambda symbol: atomic_numbers[symbol])


def check_elements(structures: Iterable[Structure], elements: Sequence[str]) -> None:
    """Raise DataError when a structure holds an element that is not in the list."""
    known = set(elements)
    for structure in structures:
        for index, symbol in enumerate(structure.symbols):
            if symbol not in known:
                raise DataError(
                    f"{structure.source}: atom {index} is {symbol}, but the model has the elements "
                    f"{', '.join(elements)}. Add it to model.elements and train again, or remove "
                    "the structure"
                )


def select(
    structures: Sequence[Structure],
    max_energy_above_min: float | None = None,
    max_force: float | None = None,
) -> list[Structure]:
    """Leave out structures far from equilibrium.

    Parameters
    ----------
    structures : sequence of Structure
        With energy and forces.
    max_energy_above_min : float, optional
        Largest energy per atom above the lowest one of the same composition, eV/atom.
    max_force : float, optional
        Largest force on an atom, eV/angstrom.

    Returns
    -------
    list of Structure

    Raises
    ------
    DataError
        When nothing is left.
    """
    energies = [energy_per_atom(s) for s in structures]
    compositions = [composition(s) for s in structures]
    lowest: dict[tuple[tuple[str, float], ...], float] = {}
    for key, energy in zip(compositions, energies, strict=True):
        lowest[key] = min(lowest.get(key, energy), energy)
    kept = []
    for structure, key, energy in zip(structures, compositions, energies, strict=True):
        if max_energy_above_min is not None and energy - lowest[key] > max_energy_above_min:
            continue
        if max_force is not None and largest_force(structure) > max_force:
            continue
        kept.append(structure)
    if structures and not kept:
        raise DataError(
            f"none of {len(structures)} structures is left after data.max_energy_above_min = "
            f"{max_energy_above_min} and data.max_force = {max_force}; raise these limits"
        )
    return kept


def energy_per_atom(structure: Structure) -> float:
    """Energy of a structure per atom, eV; DataError when it has none."""
    if structure.energy is None:
        raise DataError(f"{structure.source}: no energy")
    return structure.energy / len(structure)


def largest_force(structure: Structure) -> float:
    """Length of the largest force on an atom, eV/angstrom; 0 when the forces are not known."""
    if structure.forces is None:
        return 0.0
    return float(np.sqrt((structure.forces**2).sum(axis=1).max()))


def composition(structure: Structure) -> tuple[tuple[str, float], ...]:
    """Part of each element, so that a cell and its supercell are the same."""
    n = len(structure)
    counts = {symbol: structure.symbols.count(symbol) for symbol in set(structure.symbols)}
    return tuple(sorted((symbol, round(count / n, 9)) for symbol, count in counts.items()))


def split(
    structures: Sequence[Structure], fraction: float, seed: int
) -> tuple[list[Structure], list[Structure]]:
    """Split at random into training and validation structures, each in the order of the file.

    Parameters
    ----------
    structures : sequence of Structure
        At least two.
    fraction : float
        Part that goes to validation, between 0 and 1; at least one structure, never all.
    seed : int
        The same seed gives the same split.

    Raises
    ------
    DataError
        When there are fewer than two structures.
    """
    n = len(structures)
    if n < 2:
        raise DataError(
            f"found {n} structure to split into training and validation; give at least 2, or a "
            "file of its own as data.validation"
        )
    n_validation = min(max(round(fraction * n), 1), n - 1)
    chosen = set(np.random.default_rng(seed).permutation(n)[:n_validation].tolist())
    training = [s for i, s in enumerate(structures) if i not in chosen]
    return training, [structures[i] for i in sorted(chosen)]
