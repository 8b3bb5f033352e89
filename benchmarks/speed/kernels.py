"""The fused convolution of imported networks against the peak of the core.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.kernels

Times `equicalc::tensor_convolution` on one thread for the shapes of layers that others trained, and
in the same run the core's peak of fused multiply-adds. Arithmetic is counted twice. "All" is what
the kernels do for each edge, path and channel: radial functions from four rows of their table,
their products with features, and the coupling. "Coupling" is that part alone, ``(2 l2 + 1)
(2 l3 + 1)`` multiply-adds forward and twice that backward (gradients of features and distances
share one contraction, those of harmonics are the other). Edges' own work (harmonics, places in the
table) is in the times and in neither count.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.speed.common import OUTPUT, markdown_table, processor, quartiles, write_text
from benchmarks.speed.structures import CUTOFF, structure
from equicalc.data.neighbors import full_list
from equicalc.nn.blocks import Irrep, feature_width, parse_irreps
from equicalc.nn.radial_table import RadialTable
from equicalc.nn.spherical import spherical_harmonics
from equicalc.nn.tensor_convolution import TensorConvolution, path_widths

REPEATS = 7


@dataclass
class Shape:
    """A convolution: irreps of the features, degrees of the harmonics and of the output.

    ``natural``: outputs of degree l have parity ``(-1)^l`` only.
    """

    name: str
    irreps: str
    l_harmonics: int
    l_out: int
    natural: bool


SHAPES = (
    Shape("SevenNet-0", "128x0e+64x1e+32x2e", 2, 2, False),
    Shape("NequIP, l_max 1", "64x0e+64x0o+64x1o+64x1e", 1, 1, False),
    Shape("MACE", "128x0e+128x1o", 3, 3, True),
)


def convolution(shape: Shape) -> TensorConvolution:
    """Return the module with all paths of a shape and random radial functions."""
    irreps = parse_irreps(shape.irreps)
    paths = []
    for block, (_, l2, p) in enumerate(irreps):
        for l1 in range(shape.l_harmonics + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, shape.l_out) + 1):
                if not shape.natural or p * (-1) ** (l1 + l3) == 1:
                    paths.append((l3, p * (-1) ** l1, block, l1))
    instructions = [(block, l1, l3, 1.0) for l3, _, block, l1 in sorted(paths)]
    table = RadialTable(path_widths(irreps, instructions), CUTOFF)
    torch.manual_seed(0)
    mix = torch.randn(8, table.n_functions, dtype=torch.float64)
    r = table.points().unsqueeze(1)
    bessel = torch.sin(r * torch.arange(1, 9) * (torch.pi / CUTOFF)) / r
    table.fit((bessel @ mix) * (1 - (r / CUTOFF) ** 2) ** 3)
    return TensorConvolution(irreps, shape.l_harmonics, instructions, table)


def operations(module: TensorConvolution) -> dict[str, tuple[float, float]]:
    """Return floating-point operations of one edge, forward and backward, in both counts.

    A fused multiply-add is two operations, a product one. See tensor_forward.cpp and
    tensor_backward.cpp; a and b are the numbers of components of a feature and of a message.
    """
    irreps: list[Irrep] = module.irreps_in
    coupling = everything = backward = 0
    for block, l1, l3, _ in module.instructions:
        mul, l2, _ = irreps[block]
        a, b = 2 * l2 + 1, 2 * l3 + 1
        contraction = 2 * a * (b if l1 else 1)
        coupling += mul * contraction
        if l1 == 0:
            everything += mul * (8 + contraction)
            backward += mul * (19 + 2 * contraction)
        else:
            everything += mul * (7 + contraction + min(a, 2 * b))
            backward += mul * (16 + 2 * contraction + 4 * a + (b if l2 else 0))
    return {"coupling": (coupling, 2 * coupling), "all": (everything, backward)}


def graph(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edge vectors and edges of a structure."""
    atoms = structure(name)
    edges, shifts = full_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    vectors = atoms.positions[edges[1]] - atoms.positions[edges[0]] + shifts @ atoms.cell.array
    return torch.tensor(vectors), torch.tensor(edges)


