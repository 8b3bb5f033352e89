"""From SevenNet's weights to those of equicalc's gated network.

SevenNet stores what e3nn stores: one flat array per linear layer, with normalisations beside it,
features ordered by kind. Here every normalisation is multiplied into the weights, and each block
of features and each path of a convolution gets a matrix of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from e3nn.math import normalize2mom
from e3nn.o3 import Irrep, Irreps, wigner_3j

from equicalc.interop.sevennet_checkpoint import Checkpoint
from equicalc.nn.blocks import Irrep as Block
from equicalc.nn.blocks import parse_irreps
from equicalc.nn.gated_config import message_paths
from equicalc.nn.irreps import clebsch_gordan
from equicalc.nn.radial_network import activate

Matrices = dict[tuple[int, int], torch.Tensor]
# Of linear layers, by output block: what is added to even scalars [multiplicity].
Constants = dict[int, torch.Tensor]

# Linear layers that the mode of a network can be an input of -> setting that says so.
MODAL_LAYERS = {
    "onehot_to_feature_x": "use_modal_node_embedding",
    "self_interaction_1": "use_modal_self_inter_intro",
    "self_interaction_2": "use_modal_self_inter_outro",
    "reduce_input_to_hidden": "use_modal_output_block",
}


def feature_irreps(config: dict[str, Any]) -> list[Irreps]:
    """Return the node features before the first layer and after each layer."""
    if config["irreps_manual"]:
        return [Irreps(irreps) for irreps in config["irreps_manual"]]
    channels, n_layers = config["channel"], config["num_convolution_layer"]
    harmonics = edge_irreps(config)
    l_max = config["lmax_node"] if config["lmax_node"] > 0 else config["lmax"]
    features = [Irreps(f"{channels}x0e")]
    for layer in range(n_layers):
        last = layer == n_layers - 1
        kinds = sorted({ir for _, a in features[-1] for _, b in harmonics for ir in a * b})
        kinds = [ir for ir in kinds if ir.l <= (0 if last else l_max) and not (last and ir.p == -1)]
        features.append(Irreps([(channels, ir) for ir in kinds]))
    return features


def edge_irreps(config: dict[str, Any]) -> Irreps:
    """Return the spherical harmonics of the edges."""
    l_max = config["lmax_edge"] if config["lmax_edge"] > 0 else config["lmax"]
    return Irreps.spherical_harmonics(l_max, -1 if config["is_parity"] else 1)


def bessel_frequencies(checkpoint: Checkpoint) -> torch.Tensor:
    """Return the frequencies of the Bessel functions, 1/angstrom.

    A checkpoint has them where they were trained. Others SevenNet computes in float32.
    """
    trained = checkpoint.weights.get("edge_embedding.basis_function.coeffs")
    if trained is not None:
        return trained
    n_bessel = checkpoint.config["radial_basis"].get("bessel_basis_num", 8)
    spacing = math.pi / checkpoint.config["cutoff"]
    return torch.tensor([n * spacing for n in range(1, n_bessel + 1)]).to(torch.float64)


def factor_of(activation: str) -> float:
    """Return e3nn's factor that gives activated normal variables a second moment of one."""
    normalised = normalize2mom(lambda x: activate(x, activation))
    return 1.0 if normalised._is_id else float(normalised.cst)


def linear_matrices(flat: torch.Tensor, irreps_in: Irreps, irreps_out: Irreps) -> Matrices:
    """Split e3nn's weights of a linear layer into matrices (block in, block out), normalised."""
    matrices: Matrices = {}
    start, flat = 0, flat.flatten()
    for i, (mul_in, ir_in) in enumerate(irreps_in):
        for o, (mul_out, ir_out) in enumerate(irreps_out):
            if ir_in == ir_out:
                size = mul_in * mul_out
                scale = 1.0 / math.sqrt(irreps_in.count(ir_in))
                matrices[i, o] = scale * flat[start : start + size].view(mul_in, mul_out)
                start += size
    if start != flat.numel():
        raise ValueError(f"found {flat.numel()} weights for {irreps_in} -> {irreps_out}: {start}")
    return matrices


