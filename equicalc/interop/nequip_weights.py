"""From the weights of nequip to those of equicalc's gated network.

Normalisations that nequip and e3nn keep beside their weights are multiplied into them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from e3nn.o3 import Irreps

from equicalc.errors import ModelFileError
from equicalc.interop.nequip_file import NequipModel
from equicalc.interop.sevennet_weights import GateColumns, Matrices, gate_columns, linear_matrices
from equicalc.interop.sevennet_weights import to_gate as to_gate_blocks
from equicalc.nn.gated_config import message_paths
from equicalc.nn.gated_network import GatedConvolution, SpeciesLinear


def layer_features(model: NequipModel) -> list[Irreps]:
    """Return the node features before the first layer and after each layer.

    A layer keeps those of its hidden features that messages can reach.
    """
    harmonics = Irreps.spherical_harmonics(model.l_max)
    width = model.weight("type_embed.embed_module.weight").shape[1]
    features = [Irreps(f"{width}x0e")]
    for hidden in model.hidden:
        reached = {ir for _, a in features[-1] for _, b in harmonics for ir in a * b}
        kept = [(mul, ir) for mul, ir in hidden if ir in reached]
        scalars = [block for block in kept if block[1].l == 0]
        gated = [block for block in kept if block[1].l > 0]
        features.append(Irreps([*scalars, *gated]).simplify())
    return features


def perceptron(model: NequipModel, name: str) -> list[torch.Tensor]:
    """Return the matrices of a multilayer perceptron of nequip, scaled as it scales them."""
    matrices: list[torch.Tensor] = []
    while model.has(f"{name}.mlp.{2 * len(matrices)}.weight"):
        matrix = model.weight(f"{name}.mlp.{2 * len(matrices)}.weight")
        gain = math.sqrt(2.0) if matrices else 1.0
        matrices.append(matrix * (gain / math.sqrt(matrix.shape[0])))
        if model.has(f"{name}.mlp.{2 * len(matrices) - 2}.bias"):
            raise ModelFileError(f"'{model.path}' has biases in {name}; expected none")
    if not matrices:
        raise ModelFileError(f"'{model.path}' has no weights {name}.mlp.0.weight")
    return matrices


def readout_matrices(model: NequipModel) -> list[torch.Tensor]:
    """Return the matrices of the readout; those without an activation between them are one."""
    name = "per_atom_energy_readout.mlp_module"
    plain = [key for key in model.weights if key.startswith(f"{name}.mlp.weights.")]
    if plain:  # nequip has them in another module, without gains
        matrices = [model.weight(f"{name}.mlp.weights.{k}") for k in range(len(plain))]
        matrices = [matrix / math.sqrt(matrix.shape[0]) for matrix in matrices]
    else:
        matrices = perceptron(model, name)
    if model.readout_activation is None and len(matrices) > 1:
        return [torch.linalg.multi_dot(matrices)]
    return matrices


def load_layer(
    layer: Any,
    model: NequipModel,
    features: list[Irreps],
    index: int,
    species: list[int],
) -> None:
    """Load a `GatedLayer`."""
    layer.linear.load_e3nn(model.weight(f"layer{index}_convnet.conv.linear_1.weight"))
    scale = model.sender_scale()
    if layer.has_sender_scale:
        layer.sender_scale.copy_(scale[species])
    load_messages(
        layer.messages, model, features, index, 1.0 if layer.has_sender_scale else float(scale[0])
    )
    assert isinstance(layer.own, SpeciesLinear)
    columns = gate_columns(features[index + 1], layer.gate.irreps_in)
    found = own_matrices(model, features, index, columns, species)
    for k, linear in enumerate(layer.own.linears):
        load_matrices(linear, {key: value[k] for key, value in found.items()})


def load_matrices(linear: Any, matrices: Matrices) -> None:
    """Put matrices (block in, block out) into an `IrrepsLinear`; missing ones are zero."""
    parts = []
    for i, kind_in in enumerate(linear.irreps_in):
        for o, kind_out in enumerate(linear.irreps_out):
            if kind_in[1:] == kind_out[1:]:
                zero = linear.weight.new_zeros(kind_in[0], kind_out[0])
                parts.append(matrices.get((i, o), zero).flatten())
    linear.weight.copy_(torch.cat(parts))


def load_messages(
    messages: GatedConvolution,
    model: NequipModel,
    features: list[Irreps],
    index: int,
    scale: float,
) -> None:
    """Load radial network and mixing of a layer, both sorted by our paths."""
    x, name = features[index], f"layer{index}_convnet.conv"
    targets = messages.mix.irreps_out
    columns = gate_columns(features[index + 1], targets)
    kinds = {ir for _, ir in columns.irreps}
    listed = [
        (block, l1, ir)
        for block, (_, ir_x) in enumerate(x)
        for l1, (_, ir_y) in enumerate(Irreps.spherical_harmonics(model.l_max))
        for ir in ir_x * ir_y
        if ir in kinds
    ]
    starts = [0]
    for block, _, _ in listed:
        starts.append(starts[-1] + x[block].mul)
    # mixed messages: sorted by kind, then as listed
    irreps_mid = Irreps([(x[block].mul, ir) for block, _, ir in listed]).sort().irreps.simplify()
    raw = linear_matrices(model.weight(f"{name}.linear_2.weight"), irreps_mid, columns.irreps)
    used = {ir: 0 for _, ir in irreps_mid}
    of_path: dict[tuple[int, int, int, int], tuple[slice, Matrices]] = {}
    order = [ir for _, ir in irreps_mid]
    for k, (block, l1, ir) in enumerate(listed):
        mul = x[block].mul
        rows = slice(used[ir], used[ir] + mul)
        used[ir] += mul
        mine = {(0, o): scale * matrix[rows] for (i, o), matrix in raw.items() if order[i] == ir}
        column = slice(starts[k], starts[k + 1])
        of_path[block, l1, ir.l, ir.p] = (column, to_gate_blocks(mine, columns, {0: mul}))
    radial = perceptron(model, f"{name}.edge_mlp")
    if radial[-1].shape[1] != starts[-1]:
        raise ModelFileError(
            f"'{model.path}' has {radial[-1].shape[1]} radial functions in layer {index}, "
            f"expected {starts[-1]}"
        )
    paths = message_paths([(mul, ir.l, ir.p) for mul, ir in x], targets, model.l_max, True)
    found = [of_path[path] for path in paths]
    columns_of_paths = torch.cat([radial[-1][:, column] for column, _ in found], dim=1)
    for parameter, matrix in zip(
        messages.radial.weights, [*radial[:-1], columns_of_paths], strict=True
    ):
        parameter.copy_(matrix)
    frequencies = model.weight("bessel_encode.bessel_weights").flatten()
    messages.radial.frequencies.copy_(frequencies * (math.pi / model.cutoff))
    merged: Matrices = {}
    path = 0
    for block, n_paths in enumerate(messages.convolution.paths_per_block):
        for o in range(len(targets)):
            rows_of = [m[0, o] for _, m in found[path : path + n_paths] if (0, o) in m]
            if rows_of:
                merged[block, o] = torch.cat(rows_of)
        path += n_paths
    load_matrices(messages.mix, merged)


def own_matrices(
    model: NequipModel,
    features: list[Irreps],
    index: int,
    columns: GateColumns,
    species: list[int],
) -> Matrices:
    """Return the self-connection as one matrix ``[n_species, in, out]`` for each pair of blocks."""
    x = features[index]
    embedding = model.weight("type_embed.embed_module.weight")
    width = embedding.shape[1]
    flat = model.weight(f"layer{index}_convnet.conv.sc.weight").flatten()
    per_species: list[Matrices] = [{} for _ in species]
    start = 0
    for i, (mul_in, ir_in) in enumerate(x):
        for o, (mul_out, ir_out) in enumerate(columns.irreps):
            if ir_in == ir_out:
                size = mul_in * width * mul_out
                block = flat[start : start + size].view(mul_in, width, mul_out)
                block = block / math.sqrt(x.count(ir_in) * width)
                for matrices, k in zip(per_species, species, strict=True):
                    matrices[i, o] = torch.einsum("iaj,a->ij", block, embedding[k])
                start += size
    if start != flat.numel():
        raise ModelFileError(
            f"'{model.path}' has {flat.numel()} weights in the self-connection of layer {index}, "
            f"expected {start}"
        )
    rows = {i: mul for i, (mul, _) in enumerate(x)}
    ours = [to_gate_blocks(matrices, columns, rows) for matrices in per_species]
    return {key: torch.stack([matrices[key] for matrices in ours]) for key in ours[0]}
