"""Radial functions: a few smooth learned functions of the distance."""

import math
from typing import Any

import torch

from equicalc.nn.devices import has_operators


def envelope(distance: torch.Tensor, cutoff: torch.Tensor) -> torch.Tensor:
    """Polynomial cutoff, 1 at r = 0, and 0 with two zero derivatives at the cutoff.

    ``u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)``, ``x = r / r_c``, p = 6
    (Gasteiger, Gross, Guennemann, arXiv:2003.03123).

    Parameters
    ----------
    distance, cutoff : Tensor [E], angstrom
        The cutoff broadcasts.
    """
    p = 6.0
    x = torch.clamp(distance / cutoff, max=1.0)
    xp = x.pow(6)
    return 1.0 - xp * (
        0.5 * (p + 1.0) * (p + 2.0) - x * (p * (p + 2.0) - x * (0.5 * p * (p + 1.0)))
    )


class RadialBasis(torch.nn.Module):
    """Low-rank learned radial basis ``B_b(r) = u(r / r_c) MLP_b(Bessel(r))``.

    Every radial weight of a layer is a linear combination of these few functions, so the cost
    per edge does not grow with the number of paths and channels (they act on sums over edges),
    and values come with slopes from one operator (``fused``; where operators do not run, and
    as its oracle, from torch expressions).

    Parameters
    ----------
    cutoff : float
        Angstrom.
    n_bessel, hidden, n_radial : int
        Number of Bessel functions, width of the hidden layer, number of learned functions.
    """

    cutoff: torch.Tensor
    frequencies: torch.Tensor

    def __init__(self, cutoff: float, n_bessel: int, hidden: int, n_radial: int):
        super().__init__()
        # not in state dicts, which networks trained in float32 would round; see below
        exact = torch.tensor(cutoff, dtype=torch.float64)
        self.register_buffer("cutoff", exact, persistent=False)
        orders = torch.arange(1, n_bessel + 1, dtype=torch.float64)
        self.register_buffer("frequencies", orders * (math.pi / cutoff), persistent=False)
        self.prefactor = math.sqrt(2.0 / cutoff)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(n_bessel, hidden), torch.nn.SiLU(), torch.nn.Linear(hidden, n_radial)
        )
        self.range = cutoff
        self.fused = True

    @torch.jit.unused
    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Leave out what earlier state dicts hold of buffers that follow from the settings."""
        for name in ("cutoff", "frequencies"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Return the basis functions ``[E, n_radial]`` at distances ``[E]`` (angstrom)."""
        if self.fused and has_operators(distance):
            first, second = self.mlp[0], self.mlp[2]
            return torch.ops.equicalc.radial_functions(
                distance,
                first.weight,
                first.bias,
                second.weight,
                second.bias,
                self.prefactor,
                self.range,
            )
        r = distance.unsqueeze(1)
        bessel = self.prefactor * torch.sin(r * self.frequencies) / r
        return self.mlp(bessel) * envelope(r, self.cutoff)
