"""Short-range repulsion between nuclei, so that close contacts never become attractive."""

from typing import List

import torch
from ase.data import atomic_numbers, covalent_radii

from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.nn.devices import has_operators
from equicalc.nn.radial import envelope

BOHR = 0.529177210903


def pair_table(
    strengths: List[float], powers: List[float], radii: List[float], length: float, cutoff: float
) -> torch.Tensor:
    """Return what `equicalc::screened_repulsion` knows of pairs of elements, ``[3, S, S]``.

    Float64 in the bits of int64: casts of a network, which would round it, leave integers alone.

    Parameters
    ----------
    strengths : list of float
        ``sqrt(k / 2) Z`` of every element, (eV angstrom)^(1/2).
    powers : list of float
        ``Z^x`` of every element.
    radii : list of float
        angstrom.
    length, cutoff : float
        Of ``a = length / (Z_i^x + Z_j^x)`` and of the longest reach, angstrom.
    """
    s, z, r = (torch.tensor(v, dtype=torch.float64) for v in (strengths, powers, radii))
    sums = [(x.unsqueeze(1) + x.unsqueeze(0)) for x in (z, r)]
    table = torch.stack([torch.outer(s, s), sums[0] / length, sums[1].clamp(max=cutoff)])
    return table.view(torch.int64)


def summed_on_receivers(
    of_edges: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor, n_local: int
) -> torch.Tensor:
    """Return sums over the edges of each local atom ``[n_local]``, float64."""
    zeros = torch.zeros_like(species[:n_local], dtype=torch.float64)
    return zeros.index_add(0, edge_index[0], of_edges.to(torch.float64))


class ZieglerBiersackLittmark(torch.nn.Module):
    """Universal screened nuclear repulsion (ZBL), switched off at the sum of covalent radii.

    ``E = k_e Z_i Z_j / r  phi(r / a)  u(r / (R_i + R_j))`` per pair with
    ``a = 0.8854 a_0 / (Z_i^0.23 + Z_j^0.23)`` and
    ``phi(x) = sum_k c_k exp(-d_k x)`` (Ziegler, Biersack, Littmark, "The Stopping and Range of
    Ions in Solids", 1985). Half of each pair energy goes to the receiver. With ``fused``, where it
    runs, one operator; else torch expressions, its oracle.
    """

    numbers: torch.Tensor
    radii: torch.Tensor
    coefficients: torch.Tensor
    exponents: torch.Tensor
    pairs: torch.Tensor

    def __init__(self, elements: list[str], cutoff: float):
        super().__init__()
        z = [atomic_numbers[symbol] for symbol in elements]
        radii = covalent_radii[z].tolist()
        self.cutoff = cutoff
        self.bohr = BOHR
        self.coulomb = COULOMB_CONSTANT
        self.fused = True
        for name, values in (
            ("numbers", [float(number) for number in z]),
            ("radii", radii),
            ("coefficients", [0.18175, 0.50986, 0.28022, 0.02817]),
            ("exponents", [3.19980, 0.94229, 0.40290, 0.20162]),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        strengths = [(0.5 * COULOMB_CONSTANT) ** 0.5 * number for number in z]
        powers = [float(number) ** 0.23 for number in z]
        pairs = pair_table(strengths, powers, radii, 0.8854 * BOHR, cutoff)
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
                self.exponents,
                6.0,
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
        length = 0.8854 * self.bohr / (z_i.pow(0.23) + z_j.pow(0.23))
        x = (distance / length).unsqueeze(1)
        screening = (self.coefficients * torch.exp(-self.exponents * x)).sum(dim=1)
        reach = self.radii.index_select(0, receiver) + self.radii.index_select(0, sender)
        reach = torch.clamp(reach, max=self.cutoff)
        return 0.5 * self.coulomb * z_i * z_j / distance * screening * envelope(distance, reach)
