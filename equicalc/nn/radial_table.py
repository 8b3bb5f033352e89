"""Radial functions of trained networks as cubic splines, for evaluation.

The radial weights of a trained network are fixed functions of one number, the distance, but
networks compute them with a multilayer perceptron for every edge. A spline gives the same numbers
from four multiplications each, and a slope that is exactly the derivative of the value.
"""

import itertools
import math
from typing import List, Sequence

import torch

# Channels that a kernel works on together; tables are stored in blocks of this many.
LANES = 16
# Angstrom: knots are equally far from each other in log(1 + r / STRETCH), which is closest where
# radial functions vary most. Of a table with knots as close everywhere, the rows that neighbours
# of an atom need would not stay in the caches.
STRETCH = 1.0


def n_blocks(width: int) -> int:
    """Return the number of blocks of `LANES` channels that hold ``width`` channels."""
    lanes = 16
    return (width + lanes - 1) // lanes


class RadialTable(torch.nn.Module):
    """Cubic B-splines of many functions ``f(r)`` on ``[0, cutoff)``, zero beyond.

    Twice continuously differentiable, except at ``breaks`` where only the value is continuous.
    Knots are equally far from each other in ``u(r) = log(1 + r / STRETCH)``. The error goes with
    the fourth power of the spacing; for Bessel functions and smooth cutoffs at 5 angstrom it is
    about 1e-8 of the largest value at 0.004 angstrom.

    Fill it with ``table.fit(f(table.points()))``; both are TorchScript, so that a model file may
    hold the network behind ``f`` instead of the table.

    Parameters
    ----------
    widths : list of int
        Functions come in groups, one for each path of a convolution; here are their sizes.
    cutoff : float
        Angstrom. ``f`` should vanish there.
    spacing : float
        Distance of knots at 1 angstrom, angstrom; it is in proportion to ``r + STRETCH``.
    breaks : sequence of float
        Ascending distances, angstrom, where ``f`` has a kink in any of its derivatives, for
        example the onset of a cutoff function. Knots are put there.
    """

    coefficients: torch.Tensor

    def __init__(
        self,
        widths: List[int],
        cutoff: float,
        spacing: float = 0.004,
        breaks: Sequence[float] = (),
    ):
        super().__init__()
        edges = [0.0, *breaks, cutoff]
        if any(b <= a for a, b in itertools.pairwise(edges)) or spacing <= 0:
            raise ValueError(
                f"RadialTable: breaks must ascend between 0 and the cutoff {cutoff}, and the "
                f"spacing be positive; found breaks {list(breaks)}, spacing {spacing}"
            )
        self.widths = list(widths)
        self.n_functions = sum(widths)
        self.cutoff = cutoff
        self.stretch = STRETCH
        # of each segment: first u, last u, first row, number of intervals
        segments: List[List[float]] = []
        n_rows = 0
        step = spacing / (STRETCH + 1.0)
        for first, last in itertools.pairwise([math.log1p(r / STRETCH) for r in edges]):
            intervals = max(1, int(-(-(last - first) * (1 - 1e-12) // step)))
            segments.append([first, last, float(n_rows), float(intervals)])
            n_rows += intervals + 3
        self.segments = segments
        self.n_rows = n_rows
        self.lanes = LANES
        # Points are moved by this much into their segment, so that r = 0 and kinks are never hit.
        self.inside = 1e-10  # angstrom
        # Slopes at ends of segments are differences over such steps.
        self.step = 1e-3  # angstrom
        blocks = sum(n_blocks(width) for width in widths)
        # [blocks, rows, LANES]: what a kernel reads for one block of channels is close together
        self.register_buffer(
            "coefficients",
            torch.zeros(blocks, n_rows, LANES, dtype=torch.float64),
            persistent=False,  # follows from the network behind f
        )

    def distance(self, u: float) -> float:
        """Return the distance (angstrom) at a coordinate of the knots."""
        return self.stretch * math.expm1(u)

    @torch.jit.export
    def points(self) -> torch.Tensor:
        """Return the distances (float64, angstrom) at which `fit` needs the functions."""
        parts: List[torch.Tensor] = []
        device = self.coefficients.device
        steps = torch.arange(1, 5, dtype=torch.float64, device=device) * self.step
        for segment in self.segments:
            n = int(segment[3])
            first, last = self.distance(segment[0]), self.distance(segment[1])
            u = torch.linspace(segment[0], segment[1], n + 1, dtype=torch.float64, device=device)
            knots = torch.expm1(u) * self.stretch
            both = torch.cat([knots, first + steps, last - steps])
            parts.append(torch.clamp(both, first + self.inside, last - self.inside))
        return torch.cat(parts)

    @torch.jit.export
    def fit(self, values: torch.Tensor) -> None:
        """Set the splines from the values of all functions, ``[len(points()), n_functions]``."""
        done = 0
        parts: List[torch.Tensor] = []
        values = values.detach().double()
        for segment in self.segments:
            n = int(segment[3])
            step = (segment[1] - segment[0]) / n
            # one interval at either end, in angstrom
            first = step * (self.stretch + self.distance(segment[0]))
            last = step * (self.stretch + self.distance(segment[1]))
            here = values[done : done + n + 9]
            parts.append(spline_coefficients(here, first / self.step, last / self.step))
            done += n + 9
        if values.shape[0] != done or values.shape[1] != self.n_functions:
            raise ValueError(
                f"RadialTable.fit: expected values of shape {[done, self.n_functions]}, "
                f"found {list(values.shape)}"
            )
        flat = torch.cat(parts)
        blocks: List[torch.Tensor] = []
        for group in torch.split_with_sizes(flat, self.widths, dim=1):
            padding = n_blocks(group.shape[1]) * self.lanes - group.shape[1]
            padded = torch.nn.functional.pad(group, [0, padding])
            blocks.append(padded.view(self.n_rows, -1, self.lanes).transpose(0, 1))
        self.coefficients = torch.cat(blocks)

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Return all functions ``[E, n_functions]`` at distances ``[E]`` (angstrom)."""
        row = torch.zeros_like(distance, dtype=torch.int64)
        t = torch.zeros_like(distance)
        u = torch.log1p(distance / self.stretch)
        for segment in self.segments:
            first, last, first_row, n = segment[0], segment[1], int(segment[2]), int(segment[3])
            position = (u - first) * (n / (last - first))
            interval = torch.clamp(position.detach().floor(), 0, n - 1)
            here = u >= first
            row = torch.where(here, first_row + interval.long(), row)
            t = torch.where(here, position - interval, t)
        inside = (distance < self.cutoff).to(distance.dtype)
        s = 1.0 - t
        weights = [
            s * s * s / 6.0,
            (t * t * (0.5 * t - 1.0)) + 2.0 / 3.0,
            (s * s * (0.5 * s - 1.0)) + 2.0 / 3.0,
            t * t * t / 6.0,
        ]
        total = torch.zeros(1, 1, 1, dtype=distance.dtype, device=distance.device)
        for k, weight in enumerate(weights):
            total = total + self.coefficients.index_select(1, row + k) * (weight * inside).view(
                1, -1, 1
            )
        parts: List[torch.Tensor] = []
        done = 0
        for width in self.widths:
            n = n_blocks(width)
            group = total[done : done + n].transpose(0, 1).reshape(-1, n * self.lanes)
            parts.append(group[:, :width])
            done += n
        return torch.cat(parts, dim=1)


def spline_coefficients(values: torch.Tensor, first_step: float, last_step: float) -> torch.Tensor:
    """Return B-spline coefficients ``[n + 3, F]`` of one segment of n intervals.

    Parameters
    ----------
    values : Tensor [n + 9, F]
        At the n + 1 knots, then at four points after the first and four before the last knot.
    first_step, last_step : float
        First and last interval, in units of the distance of the points near the ends.
    """
    n = values.shape[0] - 9
    first = torch.cat([values[:1], values[n + 1 : n + 5]])
    last = torch.cat([values[n : n + 1], values[n + 5 :]])
    # one-sided formula for a slope, error of the fourth order in the small step. Numbers meet
    # tensors as scalars: TorchScript makes tensors of numbers in float32 first.
    ends = torch.stack([first, last], dim=1)
    slopes = torch.zeros_like(ends[0])
    for k, weight in enumerate([-25.0 / 12.0, 4.0, -3.0, 4.0 / 3.0, -0.25]):
        slopes = slopes + weight * ends[k]
    slopes = torch.stack([slopes[0] * first_step, -slopes[1] * last_step])
    matrix = torch.zeros(n + 3, n + 3, dtype=values.dtype, device=values.device)
    for offset, weight in enumerate([1.0 / 6.0, 2.0 / 3.0, 1.0 / 6.0]):
        matrix[: n + 1].diagonal(offset).fill_(weight)
    for row, start in enumerate([0, n]):
        matrix[n + 1 + row, start] = -0.5
        matrix[n + 1 + row, start + 2] = 0.5
    return torch.linalg.solve(matrix, torch.cat([values[: n + 1], slopes]))
