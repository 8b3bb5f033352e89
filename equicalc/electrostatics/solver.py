"""Energy, potentials, forces and virial at given charges: the solvers behind the ASE calculator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equicalc.electrostatics import lattice, mesh
from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.electrostatics.lattice import Boundary, Flags

METHODS = ("auto", "ewald", "p3m", "direct")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CoulombResult:
    """Coulomb energy and its first derivatives at given charges; numpy float64.

    Attributes
    ----------
    energy
        eV.
    potentials
        [N], dE/dq in V.
    forces
        [N, 3], -dE/dr at fixed charges, eV/A.
    virial
        [3, 3], -dE/d(strain) in eV; the stress with ASE's sign is -virial / volume. Of a slab the
        components in the plane are meaningful, per area of the cell or per volume of a convention.
    atom_energies
        [N], q phi / 2 in eV; they sum to the energy.
    atom_virials
        [N, 3, 3] in eV, they sum to the virial; None unless asked for.
    method
        Which solver gave the numbers.
    """

    energy: float
    potentials: Array
    forces: Array
    virial: Array
    atom_energies: Array
    atom_virials: Array | None
    method: str


def solve(
    charges: npt.ArrayLike,
    positions: npt.ArrayLike,
    cell: npt.ArrayLike,
    pbc: Flags,
    sigma: npt.ArrayLike,
    accuracy: float = 1e-6,
    method: str = "auto",
    atom_virials: bool = False,
    single: bool = False,
    device: str = "cpu",
) -> CoulombResult:
    """Coulomb energy of Gaussian charges and its derivatives, without automatic differentiation.

    The energy is that of `coulomb_energy` (formula and sources there), whichever solver is used:
    "ewald" (exact sum over waves: cost per atom proportional to the volume), "p3m" (mesh: about
    constant cost per atom, accuracy down to 1e-8, net force within the accuracy) or "direct" (sum
    over the pairs of a cluster). Each of them is smooth under changes of the cell. "auto" takes
    "direct" without periodicity, "p3m" for so many charges that it is clearly cheaper, else
    "ewald"; the cell has no part in this choice.

    Parameters
    ----------
    charges
        [N], e.
    positions
        [N, 3], angstrom.
    cell
        [3, 3], angstrom, one vector per row; vectors of open directions are ignored.
    pbc
        Three flags: all (bulk), two (slab) or none (cluster).
    sigma
        Width of the Gaussians, angstrom: one number, or an array [N]. The cost grows with the
        number of different widths, on a mesh in proportion: meant for one per element.
    accuracy
        As in `coulomb_energy`: error of a pair's interaction relative to its value at contact. For
        sigma = 1 A and charges near 1 e the rms error of forces is about 5 eV/A times this.
    method
        "auto", "ewald", "p3m" or "direct".
    atom_virials
        Whether to share the virial among the atoms; not with "p3m".
    single
        Whether "p3m" works in float32: up to half the time, and rounding of 1e-7 of energies and
        forces. Fit for dynamics, not for finite differences. The other solvers take no notice.
    device
        Where "p3m" works, "cpu" or a CUDA device for which the core has kernels; the others work
        on the CPU. "auto" takes account of it.

    Raises
    ------
    ValueError
        For wrong shapes, numbers that are not finite, a degenerate cell, one periodic direction,
        or a solver that cannot do what is asked.
    """
    charges = np.ascontiguousarray(charges, dtype=np.float64)
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    cell = np.ascontiguousarray(cell, dtype=np.float64)
    kind = _check(charges, positions, cell, pbc, accuracy)
    sigmas = _widths(sigma, charges.size)
    method = _choose(method, kind, sigmas, accuracy, atom_virials, device)
    atoms = charges, positions, sigmas
    if kind is Boundary.OPEN:
        from equicalc import _core

        threads = torch.get_num_threads()
        raw = _core.coulomb_open(*atoms, atom_virials, threads)
    elif kind is Boundary.BULK:
        raw = _bulk(*atoms, cell, accuracy, method, atom_virials, None, single, device)
    else:
        in_plane = cell[np.asarray(pbc, dtype=bool)]
        raw = _slab(*atoms, in_plane, accuracy, method, atom_virials, single, device)
    return CoulombResult(
        energy=float(raw["energy"]),
        potentials=raw["potentials"],
        forces=raw["forces"],
        virial=raw["virial"],
        atom_energies=0.5 * charges * raw["potentials"],
        atom_virials=raw["atom_virials"],
        method=method,
    )


def _check(
    charges: Array,
    positions: Array,
    cell: Array,
    pbc: Flags,
    accuracy: float,
) -> Boundary:
    """Boundary conditions; ValueError when the input has a wrong shape or is not finite."""
    n_atoms = charges.size
    expected = {
        "charges": (charges, (n_atoms,)),
        "positions": (positions, (n_atoms, 3)),
        "cell": (cell, (3, 3)),
    }
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}; found {array.shape}")
    for name in ("charges", "positions"):
        finite = np.isfinite(expected[name][0])
        if not finite.all():
            bad = np.argwhere(~finite)
            raise ValueError(f"{name} hold NaN or infinity (first at atom {bad[0][0]})")
    lattice.taper_range(accuracy)
    kind = lattice.boundary(pbc)
    lattice.check_cell(cell, pbc)
    return kind


def _widths(sigma: npt.ArrayLike, n_atoms: int) -> Array:
    """Width of each atom [n_atoms]; ValueError unless `sigma` is a number or such an array."""
    sigmas = np.asarray(sigma, dtype=np.float64)
    if sigmas.shape not in ((), (n_atoms,)):
        raise ValueError(
            f"sigma must be one number or have the shape ({n_atoms},); found {sigmas.shape}"
        )
    if sigmas.size:
        lattice.check_sigma(float(sigmas.min()))
        lattice.check_sigma(float(sigmas.max()))
    return np.ascontiguousarray(np.broadcast_to(sigmas, (n_atoms,)))


def _choose(
    method: str, kind: Boundary, sigmas: Array, accuracy: float, atom_virials: bool, device: str
) -> str:
    """Solver for `method`; ValueError when it cannot be."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; use one of {', '.join(METHODS)}")
    if kind is Boundary.OPEN:
        if method in ("auto", "direct"):
            return "direct"
        raise ValueError(f"{method!r} needs a periodic system; use method='direct' or 'auto'")
    if method == "direct":
        raise ValueError(
            "'direct' sums over the pairs of a cluster and the system is periodic; use "
            "method='ewald', 'p3m' or 'auto'"
        )
    if method == "p3m" and atom_virials:
        raise ValueError("'p3m' gives no virials per atom; use method='ewald' or 'auto'")
    if method == "auto":
        on_mesh = not atom_virials and mesh.is_cheaper(sigmas, accuracy, device)
        return "p3m" if on_mesh else "ewald"
    return method