def linear_layer(
    checkpoint: Checkpoint, layer: str, irreps_in: Irreps, irreps_out: Irreps
) -> tuple[Matrices, Constants]:
    """Return the matrices of a linear layer and what it adds to even scalars.

    The one-hot mode of a network with several is a constant input of some layers, after the
    features: its row of weights becomes a part of what is added, beside the bias.

    Parameters
    ----------
    layer : str
        Its name in SevenNet, such as ``2_self_interaction_1``.
    irreps_in, irreps_out : Irreps
        Of the features, without the mode.
    """
    setting = next((MODAL_LAYERS[end] for end in MODAL_LAYERS if layer.endswith(end)), None)
    is_modal = checkpoint.n_modes > 0 and setting is not None and checkpoint.config[setting]
    modes = Irreps([(checkpoint.n_modes, "0e")] if is_modal else [])
    matrices = linear_matrices(
        checkpoint.weights[f"{layer}.linear.weight"], irreps_in + modes, irreps_out
    )
    has_bias = checkpoint.config["use_bias_in_linear"]
    bias = checkpoint.weights[f"{layer}.linear.bias"].flatten() if has_bias else None
    constants: Constants = {}
    start = 0
    for o, (mul, ir) in enumerate(irreps_out):
        if ir == Irrep("0e"):
            constants[o] = torch.zeros(mul, dtype=torch.float64)
            if bias is not None:
                constants[o] += bias[start : start + mul]
            if is_modal:
                constants[o] += matrices.pop((len(irreps_in), o))[checkpoint.mode]
            start += mul
    return matrices, constants


def has_constants(checkpoint: Checkpoint) -> bool:
    """Whether linear layers beyond the first layer's tables add anything to scalars."""
    config = checkpoint.config
    around = ("use_modal_self_inter_intro", "use_modal_self_inter_outro")
    is_modal = checkpoint.n_modes > 0 and any(config[setting] for setting in around)
    return is_modal or bool(config["use_bias_in_linear"])


@dataclass
class GateColumns:
    """Where the parts of a gate's input sit, in e3nn's order and in ours.

    `irreps` is e3nn's input. `parts` of our blocks: (e3nn block, first column, width).
    """

    irreps: Irreps
    parts: list[list[tuple[int, int, int]]]


def gate_columns(features: Irreps, blocks: list[Block]) -> GateColumns:
    """Match e3nn's sorted input of a gate with the blocks of ours (`equicalc.nn.gate`)."""
    scalars = [(mul, ir) for mul, ir in features if ir.l == 0]
    gated = [(mul, ir) for mul, ir in features if ir.l > 0]
    gates = [(sum(mul for mul, _ in gated), Irrep("0e"))] if gated else []
    ordered = [*scalars, *gates, *gated]
    irreps = Irreps(ordered).sort().irreps.simplify()
    kinds = [ir for _, ir in irreps]
    used = dict.fromkeys(kinds, 0)
    parts: list[list[tuple[int, int, int]]] = []
    waiting = list(ordered)
    for mul, _, _ in blocks:
        part, left = [], mul
        while left > 0:
            width, ir = waiting.pop(0)
            part.append((kinds.index(ir), used[ir], width))
            used[ir] += width
            left -= width
        parts.append(part)
    return GateColumns(irreps, parts)


def to_gate(matrices: Matrices, columns: GateColumns, rows: dict[int, int]) -> Matrices:
    """Rearrange matrices (block in, e3nn block) to (block in, our block of the gate's input).

    `rows` maps blocks in to numbers of rows. Where nothing of a kind flows in there is no matrix.
    """
    result: Matrices = {}
    for i, n_rows in rows.items():
        for o, part in enumerate(columns.parts):
            if (i, part[0][0]) in matrices:
                pieces = [matrices[i, b][:, start : start + width] for b, start, width in part]
                result[i, o] = torch.cat(pieces, dim=1)
                assert result[i, o].shape[0] == n_rows
    return result


