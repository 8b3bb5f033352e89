"""The operators of csrc in the form that torch.export traces, and modules that go through them.

Operators of evaluation alone, which imported networks call, can be traced as they are: both ways go
through the dispatcher, and csrc registers their shapes. Those that training calls too have second
derivatives; for them there are operators in csrc/operators/compiled_ops.cpp, whose shapes and
gradients are registered here, in Python, because only export needs them.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from equicalc.core import load_library
from equicalc.nn.charged_network import ChargedNetwork
from equicalc.nn.convolution import (
    EquivariantConvolution,
    ScalarConvolution,
    SpeciesConvolution,
)
from equicalc.nn.gate import Gate
from equicalc.nn.gated_network import SpeciesLinear
from equicalc.nn.network import EquiNetwork
from equicalc.nn.product import _Coupling
from equicalc.nn.radial import RadialBasis
from equicalc.nn.spherical import edge_geometry
from equicalc.nn.tabulated import TabulatedNetwork

load_library()  # torch.ops.equicalc

# Operators, and the places of the arguments that have gradients.
DIFFERENTIATED = {
    "traced_radial": (0,),
    "traced_outer_sum": (0, 1),
    "traced_couple": (0, 1),
    "traced_scalar_convolution": (0, 1, 2),
    "traced_equivariant_convolution": (0, 1, 2),
}


def _shape_of_output(name: str, arguments: tuple[Any, ...]) -> list[Any]:
    """Shape of what an operator returns."""
    first, second = arguments[0], arguments[1]
    if name == "traced_radial":
        return [first.shape[0], arguments[3].shape[0]]
    if name == "traced_outer_sum":
        return [arguments[3].shape[0], first.shape[1], second.shape[1]]
    if name == "traced_couple":
        return list(first.shape)
    atoms = arguments[5].shape[0]
    if name == "traced_scalar_convolution":
        return [atoms, arguments[3].shape[1]]
    return [atoms, *first.shape[1:]]


@functools.cache
def register() -> None:
    """Tell torch the shapes and gradients of the operators; once in a process."""
    for name, places in DIFFERENTIATED.items():
        _register(name, places)


def _register(name: str, places: tuple[int, ...]) -> None:
    gradient = getattr(torch.ops.equicalc, f"{name}_gradient")

    def fake(*arguments: Any) -> torch.Tensor:
        return arguments[0].new_empty(_shape_of_output(name, arguments))

    def fake_gradient(*arguments: Any) -> Any:
        found = tuple(torch.empty_like(arguments[place]) for place in places)
        return found if len(found) > 1 else found[0]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, torch.Tensor)))
        ctx.inputs = [None if isinstance(x, torch.Tensor) else x for x in inputs]

    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        saved = iter(ctx.saved_tensors)
        inputs = [next(saved) if x is None else x for x in ctx.inputs]
        found = gradient(*inputs, grad.contiguous())
        result: list[Any] = [None] * len(inputs)
        for place, value in zip(places, found if len(places) > 1 else (found,), strict=True):
            result[place] = value
        return tuple(result)

    torch.library.register_fake(f"equicalc::{name}", fake)
    torch.library.register_fake(f"equicalc::{name}_gradient", fake_gradient)
    torch.library.register_autograd(f"equicalc::{name}", backward, setup_context=setup_context)


class TracedRadialBasis(RadialBasis):
    """`RadialBasis` through the operator that can be traced."""

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Return the basis functions ``[E, n_radial]``."""
        first, second = self.mlp[0], self.mlp[2]
        return torch.ops.equicalc.traced_radial(
            distance,
            first.weight,
            first.bias,
            second.weight,
            second.bias,
            self.prefactor,
            self.range,
        )


class TracedSpeciesConvolution(SpeciesConvolution):
    """`SpeciesConvolution` through the operator that can be traced."""

    def forward(
        self,
        species: torch.Tensor,
        radial: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return messages ``[n_total, M, C]``."""
        kind = self.embedding.index_select(0, species).index_select(0, edge_index[1])
        weight = (kind.unsqueeze(2) * radial.unsqueeze(1)).flatten(1)
        basis = torch.ops.equicalc.traced_outer_sum(harmonics, weight, edge_index, species)
        return self.mixing(basis)


class TracedCoupling(_Coupling):
    """`_Coupling` through the operator that can be traced."""

    def forward(self, a: torch.Tensor, b: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return the weighted product ``[n, M, C]``."""
        return torch.ops.equicalc.traced_couple(
            a, b, species, self.weight, self.rows, self.terms, self.coefficients
        )


class TracedScalarConvolution(ScalarConvolution):
    """`ScalarConvolution` through the operator that can be traced."""

    def forward(
        self,
        x: torch.Tensor,
        radial: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return messages ``[n_total, (l_max + 1) C]``."""
        return torch.ops.equicalc.traced_scalar_convolution(
            x, radial, harmonics, self.weight, edge_index, x
        )


class TracedEquivariantConvolution(EquivariantConvolution):
    """`EquivariantConvolution` through the operator that can be traced."""

    def forward(
        self,
        x: torch.Tensor,
        radial: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return messages ``[n_total, M, C]``."""
        return torch.ops.equicalc.traced_equivariant_convolution(
            x,
            radial,
            harmonics,
            self.weight,
            edge_index,
            x,
            self.rows,
            self.entries,
            self.terms,
            self.coefficients,
        )


class TracedSpeciesLinear(SpeciesLinear):
    """`SpeciesLinear` through one operator, which sees by itself which elements there are."""

    weights: torch.Tensor

    def stack(self) -> None:
        """Put the weights of all elements into one tensor ``[n_species, n_weights]``."""
        weights: list[torch.Tensor] = [part.get_parameter("weight") for part in self.linears]
        self.register_buffer("weights", torch.stack(weights))
        del self.linears[1:]

    def forward(self, x: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return mixed features ``[n, width_out]``."""
        return torch.ops.equicalc.species_linear(
            x, species, self.weights, self.linears[0].table, self.width_out
        )


class TracedNetwork(EquiNetwork):
    """`EquiNetwork` whose distances and harmonics are expressions.

    Compilers make one loop over edges from them.
    """

    def geometry(self, edge_vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distances ``[E]`` (angstrom) and harmonics ``[E, M]`` of edges."""
        return edge_geometry(edge_vectors, self.l_max, fused=False)


TRACED: dict[type, type] = {
    RadialBasis: TracedRadialBasis,
    SpeciesConvolution: TracedSpeciesConvolution,
    _Coupling: TracedCoupling,
    ScalarConvolution: TracedScalarConvolution,
    EquivariantConvolution: TracedEquivariantConvolution,
    SpeciesLinear: TracedSpeciesLinear,
    EquiNetwork: TracedNetwork,
}


def make_traceable(network: ChargedNetwork) -> None:
    """Let all parts of a network go through operators that can be traced, for good.

    Tables of radial functions are filled; the network must be in float64.
    """
    register()
    network.set_fused(True)
    parts: Any = network
    # an expression, from which compilers make one loop over edges
    parts.repulsion.fused = False
    if isinstance(network, TabulatedNetwork):
        parts.prepare()
    for part in network.modules():
        if type(part) in TRACED:
            part.__class__ = TRACED[type(part)]
        if isinstance(part, TracedSpeciesLinear):
            part.stack()
        if isinstance(part, Gate) and not part.multiplicities:
            part.fused = False  # packages cannot hold the empty list that the operator would get
