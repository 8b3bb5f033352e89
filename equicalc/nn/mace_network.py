"""Message passing with symmetric contractions: the architecture of MACE."""

from typing import List, Tuple

import torch

from equicalc.core import load_library
from equicalc.nn.blocks import Irrep, even_scalars, feature_width, parse_irreps
from equicalc.nn.contraction import SymmetricContraction, equivariant_basis, symmetric_terms
from equicalc.nn.convolution import sum_on_receivers
from equicalc.nn.gated_network import GatedConvolution, NoOwn, ScalarReadout, SpeciesLinear
from equicalc.nn.irreps_linear import IrrepsLinear
from equicalc.nn.mace_config import MaceConfig, MaceLayerConfig
from equicalc.nn.radial_network import RadialNetwork, SmoothCutoff
from equicalc.nn.radial_table import RadialTable
from equicalc.nn.screened_repulsion import ScreenedRepulsion
from equicalc.nn.spherical import edge_geometry
from equicalc.nn.tabulated import TabulatedNetwork

load_library()  # torch.ops.equicalc.*


class MaceNetwork(TabulatedNetwork):
    """Layers of convolution and symmetric contraction, each with its share of the energy.

    The first layer sees species only. Between the others, features of atoms that other ranks own
    come through ``equicalc::exchange``. For evaluation with ``fused`` parts call `prepare` first;
    front ends do so when they load a model file.
    """

    architecture = "mace"

    def __init__(self, config: MaceConfig):
        super().__init__(config, n_scales=1, n_scalars=config.channels)
        self.l_max = config.l_max
        self.channels = config.channels
        self.first = MaceFirstLayer(config)
        self.layers = torch.nn.ModuleList(
            MaceLayer(config, index) for index in range(1, config.n_layers)
        )
        # of all layers but the last, in order
        self.readouts = torch.nn.ModuleList(
            ScalarReadout(config.channels, [], "silu") for _ in range(config.n_layers - 1)
        )
        self.last_readout = ScalarReadout(
            config.channels, config.readout_hidden, config.readout_activation
        )
        self.fused = True
        self.has_repulsion = config.repulsion is not None
        self.repulsion = ScreenedRepulsion(config.elements, config.repulsion)
        self.to(torch.float64)

    @torch.jit.export
    def prepare(self) -> None:
        """Fill tables from the weights they stand for; call in float64, before any cast."""
        self.first.body.prepare()
        for layer in self.layers:
            layer.linear.prepare()
            layer.own.prepare()
            layer.body.prepare()

    def raw_outputs(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies and charge variables; see `ChargedNetwork.raw_outputs`."""
        distance, harmonics = edge_geometry(edge_vectors, self.l_max, self.fused)
        local = species[:n_local]
        h = self.first(species, distance, harmonics, edge_index, n_local)
        energy = torch.zeros(n_local, dtype=torch.float64, device=h.device)
        for layer, readout in zip(self.layers, self.readouts):  # noqa: B905 (TorchScript)
            energy = energy + readout(h[:, : self.channels])
            h = layer(h, species, distance, harmonics, edge_index, n_local)
        energy = energy + self.last_readout(h[:, : self.channels])
        if self.has_repulsion:
            energy = energy + self.repulsion(distance, species, edge_index, n_local)
        reference = self.reference_fixed.to(torch.float64) * self.reference_unit
        energy = energy * self.energy_scale + reference.index_select(0, local)
        return energy, self.charge_variables(h[:, : self.channels], local)


class MaceFirstLayer(torch.nn.Module):
    """First layer: what senders send and atoms add depends on their species only.

    `senders` and `own` are tables over species; nothing needs to be exchanged between ranks.
    """

    def __init__(self, config: MaceConfig):
        super().__init__()
        layer = config.layers[0]
        n_species, sent = len(config.elements), parse_irreps(layer.sent)
        self.body = MaceBody(config, layer, sent)
        self.senders = torch.nn.Parameter(torch.randn(n_species, feature_width(sent)))
        self.own = torch.nn.Parameter(
            torch.zeros(n_species, feature_width(parse_irreps(layer.features)))
        )
        self.features = parse_irreps(layer.features)

    @torch.jit.unused
    def constrain(self) -> None:
        """Leave scalars only in what an element adds: it has no direction."""
        self.own.mul_(even_scalars(self.features).to(self.own))

    def forward(
        self,
        species: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return features ``[n_local, W]``; species ``[n_total]`` int64."""
        senders = self.senders.index_select(0, species)
        local = species[:n_local]
        h = self.body(senders, local, distance, harmonics, edge_index, n_local)
        return h + self.own.index_select(0, local)


class MaceLayer(torch.nn.Module):
    """Features of atoms and their neighbours to new features."""

    def __init__(self, config: MaceConfig, index: int):
        super().__init__()
        layer = config.layers[index]
        before = parse_irreps(config.layers[index - 1].features)
        sent, after = parse_irreps(layer.sent), parse_irreps(layer.features)
        self.linear = IrrepsLinear(before, sent)
        self.body = MaceBody(config, layer, sent)
        self.own: torch.nn.Module = NoOwn()
        if layer.own:
            self.own = SpeciesLinear(len(config.elements), before, after)

    def forward(
        self,
        x: torch.Tensor,
        species: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return features ``[n_local, W]`` from features of local atoms."""
        # mixed before they are sent, so that each rank mixes its own atoms only
        senders = torch.ops.equicalc.exchange(self.linear(x), species.shape[0])
        local = species[:n_local]
        h = self.body(senders, local, distance, harmonics, edge_index, n_local)
        return h + self.own(x, local)


class MaceBody(torch.nn.Module):
    """What all layers have: messages, their normalisation, symmetric contraction, mixing."""

    def __init__(self, config: MaceConfig, layer: MaceLayerConfig, sent: List[Irrep]):
        super().__init__()
        n_species, channels = len(config.elements), config.channels
        contracted, features = config.contracted, parse_irreps(layer.features)
        self.messages = GatedConvolution(config, sent, contracted)
        self.density: torch.nn.Module = NeighbourDensity(config) if layer.density else NoDensity()
        self.species_mix: torch.nn.Module = NoMix()
        if layer.mix_by_species:
            self.species_mix = SpeciesLinear(n_species, contracted, contracted)
        n_components = sum(2 * degree + 1 for _, degree, _ in contracted)
        self.shape = [n_components, channels]
        terms = symmetric_terms(config.l_max, layer.degrees, layer.correlation)
        self.products = [config.l_max, layer.correlation, *layer.degrees]
        self.contraction = SymmetricContraction(
            terms,
            torch.randn(n_species, len(terms), channels) / len(terms),
            n_components,
            sum(2 * degree + 1 for degree in layer.degrees),
        )
        self.mix = IrrepsLinear(features, features)

    @torch.jit.unused
    def constrain(self) -> None:
        """Project the coefficients of monomials on those of equivariant products."""
        l_max, correlation, *degrees = self.products
        weight = self.contraction.weight
        basis = equivariant_basis(l_max, tuple(degrees), correlation).to(weight)
        weight.copy_(torch.matmul(basis, torch.matmul(basis.T, weight)))

    @torch.jit.export
    def prepare(self) -> None:
        """Fill tables of radial functions, and what operators of linear layers keep."""
        self.messages.prepare()
        self.density.prepare()
        self.species_mix.prepare()
        self.mix.prepare()

    def forward(
        self,
        senders: torch.Tensor,
        local: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return features ``[n_local, W]``; local: species ``[n_local]``."""
        a = self.messages(senders, distance, harmonics, edge_index, n_local)
        a = self.species_mix(self.density(a, distance, edge_index), local)
        products = self.contraction(a.view(n_local, self.shape[0], self.shape[1]), local)
        return self.mix(products.flatten(1))


class NeighbourDensity(torch.nn.Module):
    """Divide messages by 1 plus a sum over neighbours of ``tanh(b(r)^2)``.

    b is a linear combination of the radial functions.
    """

    def __init__(self, config: MaceConfig):
        super().__init__()
        cutoff = SmoothCutoff(config.cutoff_function, config.cutoff, config.cutoff_parameter)
        self.radial = RadialNetwork(
            cutoff, config.n_bessel, config.bessel_prefactor, [1], config.radial_activation
        )
        self.table = RadialTable([1], config.cutoff, config.table_spacing)
        self.fused = True

    def of_edges(self, distance: torch.Tensor) -> torch.Tensor:
        """Return the summed function ``[E, 1]``, distances in angstrom."""
        return torch.tanh(self.radial(distance).pow(2))

    @torch.jit.export
    def prepare(self) -> None:
        """Fill the table of the summed function."""
        self.table.fit(self.of_edges(self.table.points()))

    def forward(
        self, messages: torch.Tensor, distance: torch.Tensor, edge_index: torch.Tensor
    ) -> torch.Tensor:
        """Return messages ``[n_local, W]`` divided."""
        each = self.table(distance) if self.fused else self.of_edges(distance)
        return messages / (1.0 + sum_on_receivers(each, edge_index, messages.shape[0]))


class NoDensity(torch.nn.Module):
    """Leave messages as they are, with the call of `NeighbourDensity`."""

    @torch.jit.export
    def prepare(self) -> None:
        """Do nothing: there is no table."""

    def forward(
        self, messages: torch.Tensor, distance: torch.Tensor, edge_index: torch.Tensor
    ) -> torch.Tensor:
        """Return the messages."""
        return messages


class NoMix(torch.nn.Module):
    """Leave messages as they are, with the call of `SpeciesLinear`."""

    @torch.jit.export
    def prepare(self) -> None:
        """Do nothing: there are no matrices."""

    def forward(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return x."""
        return x
