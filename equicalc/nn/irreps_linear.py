"""Channel mixing of features with different multiplicities per irrep."""

import math
from typing import List, Optional

import torch

from equicalc.nn.blocks import Irrep, block_size, feature_width
from equicalc.nn.devices import has_operators


class IrrepsLinear(torch.nn.Module):
    """Mix channels of equal degree and parity: `e3nn.o3.Linear` for features channel last.

    `weight` holds, for every input block and every output block of its kind, a matrix
    ``[multiplicity in, multiplicity out]``, in the order of e3nn's flat weights. Normalisation is
    part of the weights: see `load_e3nn`. Output blocks without an input are zero.

    With ``fused`` and fixed weights the products are one operator without copies, whose
    gradient is faster after `prepare`.

    Parameters
    ----------
    irreps_in, irreps_out : list of (multiplicity, degree, parity)
        See `equicalc.nn.blocks`.
    bias : bool
        Add a number to every even scalar of the output: `bias`, in the order of the blocks.
    """

    out_starts: List[int]
    out_sizes: List[int]
    pairs: List[List[int]]

    table: torch.Tensor
    transposed: torch.Tensor
    bias_columns: torch.Tensor
    bias_row: torch.Tensor

    def __init__(self, irreps_in: List[Irrep], irreps_out: List[Irrep], bias: bool = False):
        super().__init__()
        self.irreps_in = list(irreps_in)
        self.irreps_out = list(irreps_out)
        self.width_in = feature_width(irreps_in)
        self.width_out = feature_width(irreps_out)
        self.out_starts = [feature_width(irreps_out[:o]) for o in range(len(irreps_out))]
        self.out_sizes = [block_size(irrep) for irrep in irreps_out]
        # of each pair of blocks: first input, first output, degree, multiplicities, first weight
        pairs: List[List[int]] = []
        done = 0
        for i, (mul_in, degree, parity) in enumerate(irreps_in):
            for o, (mul_out, *kind) in enumerate(irreps_out):
                if kind == [degree, parity]:
                    starts = [feature_width(irreps_in[:i]), feature_width(irreps_out[:o])]
                    pairs.append([*starts, degree, mul_in, mul_out, done])
                    done += mul_in * mul_out
        self.pairs = pairs
        # the same for the operator, and the transposed matrices, which `prepare` fills
        self.register_buffer(
            "table", torch.tensor(pairs, dtype=torch.int64).view(-1, 6), persistent=False
        )
        self.register_buffer("transposed", torch.zeros(0), persistent=False)
        self.fused = True
        self.weight = torch.nn.Parameter(torch.empty(done))
        self.load_e3nn(torch.randn(done))
        self.has_bias = bias
        columns = [
            start + channel
            for start, (mul, *kind) in zip(self.out_starts, irreps_out, strict=True)
            for channel in range(mul)
            if kind == [0, 1]
        ]
        self.register_buffer(
            "bias_columns", torch.tensor(columns, dtype=torch.int64), persistent=False
        )
        # the bias at its places in a row of the output, which `prepare` fills
        self.register_buffer("bias_row", torch.zeros(0), persistent=False)
        if bias:
            self.bias = torch.nn.Parameter(torch.zeros(len(columns)))
        else:
            # no part of the state: files written before there were biases stay readable
            self.register_buffer("bias", torch.zeros(0), persistent=False)

    @torch.jit.unused
    def load_e3nn(self, weight: torch.Tensor, scale: float = 1.0) -> None:
        """Take the flat weights of an `e3nn.o3.Linear` with ``path_normalization="element"``.

        Each is divided by the root of the number of input channels that its output mixes.

        Parameters
        ----------
        weight : Tensor [number of weights]
        scale : float
            Further factor.
        """
        if weight.numel() != self.weight.numel():
            raise ValueError(
                f"IrrepsLinear: expected {self.weight.numel()} weights, found {weight.numel()}"
            )
        factors = torch.empty_like(self.weight)
        for _, out_start, _, mul_in, mul_out, first in self.pairs:
            fan_in = sum(pair[3] for pair in self.pairs if pair[1] == out_start)
            factors[first : first + mul_in * mul_out] = scale / math.sqrt(fan_in)
        with torch.no_grad():
            self.weight.copy_(weight.flatten().to(self.weight) * factors)

    @torch.jit.export
    def prepare(self) -> None:
        """Keep the transposed matrices and the row of the bias; call again when they change."""
        if self.has_bias:
            self.bias_row = self.row_of_bias().detach()
        parts = [self.weight.new_zeros(0)]
        for pair in self.pairs:
            n_in, n_out, first = pair[3], pair[4], pair[5]
            matrix = self.weight.detach()[first : first + n_in * n_out].view(n_in, n_out)
            parts.append(matrix.t().flatten())
        self.transposed = torch.cat(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mixed features, ``[n, width_in]`` to ``[n, width_out]``."""
        is_fixed = not self.weight.requires_grad and not self.bias.requires_grad
        if self.fused and has_operators(x) and is_fixed:
            row: Optional[torch.Tensor] = None
            if self.has_bias:
                is_ready = self.bias_row.numel() == self.width_out
                row = self.bias_row if is_ready else self.row_of_bias()
            return torch.ops.equicalc.irreps_linear(
                x, self.weight, self.transposed, self.table, self.width_out, row
            )
        outputs: List[torch.Tensor] = []
        for start, size in zip(self.out_starts, self.out_sizes):  # noqa: B905 (TorchScript)
            block: Optional[torch.Tensor] = None
            for pair in self.pairs:
                if pair[1] == start:
                    part = self.product(x, pair)
                    block = part if block is None else block + part
            if block is None:
                block = torch.zeros(x.shape[0], size, dtype=x.dtype, device=x.device)
            outputs.append(block)
        mixed = torch.cat(outputs, dim=1)
        return mixed + self.row_of_bias() if self.has_bias else mixed

    def row_of_bias(self) -> torch.Tensor:
        """Return what is added to every row of the output ``[width_out]``."""
        row = torch.zeros(self.width_out, dtype=self.bias.dtype, device=self.bias.device)
        return row.index_copy(0, self.bias_columns, self.bias)

    def product(self, x: torch.Tensor, pair: List[int]) -> torch.Tensor:
        """Return one input block times its matrix."""
        start, degree, mul_in, mul_out, first = pair[0], pair[2], pair[3], pair[4], pair[5]
        block = x[:, start : start + (2 * degree + 1) * mul_in]
        weight = self.weight[first : first + mul_in * mul_out].view(mul_in, mul_out)
        return torch.matmul(block.reshape(-1, mul_in), weight).view(x.shape[0], -1)
