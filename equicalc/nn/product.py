"""Products of node features: many-body order without extra neighbours."""

import math

import torch

from equicalc.nn.devices import has_operators
from equicalc.nn.irreps import clebsch_gordan, coupling_paths, l_slice, n_components
from equicalc.nn.linear import DegreeLinear


class _Coupling(torch.nn.Module):
    """Channel-wise product of two features with one weight per species, path and channel."""

    matrix: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    path_of_row: torch.Tensor
    gather: torch.Tensor
    rows: torch.Tensor
    terms: torch.Tensor
    coefficients: torch.Tensor

    def __init__(self, l_max: int, channels: int, n_species: int, parity: bool, symmetric: bool):
        super().__init__()
        paths = coupling_paths(l_max, l_max, l_max, parity, symmetric)
        m = n_components(l_max)
        rows, path_of_row, component = [], [], []
        for index, (l1, l2, l3) in enumerate(paths):
            block = torch.zeros(m, m, 2 * l3 + 1, dtype=torch.float64)
            block[l_slice(l1), l_slice(l2)] = clebsch_gordan(l1, l2, l3)
            rows.append(block.reshape(m * m, 2 * l3 + 1).T.reshape(2 * l3 + 1, m, m))
            path_of_row += [index] * (2 * l3 + 1)
            component += list(range(l3 * l3, (l3 + 1) ** 2))
        dense = torch.cat(rows)
        if symmetric:
            dense = torch.triu(dense + dense.transpose(1, 2)) * (
                1.0 - 0.5 * torch.eye(m, dtype=torch.float64)
            )
        used = torch.nonzero(dense.abs().sum(0) > 0)
        per_output = torch.bincount(torch.tensor([p[2] for p in paths]))
        gather = torch.zeros(m, len(component), dtype=torch.float64)
        for row, target in enumerate(component):
            gather[target, row] = 1.0 / math.sqrt(float(per_output[paths[path_of_row[row]][2]]))
        self.register_buffer("left", used[:, 0].clone(), persistent=False)
        self.register_buffer("right", used[:, 1].clone(), persistent=False)
        self.register_buffer("matrix", dense[:, used[:, 0], used[:, 1]], persistent=False)
        self.register_buffer("gather", gather, persistent=False)
        self.register_buffer("path_of_row", torch.tensor(path_of_row), persistent=False)
        self._add_sparse_tables(component)
        self.weight = torch.nn.Parameter(torch.randn(n_species, len(paths), channels))
        self.fused = True

    @torch.jit.unused
    def _add_sparse_tables(self, component: list[int]) -> None:
        """Add the same couplings as lists of non-zero terms, for the operator of csrc."""
        n_rows = len(component)
        scaled = self.matrix * self.gather.sum(dim=0).unsqueeze(1)
        row, term = torch.nonzero(scaled.abs() > 1e-14, as_tuple=True)
        rows = torch.zeros(3, n_rows + 1, dtype=torch.int64)
        rows[0, 1:] = torch.bincount(row, minlength=n_rows).cumsum(0)
        rows[1, :n_rows] = self.path_of_row
        rows[2, :n_rows] = torch.tensor(component)
        self.register_buffer("rows", rows, persistent=False)
        terms = torch.stack([self.left[term], self.right[term]])
        self.register_buffer("terms", terms, persistent=False)
        self.register_buffer("coefficients", scaled[row, term], persistent=False)

    def forward(self, a: torch.Tensor, b: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return the weighted product ``[n, M, C]`` of features ``[n, M, C]``."""
        if self.fused and has_operators(a):
            return torch.ops.equicalc.couple(
                a, b, species, self.weight, self.rows, self.terms, self.coefficients
            )
        outer = a.index_select(1, self.left) * b.index_select(1, self.right)
        coupled = torch.matmul(self.matrix, outer)
        weight = self.weight.index_select(1, self.path_of_row).index_select(0, species)
        return torch.matmul(self.gather, coupled * weight)


class SymmetricProduct(torch.nn.Module):
    """Node update ``L1 a + L2 (a x a) + L3 ((a x a) x a)``, up to the given correlation order.

    Products act channel by channel with species-dependent weights, L mixes channels per degree.
    The same many-body order as the symmetrised contraction of MACE (Batatia et al. 2022), built by
    repeated products, whose cost grows linearly with the order.
    """

    def __init__(self, l_max: int, channels: int, n_species: int, correlation: int, parity: bool):
        super().__init__()
        self.couplings = torch.nn.ModuleList(
            _Coupling(l_max, channels, n_species, parity, symmetric=order == 2)
            for order in range(2, correlation + 1)
        )
        self.mixing = DegreeLinear(l_max, correlation * channels, channels)

    def forward(self, a: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return updated features ``[n, M, C]``; species ``[n]`` int64."""
        powers = [a]
        power = a
        for coupling in self.couplings:
            power = coupling(power, a, species)
            powers.append(power)
        return self.mixing(torch.cat(powers, dim=2))
