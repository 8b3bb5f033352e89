"""`equicalc import`: networks of other codes as model files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from equicalc.commands.common import check_writable, naming
from equicalc.errors import ConfigError

if TYPE_CHECKING:
    from equicalc.deploy.deviation import Deviation


def import_model(options: argparse.Namespace) -> None:
    """Read a network, write it as a model file, and say how far the file is from the network."""
    from ase.data import atomic_numbers

    from equicalc.deploy.deviation import common_structures, export_checked
    from equicalc.interop import import_network

    output = Path(options.output or default_name(options.source, options.modal))
    check_writable(output, (".pt", ".pt2"))
    if unknown := [e for e in options.elements or [] if e not in atomic_numbers]:
        raise ConfigError(f"'{unknown[0]}' in --elements is not a chemical symbol; write Na Cl")
    found = import_network(
        options.kind, options.source, options.elements, options.head, options.modal
    )
    print(f"read: {found.about.get('origin', options.source)}")
    structures = common_structures(found.network.config.elements)
    with naming(output):
        deviations = export_checked(
            found.network, output, structures, name=output.stem, **found.about
        )
    print_deviations(deviations)
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def default_name(source: str, modal: str | None) -> str:
    """Return the file that a network is written to; networks of two modes are two files."""
    if modal is None:
        return f"{Path(source).stem}.pt"
    # names of modes are free text
    return f"{Path(source).stem}-{re.sub(r'[^A-Za-z0-9_.+-]', '_', modal)}.pt"


def print_deviations(deviations: dict[str, Deviation]) -> None:
    """Print how far a written file is from its network, in both precisions."""
    from equicalc.deploy.deviation import TOLERANCE

    n_structures = deviations["float64"].n_structures
    plural = "s" if n_structures > 1 else ""
    print(f"deviation from the network in torch and float64, {n_structures} structure{plural}:")
    for dtype, found in deviations.items():
        energy, forces, stress = TOLERANCE[dtype]
        print(
            f"  {dtype}: energy {found.energy:.1e} eV/atom, forces {found.relative_forces:.1e} "
            f"eV/Å, stress {found.relative_stress:.1e} eV/Å³ (accepted: {energy:.0e} eV/atom, "
            f"{forces:.0e} eV/Å, {stress:.0e} eV/Å³)"
        )
    largest = deviations["float64"].largest_force
    if largest > 1.0:
        print(f"  forces and stress over a structure's largest force, up to {largest:.3g} eV/Å")
