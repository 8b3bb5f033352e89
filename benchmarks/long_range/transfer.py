"""Models trained on small cells, with and without charges, in cells of eight times the size.

    python -m benchmarks.long_range.transfer

For NaCl, KCl, MgO and AlN two models learn the same data with the same network and budget, that of
examples/train_*.yaml: one with the Coulomb energy of fixed charges, one without. Compared are the
force errors on validation cells, those on NaCl cells of 512 atoms when training saw 64, and the
charge with Z*/sqrt(eps_inf) of DFT; phonons are compared in `benchmarks.long_range.phonons`.
Finished trainings in benchmarks/output/long_range/transfer are used again; --fresh repeats them,
--draw only draws the picture of the last results.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.long_range.common import (
    BENCHMARKS,
    DATA,
    RESULTS,
    calculator_of,
    folder_of,
    markdown_table,
    options_of,
    publish,
)
from equicalc import plots
from equicalc.evaluate import evaluate
from equicalc.train import run

EXAMPLES = BENCHMARKS.parent / "examples"
# Z*/sqrt(eps_inf) of the cation, e: DFT response calculations of the systems of the data
DFT_CHARGES = {"nacl": 0.681, "kcl": 0.734, "mgo": 1.100, "aln": 1.201}
CATIONS = {"nacl": "Na", "kcl": "K", "mgo": "Mg", "aln": "Al"}
FILES = {
    "nacl": "nacl_pbesol_64.xyz",
    "kcl": "kcl_pbesol_64.xyz",
    "mgo": "mgo_pbesol_64.xyz",
    "aln": "aln_pbesol_128.xyz.gz",
}
LARGE_CELLS = {"nacl": "nacl_pbesol_512.xyz"}
FORMULAS = {"nacl": "NaCl", "kcl": "KCl", "mgo": "MgO", "aln": "AlN"}
KINDS = {"with": None, "without": "none"}


@dataclass
class Row:
    """Errors (percent of the rms force, meV/angstrom) of one model."""

    label: str
    small: tuple[float, float]
    large: tuple[float, float] | None
    charge: float | None


def main() -> None:
    """Train what is missing, compare, write table and picture."""
    arguments = [("--fresh", {"action": "store_true", "help": "train again"})]
    arguments.append(("--only", {"nargs": "+", "choices": FILES, "help": "materials"}))
    arguments.append(("--draw", {"action": "store_true", "help": "nothing but the picture"}))
    options = options_of(__doc__, arguments)
    known = RESULTS / "transfer.json"
    if options.draw:
        rows = [Row(**row) for row in json.loads(known.read_text())]
    else:
        rows = [
            compare(name, kind, trained(name, kind, options.quick, options.fresh))
            for name in options.only or FILES
            for kind in KINDS
        ]
    partial = options.quick or options.only is not None
    publish("transfer", "\n\n".join([error_table(rows), NOTE]), picture(rows), partial)
    if not partial:
        known.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def trained(name: str, kind: str, quick: bool, fresh: bool) -> Path:
    """Return the run directory of a finished training."""
    directory = folder_of("transfer_quick" if quick else "transfer") / f"{name}_{kind}"
    if fresh:
        shutil.rmtree(directory, ignore_errors=True)
    if not (directory / "metrics.json").is_file():
        shutil.rmtree(directory, ignore_errors=True)
        overrides = {"run.directory": str(directory), "run.plots": False}
        if KINDS[kind]:
            overrides |= {"model.charge_model": KINDS[kind], "model.initial_charges": None}
        if quick:
            overrides["training.max_epochs"] = 3
        run(EXAMPLES / f"train_{name}.yaml", overrides=overrides)
    return directory


def compare(name: str, kind: str, directory: Path) -> Row:
    """Read the errors on validation cells and evaluate the large ones."""
    metrics = json.loads((directory / "metrics.json").read_text())["validation"]
    large = None
    if name in LARGE_CELLS:
        large = relative(evaluate(calculator_of(directory), DATA / LARGE_CELLS[name]))
    charges = metrics.get("charge_mean_e_per_element") if kind == "with" else None
    return Row(
        f"{name} {kind} charges",
        relative(metrics),
        large,
        charges[CATIONS[name]] if charges else None,
    )


def relative(metrics: dict) -> tuple[float, float]:
    """Return the rms force error in percent of the rms force, and in meV/angstrom."""
    error = metrics["forces_rmse_meV_per_A"]
    return 100.0 * error / metrics["forces_rms_reference_meV_per_A"], error


def error_table(rows: list[Row]) -> str:
    """Return the table of errors and charges."""

    def cell(value: tuple[float, float] | None) -> str:
        return f"{value[0]:.2f} % ({value[1]:.2f})" if value else ""

    lines = []
    for row in rows:
        name = row.label.split()[0]
        charge = f"{row.charge:.3f} ({DFT_CHARGES[name]:.3f})" if row.charge is not None else ""
        lines.append([row.label, cell(row.small), cell(row.large), charge])
    header = [
        "model",
        "force error, validation cells",
        "force error, 512 atoms",
        "charge of the cation (DFT Z*/√ε∞), e",
    ]
    return "Percent of the rms force (meV/Å).\n\n" + markdown_table(header, lines)


NOTE = (
    "Same network, data and number of epochs with and without charges. Validation cells have 64 "
    "atoms (AlN 128), like those of the training."
)


def picture(rows: list[Row]):
    """Return bars of the errors: a group for each material and size of the cell."""
    pairs = [(rows[k], rows[k + 1]) for k in range(0, len(rows), 2)]
    groups = []
    for charged, bare in pairs:
        name = charged.label.split()[0]
        n_atoms = 128 if name == "aln" else 64
        groups.append((f"{FORMULAS[name]}\n{n_atoms} atoms", charged.small[0], bare.small[0]))
        if charged.large and bare.large:
            groups.append((f"{FORMULAS[name]}\n512 atoms", charged.large[0], bare.large[0]))
    figure, axes = plots.new_figure(1, 1, (7.6, 3.8))
    axis = axes[0, 0]
    places = np.arange(len(groups))
    for side, label in ((0, "with charges"), (1, "without")):
        values = [group[1 + side] for group in groups]
        bars = axis.bar(
            places + 0.4 * side - 0.2, values, 0.38, color=plots.COLOURS[side], label=label
        )
        axis.bar_label(bars, [f"{value:.1f}" for value in values], fontsize=8)
    axis.set_xticks(places, [group[0] for group in groups])
    axis.set_ylabel("force error (% of the rms force)")
    axis.set_title("trained on the small cells only", fontsize=10)
    axis.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
