"""Shape of a MACE network (Batatia et al., NeurIPS 2022)."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from equicalc.nn.blocks import Irrep, feature_width, parse_irreps
from equicalc.nn.radial_network import ACTIVATIONS
from equicalc.nn.spherical import L_MAX_SUPPORTED
from equicalc.nn.tabulated import AddedCharges

CORRELATION_SUPPORTED = 3


@dataclass
class MaceLayerConfig:
    """One layer: what is sent, and what becomes of the messages.

    Parameters
    ----------
    sent : str
        Irreps that atoms send to their neighbours.
    features : str
        Irreps of the features after the layer: even degrees even, odd degrees odd, ascending.
    correlation : int
        Highest order of the symmetric contraction, 1 to 3.
    mix_by_species : bool
        Messages are mixed once more, with one matrix for each element.
    own : bool
        The atom's own features are added, mixed with one matrix for each element.
    density : bool
        Messages are divided by 1 plus a sum over neighbours of a function of the distance.
    """

    sent: str = "64x0e"
    features: str = "64x0e"
    correlation: int = 3
    mix_by_species: bool = False
    own: bool = True
    density: bool = False

    @property
    def degrees(self) -> List[int]:
        """Degrees of the features."""
        return [degree for _, degree, _ in parse_irreps(self.features)]


@dataclass
class MaceConfig(AddedCharges):
    """Everything about a MACE network but its weights.

    Parameters
    ----------
    elements : list of str
        Chemical symbols; the position in this list is the species index.
    cutoff : float
        Reach of one layer, angstrom.
    l_max : int
        Highest degree of the harmonics of edges and of the contracted features, 0 to 3.
    channels : int
        Channels of the contracted features.
    layers : list of MaceLayerConfig, or the same as dicts
    cutoff_parameter : float
        Order of the polynomial cutoff.
    n_bessel : int
    bessel_prefactor : float
    radial_hidden : list of int
        Hidden widths of the radial networks.
    readout_hidden : list of int
        Hidden widths of the readout of the last layer; none: linear, as that of other layers.
    readout_activation : str
    repulsion : dict, optional
        Settings of `equicalc.nn.screened_repulsion`.
    """

    elements: list[str] = field(default_factory=list)
    cutoff: float = 5.0
    l_max: int = 3
    channels: int = 64
    layers: list[MaceLayerConfig] = field(default_factory=list)
    cutoff_parameter: float = 5.0
    n_bessel: int = 8
    bessel_prefactor: float = 1.0
    radial_hidden: list[int] = field(default_factory=lambda: [64, 64, 64])
    readout_hidden: list[int] = field(default_factory=lambda: [16])
    readout_activation: str = "silu"
    repulsion: Optional[Dict[str, Any]] = None

    def __post_init__(self) -> None:
        self.layers = [
            MaceLayerConfig(**layer) if isinstance(layer, dict) else layer for layer in self.layers
        ]
        self.check_charges()
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"elements must be distinct chemical symbols: {self.elements}")
        if not 0 <= self.l_max <= L_MAX_SUPPORTED:
            raise ValueError(f"l_max is {self.l_max}; it must lie in 0 to {L_MAX_SUPPORTED}")
        if not self.layers:
            raise ValueError("layers must describe one layer or more")
        if self.readout_activation not in ACTIVATIONS:
            raise ValueError(
                f"readout_activation is {self.readout_activation!r}; it must be one of "
                f"{ACTIVATIONS}"
            )
        for layer in self.layers:
            self._check_layer(layer)
        if any(degree > 0 for _, degree, _ in parse_irreps(self.layers[0].sent)):
            raise ValueError(f"the first layer sends scalars, found {self.layers[0].sent}")

    def _check_layer(self, layer: MaceLayerConfig) -> None:
        if not 1 <= layer.correlation <= CORRELATION_SUPPORTED:
            raise ValueError(
                f"correlation is {layer.correlation}; it must lie in 1 to {CORRELATION_SUPPORTED}"
            )
        blocks = parse_irreps(layer.features)
        expected = [(self.channels, degree, (-1) ** degree) for _, degree, _ in blocks]
        ascending = layer.degrees == sorted(set(layer.degrees))
        if blocks != expected or not ascending or layer.degrees[0] != 0:
            raise ValueError(
                f"features are {layer.features}; expected {self.channels}x0e, "
                f"{self.channels}x0e+{self.channels}x1o, ..."
            )
        if max(layer.degrees) > L_MAX_SUPPORTED:
            raise ValueError(f"features must have degrees up to {L_MAX_SUPPORTED}")

    @property
    def contracted(self) -> List[Irrep]:
        """Irreps of mixed messages, which the symmetric contraction multiplies."""
        return [(self.channels, degree, (-1) ** degree) for degree in range(self.l_max + 1)]

    @property
    def n_layers(self) -> int:
        """Message-passing layers."""
        return len(self.layers)

    @property
    def exchange_width(self) -> int:
        """Numbers per atom in the widest message between layers; 0 without messages.

        The first layer's messages depend on species only and are computed where they are needed.
        """
        return max(
            (feature_width(parse_irreps(layer.sent)) for layer in self.layers[1:]), default=0
        )

    # Shared with gated networks: harmonics of degree l have parity (-1)^l.
    parity = True
    cutoff_function = "polynomial"
    radial_activation = "silu"
    # Distance of the knots of radial tables at 1 angstrom, angstrom; finer than in gated networks,
    # as products of three messages multiply their errors.
    table_spacing = 0.002

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return dataclasses.asdict(self)
