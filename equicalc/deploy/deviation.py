"""How far a model file, as front ends run it, is from the network it was written from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.stress import full_3x3_to_voigt_6_stress

from equicalc.deploy.export import export_network, reference_copy
from equicalc.deploy.metadata import read_metadata
from equicalc.deploy.self_check import REFERENCE_ACCURACY, reference_properties
from equicalc.errors import ModelFileError
from equicalc.nn.charged_network import ChargedNetwork

# Largest deviations of energies (eV/atom), forces (eV/angstrom) and stresses (eV/angstrom^3) that
# are accepted, the latter two relative to the largest force of a structure where that is above one.
# In float64 they come from the tables of radial functions and the order of sums, in float32 from
# rounding.
TOLERANCE = {"float64": (1e-6, 1e-5, 1e-6), "float32": (1e-4, 1e-3, 1e-3)}

# The reference is slow, and nothing is learned from more atoms.
LARGEST_STRUCTURE = 150


@dataclass
class Deviation:
    """Largest deviations over all structures.

    Parameters
    ----------
    energy : float
        eV/atom.
    forces : float
        eV/angstrom.
    stress : float
        eV/angstrom^3, over crystals.
    relative_forces, relative_stress : float
        The same, each structure's over its largest force where that is above 1 eV/angstrom.
    largest_force : float
        Of the reference, eV/angstrom.
    n_structures : int
    """

    energy: float = 0.0
    forces: float = 0.0
    stress: float = 0.0
    relative_forces: float = 0.0
    relative_stress: float = 0.0
    largest_force: float = 0.0
    n_structures: int = 0

    def is_within(self, dtype: str) -> bool:
        """Whether `TOLERANCE` is kept."""
        found = (self.energy, self.relative_forces, self.relative_stress)
        return all(x <= allowed for x, allowed in zip(found, TOLERANCE[dtype], strict=True))


def export_checked(
    network: ChargedNetwork, path: str | Path, structures: Sequence[Atoms], **about: Any
) -> dict[str, Deviation]:
    """Write a model file after comparing it with its network.

    Parameters
    ----------
    network : ChargedNetwork
        It is left untouched.
    path : str or Path
        Target; replaced only by a file that keeps `TOLERANCE`.
    structures : sequence of Atoms
        To compare on, beside the structure of the self-check, which has all elements.
    about
        Further arguments of `export_network`.

    Returns
    -------
    dict
        Deviations in ``float64`` and ``float32``.

    Raises
    ------
    ModelFileError
        A deviation is above its tolerance.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = export_network(network, Path(folder) / path.name, **about)
        reference = reference_copy(network).requires_grad_(False)
        deviations = measure_deviation(written, reference, structures)
        _require_small(path, deviations)
        os.replace(written, path)
    return deviations


def measure_deviation(
    path: str | Path, reference: ChargedNetwork, structures: Sequence[Atoms]
) -> dict[str, Deviation]:
    """Compare a model file in both precisions with its network in torch expressions.

    Parameters
    ----------
    path : str or Path
        Model file.
    reference : ChargedNetwork
        From `equicalc.deploy.export.reference_copy`, without gradients of weights.
    structures : sequence of Atoms
        Three periodic directions or none. Those of the file's self-check are known already.

    Returns
    -------
    dict
        Deviations in ``float64`` and ``float32``.
    """
    from equicalc.calculator import EquiCalculator
    from equicalc.calculator_checks import stored_structure

    block = read_metadata(path)["self_check"]
    structures = [stored_structure(block), *structures]
    if not reference.config.has_charges:
        structures = [without_charge(atoms) for atoms in structures]
    expected = [block, *(reference_properties(reference, atoms) for atoms in structures[1:])]
    result = {}
    for dtype in TOLERANCE:
        calculator = EquiCalculator(
            path, dtype=dtype, kspace_accuracy=REFERENCE_ACCURACY, check=False
        )
        calculator._dispersion = None  # not part of the network
        found = Deviation(n_structures=len(structures))
        for atoms, numbers in zip(structures, expected, strict=True):
            _add(found, calculator, atoms, numbers)
        result[dtype] = found
    return result


def without_charge(atoms: Atoms) -> Atoms:
    """Return a structure whose total charge is not told: models without charges refuse it."""
    copy = atoms.copy()
    copy.info.pop("charge", None)
    return copy


def _add(deviation: Deviation, calculator, atoms: Atoms, expected: dict) -> None:  # type: ignore[no-untyped-def, type-arg]
    """Take one structure into the maxima; NaN stays."""
    atoms = atoms.copy()  # its labels stay with the original
    atoms.calc = calculator
    forces = np.asarray(expected["forces"])
    found = {
        "energy": abs(atoms.get_potential_energy() - expected["energy"]) / len(atoms),
        "forces": np.abs(atoms.get_forces() - forces).max(),
        "largest_force": np.abs(forces).max(),
    }
    scale = max(1.0, found["largest_force"])
    found["relative_forces"] = found["forces"] / scale
    if expected["stress"] is not None:
        stress = full_3x3_to_voigt_6_stress(np.asarray(expected["stress"]))
        found["stress"] = np.abs(atoms.get_stress() - stress).max()
        found["relative_stress"] = found["stress"] / scale
    for key, value in found.items():
        setattr(deviation, key, float(np.maximum(getattr(deviation, key), value)))


def _require_small(path: str | Path, deviations: dict[str, Deviation]) -> None:
    """Raise ModelFileError when a deviation is above its tolerance."""
    for dtype, found in deviations.items():
        if not found.is_within(dtype):
            energy, forces, stress = TOLERANCE[dtype]
            raise ModelFileError(
                f"'{path}' in {dtype} is {found.energy:.1e} eV/atom, {found.relative_forces:.1e} "
                f"eV/Å and {found.relative_stress:.1e} eV/Å³ from its network, more than "
                f"{energy:.0e} eV/atom, {forces:.0e} eV/Å or {stress:.0e} eV/Å³ (the latter two "
                "over a structure's largest force, if above 1 eV/Å). It was not written; please "
                "report the network"
            )


def some_frames(files: Iterable[str | Path], n_frames: int = 4) -> list[Atoms]:
    """Return a few structures of data files, as far as they are still there.

    Those of up to `LARGEST_STRUCTURE` atoms with three periodic directions or none.
    """
    found: list[Atoms] = []
    for file in filter(lambda name: Path(name).is_file(), files):
        for atoms in ase.io.iread(file):
            if len(set(atoms.pbc)) == 1 and len(atoms) <= LARGEST_STRUCTURE:
                found.append(atoms)
            if len(found) == n_frames:
                return found
    return found


def common_structures(elements: Iterable[str]) -> list[Atoms]:
    """Return well-known structures of these elements, displaced: crystals, a gas molecule, a metal.

    Empty when there is none.
    """
    known = [
        bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        bulk("MgO", "rocksalt", a=4.21, cubic=True),
        bulk("KCl", "rocksalt", a=6.29, cubic=True),
        bulk("Si", "diamond", a=5.43, cubic=True),
        bulk("Cu", "fcc", a=3.61, cubic=True),
        bulk("Fe", "bcc", a=2.87, cubic=True),
        bulk("ZnS", "zincblende", a=5.41, cubic=True),
        bulk("AlN", "wurtzite", a=3.11, c=4.98),
        molecule("H2O"),
        molecule("CH3CH2OH"),
    ]
    rng = np.random.default_rng(3)
    wanted = set(elements)
    found = [atoms for atoms in known if set(atoms.symbols) <= wanted]
    for atoms in found:
        atoms.rattle(0.05, rng=rng)
    return found