def _bulk(
    charges: Array,
    positions: Array,
    sigmas: Array,
    cell: Array,
    accuracy: float,
    method: str,
    atom_virials: bool,
    open_direction: int | None,
    single: bool,
    device: str,
) -> dict[str, Any]:
    """Three periodic directions, or vacuum along `open_direction`."""
    if method == "p3m":
        raw = mesh.p3m(charges, positions, sigmas, cell, accuracy, open_direction, single, device)
    else:
        from equicalc import _core

        cell = lattice.reduction(cell) @ cell
        edge, threads = lattice.wave_range(sigmas, accuracy), torch.get_num_threads()
        raw = _core.coulomb_bulk(charges, positions, sigmas, cell, *edge, atom_virials, threads)
    return raw


def _slab(
    charges: Array,
    positions: Array,
    sigmas: Array,
    in_plane: Array,
    accuracy: float,
    method: str,
    atom_virials: bool,
    single: bool,
    device: str,
) -> dict[str, Any]:
    """Two periodic directions: the bulk sum with vacuum, plus what removes the periodic copies.

    E = 2 pi k_e / V (M^2 - Q sum q z^2 - Q^2 L^2 / 12); see `coulomb_energy`. Under strain the
    volume V = A L, the heights z and L follow the normal, hence dE/d(strain) = E (2 n n^T - 1).
    The strain of the vacuum itself does no work, because the sum of both parts does not depend on
    L. Divided by the area, the components of the virial in the plane are minus the stress of the
    sheet (eV/A^2).
    """
    normal = np.cross(in_plane[0], in_plane[1])
    area = float(np.linalg.norm(normal))
    normal /= area
    heights = positions @ normal
    heights -= heights.mean() if len(heights) else 0.0
    thickness = float(np.ptp(heights)) if len(heights) else 0.0
    widest = float(sigmas.max(initial=0.0))
    height = lattice.slab_height(in_plane, thickness, widest, accuracy)
    if method == "p3m":
        # Whole steps of the mesh: more vacuum then leaves the mesh where the atoms are as it is.
        order, spacing = mesh.choose_spline(sigmas, accuracy, device)
        height = spacing * mesh.fft_size(max(order, height / spacing))
    cell = np.array([in_plane[0], in_plane[1], normal * height])
    atoms = charges, positions, sigmas
    raw = _bulk(*atoms, cell, accuracy, method, atom_virials, 2, single, device)

    total, dipole = float(charges.sum()), float(charges @ heights)
    spread = float(charges @ heights**2)
    scale = 2.0 * math.pi * COULOMB_CONSTANT / (area * height)
    potentials = scale * (
        2.0 * heights * dipole - total * heights**2 - spread - total * height**2 / 6.0
    )
    pull = -2.0 * scale * charges * (dipole - total * heights)
    energies = 0.5 * charges * potentials
    shape = np.eye(3) - 2.0 * np.outer(normal, normal)
    raw["energy"] += float(energies.sum())
    raw["potentials"] = raw["potentials"] + potentials
    raw["forces"] = raw["forces"] + pull[:, None] * normal
    raw["virial"] = raw["virial"] + energies.sum() * shape
    if method == "p3m":
        # The mesh keeps its height: strains along the normal only move the atoms.
        lever = raw["forces"].T @ (positions @ normal)
        flat = np.eye(3) - np.outer(normal, normal)
        moved = np.outer(flat @ lever, normal)
        along = (normal @ lever) * np.outer(normal, normal)
        raw["virial"] = flat @ raw["virial"] @ flat + moved + moved.T + along
    if atom_virials:
        raw["atom_virials"] = raw["atom_virials"] + energies[:, None, None] * shape
    return raw
