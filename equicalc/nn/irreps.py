"""Coupling of spherical-harmonic components: which paths exist and their coefficients."""

import math

import torch
from e3nn import o3


def n_components(l_max: int) -> int:
    """Return the number of components (l, m) with ``l <= l_max``: ``(l_max + 1)^2``."""
    return (l_max + 1) ** 2


def l_slice(degree: int) -> slice:
    """Return where the ``2 l + 1`` components of one degree sit among all components."""
    return slice(degree * degree, (degree + 1) * (degree + 1))


def coupling_paths(
    l_left: int, l_right: int, l_out: int, parity: bool, symmetric: bool = False
) -> list[tuple[int, int, int]]:
    """List the couplings ``l1 x l2 -> l3`` of two feature sets.

    Parameters
    ----------
    l_left, l_right, l_out : int
        Highest degree of the two factors and of the product.
    parity : bool
        Keep O(3) parity: features of degree l have parity ``(-1)^l``, so only paths with an
        even ``l1 + l2 + l3`` exist. False gives the SO(3) set.
    symmetric : bool
        Both factors are the same tensor: keep one of (l1, l2) and (l2, l1), and drop couplings
        that vanish because they are antisymmetric.

    Returns
    -------
    list of (l1, l2, l3), ordered by l3.
    """
    paths = []
    for l3 in range(l_out + 1):
        for l1 in range(l_left + 1):
            for l2 in range(l_right + 1):
                if not abs(l1 - l2) <= l3 <= l1 + l2:
                    continue
                odd = (l1 + l2 + l3) % 2 == 1
                if (parity and odd) or (symmetric and (l1 > l2 or (l1 == l2 and odd))):
                    continue
                paths.append((l1, l2, l3))
    return paths


def clebsch_gordan(l1: int, l2: int, l3: int) -> torch.Tensor:
    """Return real coupling coefficients ``[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]`` in float64.

    Component normalised: ``sqrt(2 l3 + 1)`` times e3nn's Wigner 3j symbol, so that the product
    of two features with unit-variance components has unit-variance components.
    """
    table = math.sqrt(2 * l3 + 1) * o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    # e3nn solves for these numbers: what should vanish comes out as rounding noise
    return torch.where(table.abs() > 1e-10, table, 0.0)
