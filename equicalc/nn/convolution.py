"""Convolutions over edges: from features of senders to sums on receivers.

Each class is one shape of the same sum ``m_i = sum_j R(r_ij) C Y(r_ij) x_j``; all share the call
``(x, radial, harmonics, edge_index, n_local) -> messages``, which is the interface that compiled
operators implement. On the CPU, and on CUDA devices that the core was built for, they go through
the operators of csrc, which hold nothing per edge, component and channel in memory and have the
first and second derivatives that training needs. The torch expressions are for other devices, and
with ``fused`` False the oracle of the operators.
"""

import math

import torch

from equicalc.nn.devices import has_operators
from equicalc.nn.irreps import clebsch_gordan, coupling_paths, l_slice, n_components
from equicalc.nn.linear import DegreeLinear


def sum_on_receivers(
    messages: torch.Tensor, edge_index: torch.Tensor, n_local: int
) -> torch.Tensor:
    """Sum messages ``[E, ...]`` of edges into their receivers, giving ``[n_local, ...]``."""
    # TorchScript cannot unpack a list
    shape = [n_local] + list(messages.shape[1:])  # noqa: RUF005
    out = torch.zeros(shape, dtype=messages.dtype, device=messages.device)
    return out.index_add(0, edge_index[0], messages)


