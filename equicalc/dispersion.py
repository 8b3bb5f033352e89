"""D3 dispersion beside the network, by the dftd3 library in ASE and `dispersion/d3` in LAMMPS.

A model that names a dispersion correction has learned what remains of its data without it; front
ends add it again. (Grimme et al., J. Chem. Phys. 132, 154104 (2010); damping "bj": Grimme,
Ehrlich, Goerigk, J. Comput. Chem. 32, 1456 (2011).)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from equicalc.calculator_structure import periodic_projection, volume_of
from equicalc.errors import ConfigError

if TYPE_CHECKING:
    from equicalc.data.structures import Structure

Array = npt.NDArray[np.float64]

DAMPINGS = ("bj", "zero")
# Beyond the 60 bohr of the library's longest sum, angstrom.
REACH = 33.0


class D3:
    """Energy, forces and stress of a D3 correction.

    Parameters
    ----------
    settings : mapping
        ``functional``, for example ``pbe`` or ``pbesol``, and ``damping``, ``bj`` or ``zero``.

    Raises
    ------
    ConfigError
        When the settings are unknown, or the library is not installed.
    """

    def __init__(self, settings: Mapping[str, str]):
        check(settings)
        try:
            from dftd3.ase import DFTD3
        except ImportError:
            raise ConfigError(
                "the model adds a D3 dispersion correction, which needs a library that is not "
                "installed; type: pip install dftd3"
            ) from None
        try:
            self._calculator = DFTD3(
                method=settings["functional"].upper(), damping="d3" + settings["damping"]
            )
            self._calculator.calculate(Atoms("He"), ["energy"])
        # the library raises its own errors for functionals without parameters
        except (RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(
                f"dispersion: dftd3 has no parameters for {dict(settings)}: {error}"
            ) from None

    def __call__(self, atoms: Atoms) -> dict[str, Any]:
        """Energy (eV), forces [N, 3] (eV/angstrom) and stress [6] (eV/angstrom^3).

        With two periodic directions the stress is that in the plane, with fewer, or where the cell
        of a slab has no height, there is none.
        """
        bare = with_room(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        volume = volume_of(atoms)
        has_stress = sum(atoms.pbc) >= 2 and volume > 0.0
        wanted = ["energy", "forces", *(["stress"] if has_stress else [])]
        self._calculator.calculate(bare, wanted)
        results = {key: self._calculator.results[key] for key in wanted}
        if has_stress and not all(atoms.pbc):
            in_plane = periodic_projection(atoms)
            virial = volume_of(bare) * voigt_6_to_full_3x3_stress(results["stress"])
            results["stress"] = full_3x3_to_voigt_6_stress(in_plane @ virial @ in_plane) / volume
        return results


def with_room(atoms: Atoms) -> Atoms:
    """Make a slab or wire periodic in all directions, its images further away than D3 reaches.

    Asked for one or two periodic directions alone, dftd3 1.7 counts other pairs than these.
    """
    if not any(atoms.pbc) or all(atoms.pbc):
        return atoms
    cell = Atoms(cell=np.where(atoms.pbc[:, None], atoms.cell[:], 0.0)).cell.complete()
    for axis in np.flatnonzero(~atoms.pbc):
        across = cell[axis] / np.linalg.norm(cell[axis])
        cell[axis] = across * (np.ptp(atoms.positions @ across) + REACH)
    return Atoms(atoms.numbers, atoms.positions, cell=cell, pbc=True)


def check(settings: Mapping[str, str]) -> None:
    """Raise ConfigError unless the settings name a functional and a damping."""
    example = "for example {functional: pbe, damping: bj}"
    if set(settings) != {"functional", "damping"}:
        raise ConfigError(
            f"model.dispersion is {dict(settings)}; it needs functional and damping, {example}"
        )
    if settings["damping"] not in DAMPINGS:
        raise ConfigError(
            f"model.dispersion.damping is {settings['damping']!r}; it must be one of "
            f"{', '.join(DAMPINGS)}, {example}"
        )


def without_dispersion(
    structures: Sequence[Structure], settings: Mapping[str, str] | None
) -> list[Structure]:
    """Structures with the correction taken out of energy, forces and stress; all, if None."""
    if settings is None:
        return list(structures)
    from equicalc.data.structures import full_stress

    correction = D3(settings)
    remaining = []
    for structure in structures:
        atoms = Atoms(
            structure.symbols, structure.positions, cell=structure.cell, pbc=structure.pbc
        )
        found = correction(atoms)
        changes: dict[str, Any] = {}
        if structure.energy is not None:
            changes["energy"] = structure.energy - float(found["energy"])
        if structure.forces is not None:
            changes["forces"] = structure.forces - found["forces"]
        if structure.stress is not None and "stress" in found:
            changes["stress"] = structure.stress - full_stress(found["stress"])
        remaining.append(replace(structure, **changes))
    return remaining
