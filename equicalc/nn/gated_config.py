"""Shape of a gated message-passing network: NequIP, SevenNet and their relatives."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Protocol, Tuple

from equicalc.nn.blocks import Irrep, feature_width, parse_irreps
from equicalc.nn.radial_network import ACTIVATIONS, SMOOTH_ACTIVATIONS
from equicalc.nn.spherical import L_MAX_SUPPORTED
from equicalc.nn.tabulated import AddedCharges

OWN_KINDS = ("linear", "species", "none")
CUTOFF_FUNCTIONS = ("polynomial", "xplor")


class MessageConfig(Protocol):
    """What a convolution needs to know, whatever the network around it."""

    cutoff: float
    l_max: int
    parity: bool
    cutoff_function: str
    cutoff_parameter: float
    n_bessel: int
    bessel_prefactor: float
    radial_hidden: list[int]
    radial_activation: str
    table_spacing: float


@dataclass
class GatedNetworkConfig(AddedCharges):
    """Everything about a gated network but its weights.

    Parameters
    ----------
    elements : list of str
        Chemical symbols; the position in this list is the species index.
    cutoff : float
        Reach of one layer, angstrom.
    l_max : int
        Highest degree of the spherical harmonics of edges, 0 to 3.
    parity : bool
        Harmonics have parity (-1)^l (True), or all count as even (False, SO(3)).
    features : list of str
        Irreps of the node features before the first layer and after each layer, scalars first.
    own : list of str
        What an atom's own features add in each layer: ``linear``, ``species`` (one matrix for each
        element) or ``none``.
    scalars, gates : dict of str to list
        Activation function and factor of even (``e``) and odd (``o``) scalars and gates.
    cutoff_function : str
        ``polynomial`` or ``xplor``.
    cutoff_parameter : float
        Order of the polynomial, or distance where XPLOR begins, angstrom.
    n_bessel : int
    bessel_prefactor : float
    radial_hidden : list of int
        Hidden widths of the radial networks.
    radial_activation : str
    readout_hidden : list of int
        Hidden widths between the last scalars and the energy; none: a linear readout.
    readout_activation : str
    sender_scale : bool
        What an atom sends is scaled by a number for each element (beyond the first layer, where
        everything sent depends on the element).
    biases : bool
        Beyond the first layer, what an atom sends and what goes into a gate has constants added
        to its even scalars (in the first layer all that is part of the tables by element).
    repulsion : dict, optional
        Settings of `equicalc.nn.screened_repulsion`.
    """

    elements: list[str] = field(default_factory=list)
    cutoff: float = 5.0
    l_max: int = 2
    parity: bool = True
    features: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    scalars: dict[str, list[Any]] = field(default_factory=dict)
    gates: dict[str, list[Any]] = field(default_factory=dict)
    cutoff_function: str = "polynomial"
    cutoff_parameter: float = 6.0
    n_bessel: int = 8
    bessel_prefactor: float = 1.0
    radial_hidden: list[int] = field(default_factory=list)
    radial_activation: str = "silu"
    readout_hidden: list[int] = field(default_factory=list)
    readout_activation: str = "silu"
    sender_scale: bool = False
    biases: bool = False
    repulsion: Optional[Dict[str, Any]] = None

    def __post_init__(self) -> None:
        self.check_charges()
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"elements must be distinct chemical symbols: {self.elements}")
        if not 0 <= self.l_max <= L_MAX_SUPPORTED:
            raise ValueError(f"l_max is {self.l_max}; it must lie in 0 to {L_MAX_SUPPORTED}")
        if len(self.features) < 2 or len(self.own) != self.n_layers:
            raise ValueError(
                f"features and own must describe one layer or more, found {self.features} and "
                f"{self.own}"
            )
        for name, known in (
            ("cutoff_function", CUTOFF_FUNCTIONS),
            ("radial_activation", SMOOTH_ACTIVATIONS),
            ("readout_activation", ACTIVATIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {known}")
        if unknown := set(self.own) - set(OWN_KINDS):
            raise ValueError(f"own is {unknown.pop()!r}; it must be one of {OWN_KINDS}")
        for first_or_last in (self.features[0], self.features[-1]):
            if any((degree, parity) != (0, 1) for _, degree, parity in parse_irreps(first_or_last)):
                raise ValueError(
                    f"the first and last features must be even scalars, found {first_or_last}"
                )
        if any(degree > L_MAX_SUPPORTED for b in self.features for _, degree, _ in parse_irreps(b)):
            raise ValueError(f"features must have degrees up to {L_MAX_SUPPORTED}")

    @property
    def n_layers(self) -> int:
        """Message-passing layers."""
        return len(self.features) - 1

    @property
    def exchange_width(self) -> int:
        """Numbers per atom in the widest message between layers; 0 without messages.

        The first layer's messages depend on species only and are computed where they are needed.
        """
        return max(
            (feature_width(parse_irreps(irreps)) for irreps in self.features[1:-1]), default=0
        )

    # Distance of the knots of radial tables at 1 angstrom, angstrom.
    table_spacing = 0.004

    def activations(self, which: Dict[str, List[Any]]) -> Dict[int, Tuple[str, float]]:
        """Return `scalars` or `gates` by parity as numbers."""
        return {1 if key == "e" else -1: (name, factor) for key, (name, factor) in which.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return dataclasses.asdict(self)


def message_paths(
    features: List[Irrep], targets: List[Irrep], l_max: int, parity: bool
) -> List[Tuple[int, int, int, int]]:
    """List the couplings (block, degree of the harmonics, degree and parity of the message).

    Only messages of a kind that the targets have. Sorted by kind in the order of the targets, so
    that those of one kind are neighbours; then by block and degree of the harmonics.
    """
    wanted: List[Tuple[int, int]] = []
    for _, degree, p in targets:
        if (degree, p) not in wanted:
            wanted.append((degree, p))
    paths = []
    for index, (_, l2, p2) in enumerate(features):
        for l1 in range(l_max + 1):
            p3 = p2 * ((-1) ** l1 if parity else 1)
            for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                if (l3, p3) in wanted:
                    paths.append((index, l1, l3, p3))
    return sorted(paths, key=lambda path: (wanted.index(path[2:]), path))
