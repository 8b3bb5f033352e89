"""The same network made of e3nn's modules, with the same weights: what training is compared with.

Features are in e3nn's layout throughout; tensor products, channel mixing and harmonics are e3nn's
compiled modules, and everything else (radial functions, readout, charges) are torch expressions.
Values and gradients equal those of the original to rounding, which `benchmarks.speed.training`
checks before it measures.
"""

from __future__ import annotations

import copy

import torch
from e3nn import o3

from equicalc.nn import EquiNetwork
from equicalc.nn.convolution import EquivariantConvolution, ScalarConvolution, sum_on_receivers
from equicalc.nn.irreps import coupling_paths
from equicalc.nn.layers import FirstLayer, LastLayer, MiddleLayer
from equicalc.nn.linear import DegreeLinear
from equicalc.nn.product import SymmetricProduct


def feature_irreps(channels: int, l_max: int) -> o3.Irreps:
    """Return ``channels`` of every degree, with the parity of its harmonics."""
    return o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(l_max + 1)])


def linear(module: DegreeLinear, copies: int = 1) -> o3.Linear:
    """Return channel mixing of `copies` features that stand one after the other."""
    l_max = len(module.weights) - 1
    channels = module.weights[0].shape[0] // copies
    result = o3.Linear(
        o3.Irreps([block for _ in range(copies) for block in feature_irreps(channels, l_max)]),
        feature_irreps(module.weights[0].shape[1], l_max),
    )
    with torch.no_grad():
        for _, instruction, view in result.weight_views(yield_instruction=True):
            copy_of, degree = divmod(instruction.i_in, l_max + 1)
            rows = module.weights[degree][copy_of * channels : (copy_of + 1) * channels]
            view.copy_(rows / instruction.path_weight)
    return result


