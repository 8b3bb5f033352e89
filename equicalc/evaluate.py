"""Errors of a model on labelled structures, for training and for `equicalc evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import all_changes

from equicalc.data.selection import check_elements
from equicalc.data.structures import Structure, from_atoms, full_stress, read_structures
from equicalc.errors import DataError

if TYPE_CHECKING:
    from equicalc.train.potential import Potential

Array = npt.NDArray[np.float64]

# quantity: (unit in the names of keys, factor from eV, angstrom and e)
UNITS = {
    "energy": ("meV_per_atom", 1000.0),
    "forces": ("meV_per_A", 1000.0),
    "stress": ("meV_per_A3", 1000.0),
    "charges": ("e", 1.0),
    "dipole": ("e_A", 1.0),
    "polarization": ("e_A", 1.0),
    "born": ("e", 1.0),
}


@dataclass
class Comparison:
    """Reference and predicted values of every quantity that the data have.

    Parameters
    ----------
    n_structures, n_atoms : int
        Structures and all their atoms.
    reference, predicted : dict of str to list of arrays
        For each quantity one array per structure that has it: ``energy`` per atom (eV/atom),
        ``forces`` [n, 3] (eV/angstrom), ``stress`` [3, 3] (eV/angstrom^3), ``charges`` [n] (e),
        ``dipole`` [3] (e angstrom), ``polarization`` [3] (times volume, e angstrom, the predicted
        one moved by e times lattice vectors to be nearest), ``born`` [n, 3, 3] (e).
    symbols : list of list of str
        Elements of the atoms of each structure that has forces.
    model_charges : dict of str to list of float
        Predicted charges of the atoms of each element, e; empty for a model without charges.
    """

    n_structures: int = 0
    n_atoms: int = 0
    reference: dict[str, list[Array]] = field(default_factory=dict)
    predicted: dict[str, list[Array]] = field(default_factory=dict)
    symbols: list[list[str]] = field(default_factory=list)
    model_charges: dict[str, list[float]] = field(default_factory=dict)

    def add(self, structure: Structure, predicted: dict[str, Any]) -> None:
        """Add a structure and the predictions for it (``energy`` in eV)."""
        n = len(structure)
        self.n_structures += 1
        self.n_atoms += n
        charges = predicted.get("charges")
        if charges is not None:
            for symbol, charge in zip(structure.symbols, charges, strict=True):
                self.model_charges.setdefault(symbol, []).append(float(charge))
        for quantity in UNITS:
            reference = getattr(structure, quantity)
            if reference is None or predicted.get(quantity) is None:
                continue
            factor = 1.0 / n if quantity == "energy" else 1.0
            self.reference.setdefault(quantity, []).append(np.asarray(reference) * factor)
            self.predicted.setdefault(quantity, []).append(
                np.asarray(predicted[quantity], dtype=np.float64) * factor
            )
            if quantity == "forces":
                self.symbols.append(structure.symbols)

    def flat(self, quantity: str) -> tuple[Array, Array]:
        """Reference and predicted values of a quantity, each in one long array."""
        return (
            np.concatenate([np.ravel(a) for a in self.reference[quantity]]),
            np.concatenate([np.ravel(a) for a in self.predicted[quantity]]),
        )

    def force_symbols(self) -> npt.NDArray[np.str_]:
        """Element of each force component, in the order of ``flat("forces")``."""
        return np.array([s for symbols in self.symbols for s in symbols for _ in range(3)])

    def align(self) -> float:
        """Remove the mean error of the energy per atom; returns it, eV/atom."""
        if "energy" not in self.reference:
            return 0.0
        reference, predicted = self.flat("energy")
        offset = float((predicted - reference).mean())
        self.predicted["energy"] = [p - offset for p in self.predicted["energy"]]
        return offset

    def metrics(self) -> dict[str, Any]:
        """RMSE and MAE of everything, see `evaluate`."""
        result: dict[str, Any] = {"n_structures": self.n_structures, "n_atoms": self.n_atoms}
        for quantity, (unit, factor) in UNITS.items():
            if quantity not in self.reference:
                continue
            reference, predicted = self.flat(quantity)
            error = factor * (predicted - reference)
            result[f"{quantity}_rmse_{unit}"] = float(np.sqrt((error**2).mean()))
            result[f"{quantity}_mae_{unit}"] = float(np.abs(error).mean())
            if quantity == "forces":
                result["forces_rms_reference_meV_per_A"] = float(
                    np.sqrt(((factor * reference) ** 2).mean())
                )
                symbols = self.force_symbols()
                for name, mean in (("rmse", _rms), ("mae", _mean_abs)):
                    result[f"forces_{name}_{unit}_per_element"] = {
                        element: mean(error[symbols == element])
                        for element in dict.fromkeys(symbols.tolist())
                    }
        if self.model_charges:
            result["charge_mean_e_per_element"] = {
                element: float(np.mean(values)) for element, values in self.model_charges.items()
            }
        return result


def _rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def _mean_abs(values: Array) -> float:
    return float(np.abs(values).mean())


def evaluate(
    model: Any, structures: str | Path | Iterable[Atoms | Structure], align: bool = False
) -> dict[str, Any]:
    """Errors of a model.

    Parameters
    ----------
    model : Potential or ase Calculator
        For example ``EquiCalculator("kcl")``.
    structures : path, or iterable of ase Atoms with results, or of Structure
        Labelled structures.
    align : bool
        Remove the mean error of the energy per atom first (a constant offset).

    Returns
    -------
    dict
        ``n_structures``, ``n_atoms``, and ``*_rmse_*``, ``*_mae_*`` of energy (meV/atom), forces
        (meV/angstrom; also per element), stress (meV/angstrom^3), charges (e), dipole (e angstrom),
        as far as the data and the model have them; ``charge_mean_e_per_element`` of the model.

    Raises
    ------
    DataError
        When there are no structures, or none with an energy, forces, ... to compare with.
    """
    comparison = compare(model, structures)
    offset = comparison.align() if align else None
    metrics = comparison.metrics()
    if offset is not None:
        metrics["energy_offset_removed_meV_per_atom"] = 1000.0 * offset
    return metrics


def compare(model: Any, structures: str | Path | Iterable[Atoms | Structure]) -> Comparison:
    """Predict labelled structures; arguments and errors as `evaluate`."""
    labelled = as_structures(structures)
    from equicalc.train.potential import Potential

    comparison = Comparison()
    if isinstance(model, Potential):
        check_elements(labelled, model.elements)
        for structure in labelled:
            comparison.add(structure, predict(model, structure))
    else:
        for structure in labelled:
            comparison.add(structure, _calculate(model, structure))
    if not comparison.reference:
        raise DataError(
            f"none of {comparison.n_structures} structures has an energy, forces or stress to "
            "compare with; expected extended XYZ with the results of a reference calculation"
        )
    return comparison


def as_structures(structures: str | Path | Iterable[Atoms | Structure]) -> list[Structure]:
    """Structures from a file, from ASE, or as they are; DataError when there are none."""
    if isinstance(structures, (str, Path)):
        return read_structures(structures)
    items: Sequence[Atoms | Structure] = list(structures)
    if not items:
        raise DataError("there are no structures to evaluate")
    result: list[Structure] = []
    for index, item in enumerate(items):
        if isinstance(item, Structure):
            result.append(item)
        else:
            converted = from_atoms([item])[0]
            converted.source = f"structure {index}"
            result.append(converted)
    return result


def predict(potential: Potential, structure: Structure) -> dict[str, Any]:
    """Predictions of a potential in training for one structure (energy in eV)."""
    from equicalc.data.batch import make_sample

    network = potential.network
    sample = make_sample(structure, potential.elements, network.config.cutoff)
    device = network.energy_scale.device
    has_response = potential.charge_model in ("fixed", "transferred")
    need_born = structure.born is not None and has_response
    prediction = potential(
        sample.to(device), need_stress=bool(structure.pbc.all()), need_born=need_born
    )
    result: dict[str, Any] = {
        "energy": float(prediction.energy[0].detach()),
        "forces": prediction.forces.detach().cpu().numpy(),
    }
    if prediction.stress is not None:
        result["stress"] = prediction.stress[0].detach().cpu().numpy()
    if potential.has_charges:
        result["charges"] = prediction.charges.detach().cpu().numpy()
        dipole = prediction.dipole[0].detach().cpu().numpy()
        if not structure.pbc.any():
            result["dipole"] = dipole
        elif structure.polarization is not None and structure.pbc.all() and has_response:
            result["polarization"] = nearest_polarization(
                dipole, structure.polarization, structure.cell
            )
    if prediction.born is not None:
        result["born"] = prediction.born.detach().cpu().numpy()
    return result


def nearest_polarization(dipole: Array, reference: Array, cell: Array) -> Array:
    """Dipole of a cell (e angstrom) moved by e times lattice vectors next to the reference."""
    quanta = np.round(np.linalg.solve(cell.T, dipole - reference))
    return np.asarray(dipole - quanta @ cell)


def _calculate(calculator: Any, structure: Structure) -> dict[str, Any]:
    """Predictions of an ASE calculator for one structure."""
    atoms = Atoms(
        structure.symbols,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
    )
    if getattr(calculator, "has_charges", True):  # a model without them cannot tell ions apart
        atoms.info["charge"] = structure.total_charge
    available = calculator.implemented_properties
    wanted = ["energy", "forces"]
    if structure.stress is not None and "stress" in available and structure.pbc.all():
        wanted.append("stress")
    if structure.charges is not None and "charges" in available:
        wanted.append("charges")
    if structure.dipole is not None and "dipole" in available and not structure.pbc.any():
        wanted.append("dipole")
    response = getattr(calculator, "has_response", False) and structure.pbc.all()
    if structure.polarization is not None and response:
        wanted.append("polarization")
    if structure.born is not None and response:
        wanted.append("born_effective_charges")
    calculator.calculate(atoms, wanted, all_changes)
    results = dict(calculator.results)
    if "stress" in results:
        results["stress"] = full_stress(results["stress"])
    if "polarization" in results and structure.polarization is not None:
        results["polarization"] = nearest_polarization(
            results["polarization"], structure.polarization, structure.cell
        )
    results["born"] = results.pop("born_effective_charges", None)
    return results
