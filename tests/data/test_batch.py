"""Graphs and batches."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from equicalc.data import collate, from_atoms, make_sample
from equicalc.errors import DataError

CUTOFF = 4.0


def samples():
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    molecule = Atoms("ClNa", positions=[[0, 0, 0], [0, 0, 2.4]])
    molecule.info["charge"] = -1.0
    return [make_sample(s, ["Na", "Cl"], CUTOFF) for s in from_atoms([crystal, molecule])]


def test_edges_are_shorter_than_the_cutoff_and_sorted_by_receiver():
    batch = collate(samples())
    receiver, sender = batch.edge_index
    shifts = torch.einsum("ea,eab->eb", batch.edge_shifts, batch.cells[batch.structure[receiver]])
    vectors = batch.positions[sender] - batch.positions[receiver] + shifts
    distance = vectors.norm(dim=1)
    assert bool((receiver.diff() >= 0).all())
    assert bool((batch.structure[receiver] == batch.structure[sender]).all())
    assert float(distance.max()) < CUTOFF
    # rocksalt: 6 neighbours at a/2 and 12 at a/sqrt(2) for both atoms; the molecule: one each
    assert np.bincount(receiver.numpy()).tolist() == [18, 18, 1, 1]


def test_collation_keeps_every_structure_as_it_was():
    first, second = samples()
    batch = collate([first, second])
    assert batch.species.tolist() == [0, 1, 1, 0]
    assert batch.structure.tolist() == [0, 0, 1, 1]
    assert batch.n_structures == 2
    assert batch.total_charge.tolist() == [0.0, -1.0]
    assert torch.equal(batch.edge_index[:, -2:], second.edge_index + 2)
    assert batch.pbc.tolist() == [[True] * 3, [False] * 3]


def test_labels_that_are_not_in_the_data_are_marked():
    batch = collate(samples())
    assert not batch.has_energy.any()
    assert not batch.has_forces.any()
    assert torch.equal(batch.energy, torch.zeros(2, dtype=torch.float64))


def test_atoms_on_each_other_are_named():
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 0.01]])
    with pytest.raises(DataError, match=r"structure 0: atoms \d and \d are 0.01 angstrom apart"):
        make_sample(from_atoms([atoms])[0], ["Na", "Cl"], CUTOFF)


def test_a_flat_cell_is_named():
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2]], cell=[5, 5, 0], pbc=True)
    with pytest.raises(DataError, match="structure 0: the periodic cell vectors"):
        make_sample(from_atoms([atoms])[0], ["Na", "Cl"], CUTOFF)


def test_stress_needs_a_volume_and_a_dipole_needs_an_open_system():
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    slab = crystal.copy()
    slab.pbc = [True, True, False]
    molecule = Atoms("ClNa", positions=[[0, 0, 0], [0, 0, 2.4]])
    structures = from_atoms([crystal, slab, molecule])
    for structure in structures:
        structure.stress, structure.dipole = np.eye(3), np.ones(3)
    batch = collate([make_sample(s, ["Na", "Cl"], CUTOFF) for s in structures])
    assert batch.has_stress.tolist() == [True, False, False]
    assert batch.has_dipole.tolist() == [False, False, True]
