"""Channel mixing per degree."""

import math
from typing import List

import torch

from equicalc.core import load_library

load_library()  # torch.ops.equicalc.*


class DegreeLinear(torch.nn.Module):
    """Mix channels with one matrix per degree l; degrees do not mix, so it is equivariant.

    Parameters
    ----------
    l_max : int
        Highest degree.
    width_in, width_out : int
        Channels before and after.
    """

    def __init__(self, l_max: int, width_in: int, width_out: int):
        super().__init__()
        self.weights = torch.nn.ParameterList(
            [
                torch.nn.Parameter(torch.randn(width_in, width_out) / math.sqrt(width_in))
                for _ in range(l_max + 1)
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mixed features, ``[n, M, width_in]`` to ``[n, M, width_out]``."""
        weights: List[torch.Tensor] = []
        for weight in self.weights:
            weights.append(weight)
        return torch.ops.equicalc.degree_linear(x, weights)
