"""Real spherical harmonics of edge directions."""

import math
from typing import Tuple

import torch

from equicalc.nn.devices import has_operators

L_MAX_SUPPORTED = 3


def spherical_harmonics(unit: torch.Tensor, l_max: int) -> torch.Tensor:
    """Real spherical harmonics of unit vectors, component normalised, in e3nn's order.

    ``sum_m Y_lm(r)^2 = 2 l + 1``. Written out as polynomials (degree <= 3), which keeps the
    function short for TorchScript; `tests/nn` compares it with `e3nn.o3.spherical_harmonics`.

    Parameters
    ----------
    unit : Tensor [E, 3]
        Unit vectors.
    l_max : int
        Highest degree, 0 to 3.

    Returns
    -------
    Tensor [E, (l_max + 1)^2]
    """
    x, y, z = unit[:, 0], unit[:, 1], unit[:, 2]
    parts = [torch.ones_like(x)]
    if l_max >= 1:
        s = math.sqrt(3.0)
        parts += [s * x, s * y, s * z]
    if l_max >= 2:
        s = math.sqrt(15.0)
        parts += [
            s * x * z,
            s * x * y,
            math.sqrt(5.0) * (y * y - 0.5 * (x * x + z * z)),
            s * y * z,
            0.5 * s * (z * z - x * x),
        ]
    if l_max >= 3:
        s70, s105, s42 = math.sqrt(70.0) / 4.0, math.sqrt(105.0), math.sqrt(42.0) / 4.0
        rest = 4.0 * y * y - x * x - z * z
        parts += [
            s70 * x * (3.0 * z * z - x * x),
            s105 * x * y * z,
            s42 * x * rest,
            0.5 * math.sqrt(7.0) * y * (2.0 * y * y - 3.0 * (x * x + z * z)),
            s42 * z * rest,
            0.5 * s105 * y * (z * z - x * x),
            s70 * z * (z * z - 3.0 * x * x),
        ]
    return torch.stack(parts, dim=1)


def edge_geometry(
    edge_vectors: torch.Tensor, l_max: int, fused: bool
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return distances ``[E]`` (angstrom) and harmonics ``[E, M]`` of edges.

    One operator with ``fused``, where it runs; else torch expressions, its oracle.
    """
    if fused and has_operators(edge_vectors):
        return torch.ops.equicalc.edge_geometry(edge_vectors, l_max)
    distance = torch.linalg.vector_norm(edge_vectors, dim=1)
    return distance, spherical_harmonics(edge_vectors / distance.unsqueeze(1), l_max)