@dataclass
class Messages:
    """Paths of one convolution as SevenNet orders them.

    Parameters
    ----------
    paths : list of (block, l1, Irrep)
        In the order of the features they make, sorted by kind.
    columns : list of slice
        The weights of each path in the last matrix of the radial network.
    irreps : Irreps
        The sum of all messages by kind.
    """

    paths: list[tuple[int, int, Irrep]]
    columns: list[slice]
    irreps: Irreps


def messages_of(x: Irreps, harmonics: Irreps, out: Irreps, last: bool, is_sorted: bool) -> Messages:
    """List the paths of a convolution; `is_sorted` as the weights of SevenNet 0.11 and later."""
    listed = [
        (i, l1, ir)
        for i, (_, ir_x) in enumerate(x)
        for l1, (_, ir_y) in enumerate(harmonics)
        for ir in ir_x * ir_y
        if ir.l <= out.lmax and not (last and ir.p == -1)
    ]
    order = sorted(range(len(listed)), key=lambda k: (listed[k][2], k))
    stored = order if is_sorted else list(range(len(listed)))
    columns: dict[int, slice] = {}
    start = 0
    for k in stored:
        width = x[listed[k][0]].mul
        columns[k] = slice(start, start + width)
        start += width
    irreps = Irreps([(x[listed[k][0]].mul, listed[k][2]) for k in order]).simplify()
    return Messages([listed[k] for k in order], [columns[k] for k in order], irreps)


def coupling_sign(checkpoint: Checkpoint, layer: int, l_x: int, l_y: int, l_out: int) -> float:
    """Return +1 or -1: the sign of the couplings a network was trained with, relative to ours.

    Couplings are unique up to a sign, which e3nn has not always chosen in the same way; networks
    with non-trivial ones carry theirs along.
    """
    key = f"{layer}_convolution.convolution._compiled_main_left_right._w3j_{l_x}_{l_y}_{l_out}"
    if 0 in (l_x, l_y, l_out):
        # e3nn writes these as products with positive factors, whatever its tables say
        theirs = wigner_3j(l_x, l_y, l_out, dtype=torch.float64).abs()
    else:
        theirs = checkpoint.weights.get(key, wigner_3j(l_x, l_y, l_out, dtype=torch.float64))
    theirs = math.sqrt(2 * l_out + 1) * theirs
    ours = clebsch_gordan(l_x, l_y, l_out)
    for sign in (1.0, -1.0):
        if torch.allclose(sign * theirs, ours, atol=1e-5):
            return sign
    raise ValueError(f"couplings {l_x} x {l_y} -> {l_out} of {checkpoint.path} are not e3nn's")


@dataclass
class LayerWeights:
    """The weights of one layer, normalised, for the paths of `message_paths`.

    `linear`, `own` and `mix` map (block in, block out) to matrices; with one matrix per element
    `own` has shape [n_species, rows, columns]. `linear_constants` and `mix_constants` are what
    these layers add to even scalars. `radial` are the matrices of the radial network.
    """

    linear: Matrices
    linear_constants: Constants
    own: Matrices
    mix: Matrices
    mix_constants: Constants
    radial: list[torch.Tensor]


