"""Readout: scalars of an atom to its energy and to the numbers its charge is made of."""

from typing import Tuple

import torch


class Readout(torch.nn.Module):
    """Linear plus two-layer readout with species-dependent bias.

    The energy is dimensionless, to be scaled by the network; the other outputs are for the charge
    model (`equicalc.nn.charges`).
    """

    def __init__(self, width: int, hidden: int, n_species: int, n_extra: int):
        super().__init__()
        n_out = 1 + n_extra
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

    def forward(
        self, scalars: torch.Tensor, species: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return energies ``[n]`` and extra outputs ``[n, n_extra]``; scalars ``[n, width]``."""
        bias = self.species_bias.index_select(0, species)
        out = self.linear(scalars) + self.output(self.inner(scalars) + bias)
        return out[:, 0] + self.energy_bias.index_select(0, species), out[:, 1:]