class Products(torch.nn.Module):
    """`equicalc.nn.product.SymmetricProduct` from ``uuu`` tensor products."""

    def __init__(self, module: SymmetricProduct, l_max: int, channels: int):
        super().__init__()
        irreps = feature_irreps(channels, l_max)
        products, weights = [], []
        for coupling in module.couplings:
            paths = coupling_paths(l_max, l_max, l_max, True, symmetric=not products)
            products.append(_tensor_product(irreps, irreps, paths, "uuu"))
            weights.append(torch.nn.Parameter(coupling.weight.detach().flatten(1).clone()))
        self.products = torch.nn.ModuleList(products)
        self.weights = torch.nn.ParameterList(weights)
        self.mixing = linear(module.mixing, copies=len(products) + 1)

    def forward(self, a: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return updated features ``[n, width]``."""
        powers, power = [a], a
        for product, weight in zip(self.products, self.weights, strict=True):
            power = product(power, a, weight.index_select(0, species))
            powers.append(power)
        return self.mixing(torch.cat(powers, dim=1))


def _tensor_product(
    left: o3.Irreps, right: o3.Irreps, paths: list[tuple[int, int, int]], mode: str
) -> o3.TensorProduct:
    """Return weighted paths; those that end in one degree are summed and divided by their root."""
    per_output = torch.bincount(torch.tensor([p[2] for p in paths]))
    out = o3.Irreps([(left[0].mul, (l3, (-1) ** l3)) for l3 in range(len(per_output))])
    instructions = [(*p, mode, True, 1.0 / float(per_output[p[2]])) for p in paths]
    return o3.TensorProduct(
        left,
        right,
        out,
        instructions,
        path_normalization="none",
        internal_weights=False,
        shared_weights=False,
    )


class First(torch.nn.Module):
    """`equicalc.nn.layers.FirstLayer`."""

    def __init__(self, layer: FirstLayer, l_max: int):
        super().__init__()
        self.radial = layer.radial
        self.embedding = layer.convolution.embedding
        mixing = layer.convolution.mixing
        width, channels = mixing.weights[0].shape
        self.outer = o3.TensorProduct(
            f"{width}x0e",
            o3.Irreps.spherical_harmonics(l_max),
            feature_irreps(width, l_max),
            [(0, degree, degree, "uvu", False, 1.0) for degree in range(l_max + 1)],
            path_normalization="none",
        )
        self.mixing = linear(mixing)
        self.product = Products(layer.product, l_max, channels)
        self.own = layer.own

    def forward(
        self,
        species: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        message_scale: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return features ``[n_local, width]``."""
        radial = self.radial(distance) * message_scale
        kind = self.embedding.index_select(0, species).index_select(0, edge_index[1])
        weight = (kind.unsqueeze(2) * radial.unsqueeze(1)).flatten(1)
        basis = sum_on_receivers(self.outer(weight, harmonics), edge_index, n_local)
        h = self.product(self.mixing(basis), species[:n_local])
        own = self.own.index_select(0, species[:n_local])
        return h + torch.nn.functional.pad(own, [0, h.shape[1] - own.shape[1]])


def middle(layer: MiddleLayer, l_max: int, channels: int) -> MiddleLayer:
    """Return the same layer of e3nn's modules."""
    return MiddleLayer(
        layer.radial,
        linear(layer.linear),
        _Messages(layer.convolution, l_max, channels),
        Products(layer.product, l_max, channels),
        linear(layer.skip),
    )


class Last(torch.nn.Module):
    """`equicalc.nn.layers.LastLayer`."""

    def __init__(self, layer: LastLayer, l_max: int, channels: int):
        super().__init__()
        self.radial = layer.radial
        self.linear = linear(layer.linear)
        self.convolution = _Messages(layer.convolution, l_max, channels)
        self.channels = channels

    def forward(
        self,
        total: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        message_scale: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return scalars ``[n_local, (l_max + 2) C]``."""
        radial = self.radial(distance) * message_scale
        messages = self.convolution(self.linear(total), radial, harmonics, edge_index, n_local)
        return torch.cat([messages, total[:n_local, : self.channels]], dim=1)


class _Messages(torch.nn.Module):
    """A convolution with weights per edge, path and channel: a matrix times the radial basis."""

    def __init__(
        self, module: EquivariantConvolution | ScalarConvolution, l_max: int, channels: int
    ):
        super().__init__()
        self.weight = torch.nn.Parameter(module.weight.detach().flatten(1).clone())
        features, harmonics = feature_irreps(channels, l_max), o3.Irreps.spherical_harmonics(l_max)
        if isinstance(module, EquivariantConvolution):
            # (harmonics, features) there, (features, harmonics) here; even sums have no sign
            paths = coupling_paths(l_max, l_max, l_max, True)
            swapped = [(l2, l1, l3) for l1, l2, l3 in paths]
            self.product = _tensor_product(features, harmonics, swapped, "uvu")
        else:
            self.product = o3.TensorProduct(
                features,
                harmonics,
                o3.Irreps([(channels, (0, 1)) for _ in range(l_max + 1)]),
                [(degree, degree, degree, "uvu", True, 1.0) for degree in range(l_max + 1)],
                path_normalization="none",
                internal_weights=False,
                shared_weights=False,
            )

    def forward(
        self,
        x: torch.Tensor,
        radial: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return sums over neighbours."""
        weight = torch.matmul(radial, self.weight)
        messages = self.product(x.index_select(0, edge_index[1]), harmonics, weight)
        return sum_on_receivers(messages, edge_index, n_local)


class OwnScalars(torch.nn.Module):
    """`equicalc.nn.layers.OwnScalars`."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(
        self,
        total: torch.Tensor,
        distance: torch.Tensor,
        harmonics: torch.Tensor,
        edge_index: torch.Tensor,
        message_scale: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return scalars ``[n_local, C]``."""
        return total[:n_local, : self.channels]


class E3nnNetwork(EquiNetwork):
    """An `EquiNetwork` whose equivariant parts are e3nn's; takes a network's weights over."""

    def __init__(self, network: EquiNetwork):
        config = network.config
        if not config.parity or config.charge_model == "transferred":
            raise ValueError("e3nn modules stand in for parity: true without transferred charges")
        super().__init__(config)
        dtype = network.energy_scale.dtype
        network = copy.deepcopy(network)
        self.load_state_dict(network.state_dict())
        self.set_fused(False)
        previous = torch.get_default_dtype()
        torch.set_default_dtype(dtype)  # that of e3nn's tables
        try:
            self._replace(network, config.l_max, config.channels)
        finally:
            torch.set_default_dtype(previous)
        self.to(dtype)

    def _replace(self, network: EquiNetwork, l_max: int, channels: int) -> None:
        self.first = First(self.first, l_max)  # type: ignore[assignment]
        self.middle = torch.nn.ModuleList(middle(x, l_max, channels) for x in self.middle)
        if isinstance(self.last, LastLayer):
            self.last = Last(self.last, l_max, channels)
        else:
            self.last = OwnScalars(channels)
        self.harmonics = o3.SphericalHarmonics(
            o3.Irreps.spherical_harmonics(l_max), normalize=True, normalization="component"
        )

    def geometry(self, edge_vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distances ``[E]`` and harmonics ``[E, M]``."""
        return torch.linalg.vector_norm(edge_vectors, dim=1), self.harmonics(edge_vectors)
