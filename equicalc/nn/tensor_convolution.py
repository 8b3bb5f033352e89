"""The convolution of networks that others trained: one output per path, irregular irreps.

``m_i[path][m3, u] = s_path sum_j R_path,u(r_ij) sum_m1,m2 C Y_l1m1(r_ij) x_j[block][m2, u]``, which
e3nn calls the "uvu" tensor product with external weights, summed over neighbours. C is
``clebsch_gordan(l2, l1, l3)`` of `equicalc.nn.irreps`, features first: with scale 1 a path equals
one of ``e3nn.o3.TensorProduct(irreps of x, irreps of Y, ...)`` with
``irrep_normalization="component"`` and one path per output. Harmonics are those of
`equicalc.nn.spherical`, component normalised.
"""

from typing import List, Tuple

import torch

from equicalc.nn.blocks import Irrep, feature_width, merged
from equicalc.nn.convolution import sum_on_receivers
from equicalc.nn.convolution_plan import Instruction, coupling_groups, input_rows, path_rows
from equicalc.nn.devices import has_operators
from equicalc.nn.irreps import clebsch_gordan
from equicalc.nn.radial_table import RadialTable


class TensorConvolution(torch.nn.Module):
    """Neighbour features times harmonics, per path and channel, summed over neighbours.

    Where operators run, and with `fused` True, that of csrc does it without messages of edges in
    memory; it has first derivatives by features, distances and harmonics. `with_weights` is for
    training. Features are laid out as in `equicalc.nn.blocks`.

    Parameters
    ----------
    irreps_in : list of (multiplicity, degree, parity)
        Blocks of the features of senders.
    l_harmonics : int
        Highest degree of the harmonics, 0 to 3; degree l has parity ``(-1)^l``.
    instructions : list of (input block, l1, l3, scale)
        Paths: which block is coupled with the harmonics of degree l1 to degree l3. There is one
        output per path, in this order, with the multiplicity of the input block. Neighbouring
        outputs of equal degree and parity share one block of `irreps_out`, channels side by
        side: sort the paths by output, and a linear map afterwards is one product per degree.
    table : RadialTable
        The radial functions R of all paths, in their order; its widths are `path_widths`.
    parity : bool
        False: harmonics of all degrees count as even, as in networks that know rotations only.
    """

    coefficients: torch.Tensor
    path_rows: torch.Tensor
    groups: torch.Tensor
    input_rows: torch.Tensor

    def __init__(
        self,
        irreps_in: List[Irrep],
        l_harmonics: int,
        instructions: List[Instruction],
        table: RadialTable,
        parity: bool = True,
    ):
        super().__init__()
        check_instructions(irreps_in, l_harmonics, instructions)
        widths = path_widths(irreps_in, instructions)
        if table.widths != widths:
            raise ValueError(
                f"TensorConvolution: the paths have {widths} radial functions, the table has "
                f"{table.widths}; build it with RadialTable(path_widths(irreps_in, instructions))"
            )
        self.irreps_in = list(irreps_in)
        self.irreps_out = output_irreps(irreps_in, instructions, parity)
        self.instructions = list(instructions)
        self.path_widths = widths
        self.table = table
        in_starts = [feature_width(irreps_in[:block]) for block in range(len(irreps_in))]
        # of each path: first feature of its input block, multiplicity, l2, l1, l3
        self.paths = [
            (in_starts[block], irreps_in[block][0], irreps_in[block][1], l1, l3)
            for block, l1, l3, _ in instructions
        ]
        self.scales = [float(scale) for _, _, _, scale in instructions]
        # number of neighbouring paths in each block of the output
        self.paths_per_block = paths_per_block(irreps_in, instructions, parity)
        self.couplings = Couplings(self.paths)
        # the same for the operator
        of_path, groups, coefficients = coupling_groups(irreps_in, instructions)
        rows = path_rows(irreps_in, self.irreps_out, instructions, of_path)
        self.width_out = feature_width(self.irreps_out)
        self.segments = [number for segment in table.segments for number in segment]
        self.segments.append(table.stretch)
        self.register_buffer("coefficients", coefficients, persistent=False)
        self.register_buffer("path_rows", rows, persistent=False)
        self.register_buffer("groups", groups, persistent=False)
        self.register_buffer("input_rows", input_rows(irreps_in), persistent=False)
        self.fused = True

    def forward(
        self,
        x: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return messages ``[n_local, width of irreps_out]``.

        Parameters
        ----------
        x : Tensor [n_total, width of irreps_in]
        distance : Tensor [E], angstrom
        harmonics : Tensor [E, (l_harmonics + 1)^2]
        edge_index : Tensor [2, E], int64
            Receivers, ascending, and senders.
        n_local : int
            Number of receivers.
        """
        if self.fused and has_operators(x):
            return torch.ops.equicalc.tensor_convolution(
                x,
                distance,
                harmonics,
                edge_index,
                n_local,
                self.width_out,
                self.table.coefficients,
                self.coefficients,
                self.path_rows,
                self.groups,
                self.input_rows,
                self.segments,
            )
        return self.with_weights(x, self.table(distance), harmonics, edge_index, n_local)

    @torch.jit.export
    def with_weights(
        self,
        x: torch.Tensor,
        weights: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return the same from radial weights ``[E, sum(path_widths)]``, in torch expressions.

        For training and as the oracle of the operator: it holds messages of edges in memory.
        """
        sender = x.index_select(0, edge_index[1])
        by_path = torch.split_with_sizes(weights, self.path_widths, dim=1)
        messages: List[torch.Tensor] = []
        parts: List[torch.Tensor] = []
        n_parts = 0
        for index, (start, mul, l2, l1, l3) in enumerate(self.paths):
            block = sender[:, start : start + (2 * l2 + 1) * mul].reshape(-1, 2 * l2 + 1, mul)
            y = harmonics[:, l1 * l1 : (l1 + 1) * (l1 + 1)]
            rotation = torch.einsum("em,mno->eon", y, self.couplings.of(l1, l2, l3))
            edge = torch.matmul(rotation, block) * by_path[index].unsqueeze(1)
            parts.append(self.scales[index] * edge)
            if len(parts) == self.paths_per_block[n_parts]:
                messages.append(torch.cat(parts, dim=2).flatten(1))
                parts = []
                n_parts += 1
        return sum_on_receivers(torch.cat(messages, dim=1), edge_index, n_local)


class Couplings(torch.nn.Module):
    """Coupling coefficients ``C[m1, m2, m3]`` of the paths that occur."""

    values: torch.Tensor

    def __init__(self, paths: List[Tuple[int, int, int, int, int]]):
        super().__init__()
        triples = sorted({(l1, l2, l3) for _, _, l2, l1, l3 in paths})
        self.starts = [-1] * 64
        parts, done = [torch.zeros(0, dtype=torch.float64)], 0
        for l1, l2, l3 in triples:
            self.starts[(l1 * 4 + l2) * 4 + l3] = done
            parts.append(clebsch_gordan(l2, l1, l3).transpose(0, 1).flatten())
            done += len(parts[-1])
        self.register_buffer("values", torch.cat(parts), persistent=False)

    def of(self, l1: int, l2: int, l3: int) -> torch.Tensor:
        """Return ``[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]``."""
        start = self.starts[(l1 * 4 + l2) * 4 + l3]
        shape = [2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1]
        return self.values[start : start + shape[0] * shape[1] * shape[2]].view(shape)


def path_widths(irreps_in: List[Irrep], instructions: List[Instruction]) -> List[int]:
    """Return the number of radial functions of every path."""
    return [irreps_in[block][0] for block, _, _, _ in instructions]


def output_irreps(
    irreps_in: List[Irrep], instructions: List[Instruction], parity: bool = True
) -> List[Irrep]:
    """Return the irreps of the messages, neighbours of equal degree and parity joined."""
    return merged(path_outputs(irreps_in, instructions, parity))


def path_outputs(
    irreps_in: List[Irrep], instructions: List[Instruction], parity: bool = True
) -> List[Irrep]:
    """Return the output irrep of every path."""
    return [
        (irreps_in[block][0], l3, irreps_in[block][2] * ((-1) ** l1 if parity else 1))
        for block, l1, l3, _ in instructions
    ]


def paths_per_block(
    irreps_in: List[Irrep], instructions: List[Instruction], parity: bool = True
) -> List[int]:
    """Return how many paths each block of the output holds."""
    counts: List[int] = []
    previous = None
    for irrep in path_outputs(irreps_in, instructions, parity):
        if irrep[1:] == previous:
            counts[-1] += 1
        else:
            counts.append(1)
        previous = irrep[1:]
    return counts


def check_instructions(
    irreps_in: List[Irrep], l_harmonics: int, instructions: List[Instruction]
) -> None:
    """Error unless every path exists and has degrees up to 3."""
    for block, l1, l3, _ in instructions:
        if not 0 <= block < len(irreps_in):
            raise ValueError(
                f"TensorConvolution: a path takes block {block} of {len(irreps_in)} input blocks"
            )
        l2 = irreps_in[block][1]
        if not 0 <= l1 <= l_harmonics:
            raise ValueError(
                f"TensorConvolution: a path takes harmonics of degree {l1}, there are 0 to "
                f"{l_harmonics}"
            )
        if max(l1, l2, l3) > 3 or not abs(l1 - l2) <= l3 <= l1 + l2:
            raise ValueError(
                f"TensorConvolution: no path couples degrees {l1} and {l2} to {l3}, or one is "
                "beyond 3"
            )
