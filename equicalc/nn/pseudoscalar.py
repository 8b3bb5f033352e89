"""Pseudoscalars: numbers per atom that change sign in a mirror and stay the same in rotations.

The features of the network have natural parity, degree l and parity (-1)^l: scalars and vectors are
among them, pseudoscalars (degree 0, odd) are not, and what is read out of scalars alone is equal
for mirror images. Three vectors have one pseudoscalar, their triple product ``a . (b x c)``: the
coupling 1 x 1 -> 1 gives a pseudovector, 1 x 1 -> 0 the number.
"""

import math

import torch

from equicalc.nn.network import EquiNetwork
from equicalc.nn.spherical import spherical_harmonics


class PseudoscalarHead(torch.nn.Module):
    """Triple products of learned vectors, each times a learned function of the scalars.

    Parameters
    ----------
    channels : int
        Channels of the features, which must have l_max 1 or more.
    n_triples : int
        Triple products per atom.
    hidden : int
        Hidden width of the function of the scalars.
    """

    def __init__(self, channels: int, n_triples: int = 8, hidden: int = 16):
        super().__init__()
        self.n_triples = n_triples
        self.vectors = torch.nn.Parameter(
            torch.randn(channels, 3 * n_triples) / math.sqrt(channels)
        )
        self.factors = torch.nn.Sequential(
            torch.nn.Linear(channels, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, n_triples),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return pseudoscalars ``[n]`` of features ``[n, M, C]``."""
        vectors = torch.matmul(features[:, 1:4], self.vectors)
        a, b, c = vectors.split(self.n_triples, dim=2)
        triple = (a * torch.linalg.cross(b, c, dim=1)).sum(dim=1)
        return (triple * self.factors(features[:, 0])).sum(dim=1) / math.sqrt(self.n_triples)


def node_features(
    network: EquiNetwork,
    species: torch.Tensor,
    edge_vectors: torch.Tensor,
    edge_index: torch.Tensor,
) -> torch.Tensor:
    """Return the features ``[n, M, C]`` before the last layer, for heads of one's own.

    Parameters
    ----------
    network : EquiNetwork
        With one layer or more; only its first and middle layers act.
    species : Tensor [n] int64
        Species index of every atom; there is no halo.
    edge_vectors : Tensor [E, 3]
        From receiver to sender, angstrom, in the precision of the network.
    edge_index : Tensor [2, E] int64
        Receiver (sorted) and sender.
    """
    n = species.shape[0]
    distance = torch.linalg.vector_norm(edge_vectors, dim=1)
    harmonics = spherical_harmonics(edge_vectors / distance.unsqueeze(1), network.l_max)
    scale = network.message_scale
    h = network.first(species, distance, harmonics, edge_index, scale, n)
    for layer in network.middle:
        h = layer(h, species, distance, harmonics, edge_index, scale, n)
    return h
