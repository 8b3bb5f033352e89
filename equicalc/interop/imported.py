"""What importers return, and which there are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers, chemical_symbols

from equicalc.errors import (
    ConfigError,
    EquicalcError,
    ModelFileError,
    UnsupportedElementError,
)
from equicalc.nn.charged_network import ChargedNetwork

# kind -> module:function of equicalc.interop, called with (source, elements)
KINDS = {
    "sevennet": "sevennet:import_sevennet",
    "mace": "mace:import_mace",
    "nequip": "nequip:import_nequip",
}

# Of networks that give several answers: what chooses one, as the kinds that have it call it. Their
# functions take it as a third argument.
CHOICES = {"mace": "head", "sevennet": "modal"}


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
    modal: str | None = None,
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
    modal : str, optional
        Which mode of a network with several, for kinds that have them.

    Raises
    ------
    ConfigError
        Networks of this kind have no heads, or no modes.
    ModelFileError
        The source is missing, damaged, or of a variant that cannot be imported.
    UnsupportedElementError
        The network does not know one of the elements.
    """
    module, name = KINDS[kind].split(":")
    function = getattr(importlib.import_module(f"equicalc.interop.{module}"), name)
    given = {"head": head, "modal": modal}
    chosen = given.pop(CHOICES[kind]) if kind in CHOICES else None
    for option, value in given.items():
        if value is not None:
            name = {"head": "heads", "modal": "modes"}[option]
            raise ConfigError(
                f"networks of kind {kind} have no {name}; leave out --{option} {value}"
            )
    try:
        found: Imported = function(source, elements, *([] if chosen is None else [chosen]))
    except EquicalcError:
        raise
    except Exception as error:  # what a file lacks that is unlike all that are known
        reason = (str(error).splitlines() or [""])[0]
        raise ModelFileError(
            f"'{source}' is of a variant of {kind} that equicalc does not know "
            f"({type(error).__name__}: {reason}); please report it with the version of the package "
            "that wrote it"
        ) from error
    return found


def kept_elements(
    known: Mapping[int, int], elements: Sequence[str] | None, name: str | Path
) -> tuple[list[str], list[int]]:
    """Return the symbols that are kept, by atomic number, and their indices in the original.

    Parameters
    ----------
    known : mapping
        Index of every atomic number.
    elements : sequence of str, optional
        Symbols to keep; all by default.
    name : str or Path
        Of the network, for an error.
    """
    numbers = sorted(known)
    if elements is not None:
        unknown = [e for e in elements if atomic_numbers.get(e) not in known]
        if unknown:
            raise UnsupportedElementError(
                f"'{name}' does not know {', '.join(unknown)}; it knows "
                f"{', '.join(chemical_symbols[z] for z in numbers)}"
            )
        numbers = sorted({atomic_numbers[e] for e in elements})
    return [chemical_symbols[z] for z in numbers], [known[z] for z in numbers]
