"""Graphs of structures with their edges, searched once, and batches of several graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from equicalc.data.neighbors import full_list
from equicalc.data.structures import Structure
from equicalc.errors import DataError

# No two nuclei come this close in a calculation that means anything, angstrom; and at zero an edge
# has no direction.
SMALLEST_DISTANCE = 0.05


@dataclass
class Batch:
    """Several structures as one graph; positions and labels are float64.

    Parameters
    ----------
    species : Tensor [N] int64
        Index into the model's elements.
    positions : Tensor [N, 3]
        angstrom.
    cells : Tensor [S, 3, 3]
        Cell vectors as rows, angstrom.
    pbc : Tensor [S, 3] bool
        Periodic directions.
    structure : Tensor [N] int64
        Structure of each atom.
    edge_index : Tensor [2, E] int64
        Receivers (ascending) and senders.
    edge_shifts : Tensor [E, 3]
        Image of the sender in cell vectors.
    n_structures : int
        S.
    n_atoms : Tensor [S]
        Atoms of each structure.
    total_charge : Tensor [S]
        e.
    weights : Tensor [S]
        Factor of each structure in the loss.
    energy : Tensor [S]
        eV; `has_energy` [S] bool says where it is known. The same for the others:
    forces : Tensor [N, 3]
        eV/angstrom.
    stress : Tensor [S, 3, 3]
        eV/angstrom^3, positive under tension.
    charges : Tensor [N]
        e.
    dipole : Tensor [S, 3]
        e angstrom.
    polarization : Tensor [S, 3]
        Polarisation times volume, up to e times lattice vectors, e angstrom.
    born : Tensor [N, 3, 3]
        dP_a/dr_b, e.
    """

    species: torch.Tensor
    positions: torch.Tensor
    cells: torch.Tensor
    pbc: torch.Tensor
    structure: torch.Tensor
    edge_index: torch.Tensor
    edge_shifts: torch.Tensor
    n_structures: int
    n_atoms: torch.Tensor
    total_charge: torch.Tensor
    weights: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor
    charges: torch.Tensor
    dipole: torch.Tensor
    polarization: torch.Tensor
    born: torch.Tensor
    has_energy: torch.Tensor
    has_forces: torch.Tensor
    has_stress: torch.Tensor
    has_charges: torch.Tensor
    has_dipole: torch.Tensor
    has_polarization: torch.Tensor
    has_born: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on a device."""
        moved = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)
            if isinstance(getattr(self, f.name), torch.Tensor)
        }
        return replace(self, **moved)


def make_sample(structure: Structure, elements: Sequence[str], cutoff: float) -> Batch:
    """Search the edges of one structure and gather its tensors: a batch of one.

    Parameters
    ----------
    structure : Structure
        All of its elements are in `elements`.
    elements : sequence of str
        The model's elements.
    cutoff : float
        angstrom.

    Raises
    ------
    DataError
        When two atoms sit on each other or periodic cell vectors span no volume.
    """
    n = len(structure)
    index = {symbol: i for i, symbol in enumerate(elements)}
    edge_index, shifts = _edges(structure, cutoff)
    return Batch(
        species=torch.tensor([index[s] for s in structure.symbols], dtype=torch.int64),
        positions=torch.from_numpy(structure.positions.copy()),
        cells=torch.from_numpy(structure.cell.copy())[None],
        pbc=torch.from_numpy(structure.pbc.copy())[None],
        structure=torch.zeros(n, dtype=torch.int64),
        edge_index=torch.from_numpy(edge_index),
        edge_shifts=torch.from_numpy(shifts).to(torch.float64),
        n_structures=1,
        n_atoms=torch.tensor([n]),
        total_charge=torch.tensor([structure.total_charge], dtype=torch.float64),
        weights=torch.tensor([structure.weight], dtype=torch.float64),
        **_labels(structure),
    )


def _edges(
    structure: Structure, cutoff: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Edges and image shifts of a structure; DataError that names it."""
    try:
        edges, shifts = full_list(structure.positions, structure.cell, structure.pbc, cutoff)
    except DataError as error:
        raise DataError(f"{structure.source}: {error}") from None
    positions = structure.positions
    vectors = positions[edges[1]] - positions[edges[0]] + shifts @ structure.cell
    distances = np.linalg.norm(vectors, axis=1)
    if len(distances) and distances.min() < SMALLEST_DISTANCE:
        first, second = edges[:, distances.argmin()].tolist()
        raise DataError(
            f"{structure.source}: atoms {first} and {second} are {distances.min():.3g} angstrom "
            "apart; remove one of them, or check positions, cell and pbc"
        )
    return edges, shifts


def _labels(structure: Structure) -> dict[str, torch.Tensor]:
    """Labels and whether they are known; zeros stand for what is not."""
    n = len(structure)
    per_structure = {"energy": (), "stress": (3, 3), "dipole": (3,), "polarization": (3,)}
    per_atom = {"forces": (n, 3), "charges": (n,), "born": (n, 3, 3)}
    labels = {}
    for name, shape in {**per_structure, **per_atom}.items():
        value = getattr(structure, name)
        # A volume is what makes a stress, an open system what makes a dipole.
        if (name == "stress" and not structure.pbc.all()) or (
            name == "dipole" and structure.pbc.any()
        ):
            value = None
        tensor = torch.tensor(np.zeros(shape) if value is None else value, dtype=torch.float64)
        labels[name] = tensor[None] if name in per_structure else tensor
        labels[f"has_{name}"] = torch.tensor([value is not None])
    return labels


def collate(samples: Sequence[Batch]) -> Batch:
    """Join batches to one graph; atoms and edges stay in order, so receivers stay sorted."""
    joined: dict[str, torch.Tensor] = {}
    for f in fields(Batch):
        if f.name not in ("n_structures", "edge_index", "structure"):
            joined[f.name] = torch.cat([getattr(sample, f.name) for sample in samples])
    edges, structure = [], []
    atom_offset = structure_offset = 0
    for sample in samples:
        edges.append(sample.edge_index + atom_offset)
        structure.append(sample.structure + structure_offset)
        atom_offset += sample.species.shape[0]
        structure_offset += sample.n_structures
    return Batch(
        edge_index=torch.cat(edges, dim=1),
        structure=torch.cat(structure),
        n_structures=structure_offset,
        **joined,
    )


def without_labels(batch: Batch) -> Batch:
    """Return the same structures as if the data said nothing about them."""
    unknown = torch.zeros_like(batch.has_energy)
    return replace(
        batch,
        has_energy=unknown,
        has_forces=unknown,
        has_stress=unknown,
        has_charges=unknown,
        has_dipole=unknown,
        has_polarization=unknown,
        has_born=unknown,
    )
