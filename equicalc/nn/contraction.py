"""The symmetric contraction of MACE: polynomials in the components of each channel."""

import functools
import itertools
import math
from collections.abc import Sequence

import torch

from equicalc.core import load_library
from equicalc.nn.devices import has_operators
from equicalc.nn.irreps import clebsch_gordan, l_slice, n_components

load_library()  # torch.ops.equicalc.symmetric_contraction

# Sums of coupling coefficients, which are of order one, below this are rounding,
VANISHING = 1e-9
# and so are, relative to the largest, couplings of others, which may be float32.
FOREIGN = 1e-5


class SymmetricContraction(torch.nn.Module):
    """Polynomials ``out[o, c] = sum_t W[z, t, c] x[i, c] (x[j, c] (x[k, c]))`` of node features.

    The product of atomic bases of Batatia et al. (MACE, 2022) for correlation up to three, with the
    couplings and the weights of paths multiplied out: what is left are monomials and one
    coefficient for each of them, species and channel.

    Parameters
    ----------
    terms : list of (int, tuple of int)
        Output component and the one to three components whose product is the monomial, ascending.
    weight : Tensor [n_species, n_terms, C]
        Coefficients.
    n_inputs, n_outputs : int
        Components M of the features and O of the result.
    """

    term_output: torch.Tensor
    term_components: torch.Tensor
    starts: torch.Tensor
    roots: torch.Tensor
    branches: torch.Tensor
    leaves: torch.Tensor

    def __init__(
        self,
        terms: list[tuple[int, tuple[int, ...]]],
        weight: torch.Tensor,
        n_inputs: int,
        n_outputs: int,
    ):
        super().__init__()
        # component M stands for the factor one
        padded = [[*factors, n_inputs, n_inputs][:3] for _, factors in terms]
        self.register_buffer(
            "term_output", torch.tensor([o for o, _ in terms], dtype=torch.int64), persistent=False
        )
        self.register_buffer(
            "term_components",
            torch.tensor(padded, dtype=torch.int64).reshape(-1, 3).T.contiguous(),
            persistent=False,
        )
        for name, level in zip(
            ("starts", "roots", "branches", "leaves"), _tree(terms, n_outputs), strict=True
        ):
            self.register_buffer(name, level, persistent=False)
        self.n_outputs = n_outputs
        self.weight = torch.nn.Parameter(weight)
        self.fused = True

    def forward(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return ``[n, O, C]`` from features ``[n, M, C]``; species ``[n]`` int64."""
        if self.fused and has_operators(x):
            return torch.ops.equicalc.symmetric_contraction(
                x, species, self.weight, self.starts, self.roots, self.branches, self.leaves
            )
        factors = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        term = self.weight.index_select(0, species)
        for components in self.term_components:
            term = term * factors.index_select(1, components)
        out = torch.zeros(x.shape[0], self.n_outputs, x.shape[2], dtype=x.dtype, device=x.device)
        return out.index_add(1, self.term_output, term)


def symmetric_terms(
    l_max: int, degrees: list[int], correlation: int
) -> list[tuple[int, tuple[int, ...]]]:
    """List the monomials of features of degrees up to l_max that symmetry allows.

    Parameters
    ----------
    l_max : int
        Features have one component for every (l, m), of parity ``(-1)^l``.
    degrees : list of int
        Degrees of the outputs, of parity ``(-1)^l``, one after the other.
    correlation : int
        Highest order, 1 to 3.

    Returns
    -------
    list of (int, tuple of int)
        Output component and ascending factors.
    """
    terms: list[tuple[int, tuple[int, ...]]] = []
    first = 0
    for degree in degrees:
        for order in range(1, correlation + 1):
            allowed = sum(
                _symmetrised(coupling.unsqueeze(-1)).abs()
                for coupling in _couplings(l_max, degree, order)
            )
            if isinstance(allowed, int):
                continue
            for m, *factors in torch.nonzero(allowed[..., 0] > VANISHING).tolist():
                if factors == sorted(factors):
                    terms.append((first + m, tuple(factors)))
        first += 2 * degree + 1
    return sorted(terms)


@functools.cache
def equivariant_basis(l_max: int, degrees: tuple[int, ...], correlation: int) -> torch.Tensor:
    """Return an orthonormal basis of the coefficients that make a contraction equivariant.

    Monomials of `symmetric_terms` are what products of features consist of, not these products:
    coefficients of x^2, y^2 and z^2, say, are equal.

    Parameters
    ----------
    l_max, degrees, correlation
        As in `symmetric_terms`, whose order is that of the rows.

    Returns
    -------
    Tensor [n_terms, n_products], float64
    """
    terms = symmetric_terms(l_max, list(degrees), correlation)
    index = {term: number for number, term in enumerate(terms)}
    columns = []
    first = 0
    for degree in degrees:
        for order in range(1, correlation + 1):
            for coupling in _couplings(l_max, degree, order):
                total = _symmetrised(coupling.unsqueeze(-1))[..., 0]
                column = torch.zeros(len(terms), dtype=torch.float64)
                for place in torch.nonzero(total.abs() > VANISHING).tolist():
                    factors = place[1:]
                    if factors == sorted(factors):
                        repeats = math.prod(math.factorial(factors.count(i)) for i in set(factors))
                        row = index[first + place[0], tuple(factors)]
                        column[row] = total[tuple(place)] / repeats
                columns.append(column)
        first += 2 * degree + 1
    vectors, sizes, _ = torch.linalg.svd(torch.stack(columns, dim=1), full_matrices=False)
    return vectors[:, sizes > FOREIGN * sizes[0]]


def expand(
    terms: list[tuple[int, tuple[int, ...]]],
    couplings: list[torch.Tensor],
    weights: list[torch.Tensor],
) -> torch.Tensor:
    """Multiply couplings with the weights of their paths.

    Parameters
    ----------
    terms : list of (int, tuple of int)
        Output and factors of every monomial.
    couplings : list of Tensor [O, M, ..., M, K]
        Of order 1, 2, ...: how K paths couple that many factors to O outputs; not necessarily
        symmetric in the factors.
    weights : list of Tensor [n_species, K, C]
        Weights of the paths of every order.

    Returns
    -------
    Tensor [n_species, n_terms, C]
        Coefficients of the monomials.

    Raises
    ------
    ValueError
        The couplings have a monomial that is not among the terms.
    """
    index = {term: number for number, term in enumerate(terms)}
    n_species, _, channels = weights[0].shape
    result = torch.zeros(len(terms), n_species, channels, dtype=weights[0].dtype)
    for order, (coupling, weight) in enumerate(zip(couplings, weights, strict=True), start=1):
        total = _symmetrised(coupling)
        largest = total.abs().max()
        total = total.flatten(1, -2)
        for factors in _monomials(coupling.shape[1], order):
            # the sum ran over permutations of equal factors too
            repeats = math.prod(math.factorial(factors.count(i)) for i in set(factors))
            position = 0
            for factor in factors:
                position = position * coupling.shape[1] + factor
            paths = total[:, position] / repeats
            for output in range(paths.shape[0]):
                if (output, factors) in index:
                    coefficient = torch.einsum("k,skc->sc", paths[output], weight)
                    result[index[output, factors]] = coefficient
                elif paths[output].abs().max() > FOREIGN * largest:
                    raise ValueError(
                        f"the couplings have a product of components {factors} in output "
                        f"{output}, which symmetry does not allow"
                    )
    return result.transpose(0, 1).contiguous()


def _monomials(n_inputs: int, order: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations_with_replacement(range(n_inputs), order))


def _symmetrised(coupling: torch.Tensor) -> torch.Tensor:
    """Sum over permutations of the factors of ``[O, M, ..., M, K]``."""
    order = coupling.dim() - 2
    total = torch.zeros_like(coupling)
    for axes in itertools.permutations(range(1, order + 1)):
        total += coupling.permute(0, *axes, order + 1)
    return total


def _couplings(l_max: int, degree: int, order: int) -> list[torch.Tensor]:
    """Couple the factors one after the other to a degree, ``[2 l + 1, M, ..., M]`` each."""
    m = n_components(l_max)
    # partial products (degree, sum of degrees, coupling with the output last)
    partial: list[tuple[int, int, torch.Tensor]] = []
    for l1 in range(l_max + 1):
        block = torch.zeros(m, 2 * l1 + 1, dtype=torch.float64)
        block[l_slice(l1)] = torch.eye(2 * l1 + 1, dtype=torch.float64)
        partial.append((l1, l1, block))
    for factor in range(2, order + 1):
        longer = []
        for (l1, total, before), l2 in itertools.product(partial, range(l_max + 1)):
            for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                if factor == order and l3 != degree:
                    continue
                block = torch.zeros(*before.shape[:-1], m, 2 * l3 + 1, dtype=torch.float64)
                block[..., l_slice(l2), :] = torch.einsum(
                    "...a,abc->...bc", before, clebsch_gordan(l1, l2, l3)
                )
                longer.append((l3, total + l2, block))
        partial = longer
    return [
        block.movedim(-1, 0)
        for l3, total, block in partial
        if l3 == degree and total % 2 == degree % 2
    ]


def _tree(
    terms: list[tuple[int, tuple[int, ...]]], n_outputs: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the levels ``x_i (w + sum_j x_j (w + sum_k w x_k))`` as contraction_op.cpp reads.

    Levels have rows (component, term or -1, first child) and one column more, which closes them.
    """
    index = {term: number for number, term in enumerate(terms)}
    if len(index) != len(terms):
        raise ValueError("a symmetric contraction has each monomial of an output once")
    starts = [0]
    roots: list[tuple[int, int, int]] = []
    branches: list[tuple[int, int, int]] = []
    leaves: list[tuple[int, int]] = []
    for output in range(n_outputs):
        mine = sorted(factors for o, factors in terms if o == output)
        for i, of_root in itertools.groupby(mine, key=lambda factors: factors[0]):
            roots.append((i, index.get((output, (i,)), -1), len(branches)))
            longer = [factors for factors in of_root if len(factors) > 1]
            for j, of_branch in itertools.groupby(longer, key=lambda factors: factors[1]):
                branches.append((j, index.get((output, (i, j)), -1), len(leaves)))
                leaves += [
                    (factors[2], index[(output, factors)])
                    for factors in of_branch
                    if len(factors) > 2
                ]
        starts.append(len(roots))
    roots.append((0, -1, len(branches)))
    branches.append((0, -1, len(leaves)))

    def level(rows: Sequence[tuple[int, ...]], width: int) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, width).T.contiguous()

    return torch.tensor(starts), level(roots, 3), level(branches, 3), level(leaves, 2)
