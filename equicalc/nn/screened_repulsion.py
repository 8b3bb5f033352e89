"""Screened repulsion of nuclei with the constants that other codes chose."""

import math
from typing import Any, Dict, List, Optional

import torch
from ase.data import atomic_numbers, covalent_radii

from equicalc.nn.devices import has_operators
from equicalc.nn.repulsion import pair_table, summed_on_receivers


class ScreenedRepulsion(torch.nn.Module):
    """ZBL repulsion ``E = k Z_i Z_j / r phi(r / a) u(r / R)`` per pair, half of it to each atom.

    ``a = length / (Z_i^x + Z_j^x)``, ``phi(x) = sum_k c_k exp(-d_k x)``, u the polynomial cutoff.
    With ``fused``, where it runs, one operator; else torch expressions, its oracle.

    Parameters
    ----------
    elements : list of str
    settings : dict, optional
        ``energy`` k (eV angstrom), ``length`` (angstrom), ``exponent`` x, ``coefficients`` c and
        ``decays`` d, ``order`` of the cutoff and its ``reach`` R (angstrom), None for the sum of
        covalent radii. Without settings the energy is zero.
    """

    numbers: torch.Tensor
    radii: torch.Tensor
    coefficients: torch.Tensor
    decays: torch.Tensor
    pairs: torch.Tensor

    def __init__(self, elements: List[str], settings: Optional[Dict[str, Any]]):
        super().__init__()
        settings = settings or {}
        self.fused = True
        self.energy = float(settings.get("energy", 0.0))
        self.length = float(settings.get("length", 1.0))
        self.exponent = float(settings.get("exponent", 0.0))
        self.order = float(settings.get("order", 6.0))
        z = [atomic_numbers[symbol] for symbol in elements]
        reach = settings.get("reach")
        radii = covalent_radii[z].tolist() if reach is None else [0.5 * reach] * len(z)
        for name, values in (
            ("numbers", [float(number) for number in z]),
            ("radii", radii),
            ("coefficients", settings.get("coefficients", [0.0])),
            ("decays", settings.get("decays", [0.0])),
        ):
            values = torch.tensor(values, dtype=torch.float64)
            self.register_buffer(name, values, persistent=False)
        strengths = [(0.5 * self.energy) ** 0.5 * number for number in z]
        powers = [float(number) ** self.exponent for number in z]
        pairs = pair_table(strengths, powers, radii, self.length, math.inf)
        self.register_buffer("pairs", pairs, persistent=False)

    def forward(
        self,
        distance: torch.Tensor,
        species: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return energies of local atoms, float64 ``[n_local]`` (eV); distances in angstrom."""
        if self.fused and has_operators(distance):
            return torch.ops.equicalc.screened_repulsion(
                distance,
                species,
                edge_index,
                self.pairs,
                self.coefficients,
                self.decays,
                self.order,
                n_local,
            )
        of_edges = self.half_energies(distance, species, edge_index)
        return summed_on_receivers(of_edges, species, edge_index, n_local)

    def half_energies(
        self, distance: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor
    ) -> torch.Tensor:
        """Return half the pair energy of every edge ``[E]`` (eV)."""
        receiver = species.index_select(0, edge_index[0])
        sender = species.index_select(0, edge_index[1])
        z_i = self.numbers.index_select(0, receiver)
        z_j = self.numbers.index_select(0, sender)
        length = self.length / (z_i.pow(self.exponent) + z_j.pow(self.exponent))
        terms = torch.exp(-self.decays * (distance / length).unsqueeze(1))
        screening = (self.coefficients * terms).sum(dim=1)
        x = distance / (self.radii.index_select(0, receiver) + self.radii.index_select(0, sender))
        p = self.order
        half = 0.5 * (p + 1.0) * (p + 2.0)
        cutoff = 1.0 - x.pow(p) * (half - x * (p * (p + 2.0) - x * (0.5 * p * (p + 1.0))))
        pair = 0.5 * self.energy * z_i * z_j / distance * screening * cutoff
        return torch.where(x < 1.0, pair, torch.zeros_like(pair))
