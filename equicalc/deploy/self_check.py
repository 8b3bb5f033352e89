"""The self-check block of a model file: one tiny structure and what the model says about it."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from equicalc.data.batch import make_sample
from equicalc.data.structures import from_atoms
from equicalc.nn import NetworkConfig
from equicalc.nn.charged_network import ChargedNetwork
from equicalc.nn.gated_config import GatedNetworkConfig
from equicalc.nn.mace_config import MaceConfig

REFERENCE_ACCURACY = 1e-12  # of the Coulomb sum
SPACING = 2.9  # angstrom: close enough that every element has neighbours in reach


def self_check_structure(config: NetworkConfig | GatedNetworkConfig | MaceConfig) -> Atoms:
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


def reference_properties(network: ChargedNetwork, atoms: Atoms) -> dict[str, Any]:
    """Evaluate a network by plain autograd in Python, the oracle of every front end.

    Parameters
    ----------
    network : ChargedNetwork
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
    from equicalc.train.potential import Potential

    config = network.config
    structure = from_atoms([atoms], "self-check")[0]
    potential = Potential(network, REFERENCE_ACCURACY)
    sample = make_sample(structure, config.elements, config.cutoff)
    prediction = potential(sample, need_stress=bool(atoms.pbc.all()))
    return {
        "symbols": structure.symbols,
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "pbc": structure.pbc.tolist(),
        "total_charge": structure.total_charge,
        "energy": prediction.energy.item(),
        "forces": prediction.forces.tolist(),
        "stress": None if prediction.stress is None else prediction.stress[0].tolist(),
        "charges": prediction.charges.tolist() if config.has_charges else None,
    }
