"""Pictures: time series, radial distribution functions, parity, phonon bands.

Every function takes arrays and returns a matplotlib Figure that belongs to no window; `save`
writes it. Colours are those of Okabe and Ito, which people with colour-vision deficiencies
tell apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from equicalc.errors import DataError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
GREY = "#666666"
# Small enough for a page, sharp enough for print.
DPI = 140


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [rows, columns]; size in inches."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9)
    return figure, axes


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure; an existing file is replaced only when the new one is complete."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(temporary, dpi=DPI)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def time_series(runs: Mapping[str, Mapping[str, Any]], n_atoms: int, title: str = "") -> Figure:
    """Draw energy, temperature and volume of one or several runs against time.

    Parameters
    ----------
    runs : mapping of str to mapping
        Label of each run and its records as `equicalc.dynamics.run_md` returns them (keys
        time_ps, potential_energy_eV, total_energy_eV, temperature_K, volume_A3).
    n_atoms : int
        Atoms in the cell, to show extensive quantities per atom.
    title : str
        Above the picture.
    """
    if not runs:
        raise DataError("a time series needs at least one run, found none")
    panels = (
        ("potential_energy_eV", "potential energy\n(meV/atom, from the start)"),
        ("temperature_K", "temperature (K)"),
        ("volume_A3", "volume (Å³/atom)"),
    )
    figure, axes = new_figure(len(panels), 1, (7.0, 6.2))
    for (key, label), axis in zip(panels, axes[:, 0], strict=True):
        for number, (name, records) in enumerate(runs.items()):
            values = np.asarray(records[key], float)
            if key == "potential_energy_eV":
                values = 1000.0 * (values - values[0]) / n_atoms
            elif key == "volume_A3":
                values = values / n_atoms
            axis.plot(
                records["time_ps"],
                values,
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINE_STYLES[number % len(LINE_STYLES)],
                linewidth=1.3,
                label=name,
            )
        axis.set_ylabel(label, fontsize=9)
        axis.ticklabel_format(axis="y", useOffset=False)
    for axis in axes[:-1, 0]:
        axis.sharex(axes[-1, 0])
        axis.tick_params(labelbottom=False)
    axes[-1, 0].set_xlabel("time (ps)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=3, fontsize=9, frameon=False, title=title
    )
    figure.align_ylabels()
    return figure


def rdfs(
    radii: np.ndarray,
    runs: Mapping[str, Mapping[tuple[str, str], np.ndarray]],
    title: str = "",
) -> Figure:
    """Draw partial radial distribution functions, one panel per pair, one line per run.

    Parameters
    ----------
    radii : array [n_bins]
        Bin centres, angstrom.
    runs : mapping of str to mapping
        Label of each run, and for each pair of elements g(r) [n_bins].
    title : str
        Above the picture.
    """
    pairs = sorted({pair for run in runs.values() for pair in run})
    if not pairs:
        raise DataError("nothing to draw: no radial distribution function was given")
    columns = 1 if len(pairs) <= 3 else 2
    n_rows = -(-len(pairs) // columns)
    figure, axes = new_figure(n_rows, columns, (2.2 + 4.2 * columns, 1.2 + 1.7 * n_rows))
    for axis in axes.flat[len(pairs) :]:
        axis.set_axis_off()
    for axis, pair in zip(axes.flat, pairs, strict=False):
        axis.axhline(1.0, color=GREY, linewidth=0.7)
        for number, (name, functions) in enumerate(runs.items()):
            if pair in functions:
                axis.plot(
                    radii,
                    functions[pair],
                    color=COLOURS[number % len(COLOURS)],
                    linestyle=LINE_STYLES[number % len(LINE_STYLES)],
                    linewidth=1.4,
                    label=name,
                )
        axis.set_ylabel("g(r)")
        axis.set_ylim(bottom=0.0)
        axis.set_xlim(0.0, float(radii[-1]))
        axis.set_title(f"{pair[0]}–{pair[1]}", loc="left", fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("distance r (Å)")
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure


def parity(
    quantities: Mapping[str, tuple[np.ndarray, np.ndarray]],
    units: Mapping[str, str],
    title: str = "",
    groups: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Draw predicted against reference values, one panel per quantity, with RMSE and MAE.

    Parameters
    ----------
    quantities : mapping of str to (reference, predicted)
        Arrays of equal shape.
    units : mapping of str to str
        Unit of each quantity, for its axes.
    title : str
        Above the picture.
    groups : mapping of str to array of str, optional
        For a quantity, the group (for example the element) of each value; groups are coloured.
    """
    if not quantities:
        raise DataError("a parity plot needs at least one quantity, found none")
    figure, axes = new_figure(1, len(quantities), (3.6 * len(quantities), 3.9))
    for axis, (name, (reference, predicted)) in zip(axes[0], quantities.items(), strict=True):
        x, y = np.ravel(reference).astype(float), np.ravel(predicted).astype(float)
        if x.shape != y.shape or x.size == 0:
            raise DataError(f"{name}: {x.size} reference and {y.size} predicted values")
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        margin = 0.04 * (high - low) or 1.0
        axis.plot([low - margin, high + margin], [low - margin, high + margin], color=GREY, lw=0.8)
        labels = (groups or {}).get(name, np.full(x.size, ""))
        for number, group in enumerate(dict.fromkeys(np.ravel(labels).tolist())):
            chosen = np.ravel(labels) == group
            axis.scatter(
                x[chosen],
                y[chosen],
                s=7,
                alpha=0.55,
                linewidths=0,
                color=COLOURS[number % len(COLOURS)],
                label=group or None,
                rasterized=True,
            )
        if name in (groups or {}):
            axis.legend(fontsize=8, frameon=False, loc="lower right", markerscale=2)
        rmse, mae = np.sqrt(np.mean((x - y) ** 2)), np.mean(np.abs(x - y))
        axis.text(
            0.04,
            0.96,
            f"RMSE {rmse:.3g}\nMAE {mae:.3g}\n{units[name]}",
            transform=axis.transAxes,
            va="top",
            fontsize=9,
        )
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(f"reference ({units[name]})")
        axis.set_ylabel(f"model ({units[name]})")
        axis.set_aspect("equal")
    figure.suptitle(title, fontsize=11)
    return figure


