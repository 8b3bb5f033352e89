"""The scenario matrix: what decks of LAMMPS users do, each with the commands that do it.

A scenario is a structure and the commands of a deck. How its numbers are judged, for every frame
of the dynamics and on every rank, stands in test_scenarios.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from tests.lammps.conftest import TIGHT, cluster, salt, skewed_salt, slab

# Atoms that cross boundaries of ranks and of the box, with a new neighbour list every step or two.
MOVING = """velocity all create 300 7
velocity all set 200 130 -150 sum yes
neighbor 0.4 bin
neigh_modify every 1 delay 0 check yes
timestep 0.00025
"""
RESTING = "velocity all create 300 7\ntimestep 0.00025\nneigh_modify every 1 delay 0 check yes\n"
NVE = "fix nve all nve\nrun 12\n"
ORDINARY = "pppm 1.0e-5"
OWN = "equicalc 1.0e-5"


@dataclass(frozen=True)
class Scenario:
    """One row of the matrix.

    Parameters
    ----------
    name : str
        What it is called in the table.
    commands : str
        What follows pair style, k-space style and the outputs that are judged.
    atoms : callable
        Returns the structure.
    before : str
        Lines before the box exists. RANKS stands for the number of ranks.
    after : str
        Lines between `read_data` and the pair style.
    kspace : str or None
        Words after `kspace_style`.
    model : str
        "deep": three layers and predicted charges; "none": no charges; or one of CHARGE_MODELS.
    style : str
        Words after `pair_style equicalc`.
    types : str
        Words after the model: elements of the atom types.
    read : str or None
        The command that makes the box, instead of `read_data structure.data`.
    ranks : tuple of int
        Ranks on which it makes sense.
    every : int
        Steps between the frames.
    unjudged : int
        Frames of steps that this number divides are left out.
    tolerance : str
        "exact": rounding; "equilibrated": charges that are searched for; "mesh": accuracy of
        pppm 1e-5; "single": float32.
    quick : bool
        Part of `make test`.
    """

    name: str
    commands: str = MOVING + NVE
    atoms: Callable[[], Atoms] = lambda: salt((2, 1, 1))
    before: str = ""
    after: str = ""
    kspace: str | None = TIGHT
    model: str = "deep"
    style: str = ""
    types: str = "K Cl"
    read: str | None = None
    ranks: tuple[int, ...] = (1, 2, 3, 4)
    every: int = 1
    unjudged: int = 0
    tolerance: str = "exact"
    quick: bool = False


def beside_vacuum() -> Atoms:
    """All atoms in the lowest quarter of a long box."""
    atoms = salt((1, 1, 2))
    atoms.cell[2] *= 4
    return atoms


def gas() -> Atoms:
    """Two pairs within the cutoff, four atoms without any neighbour."""
    positions = [[1, 1, 1], [3.5, 1, 1], [9, 9, 9], [9, 11.8, 9], [1, 9, 4], [14, 3, 13]]
    positions += [[14, 14, 2], [5, 5, 14]]
    return Atoms("KClKClKClKCl", positions, cell=[18.0, 18.0, 18.0], pbc=True)


def single_atom() -> Atoms:
    """One atom that sees nothing but its own charge's images."""
    return Atoms("K", [[1.0, 2.0, 3.0]], cell=[9.0, 9.0, 9.0], pbc=True)


def thin() -> Atoms:
    """3.9 angstrom in two directions: less than the cutoff, atoms are their own neighbours."""
    atoms = salt((1, 1, 1), rattle=0.1)
    atoms.set_cell(atoms.cell.array * 0.62, scale_atoms=True)
    return atoms * (1, 1, 3)


