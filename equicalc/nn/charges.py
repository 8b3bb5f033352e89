"""Charge models: from the network's outputs to the variables that determine the charges.

Every model gives ``variables [n_local, K]``; what the columns mean, and how charges follow:

=============  =====================  =========================================================
charge model   columns                charges
=============  =====================  =========================================================
none           (none)                 no charges, no Coulomb energy
fixed          q~, w                  ``q = q~ + w (Q - sum q~) / sum w`` with one q~ per element
predicted      q~, w                  the same; q~ depends on the environment
transferred    q~, w, mu_x mu_y mu_z  the same; ``q~_i = n_i / f + sum_j t_ij``, ``t_ij = -t_ji``
equilibrated   chi, eta               minimum of ``sum chi q + eta q^2 / 2 + E_Coulomb(q)``
=============  =====================  =========================================================

with the total charge Q, formal (integer) charges n_i, and the screening factor f = sqrt(eps_inf).
"""

import math
from typing import List, Optional

import torch

from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.nn.radial import RadialBasis

CHARGE_MODELS = ("none", "fixed", "predicted", "transferred", "equilibrated")
CHARGE_WEIGHTS = ("uniform", "element", "environment")

# a linear readout of unit-variance features should start with charges near the nominal ones
CHARGE_SCALE = 0.1
# eV/e and eV/e^2: environments shift electronegativities and hardnesses by such amounts
ELECTRONEGATIVITY_SCALE = 0.5
HARDNESS_SCALE = 2.0
# functions of the distance in the charge transfer, and scalars and vectors of each atom in it
TRANSFER_CHANNELS = 8
# the flow along an edge has no sum over channels to make it of order one
TRANSFER_SCALE = 1.0


def n_extra_outputs(charge_model: str, charge_weights: str) -> int:
    """Outputs per atom that a charge model needs from the readout."""
    own = {"predicted": 1, "equilibrated": 2}.get(charge_model, 0)
    if charge_model in ("none", "equilibrated"):
        return own
    return own + (1 if charge_weights == "environment" else 0)


def neutralised(variables: torch.Tensor, total_charge: Optional[torch.Tensor]) -> torch.Tensor:
    """Return charges ``[n]`` that sum to a total charge, from variables ``q~, w, ...``, ``[n, K]``.

    ``q = q~ + w (Q - sum q~) / sum w``; without a total charge Q they are q~.
    """
    charge = variables[:, 0]
    if total_charge is not None:
        weight = variables[:, 1]
        charge = charge + weight * ((total_charge - charge.sum()) / weight.sum())
    return charge


