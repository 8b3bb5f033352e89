"""Features as e3nn has them: all components of a channel, then the next channel."""

import torch

from equicalc.nn.blocks import block_size


def from_e3nn(x: torch.Tensor, irreps: list) -> torch.Tensor:
    """Return features ``[n, width]`` in our order from e3nn's."""
    parts = []
    for block, (mul, degree, _) in zip(
        torch.split_with_sizes(x, [block_size(i) for i in irreps], dim=1), irreps, strict=True
    ):
        parts.append(block.view(-1, mul, 2 * degree + 1).transpose(1, 2).flatten(1))
    return torch.cat(parts, dim=1)


def to_e3nn(x: torch.Tensor, irreps: list) -> torch.Tensor:
    """Return features ``[n, width]`` in e3nn's order from ours."""
    parts = []
    for block, (mul, degree, _) in zip(
        torch.split_with_sizes(x, [block_size(i) for i in irreps], dim=1), irreps, strict=True
    ):
        parts.append(block.view(-1, 2 * degree + 1, mul).transpose(1, 2).flatten(1))
    return torch.cat(parts, dim=1)
