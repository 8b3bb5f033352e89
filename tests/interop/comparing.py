"""Imported networks beside the numbers of the packages that they come from."""

from pathlib import Path

import numpy as np

from equicalc.data.batch import make_sample
from equicalc.data.structures import from_atoms
from equicalc.train.potential import Potential

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
# what an imported network promises, eV/atom, eV/angstrom (relative above 1 eV/angstrom),
# eV/angstrom^3
PROMISE = np.array([1e-6, 1e-5, 1e-6])


def predict(network, atoms):
    """Energy, forces and stress as training has them."""
    sample = make_sample(
        from_atoms([atoms], "test")[0], network.config.elements, network.config.cutoff
    )
    return Potential(network)(sample, need_stress=bool(atoms.pbc.all()))


def errors(network, atoms, expected):
    """Errors of energy per atom, forces, and the stress of crystals."""
    found = predict(network, atoms)
    result = [
        abs(found.energy.item() - expected["energy"]) / len(atoms),
        float(np.abs(found.forces.numpy() - expected["forces"]).max()),
    ]
    if atoms.pbc.all():
        result.append(float(np.abs(found.stress[0].numpy() - expected["stress"]).max()))
    return np.array(result)
