"""What the ASE calculator checks: parameters, properties asked for, and the file's own numbers."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress

from equicalc.calculator_structure import volume_of
from equicalc.data.neighbors import full_list
from equicalc.dispersion import D3
from equicalc.electrostatics.solver import METHODS
from equicalc.errors import ConfigError, DataError, SelfCheckError
from equicalc.response import ChargeModel

# How far this machine may be from the numbers stored in the file, relative to the largest of them
# (or to one in eV/atom, eV/angstrom, eV/angstrom^3, e). Sums run in another order on another CPU,
# which moves float64 results by about 1e-12 and float32 results by about 1e-5; wrong weights or
# kernels move them by far more. Tables of radial functions move forces of imported networks by what
# `equicalc.deploy.deviation` accepts.
SELF_CHECK_TOLERANCE = {"float64": 1e-6, "float32": 1e-3}
TABULATED_TOLERANCE = {"float64": 1e-5, "float32": 1e-3}
# The stored numbers come from the exact sum, so the check must not see the accuracy of a mesh.
SELF_CHECK_KSPACE_ACCURACY = 1e-10

DTYPES = ("float64", "float32")


def stored_structure(block: dict[str, Any]) -> Atoms:
    """Return the structure of a file's self-check."""
    atoms = Atoms(block["symbols"], block["positions"], cell=block["cell"], pbc=block["pbc"])
    atoms.info["charge"] = block.get("total_charge", 0.0)
    return atoms


def compare_with_stored(
    name: str, results: dict[str, Any], block: dict[str, Any], dtype: str, tabulated: bool = False
) -> None:
    """Raise SelfCheckError when results of the stored structure are not the stored ones.

    Parameters
    ----------
    name : str
        Of the model.
    results : dict
        Of the calculator, for `stored_structure`.
    block : dict
        Self-check of the file.
    dtype : str
        Precision of the network.
    tabulated : bool
        Whether its radial functions are tables, which the stored numbers are without.
    """
    found = {
        "energy": results["energy"] / len(block["symbols"]),
        "forces": results["forces"],
        "charges": results["charges"],
    }
    expected = {
        "energy": block["energy"] / len(block["symbols"]),
        "forces": block["forces"],
        "charges": block.get("charges"),
    }
    if "stress" in results and block.get("stress") is not None:
        found["stress"] = results["stress"]
        expected["stress"] = full_3x3_to_voigt_6_stress(np.asarray(block["stress"]))
    tolerance = (TABULATED_TOLERANCE if tabulated else SELF_CHECK_TOLERANCE)[dtype]
    for key, value in expected.items():
        if value is None:
            continue
        error = float(np.abs(np.asarray(value) - found[key]).max())
        allowed = tolerance * max(1.0, float(np.abs(value).max()))
        if not error <= allowed:
            raise SelfCheckError(
                f"model {name!r} does not reproduce its own self-check on this "
                f"machine: {key} differ by {error:.3e} (ASE units, energy per atom), expected "
                f"at most {allowed:.1e} in {dtype}. The file is damaged or "
                "torch computes something else here. Get the file again; to run nevertheless: "
                "EquiCalculator(..., check=False)"
            )


# Closer atoms are named where numbers are not finite, angstrom.
SUSPICIOUS_DISTANCE = 0.5


def check_finite(values: npt.NDArray[np.float64], atoms: Atoms, name: str) -> None:
    """Raise DataError where a model gives numbers that are none.

    Parameters
    ----------
    values : array [n, ...]
        Numbers of each atom.
    atoms : Atoms
        Structure that they belong to.
    name : str
        Of the model.
    """
    if np.isfinite(values).all():
        return
    bad = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
    pairs, shifts = full_list(atoms.positions, atoms.cell[:], atoms.pbc, SUSPICIOUS_DISTANCE)
    if pairs.shape[1] == 0:
        raise DataError(
            f"model {name!r} gives numbers that are not finite, first at atom {bad} "
            f"({atoms.symbols[bad]}), where no atoms are too close. The file may be damaged; get "
            "it again"
        )
    i, j = pairs
    vectors = atoms.positions[j] - atoms.positions[i] + shifts @ atoms.cell[:]
    distances = np.linalg.norm(vectors, axis=1)
    k = int(distances.argmin())
    raise DataError(
        f"model {name!r} gives numbers that are not finite: atoms {i[k]} ({atoms.symbols[i[k]]}) "
        f"and {j[k]} ({atoms.symbols[j[k]]}) are {distances[k]:.3g} angstrom apart. If one is "
        f"there twice: del atoms[{j[k]}]"
    )


