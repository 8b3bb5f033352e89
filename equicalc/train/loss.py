"""The loss: weighted errors of energy, forces, stress, charges, dipoles and Born charges."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from equicalc.data.batch import Batch
from equicalc.train.potential import Prediction

# Every term and the number of values one structure with n atoms contributes to its mean.
TERMS = ("energy", "forces", "stress", "charges", "dipole", "polarization", "born")


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms; 0 leaves a term out."""

    energy: float = 1.0
    forces: float = 1.0
    stress: float = 0.0
    charges: float = 0.0
    dipole: float = 0.0
    polarization: float = 0.0
    born: float = 0.0

    def blend(self, other: LossWeights, part: float) -> LossWeights:
        """Weights the given part (0 to 1) of the way to others."""
        return LossWeights(
            **{t: (1 - part) * getattr(self, t) + part * getattr(other, t) for t in TERMS}
        )


@dataclass(frozen=True)
class LossShape:
    """How errors become numbers.

    Parameters
    ----------
    huber_energy : float or None
        Energy errors per atom above this many eV count linearly instead of squared.
    huber_forces : float or None
        The same for the length of the force error on an atom, eV/angstrom.
    force_scale : float or None
        A structure whose rms force component is F has weight 1 / (1 + (F / force_scale)^2):
        relative accuracy where forces are huge, absolute where they are small.
    """

    huber_energy: float | None = None
    huber_forces: float | None = None
    force_scale: float | None = None


def counts(batch: Batch) -> torch.Tensor:
    """Number of values of each term of `TERMS` in a batch, float64 [7]: what means divide by."""
    per_structure = {"energy": 1, "stress": 9, "dipole": 3, "polarization": 3}
    per_atom = {"forces": 3, "charges": 1, "born": 9}
    numbers = []
    for term in TERMS:
        known = getattr(batch, f"has_{term}").to(torch.float64)
        if term in per_structure:
            numbers.append(known.sum() * per_structure[term])
        else:
            numbers.append((known * batch.n_atoms).sum() * per_atom[term])
    return torch.stack(numbers)


def sums(prediction: Prediction, batch: Batch, shape: LossShape) -> torch.Tensor:
    """Sum of the (weighted, Huber) squared errors of each term of `TERMS`, float64 [7].

    Units: energy (eV/atom)^2, forces (eV/angstrom)^2, stress as virial per atom (eV)^2 (so that it
    compares with the energy), charges e^2, dipole and polarisation per atom (e angstrom)^2, Born
    charges e^2.
    """
    weights = batch.weights
    if shape.force_scale is not None:
        weights = weights * magnitude_weights(batch, shape.force_scale)
    on_atoms = weights.index_select(0, batch.structure)
    n_atoms = batch.n_atoms.to(torch.float64)
    zero = torch.zeros((), dtype=torch.float64, device=weights.device)

    def structure_term(name: str, squares: torch.Tensor) -> torch.Tensor:
        return (getattr(batch, f"has_{name}") * weights * squares).sum()

    def atom_term(name: str, squares: torch.Tensor) -> torch.Tensor:
        known = getattr(batch, f"has_{name}").index_select(0, batch.structure)
        return (known * on_atoms * squares).sum()

    energy = (prediction.energy - batch.energy) / n_atoms
    forces = (prediction.forces - batch.forces).square().sum(1)
    terms = [
        structure_term("energy", huber(energy.square(), shape.huber_energy)),
        atom_term("forces", huber(forces, shape.huber_forces)),
    ]
    if prediction.stress is None:
        terms.append(zero)
    else:
        volume = torch.linalg.det(batch.cells).abs() / n_atoms
        error = (prediction.stress - batch.stress).square().sum((1, 2))
        terms.append(structure_term("stress", error * volume.square()))
    terms.append(atom_term("charges", (prediction.charges - batch.charges).square()))
    dipole = (prediction.dipole - batch.dipole).square().sum(1) / n_atoms.square()
    terms.append(structure_term("dipole", dipole))
    polarization = polarization_error(prediction.dipole, batch).square().sum(1) / n_atoms.square()
    terms.append(structure_term("polarization", polarization))
    if prediction.born is None:
        terms.append(zero)
    else:
        terms.append(atom_term("born", (prediction.born - batch.born).square().sum((1, 2))))
    return torch.stack(terms)


def polarization_error(dipole: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Predicted minus reference dipole of periodic cells up to e times lattice vectors, [S, 3].

    The nearest of the equivalent values counts; zero for structures that are not periodic.
    """
    error = dipole - batch.polarization
    periodic = batch.pbc.all(dim=1)
    identity = torch.eye(3, dtype=error.dtype, device=error.device)
    cells = torch.where(periodic[:, None, None], batch.cells, identity)
    quanta = torch.linalg.solve(cells.transpose(1, 2), error.detach().unsqueeze(2)).squeeze(2)
    nearest = error - torch.bmm(quanta.round().unsqueeze(1), cells).squeeze(1)
    return torch.where(periodic[:, None], nearest, torch.zeros_like(nearest))


def total(term_sums: torch.Tensor, term_counts: torch.Tensor, weights: LossWeights) -> torch.Tensor:
    """The loss: sum over terms of weight x sum / count, terms without values left out."""
    factors = torch.tensor([getattr(weights, t) for t in TERMS], dtype=torch.float64)
    factors = factors.to(term_sums.device)
    # A term that is switched off or absent must not enter, not even as 0 x NaN.
    used = (factors > 0) & (term_counts > 0)
    return (factors[used] * term_sums[used] / term_counts[used]).sum()


def huber(squares: torch.Tensor, delta: float | None) -> torch.Tensor:
    """Squared errors up to delta^2, and 2 delta |error| - delta^2 beyond (smoothly joined)."""
    if delta is None:
        return squares
    limit = delta**2
    beyond = squares.clamp(min=limit).sqrt()
    return torch.where(squares <= limit, squares, 2.0 * delta * beyond - limit)


def magnitude_weights(batch: Batch, scale: float) -> torch.Tensor:
    """1 / (1 + (F_rms / scale)^2) for each structure, [S]; see `LossShape`."""
    squares = torch.zeros_like(batch.weights).index_add(
        0, batch.structure, batch.forces.square().sum(1)
    )
    return 1.0 / (1.0 + squares / (3.0 * batch.n_atoms) / scale**2)
