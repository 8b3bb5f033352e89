"""From charge variables to charges, their energy, and their response to an electric field.

What each charge model makes of its variables is listed in `equicalc.nn.charges`; the front end
needs the charges before the backward pass of the network, and the gradients that enter it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from equicalc.electrostatics import CoulombResult, equilibrate, solve
from equicalc.errors import ConfigError, DataError

Array = npt.NDArray[np.float64]

# Charge models with a polarisation in periodic directions.
POLAR_MODELS = ("fixed", "transferred")


@dataclass(frozen=True)
class Charged:
    """Charges of a structure and everything that follows from them alone; float64.

    Attributes
    ----------
    charges
        [N], e.
    energies
        [N], Coulomb, electronegativity and field energy of each atom, eV.
    forces
        [N, 3], at fixed charge variables, eV/angstrom.
    coulomb
        Result of the solver (its energies and forces are contained in the above).
    gradient
        [N, K], dE/d(variables).
    moved_charges
        [N], e: the dipole is ``sum moved_charges r + sum bond_dipoles``.
    bond_dipoles
        [N, 3], e angstrom; zeros unless charges are transferred.
    """

    charges: Array
    energies: Array
    forces: Array
    coulomb: CoulombResult
    gradient: Array
    moved_charges: Array
    bond_dipoles: Array


@dataclass(frozen=True)
class Solver:
    """How the Coulomb problem is solved: arguments of `equicalc.electrostatics.solve`."""

    method: str
    accuracy: float
    atom_virials: bool = False
    device: str = "cpu"


class ChargeModel:
    """The charge model of a loaded file.

    Parameters
    ----------
    info : ModelInfo
        Of the compiled core.
    """

    def __init__(self, info: Any):
        self.kind: str = info.charge_model
        self.widths = np.array(info.sigmas, dtype=np.float64)
        self.formal = np.array(info.formal_charges, dtype=np.float64)
        self.screening = float(np.sqrt(info.epsilon_inf))

    @property
    def has_charges(self) -> bool:
        """Whether there are charges at all."""
        return self.kind != "none"

    def is_polar(self, pbc: npt.ArrayLike) -> bool:
        """Whether dipole and Born charges are defined under these boundary conditions."""
        return self.has_charges and (self.kind in POLAR_MODELS or not np.any(pbc))

    def solve(
        self,
        variables: Array,
        species: npt.NDArray[np.int64],
        atoms: Atoms,
        total_charge: float,
        field: Array,
        solver: Solver,
        start: Array | None = None,
    ) -> Charged:
        """Charges, energies, forces and gradients of one structure.

        Parameters
        ----------
        variables
            [N, K], of the network.
        species
            [N], index of each atom's element.
        atoms
            Positions, cell and periodic directions.
        total_charge
            e.
        field
            [3], V/angstrom.
        solver
            Coulomb solver.
        start
            [N], charges to start an equilibration from.
        """
        # -F . M with the dipole M of the model: what charges, and charge that moves, feel
        field_potential = -self.screening * (atoms.positions @ field)
        width = self._widths_of(species)
        try:
            if self.kind == "equilibrated":
                return self._equilibrated(
                    variables, width, atoms, total_charge, field, field_potential, solver, start
                )
            return self._neutralised(
                variables, species, width, atoms, total_charge, field, field_potential, solver
            )
        except ValueError as error:
            raise DataError(f"the Coulomb energy cannot be calculated: {error}") from error

    def _widths_of(self, species: npt.NDArray[np.int64]) -> Array | float:
        equal = bool(np.all(self.widths == self.widths[0]))
        return float(self.widths[0]) if equal else self.widths[species]

    def _neutralised(
        self,
        variables: Array,
        species: npt.NDArray[np.int64],
        width: Array | float,
        atoms: Atoms,
        total_charge: float,
        field: Array,
        field_potential: Array,
        solver: Solver,
    ) -> Charged:
        """Charges q~ + w s with s = (Q - sum q~) / sum w."""
        raw, weights = variables[:, 0], variables[:, 1]
        shift = (total_charge - raw.sum()) / weights.sum()
        charges = raw + weights * shift
        coulomb = _coulomb(charges, atoms, width, solver)
        potentials = coulomb.potentials
        bond_dipoles = np.zeros_like(atoms.positions)
        moved = self.screening * charges
        gradient = np.zeros_like(variables)
        if self.kind == "transferred":
            bond_dipoles = self.screening * variables[:, 2:]
            moved = self.formal[species] + self.screening * (charges - raw)
            gradient[:, 2:] = -self.screening * field
        else:
            potentials = potentials + field_potential
        # Moving all raw charges along the weights changes nothing: project that direction out.
        centred = potentials - (weights @ potentials) / weights.sum()
        gradient[:, 0] = centred
        shifted = centred
        if self.kind == "transferred":
            mean = (weights @ field_potential) / weights.sum()
            shifted = centred + field_potential - mean
        gradient[:, 1] = shift * shifted
        energies = coulomb.atom_energies - (moved * (atoms.positions @ field))
        return Charged(
            charges=charges,
            energies=energies - bond_dipoles @ field,
            forces=coulomb.forces + moved[:, None] * field,
            coulomb=coulomb,
            gradient=gradient,
            moved_charges=moved,
            bond_dipoles=bond_dipoles,
        )

    def _equilibrated(
        self,
        variables: Array,
        width: Array | float,
        atoms: Atoms,
        total_charge: float,
        field: Array,
        field_potential: Array,
        solver: Solver,
        start: Array | None,
    ) -> Charged:
        """Minimum of sum chi q + eta q^2 / 2 + E_Coulomb(q) - F . M; gradients by its theorem."""
        chi, eta = variables[:, 0] + field_potential, variables[:, 1]
        charges, coulomb = equilibrate(
            chi,
            eta,
            atoms.positions,
            atoms.cell[:],
            atoms.pbc,
            width,
            total_charge=total_charge,
            accuracy=solver.accuracy,
            method=solver.method,
            start=start,
            atom_virials=solver.atom_virials,
            device=solver.device,
        )
        moved = self.screening * charges
        return Charged(
            charges=charges,
            energies=coulomb.atom_energies + chi * charges + 0.5 * eta * charges**2,
            forces=coulomb.forces + moved[:, None] * field,
            coulomb=coulomb,
            gradient=np.stack([charges, 0.5 * charges**2], axis=1),
            moved_charges=moved,
            bond_dipoles=np.zeros_like(atoms.positions),
        )

    def has_born_charges(self, pbc: npt.ArrayLike) -> bool:
        """Whether Born charges can be calculated under these boundary conditions."""
        return self.is_polar(pbc) and self.kind != "equilibrated"

    def dipole_gradient(
        self, variables: Array, positions: Array, total_charge: float, axis: int
    ) -> Array:
        """Derivative [N, K] of one component of the dipole by the charge variables."""
        raw, weights = variables[:, 0], variables[:, 1]
        shift = (total_charge - raw.sum()) / weights.sum()
        lever = positions[:, axis] - (weights @ positions[:, axis]) / weights.sum()
        gradient = np.zeros_like(variables)
        gradient[:, 1] = self.screening * shift * lever
        if self.kind == "transferred":
            gradient[:, 2 + axis] = self.screening
        else:
            gradient[:, 0] = self.screening * lever
        return gradient

    def check_field(self, field: Array, pbc: npt.NDArray[np.bool_], cell: Array) -> None:
        """Raise ConfigError when a field cannot act on this model under these conditions."""
        if not field.any():
            return
        if not self.has_charges:
            raise ConfigError(
                f"found electric_field = {field.tolist()}, but the model has no charges; remove it"
            )
        along = cell[np.asarray(pbc, dtype=bool)] @ field
        if np.abs(along).max(initial=0.0) > 1e-12 and self.kind not in POLAR_MODELS:
            raise ConfigError(
                f"found electric_field = {field.tolist()} along a periodic direction, where "
                f"{self.kind} charges have no polarisation; use a model with charge_model: "
                f"{' or '.join(POLAR_MODELS)}"
            )


def field_virials(charged: Charged, field: Array) -> Array:
    """What a field adds to the virials [N, 3, 3] of the network and the Coulomb energy, eV.

    The strain acts at fixed voltages: F becomes ``(1 + strain)^-T F``, and ``F . r`` of an atom
    stays what it is. Charges that move with atoms thus add nothing. Bond dipoles are flows times
    edges, whose ``F . r`` stays, too; the network's virial has them at fixed F, and the difference
    is what is returned.
    """
    shares = -field[:, None] * charged.bond_dipoles[:, None, :]
    return np.asarray(0.5 * (shares + shares.swapaxes(1, 2)))


def _coulomb(charges: Array, atoms: Atoms, width: Array | float, solver: Solver) -> CoulombResult:
    return solve(
        charges,
        atoms.positions,
        atoms.cell[:],
        atoms.pbc,
        width,
        solver.accuracy,
        solver.method,
        atom_virials=solver.atom_virials,
        device=solver.device,
    )
