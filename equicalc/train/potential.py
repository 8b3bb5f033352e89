"""The whole energy as one differentiable expression: network plus Coulomb, batched, for training.

Front ends use the exported network and analytic recipes; here plain autograd goes through
everything, so that losses of forces, stress and Born charges have parameter gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from equicalc.data.batch import Batch
from equicalc.electrostatics import coulomb_energies, neutralise
from equicalc.nn import EquiNetwork

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
        sum q r about the origin, e angstrom; means something without periodic directions only.
    born : Tensor [N, 3, 3] or None
        dP_a/dr_b of the model's own charges (not multiplied by sqrt(eps_inf)), e.
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
    network : EquiNetwork
        Its dtype is the precision of training; positions and sums are float64.
    accuracy : float
        Relative accuracy of the Coulomb sum.
    """

    def __init__(self, network: EquiNetwork, accuracy: float = TRAINING_ACCURACY):
        super().__init__()
        self.network = network
        self.accuracy = accuracy
        self.sigma: float | None = network.config.sigma if network.config.charges else None

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
        variables = [positions]
        if need_stress:
            strain = torch.zeros_like(batch.cells).requires_grad_(True)
            deformation = 0.5 * (strain + strain.transpose(1, 2))
            deformation = deformation + torch.eye(3, dtype=strain.dtype, device=strain.device)
            strained = torch.bmm(
                positions.unsqueeze(1), deformation.index_select(0, batch.structure)
            ).squeeze(1)
            cells = torch.bmm(batch.cells, deformation)
            variables.append(strain)
        receiver, sender = batch.edge_index[0], batch.edge_index[1]
        shifts = torch.bmm(
            batch.edge_shifts.unsqueeze(1),
            cells.index_select(0, batch.structure.index_select(0, receiver)),
        ).squeeze(1)
        vectors = strained.index_select(0, sender) - strained.index_select(0, receiver) + shifts
        node_energies, charges = self.energies_and_charges(batch, vectors)
        energy = torch.zeros_like(batch.energy).index_add(0, batch.structure, node_energies)
        if self.sigma is not None:
            energy = energy + coulomb_energies(
                charges, strained, cells, batch.pbc, batch.structure, self.sigma, self.accuracy
            ).to(energy.dtype)
        keep = create_graph or need_born
        gradients = torch.autograd.grad(
            energy.sum(), variables, create_graph=create_graph, retain_graph=keep
        )
        stress = None
        if need_stress:
            periodic = batch.pbc.all(dim=1)
            volume = torch.linalg.det(batch.cells).abs()
            factor = torch.where(periodic, 1.0 / torch.where(periodic, volume, 1.0), 0.0)
            stress = gradients[1] * factor[:, None, None]
        dipole = torch.zeros_like(batch.dipole).index_add(
            0, batch.structure, charges[:, None] * positions
        )
        born = None
        if need_born:
            born = born_charges(charges, positions, batch, create_graph)
        return Prediction(
            energy=energy,
            forces=-gradients[0],
            stress=stress,
            charges=charges,
            node_energies=node_energies,
            dipole=dipole,
            born=born,
        )

    def energies_and_charges(
        self, batch: Batch, vectors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Node energies [N] (eV) and charges [N] (e), neutral per structure; both float64.

        Parameters
        ----------
        batch : Batch
            Species, edges, total charges.
        vectors : Tensor [E, 3]
            From receiver to sender, angstrom, float64.
        """
        network = self.network
        dtype = network.energy_scale.dtype
        energies, raw = network.raw_outputs(
            batch.species, vectors.to(dtype), batch.edge_index, batch.species.shape[0]
        )
        if self.sigma is None:
            return energies, torch.zeros_like(energies)
        weights = network.charge_weights(batch.species).double()
        charges = neutralise(raw.double(), weights, batch.total_charge, batch.structure)
        return energies, charges


def born_charges(
    charges: torch.Tensor, positions: torch.Tensor, batch: Batch, create_graph: bool
) -> torch.Tensor:
    r"""Born charges dP_a/dr_b of point charges that depend on positions, [N, 3, 3] in e.

    .. math:: Z_{i,ab} = q_i \delta_{ab} + \sum_j d_{a}(i, j) \frac{dq_j}{dr_{ib}}

    with d(i, j) = r_j - r_i for open directions and, along each periodic vector a of the cell, its
    periodic counterpart :math:`a \sin(2\pi(s_j - s_i)) / 2\pi` (s fractional): equal to r_j - r_i
    for neighbours that are close compared to the cell, and the same for every choice of images.
    (The derivative of Resta's phase, Phys. Rev. Lett. 80, 1800 (1998), one phase per direction.)

    Parameters
    ----------
    charges : Tensor [N]
        With their graph to `positions`, e.
    positions : Tensor [N, 3]
        angstrom.
    batch : Batch
        Cells and structures.
    create_graph : bool
        Keep the graph, for a loss.
    """
    identity = torch.eye(3, dtype=charges.dtype, device=charges.device)
    born = charges[:, None, None] * identity
    if not charges.requires_grad:
        return born
    # Open directions: rows of the cell may be zero; any invertible completion has d linear in s.
    cells = _completed(batch.cells, batch.pbc)
    fixed = positions.detach()
    inverse = torch.linalg.inv(cells).index_select(0, batch.structure)
    fractional = torch.bmm(fixed.unsqueeze(1), inverse).squeeze(1)
    angle = 2.0 * math.pi * fractional
    for axis in range(3):
        periodic = batch.pbc[:, axis].index_select(0, batch.structure)
        # first: sum_j f(j) dq_j/dr_i; second: sum_j g(j) dq_j/dr_i, with d = f(j) g(i) - f(i) g(j)
        f = torch.where(periodic, angle[:, axis].sin() / (2.0 * math.pi), fractional[:, axis])
        g = torch.where(periodic, angle[:, axis].cos(), 1.0)
        response_f, response_g = (
            torch.autograd.grad(
                (charges * factor).sum(), positions, create_graph=create_graph, retain_graph=True
            )[0]
            for factor in (f, g)
        )
        response = response_f * g[:, None] - response_g * f[:, None]
        vector = cells[:, axis].index_select(0, batch.structure)
        born = born + vector[:, :, None] * response[:, None, :]
    return born


def _completed(cells: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
    """Cells whose open vectors are replaced so that the matrix can be inverted."""
    from equicalc.data.neighbors import complete_cell

    boxes = [
        torch.from_numpy(complete_cell(cell, flags))
        for cell, flags in zip(cells.detach().cpu().numpy(), pbc.cpu().numpy(), strict=True)
    ]
    return torch.stack(boxes).to(cells)
