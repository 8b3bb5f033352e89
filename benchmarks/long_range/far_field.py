"""What the DFT force constants of 64-atom cells say about charges: dipoles, and more than dipoles.

    python -m benchmarks.long_range.far_field

An ion that moves is a dipole Z* u, screened by sqrt(eps_inf) on either side. The force constants
between ions beyond a distance are compared with those of such dipoles, and with those of dipoles
and charges on the nearest and next-nearest neighbours (which a moving ion polarises) that have
together the dipole Z* u, the same for cation and anion up to the sign. Both are least squares; the
charges of DFT's own response calculations are no part of them.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from benchmarks.long_range.common import markdown_table, options_of, publish
from benchmarks.long_range.phonons import equilibrium, with_forces_of_data
from benchmarks.long_range.transfer import CATIONS, DFT_CHARGES, FORMULAS
from equicalc import plots
from equicalc.electrostatics import solve

MATERIALS = ("nacl", "mgo")
# Distances from which on force constants count, in units of that of nearest neighbours.
FROM = (1.75, 2.05, 2.3, 2.6)
STEP = 0.02  # angstrom, half the length of a dipole
SIGMA = 1.0
# Root mean square of a displacement's component in the data, angstrom.
DISPLACEMENT = 0.0172


class Crystal:
    """Fields of an ion that moves: its own dipole, and charges on two shells of neighbours."""

    def __init__(self, name: str):
        self.atoms = equilibrium(name)
        self.cations = np.array(self.atoms.symbols == CATIONS[name])
        self.spacing = self.atoms.get_volume() ** (1 / 3) / 4.0
        self.constants = with_forces_of_data(name, self.atoms).force_constants
        self.two = [int(np.argmax(self.cations)), int(np.argmin(self.cations))]
        self.points = self._points()
        sources = np.array([self._sources(i) for i in range(len(self.atoms))])
        self.couplings = [self._couplings(sources, i) for i in self.two]

    def _points(self) -> np.ndarray:
        """Sites, and the ends of dipoles along x, y, z."""
        sites = self.atoms.positions
        ends = [sites + sign * STEP * np.eye(3)[a] for a in range(3) for sign in (1, -1)]
        return np.concatenate([sites, *ends])

    def _sources(self, ion: int) -> np.ndarray:
        """Charges [kind, axis, point] of unit strength."""
        n = len(self.atoms)
        found = np.zeros((3, 3, len(self.points)))
        arms = self.atoms.get_distances(ion, range(n), mic=True, vector=True)
        lengths = np.linalg.norm(arms, axis=1)
        for axis in range(3):
            found[0, axis, n * (1 + 2 * axis) + ion] = 0.5 / STEP
            found[0, axis, n * (2 + 2 * axis) + ion] = -0.5 / STEP
            for kind, shell in ((1, 1.0), (2, np.sqrt(2.0))):
                near = np.abs(lengths - shell * self.spacing) < 0.1
                found[kind, axis, :n][near] = arms[near, axis] / lengths[near]
        return found

    def _couplings(self, sources: np.ndarray, ion: int) -> np.ndarray:
        """Interactions [atom, kind of ion, kind of atom, 3, 3] of unit sources, eV/angstrom^2."""
        cell = self.atoms.cell[:]
        potentials = np.array(
            [
                [
                    solve(s, self.points, cell, [True] * 3, SIGMA, 1e-10, "ewald").potentials
                    for s in kind
                ]
                for kind in sources[ion]
            ]
        )
        return np.einsum("sap,jtbp->jstab", potentials, sources, optimize=True)

    def strengths(self, parameters: np.ndarray) -> np.ndarray:
        """Strengths [cation or anion, kind] from Z*, and two per kind of ion on the neighbours."""
        charge, near, next_near = parameters[0], parameters[1:3], parameters[3:5]
        total = np.array([charge, -charge])
        # dipole of six charges at d, and of twelve at sqrt(2) d
        own = total - 2.0 * self.spacing * near - 4.0 * np.sqrt(2.0) * self.spacing * next_near
        return np.stack([own, near, next_near], axis=1)

    def fit(self, start: float, shells: bool) -> tuple[float, float, float]:
        """Z*, rms force (meV/angstrom) of what the fit leaves, and of all, beyond a distance."""
        far = [
            self.atoms.get_distances(ion, range(len(self.atoms)), mic=True) > start * self.spacing
            for ion in self.two
        ]

        def residual(free: np.ndarray) -> np.ndarray:
            strength = self.strengths(np.pad(free, (0, 5 - len(free))))
            of_atoms = strength[np.where(self.cations, 0, 1)]
            parts = []
            for number, (ion, chosen) in enumerate(zip(self.two, far, strict=True)):
                model = np.einsum(
                    "s,jt,jstab->jab", strength[number], of_atoms, self.couplings[number]
                )
                parts.append((model - self.constants[ion])[chosen].ravel())
            return np.concatenate(parts)

        solution = least_squares(residual, [1.0, *([0.0] * 4 if shells else [])])
        scale = 1000.0 * DISPLACEMENT / np.sqrt(6.0)
        everything = np.linalg.norm(residual(np.zeros(1)))
        return abs(solution.x[0]), scale * np.linalg.norm(solution.fun), scale * everything


def main() -> None:
    """Fit, write table and picture."""
    options = options_of(__doc__)
    rows, found = [], {}
    for name in MATERIALS:
        crystal = Crystal(name)
        found[name] = [
            (start * crystal.spacing, crystal.fit(start, False), crystal.fit(start, True))
            for start in FROM
        ]
        for distance, plain, extended in found[name]:
            rows.append(
                [
                    FORMULAS[name], f"{distance:.1f}", f"{plain[2]:.2f}",
                    f"{plain[0]:.3f}", f"{plain[1]:.2f}",
                    f"{extended[0]:.3f}", f"{extended[1]:.2f}", f"{DFT_CHARGES[name]:.3f}",
                ]
            )  # fmt: skip
    header = [
        "", "beyond (Å)", "force (meV/Å)", "dipoles: Z*/√ε∞ (e)", "left (meV/Å)",
        "with charges on neighbours: Z*/√ε∞ (e)", "left (meV/Å)", "DFT response (e)",
    ]  # fmt: skip
    text = (
        "Force constants fitted to the DFT forces of 64-atom cells, between ions further apart "
        "than given; forces are those that random displacements of the data make.\n\n"
        + markdown_table(header, rows)
    )
    publish("far_field", text, picture(found), options.quick)


def picture(found: dict):
    """Return the charges against the distance, a panel for each material."""
    figure, axes = plots.new_figure(1, len(found), (3.6 * len(found), 3.4))
    for axis, (name, results) in zip(axes[0], found.items(), strict=True):
        distances = [r[0] for r in results]
        for number, (label, column) in enumerate((("dipoles", 1), ("with neighbours", 2))):
            values = [r[column][0] for r in results]
            axis.plot(distances, values, "o-", color=plots.COLOURS[number], label=label)
        axis.axhline(DFT_CHARGES[name], color="black", ls="--", lw=1, label="DFT response")
        axis.set(title=FORMULAS[name], xlabel="force constants beyond (Å)", ylabel="Z*/√ε∞ (e)")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
