"""The gate: scalars through an activation function, other features times activated scalars."""

from typing import Dict, List, Tuple

import torch

from equicalc.nn.blocks import Irrep, merged
from equicalc.nn.devices import has_operators
from equicalc.nn.radial_network import activate

# activations that the operator knows
OPERATOR_ACTIVATIONS = {"silu": 0, "tanh": 1}


class Gate(torch.nn.Module):
    """Equivariant nonlinearity (Weiler et al., arXiv:1807.02547).

    Rows are laid out as in `equicalc.nn.blocks`. The input holds the scalars, then one even gate
    scalar for every channel of the other features, then those features; the output holds scalars
    and features.

    Parameters
    ----------
    features : list of (multiplicity, degree, parity)
        The output: scalars first, no two neighbours of equal degree and parity.
    scalars, gates : dict of int to (str, float)
        Activation function and factor for even (1) and odd (-1) scalars, and for gates.
    """

    # TorchScript cannot guess the type of an empty list
    multiplicities: List[int]
    components: List[int]

    def __init__(
        self,
        features: List[Irrep],
        scalars: Dict[int, Tuple[str, float]],
        gates: Dict[int, Tuple[str, float]],
    ):
        super().__init__()
        kept = [block for block in features if block[1] == 0]
        gated = [block for block in features if block[1] > 0]
        if features != kept + gated or merged(features) != features:
            raise ValueError(f"features must be scalars, then others, each kind once: {features}")
        if gated and not any(p == 1 for _, _, p in kept):
            raise ValueError(f"features without even scalars have no gates, found {features}")
        n_gates = sum(mul for mul, _, _ in gated)
        self.irreps_in = merged([*kept, (n_gates, 0, 1), *gated] if gated else kept)
        self.irreps_out = list(features)
        self.scalar_sizes = [mul for mul, _, _ in kept]
        self.scalar_names = [scalars[p][0] for _, _, p in kept]
        self.scalar_factors = [scalars[p][1] for _, _, p in kept]
        self.multiplicities = [mul for mul, _, _ in gated]
        self.components = [2 * degree + 1 for _, degree, _ in gated]
        self.gate_name, self.gate_factor = gates[1]
        widths = [mul * (2 * degree + 1) for mul, degree, _ in gated]
        self.sizes = [*self.scalar_sizes, *self.multiplicities, *widths]
        # for the operator: activations by number, and their factors; of the gates last
        names = [*self.scalar_names, self.gate_name]
        self.activations = [OPERATOR_ACTIVATIONS.get(name, -1) for name in names]
        self.factors = [*self.scalar_factors, self.gate_factor]
        self.has_operator = min(self.activations) >= 0
        self.fused = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return gated features ``[n, W]`` of ``[n, W + number of gates]``."""
        if self.fused and self.has_operator and has_operators(x):
            return torch.ops.equicalc.gate(
                x,
                self.scalar_sizes,
                self.activations,
                self.factors,
                self.multiplicities,
                self.components,
            )
        parts = torch.split_with_sizes(x, self.sizes, dim=1)
        n_scalars, n_gated = len(self.scalar_sizes), len(self.multiplicities)
        out: List[torch.Tensor] = []
        for index in range(n_scalars):
            scalar = activate(parts[index], self.scalar_names[index])
            out.append(self.scalar_factors[index] * scalar)
        for index in range(n_gated):
            gate = self.gate_factor * activate(parts[n_scalars + index], self.gate_name)
            block = parts[n_scalars + n_gated + index]
            components = block.reshape(-1, self.components[index], self.multiplicities[index])
            out.append((components * gate.unsqueeze(1)).flatten(1))
        return torch.cat(out, dim=1)
