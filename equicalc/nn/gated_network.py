"""Message passing with tensor products and gates: the architecture of NequIP and SevenNet."""

from itertools import pairwise
from typing import Dict, List, Tuple

import torch

from equicalc.core import load_library
from equicalc.nn.blocks import Irrep, even_scalars, feature_width, parse_irreps
from equicalc.nn.gate import Gate
from equicalc.nn.gated_config import GatedNetworkConfig, MessageConfig, message_paths
from equicalc.nn.irreps_linear import IrrepsLinear
from equicalc.nn.radial_network import RadialNetwork, SmoothCutoff, activate
from equicalc.nn.radial_table import RadialTable
from equicalc.nn.screened_repulsion import ScreenedRepulsion
from equicalc.nn.spherical import edge_geometry
from equicalc.nn.tabulated import TabulatedNetwork
from equicalc.nn.tensor_convolution import TensorConvolution, path_widths

load_library()  # torch.ops.equicalc.*


class SpeciesLinear(torch.nn.Module):
    """Channel mixing with one set of matrices for each element.

    Choosing the atoms of an element waits for the device that they are on, and keeps it from
    repeating steps: there a few elements (`few`) act on all atoms, and what belongs to others is
    left out.
    """

    def __init__(self, n_species: int, irreps_in: List[Irrep], irreps_out: List[Irrep]):
        super().__init__()
        self.linears = torch.nn.ModuleList(
            IrrepsLinear(irreps_in, irreps_out) for _ in range(n_species)
        )
        self.width_out = feature_width(irreps_out)
        self.few = 4

    @torch.jit.export
    def prepare(self) -> None:
        """See `IrrepsLinear.prepare`."""
        for linear in self.linears:
            linear.prepare()

    def forward(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return mixed features, ``[n, width_in]`` to ``[n, width_out]``; species ``[n]``."""
        if x.device.type != "cpu" and len(self.linears) <= self.few:
            return self.of_all(x, species)
        return self.of_chosen(x, species)

    def of_all(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return what `forward` does, every matrix times all atoms."""
        out = torch.zeros(x.shape[0], self.width_out, dtype=x.dtype, device=x.device)
        for index, linear in enumerate(self.linears):
            out = torch.where((species == index).unsqueeze(1), linear(x), out)
        return out

    def of_chosen(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return what `forward` does, every matrix times the atoms of its element."""
        out = torch.zeros(x.shape[0], self.width_out, dtype=x.dtype, device=x.device)
        for index, linear in enumerate(self.linears):
            atoms = torch.nonzero(species == index).flatten()
            if atoms.numel() > 0:
                out = out.index_add(0, atoms, linear(x.index_select(0, atoms)))
        return out


class OwnLinear(torch.nn.Module):
    """Channel mixing that is the same for every element, with the call of `SpeciesLinear`."""

    def __init__(self, irreps_in: List[Irrep], irreps_out: List[Irrep]):
        super().__init__()
        self.linear = IrrepsLinear(irreps_in, irreps_out)

    @torch.jit.export
    def prepare(self) -> None:
        """See `IrrepsLinear.prepare`."""
        self.linear.prepare()

    def forward(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return mixed features, ``[n, width_in]`` to ``[n, width_out]``."""
        return self.linear(x)


class NoOwn(torch.nn.Module):
    """Nothing of the atom's own features: zero."""

    @torch.jit.export
    def prepare(self) -> None:
        """Nothing to prepare."""

    def forward(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return a zero that adds to anything."""
        return torch.zeros(1, 1, dtype=x.dtype, device=x.device)


class GatedConvolution(torch.nn.Module):
    """What all layers have: radial functions, convolution, mixing of messages.

    With ``fused`` the radial functions come from a table, which `prepare` fills, and the
    convolution from its operator; without, everything is computed by torch expressions. With
    ``bias`` constants are added to the even scalars of mixed messages.
    """

    def __init__(
        self,
        config: MessageConfig,
        features: List[Irrep],
        targets: List[Irrep],
        bias: bool = False,
    ):
        super().__init__()
        paths = message_paths(features, targets, config.l_max, config.parity)
        instructions = [(block, l1, l3, 1.0) for block, l1, l3, _ in paths]
        widths = path_widths(features, instructions)
        cutoff = SmoothCutoff(config.cutoff_function, config.cutoff, config.cutoff_parameter)
        self.radial = RadialNetwork(
            cutoff,
            config.n_bessel,
            config.bessel_prefactor,
            [*config.radial_hidden, sum(widths)],
            config.radial_activation,
        )
        self.convolution = TensorConvolution(
            features,
            config.l_max,
            instructions,
            RadialTable(widths, config.cutoff, config.table_spacing, cutoff.breaks()),
            config.parity,
        )
        self.mix = IrrepsLinear(self.convolution.irreps_out, targets, bias)
        self.fused = True

    @torch.jit.export
    def prepare(self) -> None:
        """Fill the table of radial functions, and what the operator of `mix` keeps."""
        self.mix.prepare()
        self.convolution.table.fit(self.radial(self.convolution.table.points()))

    def forward(
        self,
        senders: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return mixed messages ``[n_local, W]`` from features ``[n_total, W_in]`` of senders."""
        if self.fused:
            messages = self.convolution(senders, distance, harmonics, edge_index, n_local)
        else:
            messages = self.convolution.with_weights(
                senders, self.radial(distance), harmonics, edge_index, n_local
            )
        return self.mix(messages)


class SpeciesLayer(torch.nn.Module):
    """First layer: what senders send and atoms add depends on their species only.

    `senders` and `own` are tables over species; nothing needs to be exchanged between ranks.
    """

    def __init__(self, config: GatedNetworkConfig):
        super().__init__()
        n_species = len(config.elements)
        features = parse_irreps(config.features[0])
        self.gate = _gate(config, 0)
        self.messages = GatedConvolution(config, features, self.gate.irreps_in)
        self.senders = torch.nn.Parameter(torch.randn(n_species, feature_width(features)))
        self.own = torch.nn.Parameter(torch.randn(n_species, self.messages.mix.width_out))
        self.constrain()

    @torch.jit.unused
    def constrain(self) -> None:
        """Leave even scalars only in what an element adds: it has no direction."""
        with torch.no_grad():
            self.own.mul_(even_scalars(self.gate.irreps_in).to(self.own))

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
        h = self.messages(senders, distance, harmonics, edge_index, n_local)
        return self.gate(h + self.own.index_select(0, species[:n_local]))


class GatedLayer(torch.nn.Module):
    """Features of atoms and their neighbours to new features."""

    sender_scale: torch.Tensor

    def __init__(self, config: GatedNetworkConfig, index: int):
        super().__init__()
        features = parse_irreps(config.features[index])
        self.gate = _gate(config, index)
        self.linear = IrrepsLinear(features, features, config.biases)
        # of what an atom sends, by species
        self.has_sender_scale = config.sender_scale
        self.register_buffer("sender_scale", torch.ones(len(config.elements)))
        self.messages = GatedConvolution(config, features, self.gate.irreps_in, config.biases)
        self.own: torch.nn.Module = NoOwn()
        if config.own[index] == "linear":
            self.own = OwnLinear(features, self.gate.irreps_in)
        elif config.own[index] == "species":
            self.own = SpeciesLinear(len(config.elements), features, self.gate.irreps_in)

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
        local = species[:n_local]
        sent = self.linear(x)
        if self.has_sender_scale:
            sent = sent * self.sender_scale.index_select(0, local).unsqueeze(1)
        senders = torch.ops.equicalc.exchange(sent, species.shape[0])
        h = self.messages(senders, distance, harmonics, edge_index, n_local)
        return self.gate(h + self.own(x, local))


class ScalarReadout(torch.nn.Module):
    """Scalars of an atom to its energy: a perceptron without biases, or one vector."""

    def __init__(self, width: int, hidden: List[int], activation: str):
        super().__init__()
        sizes = [width, *hidden, 1]
        self.n_hidden = len(hidden)
        self.activation = activation
        self.weights = torch.nn.ParameterList(
            [torch.nn.Parameter(torch.randn(rows, columns)) for rows, columns in pairwise(sizes)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[n]`` from ``[n, width]``."""
        for index, weight in enumerate(self.weights):
            x = torch.matmul(x, weight)
            if index < self.n_hidden:
                x = activate(x, self.activation)
        return x.squeeze(1)


class GatedNetwork(TabulatedNetwork):
    """Layers of tensor-product convolutions and gates, then one energy for each atom.

    The first layer sees species only. Between the others, features of atoms that other ranks own
    come through ``equicalc::exchange``. For evaluation with ``fused`` parts call `prepare` first;
    front ends do so when they load a model file.
    """

    architecture = "gated"

    def __init__(self, config: GatedNetworkConfig):
        width = sum(mul for mul, _, _ in parse_irreps(config.features[-1]))
        super().__init__(config, n_scales=len(config.elements), n_scalars=width)
        self.l_max = config.l_max
        self.fused = True
        self.first = SpeciesLayer(config)
        self.layers = torch.nn.ModuleList(
            GatedLayer(config, index) for index in range(1, config.n_layers)
        )
        self.readout = ScalarReadout(width, config.readout_hidden, config.readout_activation)
        self.has_repulsion = config.repulsion is not None
        self.repulsion = ScreenedRepulsion(config.elements, config.repulsion)
        self.to(torch.float64)

    @torch.jit.export
    def prepare(self) -> None:
        """Fill tables from the weights they stand for; call in float64, before any cast."""
        self.first.messages.prepare()
        for layer in self.layers:
            layer.messages.prepare()
            layer.linear.prepare()
            layer.own.prepare()

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
        for layer in self.layers:
            h = layer(h, species, distance, harmonics, edge_index, n_local)
        energy = self.readout(h) * self.energy_scale.index_select(0, local)
        reference = self.reference_fixed.to(torch.float64) * self.reference_unit
        energy = energy.to(torch.float64) + reference.index_select(0, local)
        if self.has_repulsion:
            energy = energy + self.repulsion(distance, species, edge_index, n_local)
        return energy, self.charge_variables(h, local)


def _gate(config: GatedNetworkConfig, index: int) -> Gate:
    def by_parity(activations: Dict[str, List[object]]) -> Dict[int, Tuple[str, float]]:
        return {1 if key == "e" else -1: (str(a), float(f)) for key, (a, f) in activations.items()}  # type: ignore[arg-type]

    features = parse_irreps(config.features[index + 1])
    return Gate(features, by_parity(config.scalars), by_parity(config.gates))
