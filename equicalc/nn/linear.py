"""Channel mixing per degree."""

import math

import torch


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
        parts = []
        for degree, weight in enumerate(self.weights):
            begin = degree * degree
            end = begin + 2 * degree + 1
            parts.append(torch.matmul(x[:, begin:end], weight))
        return torch.cat(parts, dim=1)