def timings(
    module: TensorConvolution, name: str, dtype: torch.dtype
) -> tuple[list[float], list[float], int, int]:
    """Return seconds forward, seconds backward, atoms and edges."""
    vectors, edges = graph(name)
    n_atoms = int(edges.max()) + 1
    module = module.to(dtype)
    distance = vectors.norm(dim=1)
    harmonics = spherical_harmonics(vectors / distance.unsqueeze(1), 3)
    width = feature_width(module.irreps_in)
    leaves = [
        value.to(dtype).requires_grad_()
        for value in (torch.randn(n_atoms, width), distance, harmonics[:, : width_of(module)])
    ]
    grad = torch.randn(n_atoms, module.width_out, dtype=dtype)
    forward, backward = [], []
    for repeat in range(REPEATS + 1):
        begin = time.perf_counter()
        out = module(*leaves, edges, n_atoms)
        middle = time.perf_counter()
        torch.autograd.grad(out, leaves, grad)
        end = time.perf_counter()
        if repeat:  # the first one warms up
            forward.append(middle - begin)
            backward.append(end - middle)
    return forward, backward, n_atoms, edges.shape[1]


def width_of(module: TensorConvolution) -> int:
    """Return the number of components of the harmonics that the paths use."""
    return (max(l1 for _, l1, _, _ in module.instructions) + 1) ** 2


def fma_peak() -> tuple[float, float]:
    """Return measured GFLOP/s of one core in float32 and float64."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    source, program = Path(__file__).with_name("fma_peak.cpp"), OUTPUT / "fma_peak"
    command = [
        "c++",
        "-O3",
        "-march=native",
        "-ffp-contract=fast",
        "-std=c++17",
        "-Wno-unused-value",
    ]
    subprocess.run([*command, str(source), "-o", str(program)], check=True)
    first, second = subprocess.run(
        [program], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(first), float(second)


def row(shape: Shape, name: str, dtype: torch.dtype, peak: float) -> list[str]:
    """Return one line of the table."""
    module = convolution(shape)
    forward, backward, n_atoms, n_edges = timings(module, name, dtype)
    counts = operations(module)
    cells = [shape.name, name, f"{n_edges / n_atoms:.1f}", str(dtype).removeprefix("torch.")]
    for direction, seconds in enumerate((forward, backward)):
        low, median, high = (1e6 * t / n_atoms for t in quartiles(seconds))
        cells.append(f"{median:.1f} ({low:.1f} to {high:.1f})")
        for count in ("all", "coupling"):
            rate = counts[count][direction] * n_edges / (median * n_atoms) * 1e-3
            cells.append(f"{rate:.1f} ({100 * rate / peak:.0f} %)")
    return cells


def main() -> None:
    """Measure and write benchmarks/results/speed/kernels.md."""
    torch.set_num_threads(1)
    peaks = dict(zip((torch.float32, torch.float64), fma_peak(), strict=True))
    header = ["layer", "structure", "edges/atom", "precision"]
    for direction in ("forward", "backward"):
        header += [f"{direction}, us/atom (quartiles)", "GFLOP/s (of the peak)", "coupling alone"]
    rows = [
        row(shape, name, dtype, peak)
        for shape in SHAPES
        for name in ("NaCl-512", "water-192")
        for dtype, peak in peaks.items()
    ]
    lines = [
        "# The fused convolution",
        "",
        f"One thread of {processor()}; peak of fused multiply-adds, measured in the same run: "
        + ", ".join(f"{peaks[d]:.0f} GFLOP/s in {str(d)[6:]}" for d in peaks)
        + ". Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.kernels`.",
        "",
        markdown_table(header, rows),
        "",
        "What is counted as arithmetic stands in the script.",
    ]
    print("\n".join(lines))
    write_text("kernels", "\n".join(lines))


if __name__ == "__main__":
    main()
