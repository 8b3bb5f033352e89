"""Networks of every architecture by the word for it in model files and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equicalc.nn.charged_network import ChargedNetwork
from equicalc.nn.gated_config import GatedNetworkConfig
from equicalc.nn.gated_network import GatedNetwork
from equicalc.nn.mace_config import MaceConfig
from equicalc.nn.mace_network import MaceNetwork
from equicalc.nn.network import EquiNetwork, NetworkConfig

Settings = NetworkConfig | GatedNetworkConfig | MaceConfig

NETWORKS: dict[type, type[ChargedNetwork]] = {
    NetworkConfig: EquiNetwork,
    GatedNetworkConfig: GatedNetwork,
    MaceConfig: MaceNetwork,
}


def settings_of(architecture: str, values: Mapping[str, Any]) -> Settings:
    """Return the settings of a network from plain data, as ``to_dict`` gives them.

    Raises
    ------
    ValueError
        The architecture or a value is unknown or impossible.
    """
    for kind, network in NETWORKS.items():
        if network.architecture == architecture:
            settings: Settings = kind(**values)
            return settings
    known = ", ".join(network.architecture for network in NETWORKS.values())
    raise ValueError(f"unknown architecture {architecture!r}; expected one of {known}")


def build(settings: Settings) -> ChargedNetwork:
    """Return a network with random weights, in float64."""
    return NETWORKS[type(settings)](settings)
