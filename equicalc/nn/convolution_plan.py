"""What the operator `equicalc::tensor_convolution` is told about paths, as tensors."""

from typing import Dict, List, Tuple

import torch

from equicalc.nn.blocks import Irrep, block_size, feature_width
from equicalc.nn.irreps import clebsch_gordan
from equicalc.nn.radial_table import LANES, n_blocks

# input block, degree of the harmonics, degree of the output, factor
Instruction = Tuple[int, int, int, float]


def padded_size(irrep: Irrep) -> int:
    """Return the numbers of a block whose channels fill whole blocks of the kernels."""
    return n_blocks(irrep[0]) * LANES * (2 * irrep[1] + 1)


def input_rows(irreps_in: List[Irrep]) -> torch.Tensor:
    """Return for each block of the input: first feature, channels, components, packed offset."""
    rows, start, offset = [], 0, 0
    for irrep in irreps_in:
        rows.append([start, irrep[0], 2 * irrep[1] + 1, offset])
        start += block_size(irrep)
        offset += padded_size(irrep)
    return torch.tensor(rows, dtype=torch.int64).view(-1, 4)


def coupling_groups(
    irreps_in: List[Irrep], instructions: List[Instruction]
) -> Tuple[List[int], torch.Tensor, torch.Tensor]:
    """Collect paths with the same coefficients, which have their edges' rotations in common.

    Returns
    -------
    of_path : list of int
        Group of every path.
    groups : Tensor [groups, 4], int64
        l1, l2, l3 and where the coefficients start.
    couplings : Tensor, float64
        ``scale C[m1, m2 (2 l3 + 1) + m3]`` of every group, rows padded to whole blocks.
    """
    numbers: Dict[Tuple[int, int, int, float], int] = {}
    of_path: List[int] = []
    rows: List[List[int]] = []
    parts, start = [torch.zeros(0, dtype=torch.float64)], 0
    for block, l1, l3, scale in instructions:
        key = (l1, irreps_in[block][1], l3, float(scale))
        if key not in numbers:
            numbers[key] = len(rows)
            l2 = key[1]
            rows.append([l1, l2, l3, start])
            table = scale * clebsch_gordan(l2, l1, l3).transpose(0, 1).flatten(1)
            padding = n_blocks(table.shape[1]) * LANES - table.shape[1]
            parts.append(torch.nn.functional.pad(table, [0, padding]).flatten())
            start += len(parts[-1])
        of_path.append(numbers[key])
    return of_path, torch.tensor(rows, dtype=torch.int64).view(-1, 4), torch.cat(parts)


def path_rows(
    irreps_in: List[Irrep],
    irreps_out: List[Irrep],
    instructions: List[Instruction],
    of_path: List[int],
) -> torch.Tensor:
    """Return for each path the columns that csrc/operators/tensor_op.cpp calls PathColumn."""
    in_offsets = input_rows(irreps_in)[:, 3].tolist()
    rows = []
    block_out, channel, out_offset, table_block = 0, 0, 0, 0
    for group, (block, _, l3, _) in zip(of_path, instructions, strict=True):
        mul = irreps_in[block][0]
        if channel == irreps_out[block_out][0]:
            block_out, channel = block_out + 1, 0
        start = feature_width(irreps_out[:block_out]) + channel
        component = irreps_out[block_out][0]
        rows.append([group, in_offsets[block], mul, start, component, out_offset, table_block])
        channel += mul
        out_offset += padded_size((mul, l3, 1))
        table_block += n_blocks(mul)
    return torch.tensor(rows, dtype=torch.int64).view(-1, 7)