def check_properties(
    atoms: Atoms,
    wanted: Set[str],
    name: str,
    charge_model: ChargeModel,
    dispersion: D3 | None,
) -> None:
    """Raise PropertyNotImplementedError for what has no meaning here.

    Parameters
    ----------
    atoms : Atoms
        Structure, for its periodic directions and cell.
    wanted : set of str
        Properties asked for.
    name : str
        Of the model.
    charge_model : ChargeModel
        Of the model.
    dispersion : D3, optional
        Correction that is added.
    """
    pbc, kind = atoms.pbc.tolist(), charge_model.kind
    if wanted & {"stress", "stresses"}:
        if sum(pbc) < 2 or ("stresses" in wanted and not all(pbc)):
            raise PropertyNotImplementedError(
                "stress needs three periodic directions, or two for the stress in the plane; "
                f"stresses need three; found pbc = {pbc}"
            )
        if not volume_of(atoms) > 0.0:
            raise PropertyNotImplementedError(
                "the stress of a slab is per volume of the cell, whose open vector is zero; "
                "give it a height: atoms.center(vacuum=10, axis=2)"
            )
    if "stresses" in wanted and dispersion is not None:
        raise PropertyNotImplementedError(
            f"model {name!r} adds a D3 correction, which has no stress per atom; "
            "ask for stress instead of stresses"
        )
    if "dipole" in wanted and any(pbc):
        raise PropertyNotImplementedError(
            "the dipole of a periodic structure depends on the choice of the cell; found pbc = "
            f"{pbc}, expected none (atoms.pbc = False)"
        )
    if "polarization" in wanted and not (all(pbc) and charge_model.is_polar(pbc)):
        raise PropertyNotImplementedError(
            "polarization needs three periodic directions and fixed or transferred charges; "
            f"found pbc = {pbc} and a model with charge_model: {kind}"
        )
    if "born_effective_charges" in wanted and not charge_model.has_born_charges(pbc):
        raise PropertyNotImplementedError(
            "Born effective charges need fixed or transferred charges (or predicted ones "
            f"without periodic directions); found pbc = {pbc} and charge_model: {kind}"
        )


def check_parameters(parameters: dict[str, Any]) -> None:
    """Raise ConfigError when a parameter of the calculator has an impossible value."""

    def require(name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(
                f"EquiCalculator: found {name} = {parameters[name]!r}, expected {expected}"
            )

    require("dtype", parameters["dtype"] in DTYPES, f"one of {', '.join(DTYPES)}")
    require("kspace", parameters["kspace"] in METHODS, f"one of {', '.join(METHODS)}")
    for name, expected in (("skin", "a length in angstrom >= 0"), ("kspace_accuracy", "> 0")):
        value = parameters[name]
        if name == "kspace_accuracy" and value is None:
            continue
        number = isinstance(value, (int, float)) and np.isfinite(value)
        require(name, number and (value > 0 or (name == "skin" and value == 0)), expected)
    field = np.asarray(parameters["electric_field"])
    numeric = field.shape == (3,) and field.dtype.kind in "if" and bool(np.isfinite(field).all())
    require("electric_field", numeric, "three numbers in V/angstrom")
    try:
        device = torch.device(parameters["device"])
    except (RuntimeError, TypeError):
        require("device", False, "the name of a torch device such as 'cpu' or 'cuda'")
    else:
        available = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_available())
        require("device", available, "'cpu': torch sees no such device on this machine")
