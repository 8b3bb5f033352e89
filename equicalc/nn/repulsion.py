"""Short-range repulsion between nuclei, so that close contacts never become attractive."""

import torch
from ase.data import atomic_numbers, covalent_radii

from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.nn.radial import envelope

BOHR = 0.529177210903


class ZieglerBiersackLittmark(torch.nn.Module):
    """Universal screened nuclear repulsion (ZBL), switched off at the sum of covalent radii.

    ``E = k_e Z_i Z_j / r  phi(r / a)  u(r / (R_i + R_j))`` per pair with
    ``a = 0.8854 a_0 / (Z_i^0.23 + Z_j^0.23)`` and
    ``phi(x) = sum_k c_k exp(-d_k x)`` (Ziegler, Biersack, Littmark, "The Stopping and Range of
    Ions in Solids", 1985). Half of each pair energy goes to the receiver.
    """

    numbers: torch.Tensor
    radii: torch.Tensor
    coefficients: torch.Tensor
    exponents: torch.Tensor

    def __init__(self, elements: list[str], cutoff: float):
        super().__init__()
        z = [atomic_numbers[symbol] for symbol in elements]
        self.cutoff = cutoff
        self.bohr = BOHR
        self.coulomb = COULOMB_CONSTANT
        self.register_buffer("numbers", torch.tensor(z, dtype=torch.float64), persistent=False)
        self.register_buffer(
            "radii", torch.tensor(covalent_radii[z], dtype=torch.float64), persistent=False
        )
        self.register_buffer(
            "coefficients",
            torch.tensor([0.18175, 0.50986, 0.28022, 0.02817], dtype=torch.float64),
            persistent=False,
        )
        self.register_buffer(
            "exponents",
            torch.tensor([3.19980, 0.94229, 0.40290, 0.20162], dtype=torch.float64),
            persistent=False,
        )

    def forward(
        self, distance: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor
    ) -> torch.Tensor:
        """Return half the pair energy of every edge ``[E]`` (eV), distances in angstrom."""
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
