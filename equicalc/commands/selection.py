"""`equicalc select`: frames of a trajectory on which a committee of models disagrees."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from equicalc.commands.common import (
    check_format,
    check_spared,
    check_writable,
    make_calculator,
    progress_bar,
    read_frames,
    write_structure,
)
from equicalc.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ase import Atoms

    from equicalc.calculator import EquiCalculator


def select(options: argparse.Namespace) -> None:
    """Write the picked frames, and print how many there are and how far the models are apart."""
    if len(options.model) < 2:
        raise ConfigError(
            f"select compares models, and found one ({options.model[0]}). Type two or more: "
            "equicalc select TRAJECTORY a.pt b.pt --above 0.1 -o picked.xyz"
        )
    if not 0.0 <= options.above < options.below:
        raise ConfigError(
            f"found --above {options.above:g} --below {options.below:g}, expected deviations in "
            "eV/angstrom with 0 <= above < below"
        )
    check_writable(options.output)
    from equicalc.committee import pick_frames

    frames = read_frames(options.trajectory)
    check_spared(options.output, options.trajectory)
    check_format(
        options.output,
        [_unlabelled(atoms, 0, np.zeros(len(atoms))) for atoms in frames[:2]],
    )
    deviations, refusals = _deviations(frames, make_calculator(options))
    largest = np.array([values.max() for values in deviations])
    picked = pick_frames(largest, options.above, options.below, options.spacing, options.most)
    if picked:
        write_structure(options.output, [_unlabelled(frames[k], k, deviations[k]) for k in picked])
    summary = _summary(options, largest, picked)
    if refusals:
        frame, error = next(iter(refusals.items()))
        print(
            f"{len(refusals)} of {len(frames)} frames are left out, first frame {frame}: {error}",
            file=sys.stderr,
        )
    if options.json:
        # JSON has no infinity
        values = [value if np.isfinite(value) else None for value in largest.tolist()]
        print(json.dumps({**summary, "deviations": values}, indent=2))
    else:
        print("\n".join(_lines(options, summary)))


def _deviations(
    frames: list[Atoms], calculator: EquiCalculator
) -> tuple[list[Any], dict[int, DataError]]:
    """Deviation of the forces of every atom of every frame, eV/angstrom, and frames without.

    A run that fell apart ends with atoms on each other or nowhere: their deviation is infinite.
    """
    found: list[Any] = []
    refusals: dict[int, DataError] = {}
    with progress_bar(len(frames), "select", "frame") as bar:
        for frame, atoms in enumerate(frames):
            try:
                calculator.calculate(atoms, ["forces"])
                found.append(calculator.results["forces_deviation"])
            except DataError as error:
                refusals[frame] = error
                found.append(np.full(len(atoms), np.inf))
            bar.update()
    if len(refusals) == len(frames):
        raise refusals[0]
    return found, refusals


def _unlabelled(atoms: Atoms, frame: int, deviations: Any) -> Atoms:
    """The structure without results of the run it comes from, which are not its new labels."""
    copy = atoms.copy()
    copy.calc = None
    copy.info |= {"frame": frame, "largest_forces_deviation": float(deviations.max())}
    copy.arrays["forces_deviation"] = deviations
    return copy


def _summary(options: argparse.Namespace, largest: Any, picked: list[int]) -> dict[str, Any]:
    known = largest[np.isfinite(largest)]
    above, below = known > options.above, known < options.below
    return {
        "frames": len(largest),
        "left_out": len(largest) - len(known),
        "picked": picked,
        "accurate": int((~above).sum()),
        "candidates": int((above & below).sum()),
        "beyond": int((~below).sum()),
        "largest_deviation_min": float(known.min()),
        "largest_deviation_median": float(np.median(known)),
        "largest_deviation_max": float(known.max()),
    }


def _lines(options: argparse.Namespace, summary: dict[str, Any]) -> list[str]:
    """Return what is printed."""
    low, middle, high = (summary[f"largest_deviation_{k}"] for k in ("min", "median", "max"))
    lines = [
        f"{summary['frames']} frames, {len(options.model)} models; largest deviation of forces "
        f"in a frame: {low:.4g} to {high:.4g}, median {middle:.4g} eV/Å",
        f"{summary['accurate']} frames at or below {options.above:g} eV/Å, "
        f"{summary['candidates']} candidates"
        + (f", {summary['beyond']} beyond {options.below:g} eV/Å" if summary["beyond"] else ""),
    ]
    n_picked = len(summary["picked"])
    if n_picked == 0:
        return [*lines, f"picked none; '{options.output}' was not written"]
    return [*lines, f"wrote {n_picked} of them, {options.spacing} or more frames apart, to "
            f"{options.output}"]  # fmt: skip