class SpeciesConvolution(torch.nn.Module):
    """First layer: senders carry only their species, so channels are mixed after the edge sum.

    ``A_i[lm, (k b)] = sum_j u_k(z_j) B_b(r_ij) Y_lm(r_ij)``, then ``m_i[lm, c] = A_i W_l`` (the
    atomic basis of ACE, Drautz 2019). The cost per edge does not depend on the channels.

    Parameters
    ----------
    n_species, n_embedding : int
        Number of elements and of species channels k (one-hot when they are equal).
    n_radial, l_max, channels : int
    """

    def __init__(self, n_species: int, n_embedding: int, n_radial: int, l_max: int, channels: int):
        super().__init__()
        start = torch.eye(n_species) if n_embedding == n_species else None
        if start is None:
            start = torch.randn(n_species, n_embedding)
        self.embedding = torch.nn.Parameter(start)
        self.mixing = DegreeLinear(l_max, n_embedding * n_radial, channels)
        self.fused = True

    def forward(
        self,
        species: torch.Tensor,
        radial: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return messages ``[n_local, M, C]``; species ``[n_total]`` int64."""
        kind = self.embedding.index_select(0, species).index_select(0, edge_index[1])
        weight = (kind.unsqueeze(2) * radial.unsqueeze(1)).flatten(1)
        if self.fused and has_operators(weight):
            basis = torch.ops.equicalc.outer_sum(harmonics, weight, edge_index, n_local)
        else:
            edge = harmonics.unsqueeze(2) * weight.unsqueeze(1)
            basis = sum_on_receivers(edge, edge_index, n_local)
        return self.mixing(basis)


class EquivariantConvolution(torch.nn.Module):
    """Middle layers: full coupling of neighbour features with the edge's harmonics.

    ``m_i[l3, m3, c] = sum_j sum_p R_pc(r_ij) sum_m1,m2 C^p Y_l1m1(r_ij) x_j[l2, m2, c]`` with
    ``R_pc = sum_b B_b W_bpc``; paths with equal l3 are summed.
    """

    coupling: torch.Tensor
    rows: torch.Tensor
    entries: torch.Tensor
    terms: torch.Tensor
    coefficients: torch.Tensor

    def __init__(self, n_radial: int, l_max: int, channels: int, parity: bool):
        super().__init__()
        paths = coupling_paths(l_max, l_max, l_max, parity)
        m = n_components(l_max)
        coupling = torch.zeros(len(paths), m, m, m, dtype=torch.float64)
        per_output = [sum(1 for p in paths if p[2] == degree) for degree in range(l_max + 1)]
        for index, (l1, l2, l3) in enumerate(paths):
            scale = 1.0 / math.sqrt(per_output[l3])
            coupling[index, l_slice(l1), l_slice(l2), l_slice(l3)] = scale * clebsch_gordan(
                l1, l2, l3
            )
        self.register_buffer("coupling", coupling, persistent=False)
        self._add_sparse_tables(coupling)
        self.weight = torch.nn.Parameter(
            torch.randn(n_radial, len(paths), channels) / math.sqrt(n_radial)
        )
        self.fused = True

    @torch.jit.unused
    def _add_sparse_tables(self, coupling: torch.Tensor) -> None:
        """Add the same couplings as rows (path, m3) of entries m2 of terms m1, for the operator."""
        path, m3, m2, m1 = torch.nonzero(coupling.permute(0, 3, 2, 1), as_tuple=True)
        entry, of_term = torch.unique(torch.stack([path, m3, m2]), dim=1, return_inverse=True)
        row, of_entry = torch.unique(entry[:2], dim=1, return_inverse=True)
        rows = torch.zeros(3, row.shape[1] + 1, dtype=torch.int64)
        rows[0, 1:] = torch.bincount(of_entry, minlength=row.shape[1]).cumsum(0)
        rows[1:, :-1] = row
        entries = torch.zeros(2, entry.shape[1] + 1, dtype=torch.int64)
        entries[0, 1:] = torch.bincount(of_term, minlength=entry.shape[1]).cumsum(0)
        entries[1, :-1] = entry[2]
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("entries", entries, persistent=False)
        self.register_buffer("terms", m1, persistent=False)
        self.register_buffer("coefficients", coupling[path, m1, m2, m3], persistent=False)

    def forward(
        self,
        x: torch.Tensor,
        radial: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return messages ``[n_local, M, C]`` from sender features ``[n_total, M, C]``."""
        if self.fused and has_operators(x):
            return torch.ops.equicalc.equivariant_convolution(
                x,
                radial,
                harmonics,
                self.weight,
                edge_index,
                n_local,
                self.rows,
                self.entries,
                self.terms,
                self.coefficients,
            )
        sender = x.index_select(0, edge_index[1])
        weight = torch.einsum("eb,bpc->epc", radial, self.weight)
        rotation = torch.einsum("em,pmno->epon", harmonics, self.coupling)
        edge = torch.zeros_like(sender)
        for path in range(rotation.shape[1]):
            edge = edge + weight[:, path].unsqueeze(1) * torch.matmul(rotation[:, path], sender)
        return sum_on_receivers(edge, edge_index, n_local)


class ScalarConvolution(torch.nn.Module):
    """Last layer: only scalar messages, one per degree and channel.

    ``m_i[l, c] = sum_j R_lc(r_ij) (2 l + 1)^(-1/2) sum_m Y_lm(r_ij) x_j[lm, c]``.
    """

    def __init__(self, n_radial: int, l_max: int, channels: int):
        super().__init__()
        self.l_max = l_max
        self.weight = torch.nn.Parameter(
            torch.randn(n_radial, (l_max + 1) * channels) / math.sqrt(n_radial)
        )
        self.fused = True

    def forward(
        self,
        x: torch.Tensor,
        radial: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return messages ``[n_local, (l_max + 1) C]`` from features ``[n_total, M, C]``."""
        if self.fused and has_operators(x):
            if self.weight.requires_grad:
                # weights act after the sum over edges, so that edges know nothing of their gradient
                moments = torch.ops.equicalc.radial_moments(
                    x, radial, harmonics, edge_index, n_local
                )
                return (moments * self.weight).sum(dim=1)
            return torch.ops.equicalc.scalar_convolution(
                x, radial, harmonics, self.weight, edge_index, n_local
            )
        projected = harmonics.unsqueeze(2) * x.index_select(0, edge_index[1])
        parts = []
        for degree in range(self.l_max + 1):
            begin = degree * degree
            block = projected[:, begin : begin + 2 * degree + 1]
            parts.append(block.sum(dim=1) / math.sqrt(2.0 * degree + 1.0))
        edge = torch.cat(parts, dim=1) * torch.matmul(radial, self.weight)
        return sum_on_receivers(edge, edge_index, n_local)
