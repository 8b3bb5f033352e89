"""The network: species and edge vectors in, node energies and raw charges out."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Tuple

import torch

from equicalc.core import load_library
from equicalc.nn.charged_network import ChargedNetwork, logarithms_of_widths
from equicalc.nn.charges import (
    CHARGE_MODELS,
    CHARGE_WEIGHTS,
    TRANSFER_CHANNELS,
    Electronegativities,
    ElementCharges,
    NoCharges,
    TransferredCharges,
    n_extra_outputs,
)
from equicalc.nn.convolution import (
    EquivariantConvolution,
    ScalarConvolution,
    SpeciesConvolution,
)
from equicalc.nn.irreps import n_components
from equicalc.nn.layers import FirstLayer, LastLayer, MiddleLayer, OwnScalars
from equicalc.nn.linear import DegreeLinear
from equicalc.nn.product import SymmetricProduct
from equicalc.nn.radial import RadialBasis
from equicalc.nn.readout import Readout
from equicalc.nn.repulsion import ZieglerBiersackLittmark
from equicalc.nn.spherical import L_MAX_SUPPORTED, edge_geometry

load_library()  # torch.ops.equicalc.exchange


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
        Message-passing layers: the first sees species, the last (of two or more) sends scalars,
        those between couple fully. The model's energies reach as far as layers times cutoff.
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
    charge_model : str
        ``none``, ``fixed``, ``predicted``, ``transferred`` or ``equilibrated``: what charges are
        and depend on, see `equicalc.nn.charges`.
    charge_weights : str
        Who takes how much of the charge that neutralisation moves: ``uniform``, one trained number
        per ``element``, or from the ``environment``.
    formal_charges : dict of str to int, optional
        Integer charge of every element, for ``transferred``: ``{Si: 4, O: -2}``.
    sigma : float
        Width of the Gaussian charges, angstrom.
    sigmas : dict of str to float, optional
        Widths of single elements that differ from `sigma`.
    learn_sigma : bool
        Train the width of every element, starting from these.
    dispersion : dict of str to str, optional
        D3 correction that the network's energies do not contain and front ends add:
        ``{functional: pbe, damping: bj}``.
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
    charge_model: str = "predicted"
    charge_weights: str = "uniform"
    formal_charges: dict[str, int] | None = None
    sigma: float = 1.0
    sigmas: dict[str, float] | None = None
    learn_sigma: bool = False
    dispersion: dict[str, str] | None = None

    def __post_init__(self) -> None:
        limits = {"n_layers": (1, 8), "l_max": (0, L_MAX_SUPPORTED), "correlation": (1, 4)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"model.{name} is {value}; it must lie between {low} and {high}")
        for name in ("cutoff", "sigma", "channels", "n_bessel", "n_radial", "species_channels"):
            if not getattr(self, name) > 0:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it must be positive")
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"model.elements must be distinct chemical symbols: {self.elements}")
        for name, known in (("charge_model", CHARGE_MODELS), ("charge_weights", CHARGE_WEIGHTS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"model.{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}"
                )
        self._check_per_element()

    def _check_per_element(self) -> None:
        """Raise ValueError when widths or formal charges do not fit the elements."""
        for symbol, width in (self.sigmas or {}).items():
            if symbol not in self.elements or not width > 0:
                raise ValueError(
                    f"model.sigmas has {symbol}: {width}; expected positive widths of elements "
                    f"of the model ({', '.join(self.elements)})"
                )
        if self.charge_model == "transferred":
            found = self.formal_charges or {}
            if set(found) != set(self.elements):
                example = ", ".join(f"{e}: 1" for e in self.elements)
                raise ValueError(
                    "model.charge_model: transferred needs the formal charge of every element, "
                    f"found {found}; for example model.formal_charges: {{{example}}}"
                )
        elif self.formal_charges is not None:
            raise ValueError(
                "model.formal_charges belong to model.charge_model: transferred; found "
                f"{self.charge_model}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return dataclasses.asdict(self)

    @property
    def has_charges(self) -> bool:
        """Whether the model has charges and a Coulomb energy."""
        return self.charge_model != "none"

    def width(self, element: str) -> float:
        """Gaussian width of an element (the first one, when widths are trained), angstrom."""
        return (self.sigmas or {}).get(element, self.sigma)

    @property
    def exchange_width(self) -> int:
        """Numbers per atom in the widest message between layers; 0 without messages."""
        if self.n_layers == 1 and self.charge_model != "transferred":
            return 0
        return n_components(self.l_max) * self.channels


class EquiNetwork(ChargedNetwork):
    """E(3)-equivariant message passing with low-rank radial functions and node products.

    The first layer sums ``u(z_j) B(r) Y`` over neighbours and forms products up to the correlation
    order, middle layers couple neighbour features fully, the last layer gathers scalars only.
    Between layers, features of atoms owned by other ranks come through ``equicalc::exchange``.
    """

    architecture = "equicalc"
    energy_scale: torch.Tensor
    message_scale: torch.Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__(config)
        n_species, l_max, channels = len(config.elements), config.l_max, config.channels
        self.l_max = l_max
        self.has_repulsion = config.repulsion
        self.fused = True
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
        self.n_layers = config.n_layers
        self.has_messages = config.exchange_width > 0
        if config.n_layers == 1:
            self.last: torch.nn.Module = OwnScalars()
        else:
            self.last = LastLayer(
                _radial(config),
                DegreeLinear(l_max, channels, channels),
                ScalarConvolution(config.n_radial, l_max, channels),
            )
        self.readout = Readout(
            channels if config.n_layers == 1 else (l_max + 2) * channels,
            config.readout_hidden,
            n_species,
            n_extra_outputs(config.charge_model, config.charge_weights),
        )
        self.charge_head = _charge_head(config)
        self.log_sigma = logarithms_of_widths(config)
        if isinstance(self.charge_head, Electronegativities):
            self.charge_head.logarithm_of_sigma = self.log_sigma
        self.repulsion = ZieglerBiersackLittmark(config.elements, config.cutoff)
        self.register_buffer("energy_scale", torch.ones(()))
        self.register_buffer("message_scale", torch.ones(()))
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
        epsilon_inf: float = 1.0,
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
        epsilon_inf : float
            Electronic dielectric constant: charges of the Coulomb energy are those that move
            with the atoms, divided by its square root.
        """
        elements = self.config.elements
        self.set_reference_energies(reference_energies)
        self.energy_scale.fill_(energy_scale)
        self.message_scale.fill_(1.0 / math.sqrt(max(mean_neighbours, 1.0)))
        self.epsilon_inf.fill_(epsilon_inf)
        if isinstance(self.charge_head, TransferredCharges):
            self.charge_head.epsilon_inf.fill_(epsilon_inf)
            formal = self.charge_head.formal_charges.tolist()
            nominal_charges = {
                e: n / math.sqrt(epsilon_inf) for e, n in zip(elements, formal, strict=True)
            }
        if nominal_charges is not None:
            self.set_nominal_charges(nominal_charges)

    def exchanged(self, h: torch.Tensor, n_total: int) -> torch.Tensor:
        """Return features of all atoms ``[n_total, M, C]`` from those of local ones."""
        return torch.ops.equicalc.exchange(h, n_total)

    def geometry(self, edge_vectors: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return distances ``[E]`` (angstrom) and harmonics ``[E, M]`` of edges."""
        return edge_geometry(edge_vectors, self.l_max, self.fused)

    def raw_outputs(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies and charge variables; see `ChargedNetwork.raw_outputs`."""
        distance, harmonics = self.geometry(edge_vectors)
        scale = self.message_scale
        n_total = species.shape[0]
        local = species[:n_local]
        h = self.first(species, distance, harmonics, edge_index, scale, n_local)
        for layer in self.middle:
            total = self.exchanged(h, n_total)
            h = layer(total, species, distance, harmonics, edge_index, scale, n_local)
        total = self.exchanged(h, n_total) if self.has_messages else h
        scalars = self.last(total, distance, harmonics, edge_index, scale, n_local)
        energy, outputs = self.readout(scalars, local)
        energy = (energy * self.energy_scale).to(torch.float64)
        reference = self.reference_fixed.to(torch.float64) * self.reference_unit
        energy = energy + reference.index_select(0, local)
        if self.has_repulsion:
            energy = energy + self.repulsion(distance, species, edge_index, n_local)
        variables = self.charge_head(
            outputs, total, edge_vectors, distance, edge_index, species, n_local
        )
        return energy, variables


def _charge_head(config: NetworkConfig) -> torch.nn.Module:
    n_species, model = len(config.elements), config.charge_model
    if model == "none":
        return NoCharges(n_species)
    if model == "equilibrated":
        return Electronegativities(n_species)
    if model == "transferred":
        assert config.formal_charges is not None
        return TransferredCharges(
            [config.formal_charges[e] for e in config.elements],
            config.l_max,
            config.channels,
            RadialBasis(config.cutoff, config.n_bessel, config.radial_hidden, TRANSFER_CHANNELS),
            config.readout_hidden,
            config.charge_weights,
        )
    return ElementCharges(n_species, model == "predicted", config.charge_weights)


def _radial(config: NetworkConfig) -> RadialBasis:
    return RadialBasis(config.cutoff, config.n_bessel, config.radial_hidden, config.n_radial)


def _product(config: NetworkConfig) -> SymmetricProduct:
    return SymmetricProduct(
        config.l_max, config.channels, len(config.elements), config.correlation, config.parity
    )
