"""Readout: scalars of an atom to its energy and its raw charge."""

from typing import Tuple

import torch

# a linear readout of unit-variance features should start with charges near the nominal ones
CHARGE_SCALE = 0.1


class Readout(torch.nn.Module):
    """Linear plus two-layer readout with species-dependent bias.

    Energy: dimensionless, to be scaled by the network. Charge: nominal charge of the element plus
    a learned environment part, in e.
    """

    def __init__(self, width: int, hidden: int, n_species: int, charges: bool):
        super().__init__()
        self.charges = charges
        self.charge_scale = CHARGE_SCALE
        n_out = 2 if charges else 1
        self.linear = torch.nn.Linear(width, n_out, bias=False)
        self.species_bias = torch.nn.Parameter(torch.zeros(n_species, hidden))
        self.inner = torch.nn.Linear(width, hidden, bias=False)
        self.output = torch.nn.Sequential(
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, n_out, bias=False),
        )
        self.energy_bias = torch.nn.Parameter(torch.zeros(n_species))
        self.nominal_charges = torch.nn.Parameter(torch.zeros(n_species))

    def forward(
        self, scalars: torch.Tensor, species: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return energies and raw charges, each ``[n]``; scalars ``[n, width]``."""
        bias = self.species_bias.index_select(0, species)
        out = self.linear(scalars) + self.output(self.inner(scalars) + bias)
        energy = out[:, 0] + self.energy_bias.index_select(0, species)
        if self.charges:
            nominal = self.nominal_charges.index_select(0, species)
            return energy, nominal + self.charge_scale * out[:, 1]
        return energy, torch.zeros_like(energy)
