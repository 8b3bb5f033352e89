"""The whole energy as one differentiable expression: network plus Coulomb, batched, for training.

Front ends use the exported network and analytic recipes; here plain autograd goes through
everything, so that losses of forces, stress and Born charges have parameter gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from equicalc.data.batch import Batch
from equicalc.electrostatics import coulomb_energies, equilibrated_charges, neutralise
from equicalc.electrostatics.solver import solve
from equicalc.nn.charged_network import ChargedNetwork
from equicalc.nn.charges import TransferredCharges

# Relative error of the wave sum. Training errors are 1e-3 of the forces at best.
TRAINING_ACCURACY = 1e-6


@dataclass
class Prediction:
    """What the potential says about a batch; float64.

    Parameters
    ----------
    energy : Tensor [S]
        eV.
    forces : Tensor [N, 3]
        eV/angstrom.
    stress : Tensor [S, 3, 3] or None
        eV/angstrom^3, positive under tension; zero for structures that are not periodic in three
        directions.
    charges : Tensor [N]
        e, sum to the total charge of each structure.
    node_energies : Tensor [N]
        Without the Coulomb energy, eV.
    dipole : Tensor [S, 3]
        The dipole that follows atoms and fields, see `dipoles`, e angstrom.
    born : Tensor [N, 3, 3] or None
        Its derivative dM_a/dr_b: Born effective charges, e.
    """

    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None
    charges: torch.Tensor
    node_energies: torch.Tensor
    dipole: torch.Tensor
    born: torch.Tensor | None


class Potential(torch.nn.Module):
    """Network plus Coulomb energy of its charges, for batches of structures.

    Parameters
    ----------
    network : ChargedNetwork
        Its dtype is the precision of training; positions and sums are float64.
    accuracy : float
        Relative accuracy of the Coulomb sum.
    """

    def __init__(self, network: ChargedNetwork, accuracy: float = TRAINING_ACCURACY):
        super().__init__()
        self.network: Any = network
        self.accuracy = accuracy
        self.charge_model: str = network.config.charge_model
        self.has_charges: bool = network.config.has_charges

    @property
    def elements(self) -> list[str]:
        """The chemical symbols behind species indices."""
        return list(self.network.config.elements)

    def forward(
        self,
        batch: Batch,
        create_graph: bool = False,
        need_stress: bool = True,
        need_born: bool = False,
    ) -> Prediction:
        """Predict a batch.

        Parameters
        ----------
        batch : Batch
            Structures on the device of the network.
        create_graph : bool
            Keep the graph of forces and stress, for a loss.
        need_stress, need_born : bool
            Compute these too.
        """
        with torch.enable_grad():
            return self._forward(batch, create_graph, need_stress, need_born)

    def _forward(
        self, batch: Batch, create_graph: bool, need_stress: bool, need_born: bool
    ) -> Prediction:
        positions = batch.positions.detach().requires_grad_(True)
        strained, cells = positions, batch.cells
        leaves = [positions]
        if need_stress:
            strain = torch.zeros_like(batch.cells).requires_grad_(True)
            deformation = 0.5 * (strain + strain.transpose(1, 2))
            deformation = deformation + torch.eye(3, dtype=strain.dtype, device=strain.device)
            strained = torch.bmm(
                positions.unsqueeze(1), deformation.index_select(0, batch.structure)
            ).squeeze(1)
            cells = torch.bmm(batch.cells, deformation)
            leaves.append(strain)
        receiver, sender = batch.edge_index[0], batch.edge_index[1]
        shifts = torch.bmm(
            batch.edge_shifts.unsqueeze(1),
            cells.index_select(0, batch.structure.index_select(0, receiver)),
        ).squeeze(1)
        vectors = strained.index_select(0, sender) - strained.index_select(0, receiver) + shifts
        node_energies, variables = self.raw_outputs(batch, vectors)
        charges, potential_energy = self._charges(batch, variables, strained, cells)
        energy = torch.zeros_like(batch.energy).index_add(
            0, batch.structure, node_energies + potential_energy
        )
        constant = None
        if self.has_charges:
            sigmas = self.sigmas(batch.species)
            # evaluation without a graph stays the oracle of that solver
            if create_graph and _is_constant(charges, sigmas):
                constant = constant_coulomb(batch, charges, sigmas, self.accuracy)
            else:
                energy = energy + coulomb_energies(
                    charges,
                    strained,
                    cells,
                    batch.pbc,
                    batch.structure,
                    sigmas,
                    self.accuracy,
                ).to(energy.dtype)
        keep = create_graph or need_born
        gradients = torch.autograd.grad(
            energy.sum(), leaves, create_graph=create_graph, retain_graph=keep
        )
        if constant is not None:
            energy = energy + constant[0]
            gradients = tuple(g + c for g, c in zip(gradients, constant[1:], strict=False))
        stress = None
        if need_stress:
            periodic = batch.pbc.all(dim=1)
            volume = torch.linalg.det(batch.cells).abs()
            factor = torch.where(periodic, 1.0 / torch.where(periodic, volume, 1.0), 0.0)
            stress = gradients[1] * factor[:, None, None]
        dipole = self.dipoles(batch, positions, charges, variables)
        born = None
        if need_born:
            born = _derivatives(dipole, positions, create_graph)
        return Prediction(
            energy=energy,
            forces=-gradients[0],
            stress=stress,
            charges=charges,
            node_energies=node_energies,
            dipole=dipole,
            born=born,
        )

    def raw_outputs(self, batch: Batch, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Node energies [N] (eV) and charge variables [N, K] (`equicalc.nn.charges`); float64.

        Parameters
        ----------
        batch : Batch
            Species and edges.
        vectors : Tensor [E, 3]
            From receiver to sender, angstrom, float64.
        """
        dtype = self.network.energy_scale.dtype
        energies, variables = self.network.raw_outputs(
            batch.species, vectors.to(dtype), batch.edge_index, batch.species.shape[0]
        )
        return energies, variables.double()

    def sigmas(self, species: torch.Tensor) -> torch.Tensor | float:
        """Gaussian width of each atom [N], or of all of them if they are equal, angstrom."""
        config = self.network.config
        widths = {config.width(element) for element in config.elements}
        if len(widths) == 1 and not config.learn_sigma:
            return widths.pop()
        return self.network.sigmas().index_select(0, species)

    def screening(self) -> torch.Tensor:
        """Return sqrt(eps_inf): charges that move with atoms over those of the Coulomb energy."""
        return self.network.epsilon_inf.double().sqrt()

    def _charges(
        self,
        batch: Batch,
        variables: torch.Tensor,
        positions: torch.Tensor,
        cells: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Charges [N] (e), and the energy per atom that depends on them besides Coulomb (eV)."""
        if not self.has_charges:
            zeros = torch.zeros_like(positions[:, 0])
            return zeros, zeros
        if self.charge_model != "equilibrated":
            charges = neutralise(
                variables[:, 0], variables[:, 1], batch.total_charge, batch.structure
            )
            return charges, torch.zeros_like(charges)
        chi, eta = variables[:, 0], variables[:, 1]
        charges = equilibrated_charges(
            chi,
            eta,
            positions,
            cells,
            batch.pbc,
            batch.structure,
            self.sigmas(batch.species),
            batch.total_charge,
            self.accuracy,
            derivatives=1,
        )
        return charges, chi * charges + 0.5 * eta * charges.square()

    def dipoles(
        self,
        batch: Batch,
        positions: torch.Tensor,
        charges: torch.Tensor,
        variables: torch.Tensor,
    ) -> torch.Tensor:
        r"""Dipole M of each structure about the origin, [S, 3] in e angstrom.

        .. math:: M = f \sum_i q_i r_i, \qquad M = \sum_i (n_i + f \Delta_i) r_i + f \sum_i \mu_i

        for fixed, predicted and equilibrated charges, and for transferred ones: formal charges
        n_i, bond dipoles mu_i, f = sqrt(eps_inf), and Delta_i what neutralisation adds. With
        transferred charges (and formal charges that are integers) M is the polarisation times
        volume of a crystal, up to e times lattice vectors; with fixed ones its changes are. With
        the others M of a periodic structure depends on the choice of images.
        """
        factor = self.screening()
        moved = factor * charges
        if self.charge_model == "transferred":
            assert isinstance(self.network.charge_head, TransferredCharges)
            formal = self.network.charge_head.formal_charges.double()
            moved = formal.index_select(0, batch.species) + factor * (charges - variables[:, 0])
        moments = moved[:, None] * positions
        if self.charge_model == "transferred":
            moments = moments + factor * variables[:, 2:]
        return torch.zeros_like(batch.dipole).index_add(0, batch.structure, moments)


def _is_constant(charges: torch.Tensor, sigmas: torch.Tensor | float) -> bool:
    """Whether no parameter and no position acts on the Coulomb energy other than directly."""
    return not charges.requires_grad and not (
        isinstance(sigmas, torch.Tensor) and sigmas.requires_grad
    )


def constant_coulomb(
    batch: Batch, charges: torch.Tensor, sigmas: torch.Tensor | float, accuracy: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coulomb energy of charges that nothing acts on, from the solver without differentiation.

    Returns
    -------
    energies : Tensor [S]
        eV.
    gradients : Tensor [N, 3]
        dE/dr, eV/angstrom.
    strain_gradients : Tensor [S, 3, 3]
        dE/d(strain), eV.
    """
    counts = batch.n_atoms.tolist()
    widths = torch.as_tensor(sigmas, dtype=torch.float64, device=charges.device)
    parts = (charges.cpu().split(counts), batch.positions.detach().cpu().split(counts))
    of_atoms = widths.expand(charges.shape[0]).cpu().split(counts)
    results = [
        solve(q.numpy(), r.numpy(), cell.numpy(), tuple(pbc.tolist()), w.numpy(), accuracy, "auto")
        for q, r, cell, pbc, w in zip(
            *parts, batch.cells.detach().cpu(), batch.pbc.cpu(), of_atoms, strict=True
        )
    ]
    device = charges.device
    energies = torch.tensor([r.energy for r in results], dtype=torch.float64, device=device)
    forces = torch.cat([torch.from_numpy(r.forces) for r in results]).to(device)
    virials = torch.stack([torch.from_numpy(r.virial) for r in results]).to(device)
    return energies, -forces, -virials


def _derivatives(dipole: torch.Tensor, positions: torch.Tensor, create_graph: bool) -> torch.Tensor:
    """Return dM_a/dr_b of every atom, [N, 3, 3]; structures do not mix."""
    if not dipole.requires_grad:
        return torch.zeros(*positions.shape, 3, dtype=positions.dtype, device=positions.device)
    rows = [
        torch.autograd.grad(
            dipole[:, axis].sum(), positions, create_graph=create_graph, retain_graph=True
        )[0]
        for axis in range(3)
    ]
    return torch.stack(rows, dim=1)
