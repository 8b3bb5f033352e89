"""What importers return, and which there are."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equicalc.errors import ConfigError
from equicalc.nn.charged_network import ChargedNetwork

# kind -> module:function of equicalc.interop, called with (source, elements)
KINDS = {
    "sevennet": "sevennet:import_sevennet",
    "mace": "mace:import_mace",
    "nequip": "nequip:import_nequip",
}

# kinds whose function takes a head as well
WITH_HEADS = ("mace",)


@dataclass
class Imported:
    """A network and what the metadata of its model file should say.

    Parameters
    ----------
    network : ChargedNetwork
        In float64.
    about : dict
        Arguments of `equicalc.deploy.export_network`: origin, level_of_theory, licence, ...
    """

    network: ChargedNetwork
    about: dict[str, Any]


def import_network(
    kind: str,
    source: str | Path,
    elements: Sequence[str] | None = None,
    head: str | None = None,
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
    head : str, optional
        Which head of a network with several, for kinds that have them.

    Raises
    ------
    ConfigError
        Networks of this kind have no heads.
    ModelFileError
        The source is missing, damaged, or of a variant that cannot be imported.
    UnsupportedElementError
        The network does not know one of the elements.
    """
    module, name = KINDS[kind].split(":")
    function = getattr(importlib.import_module(f"equicalc.interop.{module}"), name)
    if head is None:
        found: Imported = function(source, elements)
    elif kind in WITH_HEADS:
        found = function(source, elements, head)
    else:
        raise ConfigError(f"networks of kind {kind} have no heads; leave out --head {head}")
    return found
