"""The network on a moving structure: edges, energies, charge variables and forces.

Two ways with the same calls: on the CPU through `Evaluator`, and on a device that has kernels
through `DeviceSteps`, which finds edges and sums forces there and repeats recorded steps.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms

from equicalc.core import load_library
from equicalc.data.neighbors import NeighborList

Array = npt.NDArray[np.float64]
# forces [n, 3] (eV/angstrom), virial [3, 3] and virials of atoms [n, 3, 3] or None (eV)
Forces = tuple[Array, Array, Array | None]


class ShortRange(Protocol):
    """Energies first, then forces of them; arrays are those of the CPU."""

    neighbors: NeighborList
    device: str

    def forward(self, species: torch.Tensor, atoms: Atoms) -> Any:
        """Energies ``[n]`` (eV) and charge variables ``[n, K]``; species ``[n]`` int64."""
        ...

    def forces(self, gradient: torch.Tensor | None, with_atom_virials: bool) -> Forces:
        """Forces and virials of the energies, and of ``sum gradient * variables``."""
        ...

    def variable_forces(self, gradient: torch.Tensor) -> Array:
        """Forces of ``sum gradient * variables`` alone, before `forces`; any number of times."""
        ...


def short_range(model: Any, skin: float, device: str) -> ShortRange:
    """Return the way of a loaded model; ``skin`` is that of `NeighborList`, angstrom."""
    if torch.device(device).type == "cuda" and torch.ops.equicalc.has_cuda_kernels():
        return OnDevice(model, skin, device)
    return OnHost(model, skin)


class OnHost:
    """Edges and sums on the CPU."""

    device = "cpu"

    def __init__(self, model: Any, skin: float):
        self._core = load_library()
        self._evaluator = self._core.Evaluator(model)
        self.neighbors = NeighborList(model.info.cutoff, skin)

    def forward(self, species: torch.Tensor, atoms: Atoms) -> Any:
        """See `ShortRange`."""
        self._edges = self.neighbors.update(atoms.positions, atoms.cell[:], atoms.pbc)
        self._n_atoms = len(atoms)
        return self._evaluator.forward(species, *self._edges, self._n_atoms)

    def forces(self, gradient: torch.Tensor | None, with_atom_virials: bool) -> Forces:
        """See `ShortRange`."""
        return self._summed(self._evaluator.backward(gradient), with_atom_virials)

    def variable_forces(self, gradient: torch.Tensor) -> Array:
        """See `ShortRange`."""
        return self._summed(self._evaluator.variable_gradient(gradient), False)[0]

    def _summed(self, gradients: torch.Tensor, with_atom_virials: bool) -> Forces:
        n = self._n_atoms
        forces, virial, atom_virials = self._core.scatter_edges(
            *self._edges, gradients, n, n, with_atom_virials
        )
        shares = None if atom_virials is None else atom_virials.numpy()
        return forces.numpy(), virial.numpy(), shares


class OnDevice:
    """Edges and sums on a device; neighbours are searched on the CPU."""

    def __init__(self, model: Any, skin: float, device: str):
        self.device = device
        self.steps = load_library().DeviceSteps(model)
        self.neighbors = NeighborList(model.info.cutoff, skin)
        self._sent: tuple[int, torch.Tensor] | None = None

    def forward(self, species: torch.Tensor, atoms: Atoms) -> Any:
        """See `ShortRange`."""
        pairs = self.neighbors.pairs_at(atoms.positions, atoms.cell[:], atoms.pbc)
        # the number of the search and the species that the device knows
        if self._sent is None or self._sent[0] != pairs.search or self._sent[1] is not species:
            self.steps.set_pairs(species, pairs.edge_index, None, pairs.shifts, len(atoms))
            self._sent = pairs.search, species
        return self.steps.forward(torch.from_numpy(pairs.points), torch.from_numpy(pairs.box))

    def forces(self, gradient: torch.Tensor | None, with_atom_virials: bool) -> Forces:
        """See `ShortRange`."""
        forces, virial, atom_virials = self.steps.backward(gradient, with_atom_virials)
        shares = atom_virials.numpy() if with_atom_virials else None
        return forces.numpy(), virial.numpy(), shares

    def variable_forces(self, gradient: torch.Tensor) -> Array:
        """See `ShortRange`."""
        forces: Array = self.steps.variable_forces(gradient)[0].numpy()
        return forces