def with_argon() -> Atoms:
    """A crystal with ten atoms of a third type above it."""
    atoms = salt((1, 1, 2))
    atoms.cell[2] *= 2
    grid = [[1.5 + 3 * (k % 2), 1.5 + 3 * (k // 2 % 2), 15.0 + 2.2 * (k // 4)] for k in range(10)]
    return atoms + Atoms("Ar10", grid)


def general_cell() -> Atoms:
    """A right-handed cell whose first vector is not along x."""
    atoms = skewed_salt()
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    atoms.set_cell(atoms.cell.array @ turn, scale_atoms=True)
    return atoms


def wide_cluster() -> Atoms:
    """A cluster that moves within its box."""
    atoms = cluster()
    atoms.positions -= 1.0
    return atoms


CLUSTER_MOVES = (
    "velocity all create 300 7\nvelocity all set 100 80 120 sum yes\nneighbor 0.4 bin\n"
    "neigh_modify every 1 delay 0 check yes\ntimestep 0.00025\n" + NVE
)
LATTICE = (
    "lattice custom 6.29 basis 0 0 0 basis 0 0.5 0.5 basis 0.5 0 0.5 basis 0.5 0.5 0 &\n"
    "  basis 0.5 0 0 basis 0 0.5 0 basis 0 0 0.5 basis 0.5 0.5 0.5\n"
)


def npt(words: str) -> str:
    """Twelve steps of a barostat that moves the box."""
    return RESTING + f"fix npt all {words}\nrun 12\n"


def relaxed(words: str) -> str:
    """A few iterations of a minimisation of the cell."""
    return f"fix relax all box/relax {words} vmax 0.003\nminimize 0 1e-8 6 12\n"


# Eight atoms in each of two cells along x, in the order in which ASE repeats them.
PHONON_MAP = ['print "2 1 1 8" file map.in\nprint "# l1 l2 l3 k tag" append map.in\n'] + [
    f'print "{tag // 8} 0 0 {tag % 8} {tag + 1}" append map.in\n' for tag in range(16)
]
TRICLINIC = "change_box all triclinic\n"

LAYOUTS = [
    Scenario("one row of ranks along x", before="processors RANKS 1 1", quick=True),
    Scenario("one row of ranks along y", before="processors 1 RANKS 1"),
    Scenario("one row of ranks along z", before="processors 1 1 RANKS"),
    Scenario("comm_style tiled", before="comm_style tiled", after="balance 1.0 rcb", quick=True),
    Scenario(
        "fix balance shift",
        "fix even all balance 3 1.0 shift xyz 10 1.01\n" + MOVING + NVE,
    ),
    Scenario(
        "fix balance rcb",
        "fix even all balance 3 1.0 rcb\n" + MOVING + NVE,
        before="comm_style tiled",
    ),
    Scenario("comm_modify cutoff 11", after="comm_modify cutoff 11.0"),
    Scenario("comm_modify mode multi", after="neighbor 0.5 multi\ncomm_modify mode multi",
             commands=MOVING.replace("0.4 bin", "0.4 multi") + NVE),
    Scenario("ranks without atoms", atoms=beside_vacuum, before="processors 1 1 RANKS", quick=True),
    Scenario(
        "ranks with NULL types only", atoms=with_argon, before="processors 1 1 RANKS",
        types="K Cl NULL", quick=True,
    ),
    Scenario("atoms without neighbours", atoms=gas, quick=True),
    Scenario("a single atom", "velocity all set 200 130 -150\n" + NVE, single_atom),
    Scenario("atom_modify sort", after="atom_modify sort 2 3.0"),
    Scenario("two threads per rank", before="package omp 2", ranks=(1, 2)),
    Scenario("suffix omp", before="package omp 1\nsuffix omp", kspace=ORDINARY, tolerance="mesh"),
]  # fmt: skip

LISTS = [
    Scenario("neighbor nsq", MOVING + "neighbor 0.5 nsq\n" + NVE),
    Scenario("neighbor multi", MOVING + "neighbor 0.5 multi\n" + NVE),
    Scenario("no skin, list of every step", MOVING + "neighbor 0.0 bin\n" + NVE),
    Scenario(
        "list kept for all steps",
        RESTING + "neighbor 2.0 bin\nneigh_modify every 100 delay 100 check no\n" + NVE,
    ),
    Scenario("neigh_modify one and page", MOVING + "neigh_modify one 500 page 9000\n" + NVE),
    Scenario("neigh_modify once", RESTING + "neigh_modify once yes\n" + NVE),
    Scenario("two runs without set-up", MOVING + NVE + "run 6 pre no\nrun 4 pre no post no\n"),
    Scenario("run every", MOVING + 'fix nve all nve\nrun 12 every 4 "print hello"\n'),
]

BOXES = [
    Scenario("box thinner than the cutoff", atoms=thin, quick=True),
    Scenario("triclinic", atoms=skewed_salt),
    Scenario("general triclinic", atoms=general_cell, read="general", quick=True),
    Scenario("boundary f f f", CLUSTER_MOVES, wide_cluster, "boundary f f f", kspace=None),
    Scenario(
        "boundary s s s", CLUSTER_MOVES, wide_cluster, "boundary s s s", kspace=None, quick=True
    ),
    Scenario("boundary m m m", CLUSTER_MOVES, wide_cluster, "boundary m m m", kspace=None),
    Scenario(
        "boundary p p f", RESTING + NVE, slab, "boundary p p f",
        kspace=f"{TIGHT}\nkspace_modify slab 3.0", quick=True,
    ),
    Scenario(
        "change_box boundary",
        "run 0\nchange_box all boundary f f f\nkspace_style none\nrun 1\n",
        cluster,
    ),
    Scenario("replicate", after="replicate 2 1 2", atoms=lambda: salt((1, 1, 1)), quick=True),
    Scenario(
        "deformed until the box flips",
        RESTING + "fix shear all deform 4 xy erate 200 remap x flip yes\nfix nve all nve\nrun 14\n",
        lambda: salt((1, 2, 1)),
        after=TRICLINIC,
        unjudged=4,  # positions follow the box after their forces were computed
    ),
    Scenario(
        "sheared until the box flips, mesh of equicalc",
        RESTING + "fix shear all deform 4 xy erate 200 xz erate 150 remap x flip yes\n"
        "fix nve all nve\nrun 24\n",
        lambda: salt((1, 2, 2)),
        after=TRICLINIC,
        kspace=OWN,
        tolerance="mesh",
        ranks=(1, 3),
        unjudged=4,
    ),
    Scenario(
        "slab and back, mesh of equicalc",
        "run 0\nchange_box all z final -8 16 boundary p p f\nkspace_modify slab 3.0\nrun 1\n"
        "kspace_style equicalc 1e-5\nchange_box all boundary p p p\nrun 1\n",
        lambda: salt((1, 1, 1)),
        kspace=OWN,
        tolerance="mesh",
        ranks=(1, 3),
    ),
    Scenario(
        "charged cell", style="charge 1.0", commands=MOVING + NVE, atoms=skewed_salt, every=4
    ),
]  # fmt: skip

CHANGES = [
    Scenario(
        "delete_atoms",
        MOVING + "run 2\ndelete_atoms overlap 0.1 all all\ngroup out id 3 8:10\n"
        "delete_atoms group out compress no\nfix nve all nve\nrun 8\n",
        quick=True,
    ),
    Scenario(
        "fix deposit",
        RESTING + "region top block 0 6 0 6 7 11 units box\n"
        "fix new all deposit 4 1 2 91 region top near 1.0 vz -20 -20 units box\n"
        "fix nve all nve\nrun 9\n",
        beside_vacuum,
        quick=True,
    ),
    Scenario(
        "fix evaporate",
        RESTING + "region all block INF INF INF INF INF INF\n"
        "fix gone all evaporate 2 1 all 49\nfix nve all nve\nrun 9\n",
    ),
    Scenario(
        "create_atoms between runs",
        RESTING + "run 1\ncreate_atoms 2 single 1.0 1.0 11.0 units box\nfix nve all nve\nrun 4\n",
        beside_vacuum,
    ),
    Scenario("set type between runs", "run 0\nset atom 3 type 2\nset atom 6 type 1\nrun 1\n"),
    Scenario("displace_atoms", "run 0\ndisplace_atoms all random 0.1 0.1 0.1 5\nrun 1\n"),
    Scenario("atoms created in the deck", RESTING + NVE, read="lattice", every=4),
]

FIXES = [
    Scenario("minimize cg", "minimize 0 1e-6 8 20\n", quick=True),
    Scenario("minimize fire", "min_style fire\nmin_modify tmax 2\nminimize 0 1e-6 12 40\n"),
    Scenario("minimize sd", "min_style sd\nminimize 0 1e-6 5 20\n"),
    Scenario("minimize quickmin", "min_style quickmin\nminimize 0 1e-6 8 20\n"),
    Scenario("minimize hftn", "min_style hftn\nminimize 0 1e-6 2 30\n"),
    Scenario("fix box/relax iso", relaxed("iso 0.0")),
    Scenario("fix box/relax aniso", relaxed("aniso 1000.0")),
    Scenario("fix box/relax tri", relaxed("tri 0.0"), after=TRICLINIC),
    Scenario("fix npt iso", npt("npt temp 300 300 0.1 iso 0 0 0.1"), quick=True),
    Scenario("fix npt aniso", npt("npt temp 300 300 0.1 aniso 0 0 0.1")),
    Scenario("fix npt tri", npt("npt temp 300 300 0.1 tri 0 0 0.1"), skewed_salt, every=4),
    Scenario("fix npt x y couple", npt("npt temp 300 300 0.1 x 0 0 0.1 y 0 0 0.1 couple xy")),
    Scenario("fix nph iso", npt("nph iso 0 0 0.1")),
    Scenario("fix nph tri", npt("nph tri 0 0 0.1"), after=TRICLINIC),
    Scenario("fix npt, pppm", npt("npt temp 300 300 0.1 iso 0 0 0.1"), kspace=ORDINARY,
             tolerance="mesh", every=4),
    Scenario("fix npt, mesh of equicalc", npt("npt temp 300 300 0.1 tri 0 0 0.1"), skewed_salt,
             kspace=OWN, tolerance="mesh", every=4, quick=True),
    Scenario("fix msst", RESTING + "fix shock all msst z 40 q 200 mu 0.1 tscale 0.01\nrun 12\n",
             kspace=OWN, tolerance="mesh", ranks=(1, 3)),
    Scenario("fix nphug", npt("nphug temp 300 300 0.1 iso 1e5 1e5 1.0"),
             kspace=OWN, tolerance="mesh", ranks=(1, 3)),
    Scenario("fix nvt", MOVING + "fix nvt all nvt temp 300 300 0.05\nrun 12\n"),
    Scenario("fix langevin", MOVING + "fix heat all langevin 300 300 0.05 48279\n" + NVE,
             quick=True),
    Scenario("fix efield", RESTING + "fix field all efield 0 0 0.05\n" + NVE),
    Scenario("fix wall/harmonic", CLUSTER_MOVES.replace(
        "fix nve", "fix wall all wall/harmonic zlo EDGE 1.0 1.0 3.0 zhi EDGE 1.0 1.0 3.0\nfix nve"
    ), wide_cluster, "boundary f f f", kspace=None),
    Scenario("fix momentum and recenter", MOVING + "fix m all momentum 2 linear 1 1 1\n" + NVE),
    Scenario("fix phonon", "".join(PHONON_MAP) + RESTING + "fix p all phonon 1 4 0 map.in phonon\n"
             + NVE),
    Scenario("compute rdf", MOVING + "compute g all rdf 40 1 2 cutoff 3.5\n"
             "fix g all ave/time 2 1 2 c_g[*] mode vector file rdf.out\n"
             "comm_modify cutoff 7.0\n" + NVE),
    Scenario("compute msd and vacf", MOVING + "compute m all msd\ncompute v all vacf\n"
             "fix m all ave/time 1 1 1 c_m[4] c_v[4] file msd.out\n" + NVE),
    Scenario("fix atom/swap of equal charges", RESTING + "group both type 1 2\n"
             "fix mc both atom/swap 2 2 271 5000 ke no types 1 2\nfix nve all nve\nrun 8\n",
             kspace=None, model="none"),
    Scenario("float32", style="precision float32", tolerance="single", quick=True),
]  # fmt: skip

CHARGES = [
    Scenario(f"{name} charges, {title}", commands, atoms, model=name, tolerance="equilibrated")
    for name in ("fixed", "predicted with widths", "transferred", "equilibrated with widths")
    for title, commands, atoms in (
        ("moving", MOVING + NVE, lambda: salt((2, 1, 1))),
        ("in a changing box", npt("npt temp 300 300 0.1 aniso 0 0 0.1"), lambda: salt((1, 1, 2))),
    )
]

SCENARIOS = [*LAYOUTS, *LISTS, *BOXES, *CHANGES, *FIXES, *CHARGES]
