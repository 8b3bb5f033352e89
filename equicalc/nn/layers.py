"""Message-passing layers: radial basis, convolution, node products."""

import torch

from equicalc.nn.convolution import (
    EquivariantConvolution,
    ScalarConvolution,
    SpeciesConvolution,
)
from equicalc.nn.linear import DegreeLinear
from equicalc.nn.product import SymmetricProduct
from equicalc.nn.radial import RadialBasis


class FirstLayer(torch.nn.Module):
    """Species of neighbours to features ``[n_local, M, C]``."""

    def __init__(
        self,
        radial: RadialBasis,
        convolution: SpeciesConvolution,
        product: SymmetricProduct,
        n_species: int,
        channels: int,
    ):
        super().__init__()
        self.radial = radial
        self.convolution = convolution
        self.product = product
        self.own = torch.nn.Parameter(torch.randn(n_species, channels))

    def forward(
        self,
        species: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        message_scale: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return features of local atoms."""
        basis = self.radial(distance) * message_scale
        messages = self.convolution(species, basis, harmonics, edge_index, n_local)
        local = species[:n_local]
        h = self.product(messages, local)
        own = self.own.index_select(0, local).unsqueeze(1)
        return h + torch.nn.functional.pad(own, [0, 0, 0, h.shape[1] - 1])


class MiddleLayer(torch.nn.Module):
    """Features of neighbours, fully coupled, to new features ``[n_local, M, C]``."""

    def __init__(
        self,
        radial: RadialBasis,
        linear: DegreeLinear,
        convolution: EquivariantConvolution,
        product: SymmetricProduct,
        skip: DegreeLinear,
    ):
        super().__init__()
        self.radial = radial
        self.linear = linear
        self.convolution = convolution
        self.product = product
        self.skip = skip

    def forward(
        self,
        total: torch.Tensor,
        species: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        message_scale: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return features of local atoms from features ``[n_total, M, C]``."""
        basis = self.radial(distance) * message_scale
        x = self.linear(total)
        messages = self.convolution(x, basis, harmonics, edge_index, n_local)
        return self.skip(total[:n_local]) + self.product(messages, species[:n_local])


class LastLayer(torch.nn.Module):
    """Features of neighbours to the scalars that the readout sees."""

    def __init__(self, radial: RadialBasis, linear: DegreeLinear, convolution: ScalarConvolution):
        super().__init__()
        self.radial = radial
        self.linear = linear
        self.convolution = convolution

    def forward(
        self,
        total: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        message_scale: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return scalars ``[n_local, (l_max + 2) C]``: messages and the atom's own scalars."""
        basis = self.radial(distance) * message_scale
        x = self.linear(total)
        messages = self.convolution(x, basis, harmonics, edge_index, n_local)
        return torch.cat([messages, total.select(1, 0)[:n_local]], dim=1)


class OwnScalars(torch.nn.Module):
    """In place of the last layer in a network of one layer: the atom's own scalars."""

    def forward(
        self,
        total: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        message_scale: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return scalars ``[n_local, C]``."""
        return total.select(1, 0)[:n_local]
