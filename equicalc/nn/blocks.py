"""Features with different multiplicities per irrep, as trained networks of others have them.

An irrep is a tuple ``(multiplicity, degree, parity)``, parity 1 (even) or -1 (odd). A feature
tensor is ``[n, width]``: one block after the other, and inside a block the component first and
the channel last, ``[2 l + 1, multiplicity]``. e3nn has the channel first inside a block.
"""

from typing import List, Tuple

import torch

Irrep = Tuple[int, int, int]


def block_size(irrep: Irrep) -> int:
    """Return the numbers that a block takes in a row of features."""
    return irrep[0] * (2 * irrep[1] + 1)


def feature_width(irreps: List[Irrep]) -> int:
    """Return the length of a row of features."""
    return sum(block_size(irrep) for irrep in irreps)


def merged(irreps: List[Irrep]) -> List[Irrep]:
    """Join neighbouring blocks of equal degree and parity."""
    result: List[Irrep] = []
    for mul, degree, parity in irreps:
        if result and result[-1][1:] == (degree, parity):
            result[-1] = (result[-1][0] + mul, degree, parity)
        else:
            result.append((mul, degree, parity))
    return result


def parse_irreps(text: str) -> List[Irrep]:
    """Return the irreps of a text such as ``128x0e+64x1o``."""
    result: List[Irrep] = []
    for part in text.replace(" ", "").split("+"):
        mul, _, kind = part.rpartition("x")
        if not kind[:-1].isdigit() or kind[-1:] not in ("e", "o") or not (mul or "1").isdigit():
            raise ValueError(f"irreps: cannot read {part!r} in {text!r}; write 128x0e+64x1o")
        result.append((int(mul or "1"), int(kind[:-1]), 1 if kind[-1] == "e" else -1))
    return result


def even_scalars(irreps: List[Irrep]) -> torch.Tensor:
    """Return 1 for even scalars and 0 for everything else of features, ``[width]``."""
    parts = [
        torch.full((mul * (2 * degree + 1),), float((degree, parity) == (0, 1)))
        for mul, degree, parity in irreps
    ]
    return torch.cat(parts)
