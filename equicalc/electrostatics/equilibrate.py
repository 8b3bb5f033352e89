"""Charges at the minimum of the energy, by conjugate gradients: for large systems, no graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from equicalc.electrostatics.lattice import Flags
from equicalc.electrostatics.solver import Array, CoulombResult, solve
from equicalc.errors import DataError

# Where the search gives up. Some tens of steps were seen from nothing, a few from charges of the
# previous step of a molecular dynamics run.
MOST_STEPS = 500
# Below this (V) dE/dq of large systems is rounding.
LEAST_TOLERANCE = 1e-12


def equilibrate(
    chi: npt.ArrayLike,
    eta: npt.ArrayLike,
    positions: npt.ArrayLike,
    cell: npt.ArrayLike,
    pbc: Flags,
    sigma: npt.ArrayLike,
    total_charge: float = 0.0,
    accuracy: float = 1e-6,
    method: str = "auto",
    tolerance: float = 1e-8,
    start: npt.ArrayLike | None = None,
    atom_virials: bool = False,
    single: bool = False,
    device: str = "cpu",
) -> tuple[Array, CoulombResult]:
    """Charges which minimise sum chi q + sum eta q^2 / 2 + E_Coulomb(q) at their total charge.

    The minimum of `equilibrated_charges`, found by preconditioned conjugate gradients within the
    charges of the right sum (Gould, Hribar and Nocedal, SIAM J. Sci. Comput. 23, 1376 (2001)). Each
    step costs one Coulomb sum, so on a mesh the whole grows as N log N.

    Parameters
    ----------
    chi, eta
        [N], electronegativity in V and hardness in V/e, eta > 0. A minimum exists for
        eta_i > k_e / (sigma_i sqrt(pi)).
    positions, cell, pbc, sigma, accuracy, method, atom_virials, single, device
        As in `solve`; `single` reaches a tolerance of 1e-5 or so, its rounding.
    total_charge
        Sum of the charges, e.
    tolerance
        Largest difference of dE/dq (V) from its common value at the end; charges are then right to
        about tolerance / eta, and the energy to its square. At least 1e-12.
    start
        [N], e, where to begin, for example the charges of the previous step.

    Returns
    -------
    tuple
        Charges [N] in e, and the Coulomb energy (without chi and eta) with its derivatives at these
        charges. Forces and virial of it are those of the minimised energy, because that energy does
        not change with the charges to first order.

    Raises
    ------
    ValueError
        As `solve`; `DataError` where the energy has no minimum, or none is found.
    """
    arrays = [np.array(values, dtype=np.float64) for values in (chi, eta)]
    n_atoms = len(np.asarray(positions))
    first = arrays[0] if start is None else np.array(start, dtype=np.float64)
    for name, array in (("chi", arrays[0]), ("eta", arrays[1]), ("start", first)):
        if array.shape != (n_atoms,):
            raise ValueError(f"{name} must have the shape ({n_atoms},); found {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")
    if not np.isfinite(total_charge) or (n_atoms == 0 and total_charge != 0.0):
        raise ValueError(f"{n_atoms} atoms cannot carry total_charge={total_charge!r}")
    if not tolerance >= LEAST_TOLERANCE:
        raise ValueError(f"tolerance must be at least {LEAST_TOLERANCE:g} V; found {tolerance!r}")
    if n_atoms and arrays[1].min() <= 0.0:
        atom = int(np.argmin(arrays[1]))
        raise DataError(
            f"eta must be positive: found {arrays[1][atom]} V/e at atom {atom}, and the energy has "
            "no minimum in the charges"
        )

    def coulomb(charges: Array, virials: bool = False) -> CoulombResult:
        system = charges, positions, cell, pbc, sigma
        return solve(*system, accuracy, method, virials, single, device)

    if start is None:
        first = -arrays[0] / arrays[1]
    if n_atoms:
        first = first + _share(1.0 / arrays[1], total_charge - float(first.sum()))
        first = _minimise(arrays[0], arrays[1], first, coulomb, tolerance)
    return first, coulomb(first, atom_virials)


def _share(softness: Array, amount: float) -> Array:
    return softness * (amount / softness.sum())


def _minimise(
    chi: Array,
    eta: Array,
    charges: Array,
    coulomb: Callable[[Array], CoulombResult],
    tolerance: float,
) -> Array:
    """Charges at the minimum, with the sum of those given; `coulomb` is linear in the charges."""
    softness = 1.0 / eta
    slope = chi + eta * charges + coulomb(charges).potentials
    direction, power = np.zeros_like(charges), 1.0
    for step in range(MOST_STEPS):
        # Without its common value, which would drown the rest in rounding.
        slope = slope - float(softness @ slope) / float(softness.sum())
        error = float(np.abs(slope).max())
        if error <= tolerance:
            return charges
        scaled = softness * slope
        before, power = power, float(slope @ scaled)
        direction = -scaled + (power / before if step else 0.0) * direction
        response = eta * direction + coulomb(direction).potentials
        curvature = float(direction @ response)
        if curvature <= 0.0:
            raise DataError(
                "the energy has no minimum in the charges: the hardness eta is too small. It must "
                "be more than k_e / (sigma sqrt(pi)) for the Gaussians, which have no energy of "
                "their own here"
            )
        length = power / curvature
        charges = charges + length * direction
        slope = slope + length * response
    raise DataError(
        f"charges did not settle within {MOST_STEPS} steps: dE/dq still differs by {error:.3g} V "
        f"between atoms, asked for are {tolerance:g} V. Use a larger tolerance"
    )
