"""The module that is scripted: the network plus the attributes C++ reads."""

import warnings
from typing import List, Optional, Tuple

import torch

from equicalc.nn.charged_network import ChargedNetwork
from equicalc.nn.tabulated import TabulatedNetwork


class DeployedNetwork(torch.nn.Module):
    """The file contract around a network: one forward, and plain attributes for C++."""

    def __init__(self, network: ChargedNetwork, name: str, format_version: int):
        super().__init__()
        config = network.config
        self.network = network
        self.format_version = format_version
        self.name = name
        self.elements = torch.jit.Attribute(list(config.elements), List[str])
        self.cutoff = float(config.cutoff)
        self.n_layers = config.n_layers
        self.exchange_width = config.exchange_width
        self.charge_model = config.charge_model
        self.sigmas = torch.jit.Attribute(widths(network), List[float])
        self.epsilon_inf = float(torch.as_tensor(network.epsilon_inf))
        # the words of LAMMPS' pair_style dispersion/d3
        words = config.dispersion
        self.dispersion = f"{words['damping']} {words['functional']}" if words else ""
        nominal = network.nominal_charges().double().tolist()
        self.nominal_charges = torch.jit.Attribute(nominal, List[float])
        formal = config.formal_charges or dict.fromkeys(config.elements, 0)
        self.formal_charges = torch.jit.Attribute([formal[e] for e in config.elements], List[int])

    @torch.jit.export
    def raw_outputs(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies and charge variables; see `ChargedNetwork.raw_outputs`."""
        return self.network.raw_outputs(species, edge_vectors, edge_index, n_local)

    def forward(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
        total_charge: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies (float64, eV) and charges (e); see `ChargedNetwork.forward`."""
        return self.network(species, edge_vectors, edge_index, n_local, total_charge)


class PreparedNetwork(DeployedNetwork):
    """The same for networks with tables, which C++ has filled when it loads the file."""

    @torch.jit.export
    def prepare(self) -> None:
        """Fill the tables; see `TabulatedNetwork`."""
        self.network.prepare()


def widths(network: ChargedNetwork) -> List[float]:
    """Return the Gaussian width of every element; empty without charges."""
    return network.sigmas().tolist() if network.config.has_charges else []


def script(network: ChargedNetwork, name: str, format_version: int) -> torch.jit.ScriptModule:
    """Return the scripted float64 module of a network, without training-only methods.

    The network itself is changed: call with a copy.
    """
    network = network.to(torch.float64).eval()
    module: DeployedNetwork
    if isinstance(network, TabulatedNetwork):
        network.empty_tables()
        module = PreparedNetwork(network, name, format_version)
    else:
        module = DeployedNetwork(network, name, format_version)
    module.requires_grad_(False)
    network.set_fused(True)
    with warnings.catch_warnings():
        # TorchScript is deprecated upstream, and is still what LAMMPS and Python both load
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return torch.jit.script(module)
