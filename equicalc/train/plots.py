"""Pictures of a run: loss and errors against epochs, and parity of the best model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from equicalc import plots
from equicalc.evaluate import Comparison
from equicalc.train.checkpoint import read_log

# Shown quantities: (title, unit, factor from eV, angstrom, e).
PARITY = {
    "energy": ("energy per atom", "eV", 1.0),
    "forces": ("forces", "eV/Å", 1.0),
    "stress": ("stress", "meV/Å³", 1000.0),
    "charges": ("charges", "e", 1.0),
}
# More points than this say nothing more and make slow pictures.
MAX_POINTS = 20_000


def draw_loss(directory: str | Path) -> Path:
    """Draw ``loss.png`` of a run directory from its ``log.csv``."""
    directory = Path(directory)
    log = read_log(directory / "log.csv")
    epochs = np.array(log["epoch"])
    panels = {
        "loss": ("loss", {"training": "train_loss", "validation": "validation_loss"}),
        "energy": (
            "energy RMSE (meV/atom)",
            {
                "training": "train_energy_rmse_meV_per_atom",
                "validation": "energy_rmse_meV_per_atom",
            },
        ),
        "forces": (
            "force RMSE (meV/Å)",
            {"training": "train_forces_rmse_meV_per_A", "validation": "forces_rmse_meV_per_A"},
        ),
    }
    figure, axes = plots.new_figure(len(panels), 1, (6.4, 7.0))
    for axis, (label, lines) in zip(axes[:, 0], panels.values(), strict=True):
        for number, (name, column) in enumerate(lines.items()):
            values = np.array(log[column])
            known = np.isfinite(values)
            axis.plot(
                epochs[known],
                values[known],
                color=plots.COLOURS[number],
                linestyle=plots.LINE_STYLES[number],
                linewidth=1.3,
                label=name,
            )
        axis.set_yscale("log")
        axis.set_ylabel(label, fontsize=9)
    axes[0, 0].legend(fontsize=8, frameon=False)
    axes[-1, 0].set_xlabel("epoch (validation: averaged weights)")
    return plots.save(figure, directory / "loss.png")


def draw_parity(directory: str | Path, comparisons: dict[str, Comparison]) -> Path:
    """Draw ``parity.png``: energies, forces and what else the data have, by part of the data."""
    quantities, units, groups = {}, {}, {}
    for quantity, (title, unit, factor) in PARITY.items():
        references, predictions, labels = [], [], []
        for name, comparison in comparisons.items():
            if quantity in comparison.reference:
                reference, predicted = comparison.flat(quantity)
                stride = max(1, len(reference) // MAX_POINTS)
                references.append(factor * reference[::stride])
                predictions.append(factor * predicted[::stride])
                labels.append(np.full(len(references[-1]), name))
        if references:
            quantities[title] = (np.concatenate(references), np.concatenate(predictions))
            units[title] = unit
            groups[title] = np.concatenate(labels)
    figure = plots.parity(quantities, units, "best model on its data", groups)
    return plots.save(figure, Path(directory) / "parity.png")
