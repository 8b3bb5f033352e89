"""What networks of other codes share: tables, reference energies, no charges."""

from typing import TYPE_CHECKING, Any

import torch

from equicalc.nn.network import REFERENCE_UNIT
from equicalc.nn.radial_table import RadialTable


class TabulatedNetwork(torch.nn.Module):
    """A network without charges, whose radial functions come from tables.

    Subclasses have `prepare`, which fills the tables from the weights they stand for, and set
    `architecture`, the word for them in model files.
    """

    architecture = ""
    if TYPE_CHECKING:
        config: Any  # TorchScript would take an annotation for a type of its own
    reference_fixed: torch.Tensor
    energy_scale: torch.Tensor
    epsilon_inf: torch.Tensor

    def __init__(self, n_species: int, n_scales: int):
        super().__init__()
        # see EquiNetwork: integers keep reference energies exact in float32
        self.register_buffer("reference_fixed", torch.zeros(n_species, dtype=torch.int64))
        self.reference_unit = REFERENCE_UNIT
        self.register_buffer("energy_scale", torch.ones(n_scales))
        # no charges, no screening
        self.register_buffer("epsilon_inf", torch.ones(()))

    @torch.jit.unused
    def nominal_charges(self) -> torch.Tensor:
        """Return zeros: the network has no charges."""
        return torch.zeros(len(self.config.elements), dtype=torch.float64)

    @torch.jit.unused
    def reference_energies(self) -> torch.Tensor:
        """Return the energy of every element that layers add to, float64 ``[n_species]``, eV."""
        return self.reference_fixed.to(torch.float64) * REFERENCE_UNIT

    @torch.jit.unused
    def set_reference(self, energies: torch.Tensor, scale: torch.Tensor) -> None:
        """Set the energy of every element and the scale of what layers add, eV."""
        self.reference_fixed.copy_(torch.round(energies.double() / REFERENCE_UNIT))
        self.energy_scale.copy_(scale)

    @torch.jit.unused
    def empty_tables(self) -> None:
        """Drop the tables, for small files; `prepare` fills them again."""
        for module in self.modules():
            if isinstance(module, RadialTable):
                module.coefficients = torch.zeros(0, dtype=torch.float64)
