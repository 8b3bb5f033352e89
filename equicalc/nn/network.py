"""The network: species and edge vectors in, node energies and raw charges out."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Optional, Tuple

import torch

from equicalc.core import load_library
from equicalc.nn.convolution import (
    EquivariantConvolution,
    ScalarConvolution,
    SpeciesConvolution,
)
from equicalc.nn.irreps import n_components
from equicalc.nn.layers import FirstLayer, LastLayer, MiddleLayer
from equicalc.nn.linear import DegreeLinear
from equicalc.nn.product import SymmetricProduct
from equicalc.nn.radial import RadialBasis
from equicalc.nn.readout import Readout
from equicalc.nn.repulsion import ZieglerBiersackLittmark
from equicalc.nn.spherical import L_MAX_SUPPORTED, spherical_harmonics

load_library()  # torch.ops.equicalc.exchange

REFERENCE_UNIT = 2.0**-40  # eV


@dataclass
class NetworkConfig:
    """Shape of the network.

    Parameters
    ----------
    elements : list of str
        Chemical symbols; the position in this list is the species index.
    cutoff : float
        Reach of one layer, angstrom.
    n_layers : int
        Message-passing layers, at least 2: the first sees species, the last sends scalars, those
        between couple fully.
    l_max : int
        Highest degree of spherical harmonics and features, 0 to 3.
    channels : int
        Feature channels per component.
    n_bessel, radial_hidden, n_radial : int
        Bessel functions, hidden width, and number of learned radial functions of each layer.
    correlation : int
        Highest power of the node features in the products, 1 to 4 (1: linear).
    species_channels : int
        Species channels of the first layer; with no more elements than this they are one-hot.
    readout_hidden : int
        Hidden width of the readout.
    parity : bool
        O(3) (True) or SO(3) couplings.
    repulsion : bool
        Add the ZBL repulsive core.
    charges : bool
        Predict charges, and give the model a Coulomb energy.
    sigma : float
        Width of the Gaussian charges, angstrom.
    """

    elements: list[str] = field(default_factory=list)
    cutoff: float = 5.0
    n_layers: int = 2
    l_max: int = 2
    channels: int = 64
    n_bessel: int = 8
    n_radial: int = 8
    radial_hidden: int = 32
    correlation: int = 3
    species_channels: int = 8
    readout_hidden: int = 64
    parity: bool = True
    repulsion: bool = True
    charges: bool = True
    sigma: float = 1.0

    def __post_init__(self) -> None:
        limits = {"n_layers": (2, 8), "l_max": (0, L_MAX_SUPPORTED), "correlation": (1, 4)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"model.{name} is {value}; it must lie between {low} and {high}")
        for name in ("cutoff", "sigma", "channels", "n_bessel", "n_radial", "species_channels"):
            if not getattr(self, name) > 0:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it must be positive")
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"model.elements must be distinct chemical symbols: {self.elements}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return dataclasses.asdict(self)

    @property
    def exchange_width(self) -> int:
        """Numbers per atom in the widest message between layers."""
        return n_components(self.l_max) * self.channels

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "NetworkConfig":
        """Build from plain data as `to_dict` gives it."""
        return cls(**data)


class EquiNetwork(torch.nn.Module):
    """E(3)-equivariant message passing with low-rank radial functions and node products.

    The first layer sums ``u(z_j) B(r) Y`` over neighbours and forms products up to the correlation
    order, middle layers couple neighbour features fully, the last layer gathers scalars only.
    Between layers, features of atoms owned by other ranks come through ``equicalc::exchange``.
    """

    reference_fixed: torch.Tensor
    energy_scale: torch.Tensor
    message_scale: torch.Tensor
    neutralisation_weights: torch.Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        n_species, l_max, channels = len(config.elements), config.l_max, config.channels
        self.l_max = l_max
        self.has_repulsion = config.repulsion
        self.first = FirstLayer(
            _radial(config),
            SpeciesConvolution(
                n_species,
                min(n_species, config.species_channels),
                config.n_radial,
                l_max,
                channels,
            ),
            _product(config),
            n_species,
            channels,
        )
        self.middle = torch.nn.ModuleList(
            MiddleLayer(
                _radial(config),
                DegreeLinear(l_max, channels, channels),
                EquivariantConvolution(config.n_radial, l_max, channels, config.parity),
                _product(config),
                DegreeLinear(l_max, channels, channels),
            )
            for _ in range(config.n_layers - 2)
        )
        self.last = LastLayer(
            _radial(config),
            DegreeLinear(l_max, channels, channels),
            ScalarConvolution(config.n_radial, l_max, channels),
        )
        self.readout = Readout(
            (l_max + 2) * channels, config.readout_hidden, n_species, config.charges
        )
        self.repulsion = ZieglerBiersackLittmark(config.elements, config.cutoff)
        # fixed point in units of REFERENCE_UNIT: module.to(float32) leaves integers alone and so
        # does not round reference energies, which can be thousands of eV
        self.register_buffer("reference_fixed", torch.zeros(n_species, dtype=torch.int64))
        self.reference_unit = REFERENCE_UNIT
        self.register_buffer("energy_scale", torch.ones(()))
        self.register_buffer("message_scale", torch.ones(()))
        self.register_buffer("neutralisation_weights", torch.ones(n_species))
        # born in float64 whatever torch's default, so that coupling coefficients are exact there;
        # callers cast down
        self.to(torch.float64)

    @torch.jit.unused
    def set_statistics(
        self,
        reference_energies: dict[str, float],
        energy_scale: float,
        mean_neighbours: float,
        nominal_charges: dict[str, float] | None = None,
    ) -> None:
        """Set what the data fix before training.

        Parameters
        ----------
        reference_energies : dict
            Energy of every element of the model, eV.
        energy_scale : float
            Scale of the learned node energies, eV.
        mean_neighbours : float
            Mean number of edges per atom; messages are divided by its square root.
        nominal_charges : dict, optional
            Starting charge of every element, e.
        """
        elements = self.config.elements
        reference = torch.tensor([reference_energies[e] for e in elements], dtype=torch.float64)
        self.reference_fixed.copy_(torch.round(reference / REFERENCE_UNIT))
        self.energy_scale.fill_(energy_scale)
        self.message_scale.fill_(1.0 / math.sqrt(max(mean_neighbours, 1.0)))
        if nominal_charges is not None and self.config.charges:
            values = torch.tensor([nominal_charges[e] for e in elements])
            with torch.no_grad():
                self.readout.nominal_charges.copy_(values)

    @torch.jit.unused
    def reference_energies(self) -> torch.Tensor:
        """Return the reference energy of every element, float64 ``[n_species]``, eV."""
        return self.reference_fixed.to(torch.float64) * REFERENCE_UNIT

    def raw_outputs(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies (float64, eV) and raw charges (e), each ``[n_local]``.

        Parameters
        ----------
        species : Tensor [n_total] int64
            Species index of local atoms, then of halo atoms.
        edge_vectors : Tensor [E, 3]
            From receiver to sender, angstrom.
        edge_index : Tensor [2, E] int64
            Receiver (sorted, < n_local) and sender.
        n_local : int
            Atoms with energies.
        """
        distance = torch.linalg.vector_norm(edge_vectors, dim=1)
        harmonics = spherical_harmonics(edge_vectors / distance.unsqueeze(1), self.l_max)
        scale = self.message_scale
        n_total = species.shape[0]
        local = species[:n_local]
        h = self.first(species, distance, harmonics, edge_index, scale, n_local)
        for layer in self.middle:
            total = torch.ops.equicalc.exchange(h, n_total)
            h = layer(total, species, distance, harmonics, edge_index, scale, n_local)
        total = torch.ops.equicalc.exchange(h, n_total)
        scalars = self.last(total, distance, harmonics, edge_index, scale, n_local)
        energy, charge = self.readout(scalars, local)
        energy = (energy * self.energy_scale).to(torch.float64)
        reference = self.reference_fixed.to(torch.float64) * self.reference_unit
        energy = energy + reference.index_select(0, local)
        if self.has_repulsion:
            core = self.repulsion(distance, species, edge_index).to(torch.float64)
            energy = energy.index_add(0, edge_index[0], core)
        return energy, charge

    @torch.jit.export
    def charge_weights(self, species: torch.Tensor) -> torch.Tensor:
        """Return the weights of charge neutralisation for species indices of any shape."""
        return self.neutralisation_weights.index_select(0, species)

    def forward(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
        total_charge: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies and charges; see `raw_outputs` for the arrays.

        With a total charge Q the charges are neutralised, ``q = q~ + w (Q - sum q~) / sum w``;
        without, they are the raw ones, for callers that sum over several ranks or structures.
        """
        energy, charge = self.raw_outputs(species, edge_vectors, edge_index, n_local)
        if total_charge is not None:
            weight = self.charge_weights(species[:n_local])
            charge = charge + weight * ((total_charge - charge.sum()) / weight.sum())
        return energy, charge


def _radial(config: NetworkConfig) -> RadialBasis:
    return RadialBasis(config.cutoff, config.n_bessel, config.radial_hidden, config.n_radial)


def _product(config: NetworkConfig) -> SymmetricProduct:
    return SymmetricProduct(
        config.l_max, config.channels, len(config.elements), config.correlation, config.parity
    )
