"""`equicalc info` and `equicalc models`: what model files say about themselves."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from equicalc.deploy.metadata import read_metadata
from equicalc.errors import ConfigError
from equicalc.models import resolve, shipped

# Keys of the error table and how people read them.
ERROR_LABELS = {
    "energy_rmse_meV_per_atom": ("energy", "meV/atom"),
    "forces_rmse_meV_per_A": ("forces", "meV/Å"),
    "stress_rmse_meV_per_A3": ("stress", "meV/Å³"),
    "polarization_rmse_e_A": ("polarisation", "eÅ"),
    "born_rmse_e": ("Born charges", "e"),
}


def info(options: argparse.Namespace) -> None:
    """Print the metadata of a model, as text or as JSON."""
    path = resolve(options.model)
    metadata = read_metadata(path)
    if options.json:
        print(json.dumps({"file": str(path), **metadata}, indent=2))
    else:
        for label, value in _lines(path, metadata):
            print(f"{label:<16} {value}")
    outcome = _self_check(path, metadata)
    if not options.json:
        print(f"{'self-check':<16} {outcome}")


def _self_check(path: Path, metadata: dict[str, Any]) -> str:
    """Evaluate the structure stored in the file: its words are right when its weights are damaged.

    Raises what `EquiCalculator` raises for a damaged file.
    """
    from equicalc.calculator import EquiCalculator

    try:
        EquiCalculator(path)
    except ConfigError as error:  # of a package that adds to the network and is not there
        return f"not done: {error}"
    if metadata.get("self_check") is None:
        return "the file stores no numbers to compare with"
    return "passed: the network gives the numbers stored with it"


def _lines(path: Path, metadata: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of `equicalc info` as (label, value)."""
    training = metadata.get("training") or {}
    charges, layers = metadata["charges"], metadata["n_layers"]
    lines = [
        ("name", metadata["name"]),
        ("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"),
        ("elements", " ".join(metadata["elements"])),
        ("cutoff", f"{metadata['cutoff']:g} Å, {layers} layer{'s' if layers > 1 else ''}"),
    ]
    if charges:
        nominal = ", ".join(f"{k} {v:+.3f}" for k, v in charges["nominal"].items())
        widths = ", ".join(f"{k} {v:g}" for k, v in charges["sigma"].items())
        lines += [
            ("charges", f"{charges['model']}; {nominal} e"),
            ("Gaussian widths", f"{widths} Å"),
        ]
        if charges["epsilon_inf"] > 1.0:
            lines.append(("eps_inf", f"{charges['epsilon_inf']:.3f} (screening of the response)"))
    else:
        lines.append(("charges", "none (short-ranged model)"))
    if dispersion := metadata.get("dispersion"):
        settings = f"{dispersion['functional']}, damping {dispersion['damping']}"
        lines.append(("dispersion", f"D3 ({settings}), added to the network"))
    lines += [
        ("level of theory", metadata.get("level_of_theory") or "not stated"),
        ("training data", training.get("data") or "not stated"),
    ]
    for part in ("training", "validation"):
        for label, number, unit in _rmse(metadata, part):
            lines.append((f"RMSE {label}", f"{number:.3g} {unit} ({part})"))
    lines += [
        ("origin", metadata.get("origin") or "trained by equicalc"),
        ("licence", metadata.get("licence") or "not stated"),
        ("authors", ", ".join(metadata.get("authors") or []) or "not stated"),
        ("citation", metadata.get("citation") or "not stated"),
        (
            "made with",
            f"equicalc {metadata.get('equicalc_version')}, torch {metadata.get('torch_version')}, "
            f"format {metadata['format_version']}",
        ),
    ]
    return lines


def _rmse(metadata: dict[str, Any], part: str) -> list[tuple[str, float, str]]:
    """Return (label, value, unit) of the errors on ``training`` or ``validation`` structures."""
    errors = ((metadata.get("training") or {}).get("errors") or {}).get(part) or {}
    return [
        (label, float(errors[key]), unit)
        for key, (label, unit) in ERROR_LABELS.items()
        if errors.get(key) is not None
    ]


def models(options: argparse.Namespace) -> None:
    """List the shipped models with their errors on validation structures."""
    found = {name: read_metadata(resolve(name)) for name in shipped()}
    if options.json:
        print(json.dumps({name: {"file": str(resolve(name)), **found[name]} for name in found}))
        return
    if not found:
        print("no models are shipped with this installation")
        return
    header = ["name", "elements", "charges (e)", "validation RMSE", "level of theory"]
    rows = [header, *(_row(metadata, name) for name, metadata in found.items())]
    if options.markdown:
        rows.insert(1, ["---"] * len(header))
        print("\n".join("| " + " | ".join(row) + " |" for row in rows))
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _row(metadata: dict[str, Any], name: str) -> list[str]:
    """Return one row of the table of models."""
    nominal = (metadata["charges"] or {}).get("nominal", {})
    errors = {
        label: f"{label} {number:.3g} {unit}"
        for label, number, unit in _rmse(metadata, "validation")
    }
    table = ((metadata.get("training") or {}).get("errors") or {}).get("validation") or {}
    if table.get("forces_rms_reference_meV_per_A"):
        # a number of meV/A says little without the size of the forces
        part = table["forces_rmse_meV_per_A"] / table["forces_rms_reference_meV_per_A"]
        errors["forces"] += f" ({100.0 * part:.1f} % of their rms)"
    return [
        name,
        " ".join(metadata["elements"]),
        ", ".join(f"{symbol} {charge:+.2f}" for symbol, charge in nominal.items()) or "none",
        ", ".join(errors.values()) or "not stated",
        metadata.get("level_of_theory") or "not stated",
    ]
