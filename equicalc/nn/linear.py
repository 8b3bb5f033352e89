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
        self.sizes = [2 * degree + 1 for degree in range(l_max + 1)]
        self.weights = torch.nn.ParameterList(
            [
                torch.nn.Parameter(torch.randn(width_in, width_out) / math.sqrt(width_in))
                for _ in range(l_max + 1)
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mixed features, ``[n, M, width_in]`` to ``[n, M, width_out]``."""
        # split, whose gradient is one concatenation, and not slices, whose gradients are padded
        blocks = torch.split_with_sizes(x, self.sizes, dim=1)
        parts = []
        for degree, weight in enumerate(self.weights):
            parts.append(torch.matmul(blocks[degree], weight))
        return torch.cat(parts, dim=1)
