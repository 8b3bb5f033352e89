"""Several models at once: mean results, how far the models are apart, and what to learn next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from equicalc.errors import ConfigError

Array = npt.NDArray[np.float64]


def names_of(model: str | Path | Sequence[str | Path]) -> list[str]:
    """Names or paths of the models in a parameter that is one of them or a list.

    Raises
    ------
    ConfigError
        When the list is empty.
    """
    names = [str(model)] if isinstance(model, (str, Path)) else [str(one) for one in model]
    if not names:
        raise ConfigError(
            "EquiCalculator: found an empty list of models, expected at least one: "
            'EquiCalculator(["a.pt", "b.pt"])'
        )
    return names


def check_members(metadata: Sequence[dict[str, Any]], charge_models: Sequence[str]) -> None:
    """Raise ConfigError when models are too different for a mean to have a meaning.

    Parameters
    ----------
    metadata : sequence of dict
        Of the model files.
    charge_models : sequence of str
        Of the same models.
    """
    quantities = {
        "charge_model": list(charge_models),
        "dispersion": [one.get("dispersion") or "none" for one in metadata],
    }
    for name, values in quantities.items():
        for other, value in zip(metadata[1:], values[1:], strict=True):
            if value != values[0]:
                raise ConfigError(
                    f"a committee needs models of one kind: {metadata[0].get('name')!r} has "
                    f"{name}: {values[0]}, {other.get('name')!r} has {name}: {value}"
                )


def mean_results(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean of every quantity that all models have, and their deviations.

    Parameters
    ----------
    results : sequence of dict
        Results of ASE calculators for one structure.

    Returns
    -------
    dict
        The means; ``forces_deviation`` [N], ``sqrt(<|F_m - <F>|^2>)`` of every atom (eV/angstrom)
        with the mean over the models m; ``energy_deviation``, the same of the energy (eV).
    """
    shared = [key for key in results[0] if all(key in one for one in results)]
    mean: dict[str, Any] = {}
    for key in shared:
        value = np.mean([one[key] for one in results], axis=0)
        mean[key] = float(value) if value.ndim == 0 else value
    forces = np.array([one["forces"] for one in results])
    squares = ((forces - forces.mean(axis=0)) ** 2).sum(axis=2)
    mean["forces_deviation"] = np.sqrt(squares.mean(axis=0))
    mean["energy_deviation"] = float(np.std([one["energy"] for one in results]))
    return mean


def pick_frames(
    deviations: npt.ArrayLike,
    above: float,
    below: float = np.inf,
    spacing: int = 1,
    most: int | None = None,
) -> list[int]:
    """Frames of a trajectory to label next: the largest deviations first, none close in time.

    Parameters
    ----------
    deviations : array [n_frames]
        Largest deviation of forces in every frame, eV/angstrom.
    above, below : float
        Only frames with deviations between these. Beyond some `below` structures are often not
        worth a label: the dynamics has left what matters.
    spacing : int
        Least distance of two picked frames, in frames.
    most : int, optional
        How many to pick at most.

    Returns
    -------
    list of int
        Ascending.
    """
    values = np.asarray(deviations, dtype=np.float64)
    candidates = np.flatnonzero((values > above) & (values < below))
    # a stable order: of equal ones the first
    candidates = candidates[np.argsort(-values[candidates], kind="stable")]
    picked: list[int] = []
    for frame in candidates.tolist():
        if most is not None and len(picked) == most:
            break
        if all(abs(frame - other) >= spacing for other in picked):
            picked.append(frame)
    return sorted(picked)
