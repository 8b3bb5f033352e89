"""Radial weights from a perceptron of Bessel functions, as NequIP and its relatives have them."""

import math
from itertools import pairwise
from typing import List

import torch

ACTIVATIONS = ("silu", "tanh", "ssp", "relu", "abs", "sigmoid", "elu", "mish", "gelu")
# Those without kinks: tables of radial functions cannot follow others.
SMOOTH_ACTIVATIONS = tuple(name for name in ACTIVATIONS if name not in ("relu", "abs", "elu"))


def activate(x: torch.Tensor, name: str) -> torch.Tensor:
    """Apply an activation function by name; ``ssp`` is the softplus shifted to pass the origin."""
    if name == "silu":
        return torch.nn.functional.silu(x)
    if name == "tanh":
        return torch.tanh(x)
    if name == "ssp":
        return torch.nn.functional.softplus(x) - math.log(2.0)
    if name == "relu":
        return torch.relu(x)
    if name == "abs":
        return torch.abs(x)
    if name == "sigmoid":
        return torch.sigmoid(x)
    if name == "elu":
        return torch.nn.functional.elu(x)
    if name == "mish":
        return torch.nn.functional.mish(x)
    if name == "gelu":
        return torch.nn.functional.gelu(x)
    raise RuntimeError("unknown activation function: " + name)


class SmoothCutoff(torch.nn.Module):
    """Functions that fall to 0 at the cutoff: ``polynomial`` (order p) or ``xplor`` (from r_on).

    The polynomial is that of Gasteiger, Gross and Guennemann (arXiv:2003.03123). XPLOR is 1 up to
    r_on and ``(c - s)^2 (c + 2 s - 3 o) / (c - o)^3`` beyond, with c, s, o the squares of cutoff,
    distance and r_on.
    """

    def __init__(self, name: str, cutoff: float, parameter: float):
        super().__init__()
        self.name = name
        self.cutoff = cutoff
        self.parameter = parameter

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        """Return values at distances of any shape, angstrom."""
        if self.name == "xplor":
            c, s, o = self.cutoff**2, r * r, self.parameter**2
            scale = 1.0 / (c - o) ** 3
            value = scale * (c - s).pow(2) * (c + 2.0 * s - 3.0 * o)
            return torch.where(r < self.parameter, torch.ones_like(r), value)
        p = self.parameter
        x = r / self.cutoff
        half = 0.5 * (p + 1.0) * (p + 2.0)
        return 1.0 - x.pow(p) * (half - x * (p * (p + 2.0) - x * (0.5 * p * (p + 1.0))))

    @torch.jit.unused
    def breaks(self) -> List[float]:
        """Return where the function has kinks in higher derivatives, angstrom."""
        return [self.parameter] if self.name == "xplor" else []


class RadialNetwork(torch.nn.Module):
    """Weights of a convolution as functions of the distance: a perceptron without biases.

    ``R(r) = ... act(act(b(r) W_0) W_1) ... W_n`` with
    ``b_k(r) = prefactor sin(f_k r) / r u(r)``, u the cutoff function. Constants that a code puts
    beside its weights are folded into them.

    Parameters
    ----------
    cutoff : SmoothCutoff
    n_bessel : int
        Number of Bessel functions; their frequencies f_k (1/angstrom) may have been trained.
    prefactor : float
    widths : list of int
        Hidden widths, then the number of weights.
    activation : str
        One of `SMOOTH_ACTIVATIONS`.
    """

    frequencies: torch.Tensor

    def __init__(
        self,
        cutoff: SmoothCutoff,
        n_bessel: int,
        prefactor: float,
        widths: List[int],
        activation: str,
    ):
        super().__init__()
        self.cutoff = cutoff
        orders = torch.arange(1, n_bessel + 1, dtype=torch.float64)
        self.register_buffer("frequencies", orders * (math.pi / cutoff.cutoff))
        self.prefactor = prefactor
        self.activation = activation
        self.n_hidden = len(widths) - 1
        sizes = [n_bessel, *widths]
        self.weights = torch.nn.ParameterList(
            [
                torch.nn.Parameter(torch.randn(rows, columns) / math.sqrt(rows))
                for rows, columns in pairwise(sizes)
            ]
        )

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Return the weights ``[n, n_weights]`` at distances ``[n]`` (angstrom, above zero)."""
        r = distance.unsqueeze(1)
        x = self.prefactor * torch.sin(r * self.frequencies) / r * self.cutoff(r)
        for index, weight in enumerate(self.weights):
            x = torch.matmul(x, weight)
            if index < self.n_hidden:
                x = activate(x, self.activation)
        return x
