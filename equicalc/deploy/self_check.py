"""The self-check block of a model file: one tiny structure and what the model says about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import vesin
from ase import Atoms

from equicalc.electrostatics import coulomb_energy
from equicalc.nn import EquiNetwork, NetworkConfig

SPACING = 2.9  # angstrom: close enough that every element has neighbours in reach


def self_check_structure(config: NetworkConfig) -> Atoms:
    """Return a small triclinic crystal with every element of the model, without symmetry."""
    n_side = 2
    while n_side**3 < 2 * len(config.elements):
        n_side += 1
    rng = np.random.default_rng(7)
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    cell = SPACING * n_side * np.array([[1.0, 0.0, 0.0], [0.1, 0.98, 0.0], [-0.05, 0.08, 1.03]])
    positions = (grid / n_side) @ cell + rng.normal(scale=0.05, size=grid.shape)
    symbols = [config.elements[int(i)] for i in grid.sum(axis=1) % len(config.elements)]
    return Atoms(symbols, positions=positions, cell=cell, pbc=True)


def reference_properties(network: EquiNetwork, atoms: Atoms) -> dict[str, Any]:
    """Evaluate a network by plain autograd in Python, the oracle of every front end.

    Parameters
    ----------
    network : EquiNetwork
        In float64.
    atoms : Atoms
        Three periodic directions or none; total charge in ``atoms.info["charge"]``.

    Returns
    -------
    dict
        Plain data: symbols, positions (angstrom), cell, pbc, total_charge (e), energy (eV),
        forces (eV/A), stress 3x3 (eV/A^3; None unless fully periodic), charges (e; None for a
        model without charges).
    """
    config = network.config
    total_charge = float(atoms.info.get("charge", 0.0))
    i, j, shift = vesin.NeighborList(cutoff=config.cutoff, full_list=True, sorted=True).compute(
        atoms.positions, atoms.cell.array, [bool(p) for p in atoms.pbc], "ijS"
    )
    edge_index = torch.from_numpy(np.stack([i, j]).astype(np.int64))
    species = torch.tensor([config.elements.index(s) for s in atoms.get_chemical_symbols()])
    positions = torch.tensor(atoms.positions, dtype=torch.float64, requires_grad=True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deformation = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.T)
    moved = positions @ deformation
    cell = torch.tensor(atoms.cell.array, dtype=torch.float64) @ deformation
    vectors = moved[edge_index[1]] - moved[edge_index[0]]
    vectors = vectors + torch.from_numpy(shift.astype(np.float64)) @ cell
    node_energies, charges = network(
        species, vectors, edge_index, len(atoms), torch.tensor(total_charge, dtype=torch.float64)
    )
    energy = node_energies.sum()
    if config.charges:
        energy = energy + coulomb_energy(charges, moved, cell, atoms.pbc.tolist(), config.sigma)
    forces, virial = torch.autograd.grad(energy, (positions, strain))
    stress = (virial / atoms.get_volume()).tolist() if atoms.pbc.all() else None
    return {
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": [bool(p) for p in atoms.pbc],
        "total_charge": total_charge,
        "energy": energy.item(),
        "forces": (-forces).tolist(),
        "stress": stress,
        "charges": charges.tolist() if config.charges else None,
    }