def phonon_bands(
    distances: Sequence[np.ndarray],
    bands: Mapping[str, Sequence[np.ndarray]],
    ticks: Sequence[tuple[float, str]],
    points: Sequence[tuple[float, float, str]] = (),
    title: str = "",
) -> Figure:
    """Draw phonon dispersions.

    Parameters
    ----------
    distances : sequence of array [n_q]
        Position of each wave vector along the path, one array per segment.
    bands : mapping of str to sequence of array [n_q, n_bands]
        Label of each curve set and its frequencies in THz, one array per segment.
    ticks : sequence of (position, label)
        High-symmetry points.
    points : sequence of (position, frequency in THz, label)
        Reference values drawn as markers.
    title : str
        Above the picture.
    """
    if not bands:
        raise DataError("a band structure needs at least one set of bands, found none")
    figure, axes = new_figure(1, 1, (6.4, 4.2))
    axis = axes[0, 0]
    for number, (name, segments) in enumerate(bands.items()):
        for segment, (x, y) in enumerate(zip(distances, segments, strict=True)):
            lines = axis.plot(
                x,
                y,
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINE_STYLES[number % len(LINE_STYLES)],
                linewidth=1.4,
            )
            if segment == 0:
                lines[0].set_label(name)
    for label in dict.fromkeys(label for _, _, label in points):
        chosen = [(x, y) for x, y, name in points if name == label]
        axis.plot(*zip(*chosen, strict=True), "o", color="black", ms=5, mfc="none", label=label)
    for position, _ in ticks:
        axis.axvline(position, color=GREY, linewidth=0.6)
    axis.axhline(0.0, color=GREY, linewidth=0.6)
    axis.set_xticks([p for p, _ in ticks], [name for _, name in ticks])
    axis.set_xlim(float(distances[0][0]), float(distances[-1][-1]))
    axis.set_ylabel("frequency (THz)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False, title=title)
    return figure
