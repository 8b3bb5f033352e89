"""The ASE calculator: one exported model, any cell, any periodicity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    all_changes,
)
from ase.data import atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress

from equicalc.calculator_checks import (
    SELF_CHECK_KSPACE_ACCURACY,
    check_finite,
    check_parameters,
    check_properties,
    compare_with_stored,
    stored_structure,
)
from equicalc.calculator_structure import (
    periodic_projection,
    total_charge_of,
    volume_of,
)
from equicalc.committee import check_members, mean_results, names_of
from equicalc.core import load_library
from equicalc.dispersion import D3
from equicalc.errors import ConfigError, DataError, UnsupportedElementError
from equicalc.models import resolve
from equicalc.response import Charged, ChargeModel, Solver, field_virials
from equicalc.short_range import short_range

KSPACE_ACCURACY = {"float64": 1e-6, "float32": 1e-5}

Array = npt.NDArray[np.float64]


class EquiCalculator(Calculator):
    """Energy, forces, stress and charges of an exported model.

    E = sum_i E_i + E_Coulomb(q_1..q_N) - F . M: the network gives atomic energies and charges that
    sum to the total charge; the Coulomb energy of the Gaussian charges is summed over all images,
    and the dipole M feels an electric field F, if there is one. Forces and stress are the exact
    derivatives of this energy, the response of the charges included.

    Results have ASE's names, units and signs: ``energy`` = ``free_energy`` (eV), ``energies`` [N]
    (sum to energy), ``forces`` [N, 3] (eV/angstrom), ``charges`` [N] (e); with three periodic
    directions ``stress`` [6] and ``stresses`` [N, 6] (sum to stress; eV/angstrom^3, Voigt order,
    positive under tension), with two ``stress`` in the plane, per volume of the given cell; with
    none ``dipole`` [3] (e angstrom, about the origin of coordinates).
    Models with fixed or transferred charges also have, with three periodic directions,
    ``polarization`` [3] (polarisation times volume, e angstrom, as the data files have it; for
    transferred charges defined up to e times lattice vectors), and all but equilibrated ones
    ``born_effective_charges`` [N, 3, 3] (dM_a/dr_b, e) wherever they have a dipole or polarisation.
    They are those of the cell where the model knows its eps_inf, else (``equicalc info`` shows
    none) those that electrons have screened, Z*/sqrt(eps_inf).

    The total charge in e is read from ``atoms.info["charge"]``; 0 when absent.

    A list of models is a committee: results are means over the models, each of which has charges
    and Coulomb energy of its own. There are two more: ``forces_deviation`` [N] (eV/angstrom), the
    deviation ``sqrt(<|F_m - <F>|^2>)`` of each atom's forces among the models m, and
    ``energy_deviation`` (eV), that of the energy.

    Parameters
    ----------
    model : str or Path, or a sequence of them
        Path of an exported model, or name of a shipped one; several make a committee.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...: where the network is evaluated, and edges and
        forces are found. The Coulomb energy is computed there too where a mesh sums it (``kspace``
        ``"p3m"``, or ``"auto"`` in large cells), else on the CPU, as neighbour searches are.
    dtype : str
        Precision of the network: ``"float64"`` or ``"float32"``. Positions, sums of energies and
        the Coulomb energy are float64 in both.
    skin : float
        Extra range of the neighbour list, angstrom: larger means fewer searches, more candidates.
    kspace : str
        Coulomb solver: ``"auto"``, ``"ewald"``, ``"p3m"`` or ``"direct"``, see
        `equicalc.electrostatics.solve`. Asking for ``stresses`` uses the exact sum, because a mesh
        has no stress per atom.
    kspace_accuracy : float, optional
        Relative accuracy of the Coulomb forces; default: 1e-6, or 1e-5 when the network is
        evaluated in float32, whose own rounding is of that size.
    electric_field : sequence of 3 floats
        Macroscopic field F, V/angstrom; the energy is then the enthalpy E - F . M. Not along
        periodic directions for charges that have no polarisation there. The stress is the
        derivative of the enthalpy at fixed voltages F . a along the periodic cell vectors a, as
        between electrodes that move with the crystal; it does not depend on which image of an atom
        is in the cell, as the derivative at fixed F would.
    check : bool
        Evaluate the small structure stored in the file and compare with the stored numbers.

    Raises
    ------
    ModelFileError
        When the file is missing, damaged, not a model, or from a newer version.
    ConfigError
        When a parameter has an unknown name or an impossible value.
    SelfCheckError
        When this machine does not reproduce the numbers stored in the file.
    """

    implemented_properties = [  # noqa: RUF012 (declared this way by ASE)
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "stresses",
        "charges",
        "dipole",
        "polarization",
        "born_effective_charges",
    ]
    default_parameters = {  # noqa: RUF012
        "device": "cpu",
        "dtype": "float64",
        "skin": 0.5,
        "kspace": "auto",
        "kspace_accuracy": None,
        "electric_field": (0.0, 0.0, 0.0),
        "check": True,
    }
    # Charges are predicted; the initial ones of ASE play no role.
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    atoms: Atoms | None
    results: dict[str, Any]

    def __init__(self, model: str | Path | Sequence[str | Path], **parameters: Any) -> None:
        names = names_of(model)
        super().__init__(model=names[0] if len(names) == 1 else names, **parameters)

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change parameters; the model is loaded again when one has changed.

        Returns
        -------
        dict
            The parameters whose values have changed.
        """
        known = {"model", *self.default_parameters}
        if unknown := sorted(set(parameters) - known):
            raise ConfigError(
                f"EquiCalculator has no parameter {unknown[0]!r}; it has: "
                f"{', '.join(sorted(known))}"
            )
        changed: dict[str, Any] = super().set(**parameters)
        if changed:
            self.reset()
            self._load()
        return changed

    # ---- loading -----------------------------------------------------------------------------

    def _load(self) -> None:
        parameters = self.parameters
        check_parameters(parameters)
        core = load_library()
        self._members: list[EquiCalculator] = []
        names = names_of(parameters["model"])
        if len(names) > 1:
            self._load_committee(names)
            return
        model = core.Model.load(str(resolve(names[0])), parameters["dtype"], parameters["device"])
        self._info = model.info
        self.metadata: dict[str, Any] = json.loads(self._info.json)
        self._network = short_range(model, parameters["skin"], parameters["device"])
        self._charge_model = ChargeModel(self._info)
        dispersion = self.metadata.get("dispersion")
        self._dispersion = D3(dispersion) if dispersion else None
        self._field = np.asarray(parameters["electric_field"], dtype=np.float64)
        self._last_species: tuple[npt.NDArray[np.int64], torch.Tensor] | None = None
        self._species_of = np.full(max(atomic_numbers.values()) + 1, -1, dtype=np.int64)
        for index, symbol in enumerate(self._info.elements):
            self._species_of[atomic_numbers[symbol]] = index
        if parameters["check"] and self.metadata.get("self_check") is not None:
            self._self_check(self.metadata["self_check"])

    def _load_committee(self, names: list[str]) -> None:
        """One calculator for each model; what describes the model is that of the first."""
        parameters = {k: v for k, v in self.parameters.items() if k != "model"}
        self._members = [EquiCalculator(name, **parameters) for name in names]
        first = self._members[0]
        check_members(
            [member.metadata for member in self._members],
            [member._info.charge_model for member in self._members],
        )
        self._info, self.metadata = first._info, first.metadata
        self._charge_model, self._field = first._charge_model, first._field
        self._dispersion = first._dispersion
        self.implemented_properties = [
            *EquiCalculator.implemented_properties,
            "forces_deviation",
            "energy_deviation",
        ]

    def _self_check(self, block: dict[str, Any]) -> None:
        """Compare the stored structure's results with this machine's; SelfCheckError if apart."""
        solver = Solver("auto", SELF_CHECK_KSPACE_ACCURACY)
        results = self._evaluate(stored_structure(block), solver, np.zeros(3), want_born=False)
        tabulated = self.metadata.get("architecture", "equicalc") != "equicalc"
        compare_with_stored(self._info.name, results, block, self.parameters["dtype"], tabulated)

    def __getstate__(self) -> dict[str, Any]:
        # Compiled objects cannot be copied: a copy loads the file again.
        private = {"_info", "_network", "_charge_model", "_dispersion"}
        return {key: value for key, value in self.__dict__.items() if key not in private}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load()

    # ---- ASE ---------------------------------------------------------------------------------

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Names of what has changed since the last calculation, the total charge included.

        ASE asks for every property that is fetched, and its own comparison of all arrays costs as
        much as the evaluation of a hundred atoms. Any change counts here, however small.
        """
        last = self.atoms
        if last is None:
            return [name for name in all_changes if name not in self.ignored_changes]
        changes = [
            name
            for name, now, before in (
                ("positions", atoms.positions, last.positions),
                ("numbers", atoms.numbers, last.numbers),
                ("cell", atoms.cell.array, last.cell.array),
                ("pbc", atoms.pbc, last.pbc),
            )
            if now.shape != before.shape or now.tobytes() != before.tobytes()
        ]
        if total_charge_of(atoms) != total_charge_of(last):
            changes.append("charge")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Iterable[str] = ("energy",),
        system_changes: Iterable[str] = tuple(all_changes),
    ) -> None:
        """Evaluate the model; called by ASE.

        Raises
        ------
        PropertyNotImplementedError
            When a property is asked for that the boundary conditions or the charge model leave
            undefined: the stress of a structure without three periodic directions, the dipole
            of a periodic one, ...
        UnsupportedElementError
            When the structure holds an element that the model does not know.
        DataError
            When positions or cell are not finite, or the total charge is not a number.
        """
        wanted = set(properties)
        structure = self.atoms if atoms is None else atoms
        if structure is None or len(structure) == 0:
            raise DataError("found a structure without atoms, expected at least one")
        check_properties(structure, wanted, self._info.name, self._charge_model, self._dispersion)
        self._charge_model.check_field(self._field, structure.pbc, structure.cell[:])
        if atoms is not None:  # as ASE's method does, which also looks for a directory of files
            self.atoms = atoms.copy()
        if self._members:
            for member in self._members:
                member.calculate(self.atoms, properties, system_changes)
            self.results = mean_results([member.results for member in self._members])
            return
        per_atom = "stresses" in wanted
        solver = Solver(
            "ewald" if per_atom else self.parameters["kspace"],
            self.parameters["kspace_accuracy"] or KSPACE_ACCURACY[self.parameters["dtype"]],
            atom_virials=per_atom,
            device=self._network.device,  # where kernels are
        )
        self.results = self._evaluate(
            self.atoms, solver, self._field, "born_effective_charges" in wanted
        )
        if self._dispersion is not None:
            self._add_dispersion(self.results, self._dispersion(self.atoms))

    @property
    def has_charges(self) -> bool:
        """Whether the model has charges, and a total charge has a meaning."""
        return bool(self._info.has_charges)

    @property
    def has_response(self) -> bool:
        """Whether the model has polarisation and Born charges in crystals."""
        return self._charge_model.has_born_charges([True] * 3)

    # ---- the calculation ---------------------------------------------------------------------

    def _species(self, atoms: Atoms) -> torch.Tensor:
        if self._last_species is not None and np.array_equal(atoms.numbers, self._last_species[0]):
            return self._last_species[1]
        species = self._species_of[atoms.numbers]
        if (species < 0).any():
            symbols = np.array(atoms.get_chemical_symbols())[species < 0]
            raise UnsupportedElementError(
                f"found element(s) {', '.join(sorted(set(symbols)))} in the structure; model "
                f"{self._info.name!r} knows {', '.join(self._info.elements)}. Use a model that "
                "was trained with these elements (equicalc models lists the shipped ones)"
            )
        self._last_species = atoms.numbers.copy(), torch.from_numpy(species)
        return self._last_species[1]

    def _evaluate(
        self, atoms: Atoms, solver: Solver, field: Array, want_born: bool
    ) -> dict[str, Any]:
        species = self._species(atoms)
        total_charge = total_charge_of(atoms)
        if total_charge != 0.0 and not self._info.has_charges:
            raise DataError(
                f'found atoms.info["charge"] = {total_charge}, but model {self._info.name!r} has '
                'no charges. Remove it: del atoms.info["charge"]'
            )
        forward = self._network.forward(species, atoms)
        results: dict[str, Any] = {"energies": forward.energies.numpy()}
        for found in (results["energies"], forward.variables.numpy()):
            check_finite(found, atoms, self._info.name)

        charged, gradient = None, None
        if self._info.has_charges:
            variables = forward.variables.numpy()
            charged = self._charge_model.solve(
                variables, species.numpy(), atoms, total_charge, field, solver, self._start(atoms)
            )
            gradient = torch.from_numpy(charged.gradient)
            if want_born:
                born = charged.moved_charges[:, None, None] * np.eye(3)
                for axis in range(3):
                    by_variables = torch.from_numpy(
                        self._charge_model.dipole_gradient(
                            variables, atoms.positions, total_charge, axis
                        )
                    )
                    # forces are -d/dr
                    born[:, axis] -= self._network.variable_forces(by_variables)
                results["born_effective_charges"] = born
        forces, virial, atom_virials = self._network.forces(gradient, solver.atom_virials)
        check_finite(forces, atoms, self._info.name)
        results |= {"forces": forces, "charges": np.zeros(len(atoms))}
        if charged is not None:
            virial = virial + charged.coulomb.virial
            if atom_virials is not None and charged.coulomb.atom_virials is not None:
                atom_virials = atom_virials + charged.coulomb.atom_virials
            if field.any():
                shares = field_virials(charged, field)
                virial = virial + shares.sum(axis=0)
                atom_virials = None if atom_virials is None else atom_virials + shares
            self._add_charged(results, charged, atoms)
        results["energy"] = results["free_energy"] = float(results["energies"].sum())
        pbc, volume = atoms.pbc.tolist(), volume_of(atoms)
        if sum(pbc) >= 2 and volume > 0.0:
            if not all(pbc):
                in_plane = periodic_projection(atoms)
                virial = in_plane @ virial @ in_plane
            results["stress"] = full_3x3_to_voigt_6_stress(virial) / -volume
            if atom_virials is not None and all(pbc):
                results["stresses"] = full_3x3_to_voigt_6_stress(atom_virials) / -volume
        return results

    def _add_charged(self, results: dict[str, Any], charged: Charged, atoms: Atoms) -> None:
        """Add what charges give to the results of the network."""
        results["energies"] = results["energies"] + charged.energies
        results["forces"] = results["forces"] + charged.forces
        results["charges"] = self._last_charges = charged.charges
        dipole = charged.moved_charges @ atoms.positions + charged.bond_dipoles.sum(axis=0)
        if not any(atoms.pbc):
            results["dipole"] = dipole
        elif all(atoms.pbc) and self._charge_model.is_polar(atoms.pbc):
            results["polarization"] = dipole

    def _add_dispersion(self, results: dict[str, Any], correction: dict[str, Any]) -> None:
        """Add D3, whose energy is shared equally among the atoms; it has no stress per atom."""
        results["energy"] = results["free_energy"] = results["energy"] + correction["energy"]
        results["energies"] = results["energies"] + correction["energy"] / len(results["energies"])
        results["forces"] = results["forces"] + correction["forces"]
        if "stress" in results:
            results["stress"] = results["stress"] + correction["stress"]
        results.pop("stresses", None)

    def _start(self, atoms: Atoms) -> Array | None:
        """Charges of the last step, from which an equilibration starts."""
        last = getattr(self, "_last_charges", None)
        return last if last is not None and len(last) == len(atoms) else None
