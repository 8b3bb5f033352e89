"""What importers return, and which there are."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equicalc.deploy.scripted import Network

# kind -> module:function of equicalc.interop, called with (source, elements)
KINDS = {"sevennet": "sevennet:import_sevennet"}


@dataclass
class Imported:
    """A network and what the metadata of its model file should say.

    Parameters
    ----------
    network : EquiNetwork or GatedNetwork
        In float64.
    about : dict
        Arguments of `equicalc.deploy.export_network`: origin, level_of_theory, licence, ...
    """

    network: Network
    about: dict[str, Any]


def import_network(
    kind: str, source: str | Path, elements: Sequence[str] | None = None
) -> Imported:
    """Read the network of another code.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    source : str or Path
        A file, or a name that the importer knows.
    elements : sequence of str, optional
        Chemical symbols to keep; all of the network's by default.

    Raises
    ------
    ModelFileError
        The source is missing, damaged, or of a variant that cannot be imported.
    UnsupportedElementError
        The network does not know one of the elements.
    """
    module, function = KINDS[kind].split(":")
    found: Imported = getattr(importlib.import_module(f"equicalc.interop.{module}"), function)(
        source, elements
    )
    return found
