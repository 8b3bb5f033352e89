"""Draw docs/images/overview.png: what goes in, what comes out, who uses it.

python docs/overview.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from equicalc import plots

BLUE, ORANGE, GREEN, PINK = plots.COLOURS[:4]
NETWORK = "equivariant network:\nsurroundings $\\to$ energy $E_i$ and charge $q_i$"
ENERGY = (
    r"$E=\sum_i E_i+\dfrac{k_e}{2}\sum_{i\neq j}q_iq_j\,"
    r"\dfrac{\mathrm{erf}(r_{ij}/2\sigma)}{r_{ij}}$"
)
SUM = "over all periodic images;\nforces include $\\partial q/\\partial r$"


def box(axes: Axes, corner: tuple[float, float], size: tuple[float, float], colour: str) -> None:
    """Draw a rounded box."""
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, fc=colour + "18", ec=colour))


def text(axes: Axes, x: float, y: float, words: str, **style: object) -> None:
    """Write centred text."""
    style = {"fontsize": 9, "linespacing": 1.4, "ha": "center", "va": "center", **style}
    axes.text(x, y, words, **style)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=plots.GREY, lw=1.3)
    )


def main() -> None:
    """Draw the picture."""
    figure, grid = plots.new_figure(1, 1, (9.6, 3.0))
    axes = grid[0, 0]
    axes.set_axis_off()
    axes.set_xlim(0, 12)
    axes.set_ylim(0, 4)
    title = {"weight": "bold", "fontsize": 11}

    box(axes, (0.1, 1.1), (2.3, 1.8), GREEN)
    text(axes, 1.25, 2.6, "DFT data", **title)
    text(axes, 1.25, 1.8, "structures with\nenergies, forces,\nstresses")

    box(axes, (3.7, 0.35), (4.1, 3.3), BLUE)
    text(axes, 5.75, 3.35, "model.pt", **title)
    text(axes, 5.75, 2.7, NETWORK)
    text(axes, 5.75, 1.75, ENERGY, fontsize=11)
    text(axes, 5.75, 0.8, SUM)

    box(axes, (9.4, 2.2), (2.5, 1.65), ORANGE)
    text(axes, 10.65, 3.55, "ASE", **title)
    text(axes, 10.65, 2.8, "relaxation, phonons,\nmolecular dynamics\nin Python")

    box(axes, (9.4, 0.15), (2.5, 1.65), PINK)
    text(axes, 10.65, 1.5, "LAMMPS", **title)
    text(
        axes,
        10.65,
        0.75,
        "pair_style equicalc\nkspace_style equicalc\nmpirun -np N",
        family="monospace",
    )

    arrow(axes, (2.4, 2.0), (3.7, 2.0))
    text(axes, 3.05, 2.38, "equicalc\ntrain", family="monospace", color=plots.GREY)
    arrow(axes, (7.8, 2.35), (9.4, 3.0))
    arrow(axes, (7.8, 1.65), (9.4, 1.0))
    text(axes, 8.75, 2.0, "same numbers\nto rounding", color=plots.GREY, fontsize=8.5)
    plots.save(figure, Path(__file__).resolve().parent / "images" / "overview.png")


if __name__ == "__main__":
    main()