def layer_weights(
    checkpoint: Checkpoint, layer: int, x: Irreps, out: Irreps, gate: list[Block], species: Any
) -> LayerWeights:
    """Collect the weights of a layer.

    Parameters
    ----------
    x, out : Irreps
        Features before and after.
    gate : list of Block
        Blocks of the gate's input in our order.
    species : list of int
        Their indices of the elements that are kept.
    """
    config = checkpoint.config
    harmonics = edge_irreps(config)
    last = layer == config["num_convolution_layer"] - 1
    columns = gate_columns(out, gate)
    rows = {i: mul for i, (mul, _) in enumerate(x)}
    messages = messages_of(x, harmonics, out, last, checkpoint.version >= (0, 11, 0))
    raw, added = linear_layer(
        checkpoint, f"{layer}_self_interaction_2", messages.irreps, columns.irreps
    )
    denominator = float(checkpoint.weights[f"{layer}_convolution.denominator"].flatten()[0])
    kinds = [ir for _, ir in messages.irreps]
    used = dict.fromkeys(kinds, 0)
    of_path: dict[tuple[int, int, Irrep], tuple[slice, Matrices]] = {}
    for path, column in zip(messages.paths, messages.columns, strict=True):
        block, _, ir = path
        mul, kind = x[block].mul, kinds.index(ir)
        rows_here = slice(used[ir], used[ir] + mul)
        used[ir] += mul
        mine = {
            (0, o): matrix[rows_here] / denominator for (k, o), matrix in raw.items() if k == kind
        }
        of_path[path] = (column, to_gate(mine, columns, {0: mul}))
    mix: Matrices = {}
    picked = []
    final = _radial_matrices(checkpoint, layer)
    for m, (block, l1, l3, p3) in enumerate(
        message_paths(parse_irreps(str(x)), gate, harmonics.lmax, config["is_parity"])
    ):
        column, matrices = of_path[block, l1, Irrep(l3, p3)]
        mix |= {(m, o): matrix for (_, o), matrix in matrices.items()}
        sign = coupling_sign(checkpoint, layer, x[block].ir.l, l1, l3)
        picked.append(sign * final[-1][:, column])
    linear, linear_constants = linear_layer(checkpoint, f"{layer}_self_interaction_1", x, x)
    own = _own_matrices(checkpoint, layer, x, columns, rows, species)
    radial = [*final[:-1], torch.cat(picked, dim=1)]
    in_rows = {(0, o): constant.unsqueeze(0) for o, constant in added.items()}
    mix_constants = {o: row[0] for (_, o), row in to_gate(in_rows, columns, {0: 1}).items()}
    return LayerWeights(linear, linear_constants, own, mix, mix_constants, radial)


def _own_matrices(
    checkpoint: Checkpoint,
    layer: int,
    x: Irreps,
    columns: GateColumns,
    rows: dict[int, int],
    species: Any,
) -> Matrices:
    weights, n_species = checkpoint.weights, checkpoint.config["_number_of_species"]
    if own_kind(checkpoint.config, layer) == "linear":
        flat = weights[f"{layer}_self_connection_intro.linear.weight"]
        return to_gate(linear_matrices(flat, x, columns.irreps), columns, rows)
    flat = weights[f"{layer}_self_connection_intro.fc_tensor_product.weight"].flatten()
    per_species: list[Matrices] = [{} for _ in species]
    start = 0
    for i, (mul_in, ir_in) in enumerate(x):
        for o, (mul_out, ir_out) in enumerate(columns.irreps):
            if ir_in == ir_out:
                size = mul_in * n_species * mul_out
                block = flat[start : start + size].view(mul_in, n_species, mul_out)
                block = block / math.sqrt(x.count(ir_in) * n_species)
                for matrices, index in zip(per_species, species, strict=True):
                    matrices[i, o] = block[:, index]
                start += size
    ours = [to_gate(matrices, columns, rows) for matrices in per_species]
    return {key: torch.stack([matrices[key] for matrices in ours]) for key in ours[0]}


def own_kind(config: dict[str, Any], layer: int) -> str:
    """Return our word for the self-connection of a layer."""
    kind = config["self_connection_type"]
    kind = kind if isinstance(kind, str) else kind[layer]
    return {"linear": "linear", "nequip": "species"}[kind]


def _radial_matrices(checkpoint: Checkpoint, layer: int) -> list[torch.Tensor]:
    """Matrices of the radial network with e3nn's normalisations and factors in them."""
    prefix = f"{layer}_convolution.weight_nn.layer"
    factor = factor_of(checkpoint.config["act_radial"])
    matrices: list[torch.Tensor] = []
    while f"{prefix}{len(matrices)}.weight" in checkpoint.weights:
        matrix = checkpoint.weights[f"{prefix}{len(matrices)}.weight"]
        scale = 1.0 / math.sqrt(matrix.shape[0])
        matrices.append(matrix * (scale * factor if matrices else scale))
    return matrices