class NeutralisationWeights(torch.nn.Module):
    """Positive weights w of the neutralisation: equal, per element, or from the environment."""

    def __init__(self, n_species: int, kind: str):
        super().__init__()
        self.from_environment = kind == "environment"
        self.logarithm = torch.nn.Parameter(torch.zeros(n_species), requires_grad=kind == "element")

    def forward(self, outputs: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return weights ``[n]``; the last column of outputs ``[n, k]`` is the environment's."""
        logarithm = self.logarithm.index_select(0, species)
        if self.from_environment:
            # bounded: a vanishing or huge weight would leave all of the excess to one atom
            logarithm = logarithm + torch.tanh(outputs[:, outputs.shape[1] - 1])
        return torch.exp(logarithm)


class NoCharges(torch.nn.Module):
    """No charges: zero columns."""

    def __init__(self, n_species: int):
        super().__init__()
        self.nominal_charges = torch.nn.Parameter(torch.zeros(n_species), requires_grad=False)

    def forward(
        self,
        outputs: torch.Tensor,
        total: torch.Tensor,
        edge_vectors: torch.Tensor,
        distance: torch.Tensor,
        edge_index: torch.Tensor,
        species: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return variables ``[n_local, 0]``."""
        return self.of_atoms(outputs, species[:n_local])

    def of_atoms(self, outputs: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """Return the same from outputs ``[n_local, k]`` and species ``[n_local]``."""
        return outputs[:, :0]


class ElementCharges(torch.nn.Module):
    """Charges ``fixed`` per element or ``predicted``: nominal charge plus environment."""

    def __init__(self, n_species: int, predicted: bool, weights: str):
        super().__init__()
        self.predicted = predicted
        self.nominal_charges = torch.nn.Parameter(torch.zeros(n_species), requires_grad=predicted)
        self.weights = NeutralisationWeights(n_species, weights)
        self.charge_scale = CHARGE_SCALE

    def forward(
        self,
        outputs: torch.Tensor,
        total: torch.Tensor,
        edge_vectors: torch.Tensor,
        distance: torch.Tensor,
        edge_index: torch.Tensor,
        species: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return ``q~, w`` of local atoms, ``[n_local, 2]``; outputs ``[n_local, k]``."""
        return self.of_atoms(outputs, species[:n_local])

    def of_atoms(self, outputs: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """Return the same; species ``[n_local]``."""
        charge = self.nominal_charges.index_select(0, local)
        if self.predicted:
            charge = charge + self.charge_scale * outputs[:, 0]
        return torch.stack([charge, self.weights(outputs, local)], dim=1)


class TransferredCharges(torch.nn.Module):
    r"""Formal charges, screened, plus charge that flows along edges.

    .. math:: \tilde q_i = n_i / f + \sum_j t_{ij}, \qquad
        t_{ij} = \sum_k w_k(r_{ij}) [a_{jk} - a_{ik} + \hat r_{ij} \cdot (p_{ik} + p_{jk})]

    (the split charges of Nistor et al., J. Chem. Phys. 125, 094108 (2006), with amounts from the
    network instead of a minimisation). Flows are antisymmetric, so charge is conserved exactly, and
    every flow has a dipole ``-t_ij r_ij`` (half of it in each of ``t_ij`` and ``t_ji``): the
    polarisation ``V P = sum_i n_i r_i + f sum_i mu_i`` is defined up to multiples of
    ``e R`` (R a lattice vector), as it is in the modern theory of polarisation.
    """

    formal_charges: torch.Tensor
    epsilon_inf: torch.Tensor

    def __init__(
        self,
        formal_charges: List[int],
        l_max: int,
        channels: int,
        radial: RadialBasis,
        hidden: int,
        weights: str,
    ):
        super().__init__()
        n_species = len(formal_charges)
        self.l_max = l_max
        self.register_buffer("formal_charges", torch.tensor(formal_charges, dtype=torch.float64))
        self.register_buffer("epsilon_inf", torch.ones((), dtype=torch.float64))
        self.nominal_charges = torch.nn.Parameter(torch.zeros(n_species), requires_grad=False)
        self.weights = NeutralisationWeights(n_species, weights)
        self.radial = radial
        self.species_scalars = torch.nn.Parameter(torch.zeros(n_species, TRANSFER_CHANNELS))
        self.scalars = torch.nn.Sequential(
            torch.nn.Linear(channels, hidden, bias=False),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, TRANSFER_CHANNELS, bias=False),
        )
        self.vectors = torch.nn.Parameter(
            torch.randn(channels, TRANSFER_CHANNELS) / math.sqrt(channels)
        )
        self.scale = TRANSFER_SCALE

    def forward(
        self,
        outputs: torch.Tensor,
        total: torch.Tensor,
        edge_vectors: torch.Tensor,
        distance: torch.Tensor,
        edge_index: torch.Tensor,
        species: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return ``q~, w, mu`` of local atoms, ``[n_local, 5]``; total ``[n_total, M, C]``."""
        receiver, sender = edge_index[0], edge_index[1]
        potential = self.scalars(total[:, 0]) + self.species_scalars.index_select(0, species)
        flow = potential.index_select(0, sender) - potential.index_select(0, receiver)
        if self.l_max >= 1:
            vector = torch.matmul(total[:, 1:4], self.vectors)
            pair = vector.index_select(0, sender) + vector.index_select(0, receiver)
            unit = edge_vectors / distance.unsqueeze(1)
            flow = flow + (unit.unsqueeze(2) * pair).sum(dim=1)
        transfer = self.scale * (self.radial(distance) * flow).sum(dim=1)
        edge = torch.cat(
            [transfer.unsqueeze(1), -0.5 * transfer.unsqueeze(1) * edge_vectors], dim=1
        )
        local = species[:n_local]
        zeros = torch.zeros((n_local, 4), dtype=edge.dtype, device=edge.device)
        sums = zeros.index_add(0, receiver, edge)
        screened = self.formal_charges / torch.sqrt(self.epsilon_inf)
        charge = screened.index_select(0, local) + sums[:, 0]
        weight = self.weights(outputs, local)
        return torch.cat([charge.unsqueeze(1), weight.unsqueeze(1), sums[:, 1:]], dim=1)


class Electronegativities(torch.nn.Module):
    """Electronegativity chi and hardness eta of ``equilibrated`` charges.

    ``eta_i >= k_e / (sigma_i sqrt(pi))``, the self-energy of the Gaussian, keeps the energy a
    positive definite function of the charges, so that it has one minimum.
    """

    def __init__(self, n_species: int):
        super().__init__()
        self.nominal_charges = torch.nn.Parameter(torch.zeros(n_species), requires_grad=False)
        self.electronegativity = torch.nn.Parameter(torch.zeros(n_species))
        self.hardness = torch.nn.Parameter(torch.ones(n_species))
        self.logarithm_of_sigma = torch.nn.Parameter(torch.zeros(n_species), requires_grad=False)
        self.self_interaction = COULOMB_CONSTANT / math.sqrt(math.pi)
        self.electronegativity_scale = ELECTRONEGATIVITY_SCALE
        self.hardness_scale = HARDNESS_SCALE

    def forward(
        self,
        outputs: torch.Tensor,
        total: torch.Tensor,
        edge_vectors: torch.Tensor,
        distance: torch.Tensor,
        edge_index: torch.Tensor,
        species: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return ``chi, eta`` of local atoms, ``[n_local, 2]``; outputs ``[n_local, 2]``."""
        local = species[:n_local]
        chi = self.electronegativity.index_select(0, local)
        chi = chi + self.electronegativity_scale * outputs[:, 0]
        soft = self.hardness.index_select(0, local) + 0.1 * outputs[:, 1]
        least = self.self_interaction * torch.exp(-self.logarithm_of_sigma)
        eta = least.index_select(0, local) + self.hardness_scale * torch.nn.functional.softplus(
            soft
        )
        return torch.stack([chi, eta], dim=1)
