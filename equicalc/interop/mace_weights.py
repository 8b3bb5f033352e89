"""From the weights of mace-torch to those of equicalc's MACE network.

Modules are stand-ins for pickled ones. e3nn keeps normalisations beside its weights; here every one
is multiplied into them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from e3nn.o3 import Irreps

from equicalc.errors import ModelFileError
from equicalc.interop.pickled import StandIn
from equicalc.interop.sevennet_weights import Matrices, factor_of, linear_matrices
from equicalc.nn.contraction import SymmetricContraction, expand, symmetric_terms
from equicalc.nn.gated_config import message_paths
from equicalc.nn.gated_network import GatedConvolution, SpeciesLinear
from equicalc.nn.radial_network import ACTIVATIONS


def irreps_of(module: StandIn, name: str) -> Irreps:
    """Return an attribute as irreps."""
    return Irreps(str(module.get(name)))


def activation_of(module: Any) -> tuple[str, float]:
    """Return name and factor of a pickled activation function of e3nn."""
    function = module.get("f") if isinstance(module, StandIn) else module
    name = str(getattr(function, "origin", function)).rpartition(".")[2]
    if name == "getattr":  # as torch.tanh and its like are pickled: (owner, name)
        name = str(function.arguments[1])
    name = {"shifted_softplus": "ssp"}.get(name, name)
    if name not in ACTIVATIONS:
        raise ModelFileError(
            f"found the activation function {name!r}, which equicalc cannot import; expected one "
            f"of {', '.join(ACTIVATIONS)}"
        )
    factor = module.get("cst") if isinstance(module, StandIn) else None
    if isinstance(module, StandIn) and module.get("_is_id", False):
        return name, 1.0
    return name, factor_of(name) if factor is None else float(factor)


def linear_matrix(module: StandIn, block_in: int, block_out: int) -> torch.Tensor:
    """Return the matrix of a linear layer between two of its blocks."""
    matrices = linear_matrices(
        module.tensor("weight"), irreps_of(module, "irreps_in"), irreps_of(module, "irreps_out")
    )
    return matrices[block_in, block_out]


def species_matrices(module: StandIn, species: list[int]) -> Matrices:
    """Return matrices ``[n_species, in, out]`` of a product with one-hot species by block pair."""
    irreps_in, irreps_out = irreps_of(module, "irreps_in1"), irreps_of(module, "irreps_out")
    n_species = irreps_of(module, "irreps_in2").dim
    flat, start = module.tensor("weight").flatten(), 0
    matrices: Matrices = {}
    for i, (mul_in, ir_in) in enumerate(irreps_in):
        for o, (mul_out, ir_out) in enumerate(irreps_out):
            if ir_in == ir_out:
                size = mul_in * n_species * mul_out
                block = flat[start : start + size].view(mul_in, n_species, mul_out)
                scale = 1.0 / math.sqrt(irreps_in.count(ir_in) * n_species)
                matrices[i, o] = scale * block[:, species].transpose(0, 1)
                start += size
    if start != flat.numel():
        raise ModelFileError(f"found {flat.numel()} weights of {module.origin}, expected {start}")
    return matrices


def load_species_linear(module: SpeciesLinear, matrices: Matrices) -> None:
    """Load one set of matrices for each element."""
    linear: Any
    for index, linear in enumerate(module.linears):
        found = [
            matrices[i, o][index].flatten()
            for i, kind_in in enumerate(linear.irreps_in)
            for o, kind_out in enumerate(linear.irreps_out)
            if kind_in[1:] == kind_out[1:]
        ]
        linear.weight.copy_(torch.cat(found))


def perceptron(module: StandIn) -> list[torch.Tensor]:
    """Return the matrices of a fully connected network of e3nn, the last one linear."""
    matrices: list[torch.Tensor] = []
    factor = 1.0
    for layer in module.children():
        matrix = layer.tensor("weight")
        matrices.append(matrix * (factor / math.sqrt(matrix.shape[0])))
        if layer.get("act") is not None:
            name, factor = activation_of(layer.get("act"))
            if name != "silu":
                raise ModelFileError(
                    f"found the radial activation {name!r}, which equicalc cannot import; expected "
                    "'silu'"
                )
    return matrices


def load_messages(
    messages: GatedConvolution, interaction: StandIn, l_max: int, scale: float
) -> None:
    """Load radial network and mixing, both sorted by our paths.

    MACE has edge vectors from sender to receiver, we the other way: harmonics of odd degree change
    sign.
    """
    product = interaction.get("conv_tp")
    sent = irreps_of(product, "irreps_in1")
    outputs = irreps_of(product, "irreps_out")
    columns: dict[tuple[int, int, int], tuple[slice, int]] = {}
    start = 0
    for instruction in product.get("instructions"):
        block, l1, out, mode = instruction.arguments[:4]
        if mode != "uvu":
            raise ModelFileError(f"found a tensor product of kind {mode!r}; expected 'uvu'")
        width = sent[block].mul
        columns[block, l1, outputs[out].ir.l] = (slice(start, start + width), out)
        start += width
    blocks = [(mul, ir.l, ir.p) for mul, ir in sent]
    paths = message_paths(blocks, messages.mix.irreps_out, l_max, True)
    if len(paths) != len(columns):
        raise ModelFileError(f"found {len(columns)} paths of messages, expected {len(paths)}")
    radial = perceptron(interaction.get("conv_tp_weights"))
    picked, rows = [], []
    linear = interaction.get("linear")
    matrices = linear_matrices(
        linear.tensor("weight"), irreps_of(linear, "irreps_in"), irreps_of(linear, "irreps_out")
    )
    for block, l1, l3, _ in paths:
        column, out = columns[block, l1, l3]
        picked.append((-1) ** l1 * radial[-1][:, column])
        rows.append(scale * matrices[out, l3].flatten())
    for parameter, matrix in zip(
        messages.radial.weights, [*radial[:-1], torch.cat(picked, dim=1)], strict=True
    ):
        parameter.copy_(matrix)
    # paths of one degree are neighbours, and so are their rows of the mixing matrix
    messages.mix.weight.copy_(torch.cat(rows))


def contraction_weights(
    module: StandIn, contraction: SymmetricContraction, species: list[int]
) -> torch.Tensor:
    """Return coefficients of monomials from couplings and weights of all output degrees."""
    l_max = irreps_of(module, "irreps_in").lmax
    parts = []
    for (_, irrep), one in zip(
        irreps_of(module, "irreps_out"), module.get("contractions").children(), strict=True
    ):
        correlation = int(one.get("correlation"))
        couplings, weights = [], []
        for order in range(1, correlation + 1):
            coupling = one.tensor(f"U_matrix_{order}")
            couplings.append(coupling.unsqueeze(0) if irrep.l == 0 else coupling)
            if order == correlation:
                weight = one.tensor("weights_max")
            else:
                weight = one.get("weights").get(str(correlation - 1 - order)).detach().double()
            # one set of weights for all elements, when the product is agnostic
            weights.append(weight[species] if weight.shape[0] > 1 else weight)
        try:
            terms = symmetric_terms(l_max, [irrep.l], correlation)
            coefficients = expand(terms, couplings, weights)
        except ValueError as error:
            raise ModelFileError(f"a symmetric contraction cannot be imported: {error}") from None
        parts.append(coefficients.expand(len(species), -1, -1))
    found = torch.cat(parts, dim=1)
    assert found.shape == contraction.weight.shape
    return found


def readout_weights(module: StandIn, head: int, n_heads: int) -> list[torch.Tensor]:
    """Return the matrices of a readout for one head."""
    if module.kind == "LinearReadoutBlock":
        return [linear_matrix(module.get("linear"), 0, 0)[:, head : head + 1]]
    if module.kind != "NonLinearReadoutBlock":
        raise ModelFileError(
            f"found a readout of class {module.kind}, which equicalc cannot import; expected "
            "LinearReadoutBlock or NonLinearReadoutBlock"
        )
    first = linear_matrix(module.get("linear_1"), 0, 0)
    second = linear_matrix(module.get("linear_2"), 0, 0)
    activation = module.get("non_linearity.acts").children()[0]
    width = first.shape[1] // n_heads
    mine = slice(head * width, (head + 1) * width)
    if activation is None:
        return [first[:, mine] @ second[mine, head : head + 1]]
    return [first[:, mine], activation_of(activation)[1] * second[mine, head : head + 1]]
