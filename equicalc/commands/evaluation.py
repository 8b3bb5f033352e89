"""`equicalc evaluate`: errors of a model on labelled structures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equicalc.commands.common import check_writable, make_calculator, naming, progress_bar
from equicalc.commands.simulation import PICTURES
from equicalc.errors import ConfigError

if TYPE_CHECKING:
    from equicalc.data.structures import Structure
    from equicalc.evaluate import Comparison

# Quantity, its unit in the keys of the metrics, its unit on paper.
ROWS = (
    ("energy", "meV_per_atom", "meV/atom"),
    ("forces", "meV_per_A", "meV/Å"),
    ("stress", "meV_per_A3", "meV/Å³"),
    ("charges", "e", "e"),
    ("dipole", "e_A", "e Å"),
)
PLOTTED = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "charges": "e"}


def evaluate(options: argparse.Namespace) -> None:
    """Print the errors as a table or as JSON, and draw the parity plot when asked for."""
    check_writable(options.plot, PICTURES)
    if options.within is not None and not options.within > 0.0:
        raise ConfigError(f"--within is {options.within:g}; expected eV/atom above 0")
    from equicalc.data.consistency import doubts
    from equicalc.data.selection import select
    from equicalc.data.structures import read_structures
    from equicalc.evaluate import compare

    structures = read_structures(options.data)
    if options.within is not None:
        structures = select(structures, max_energy_above_min=options.within)
    for doubt in [*_gaps(structures), *doubts(structures)]:
        print(f"warning: {doubt}", file=sys.stderr)
    calculator = _Counting(make_calculator(options), len(structures))
    try:
        comparison = compare(calculator, structures)
    finally:
        calculator.bar.close()
    offset = comparison.align() if options.align else None
    metrics = comparison.metrics()
    if offset is not None:
        metrics["energy_offset_removed_meV_per_atom"] = 1000.0 * offset
    if options.plot:
        _draw(comparison, f"{options.model} on {Path(options.data).name}", options.plot)
    print(json.dumps(metrics, indent=2) if options.json else "\n".join(_lines(metrics)))
    if options.plot and not options.json:
        print(f"wrote {options.plot}")


def _gaps(structures: Sequence[Structure]) -> list[str]:
    """Say of how many structures an error is not, where some lack what others have."""
    missing = {
        name: [s for s in structures if getattr(s, name) is None]
        for name in ("energy", "forces", "stress")
    }
    return [
        f"{len(without)} of {len(structures)} structures have no {name}, first {without[0].source}"
        for name, without in missing.items()
        if 0 < len(without) < len(structures)
    ]


class _Counting:
    """The calculator, with a progress bar that moves with each structure."""

    def __init__(self, calculator: Any, n_structures: int):
        self.calculator = calculator
        self.implemented_properties = calculator.implemented_properties
        self.bar = progress_bar(n_structures, "evaluate", "structure")

    @property
    def results(self) -> dict[str, Any]:
        """Of the last calculation."""
        results: dict[str, Any] = self.calculator.results
        return results

    def calculate(self, atoms: Any, properties: list[str], changes: Iterable[str]) -> None:
        """Calculate one structure."""
        self.calculator.calculate(atoms, properties, changes)
        self.bar.update()


def _lines(metrics: dict[str, Any]) -> list[str]:
    """Return the lines of the table."""
    lines = [
        f"{metrics['n_structures']} structures, {metrics['n_atoms']} atoms",
        f"{'':<12}{'RMSE':>12}{'MAE':>12}",
    ]
    for quantity, key, unit in ROWS:
        if f"{quantity}_rmse_{key}" not in metrics:
            continue
        rmse, mae = (metrics[f"{quantity}_{name}_{key}"] for name in ("rmse", "mae"))
        lines.append(f"{quantity:<12}{rmse:>12.4g}{mae:>12.4g}  {unit}")
        mae_of = metrics.get(f"{quantity}_mae_{key}_per_element", {})
        for element, value in metrics.get(f"{quantity}_rmse_{key}_per_element", {}).items():
            lines.append(f"  {element:<10}{value:>12.4g}{mae_of[element]:>12.4g}  {unit}")
    removed = metrics.get("energy_offset_removed_meV_per_atom")
    if removed is not None:
        lines.append(f"removed from the energies: {removed:+.6g} meV/atom")
    return lines


def _draw(comparison: Comparison, title: str, path: str) -> None:
    """Write the parity plot of every quantity that the data have."""
    from equicalc import plots

    shown = {q: comparison.flat(q) for q in PLOTTED if q in comparison.reference}
    groups = {"forces": comparison.force_symbols()} if "forces" in shown else None
    with naming(path):
        plots.save(plots.parity(shown, PLOTTED, title, groups), path)
