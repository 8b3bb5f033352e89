"""Equivariant network: edge vectors in, node energies and charges out.

Features are tensors ``[n, M, C]``: ``M = (l_max + 1)^2`` components of the real spherical
harmonics in e3nn's order, channel last, because channels are what kernels vectorise over.
"""

from equicalc.nn.network import EquiNetwork, NetworkConfig

__all__ = ["EquiNetwork", "NetworkConfig"]
