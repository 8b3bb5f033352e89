"""The scenario matrix: on any number of ranks every frame of every deck has ASE's numbers.

Each deck writes, while it runs, positions, forces, charges and shares of energy and virial of every
atom. From positions and cell of a frame ASE's calculator computes them again with an exact sum. So
neither the path to a frame nor the ranks on which it was made can hide in the comparison.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from equicalc import EquiCalculator
from equicalc.lammps_run import BAR_PER_EV_A3, LammpsRun, write_data
from tests.lammps.scenarios import LATTICE, SCENARIOS, Scenario

# Largest deviations from ASE: energy and shares per atom (eV), forces (eV/angstrom), virial per
# volume (eV/angstrom^3), charges (e). Exact: as in test_agreement.py. Equilibrated: as in
# test_charge_models.py. Mesh: `pppm 1e-5` asks for
# force errors of 1e-5 x 14.4 eV/angstrom. Single: float32 has 7 digits of sums of order 10.
LIMITS = {
    "exact": {"energy": 1e-9, "forces": 1e-7, "virial": 1e-8, "charges": 1e-9},
    "equilibrated": {"energy": 1e-9, "forces": 1e-7, "virial": 1e-8, "charges": 5e-9},
    "mesh": {"energy": 1e-3, "forces": 5e-4, "virial": 1e-4, "charges": 1e-9},
    "single": {"energy": 1e-5, "forces": 1e-4, "virial": 1e-5, "charges": 1e-5},
}
# Shares against totals, which are summed in another order: float32 sums energies in float64, but
# forces of single atoms in float32.
SHARES = 1e-9

# `store/force` comes first: it sees the forces of the pair style before other fixes add theirs.
OUTPUTS = """fix raw all store/force
compute pe all pe pair
compute e all pe/atom pair
compute s all stress/atom NULL pair
compute p all pressure NULL pair
compute sum all reduce sum c_e c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]
thermo_style custom step atoms c_pe c_sum[1] c_sum[2] c_sum[3] c_sum[4] c_sum[5] c_sum[6] c_sum[7] &
  c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6] vol lx ly lz xy xz yz
thermo_modify format float %.17g lost error
thermo {every}
dump frames all custom {every} frames.dump id type x y z f_raw[1] f_raw[2] f_raw[3] q c_e
dump_modify frames sort id format float %.17g first yes
"""
SYMBOL = {1: "K", 2: "Cl"}


@dataclass
class Frame:
    """Numbers of one step: `thermo` has the totals, columns of `atoms` are those of the dump."""

    thermo: dict[str, float]
    atoms: np.ndarray

    def structure(self, periodic: list[bool], charge: float) -> tuple[Atoms, np.ndarray]:
        """Atoms that the model describes, and which of all they are."""
        described = np.isin(self.atoms[:, 1], list(SYMBOL))
        value = self.thermo.__getitem__
        cell = [[value("Lx"), 0, 0], [value("Xy"), value("Ly"), 0]]
        cell += [[value("Xz"), value("Yz"), value("Lz")]]
        chosen = self.atoms[described]
        symbols = [SYMBOL[int(kind)] for kind in chosen[:, 1]]
        atoms = Atoms(symbols, chosen[:, 2:5], cell=cell, pbc=periodic, info={"charge": charge})
        return atoms, described

    def matrix(self, names: list[str]) -> np.ndarray:
        xx, yy, zz, xy, xz, yz = (self.thermo[name] for name in names)
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def deck_of(scenario: Scenario, model: Path, ranks: int) -> str:
    read = {
        "lattice": LATTICE
        + "region r block 0 2 0 1 0 1\ncreate_box 2 r\nmass * 36.0\n"
        + "create_atoms 2 box basis 1 1 basis 2 1 basis 3 1 basis 4 1\n",
    }.get(scenario.read, "read_data structure.data\n")
    words = "" if scenario.kspace is None else f"kspace_style {scenario.kspace}\n"
    return (
        f"units metal\natom_style charge\n{scenario.before}\n".replace("RANKS", str(ranks))
        + read
        + f"{scenario.after}\npair_style equicalc {scenario.style}\n"
        + f"pair_coeff * * {model} {scenario.types}\n{words}"
        + OUTPUTS.format(every=scenario.every)
        + scenario.commands
    )


def write_structure(folder: Path, atoms: Atoms, scenario: Scenario) -> None:
    """Write structure.data, for general cells with their three vectors as they are."""
    elements = ["K", "Cl", "Ar"][: len(scenario.types.split())]
    if scenario.read != "general":
        write_data(folder / "structure.data", atoms, elements)
        return
    lines = ["general", "", f"{len(atoms)} atoms", f"{len(elements)} atom types", ""]
    for name, vector in zip("abc", atoms.cell.array, strict=True):
        lines.append(" ".join(map(repr, vector.tolist())) + f" {name}vec")
    lines += [
        "0 0 0 abc origin",
        "",
        "Masses",
        "",
        "1 39.0983",
        "2 35.45",
        "",
        "Atoms # charge",
        "",
    ]
    for k, (symbol, place) in enumerate(zip(atoms.symbols, atoms.positions.tolist(), strict=True)):
        kind = elements.index(symbol) + 1
        lines.append(f"{k + 1} {kind} 0 " + " ".join(map(repr, place)))
    (folder / "structure.data").write_text("\n".join(lines) + "\n")


def frames_of(bench, run: LammpsRun) -> list[tuple[list[bool], Frame]]:
    """Every frame of the dump with the thermo line of the same step, and what is periodic."""
    table: dict[int, dict[str, float]] = {}
    for columns in run.thermo:
        for k, step in enumerate(columns["Step"]):
            # of the same step the dump has the last frame of a run, not the first of the next
            table.setdefault(int(step), {key: float(v[k]) for key, v in columns.items()})
    found = []
    for text in (bench.directory / "frames.dump").read_text().split("ITEM: TIMESTEP\n")[1:]:
        header, rows = text.split("ITEM: ATOMS")
        step = int(header.split("\n")[0])
        flags = header.split("ITEM: BOX BOUNDS ")[1].split("\n")[0].split()[-3:]
        atoms = np.array([[float(word) for word in row.split()] for row in rows.split("\n")[1:-1]])
        if step in table:
            found.append(([flag == "pp" for flag in flags], Frame(table[step], atoms)))
    return found


@cache
def calculator(model: Path, kspace: str) -> EquiCalculator:
    return EquiCalculator(str(model), kspace=kspace, kspace_accuracy=1e-12, check=False)


def deviations(frame: Frame, periodic: list[bool], model: Path, charge: float) -> dict[str, float]:
    """Largest differences of the frame from ASE, and of totals from sums of shares."""
    atoms, described = frame.structure(periodic, charge)
    atoms.calc = calculator(model, "ewald" if any(periodic) else "direct")
    forces, volume = atoms.get_forces(), frame.thermo["Volume"]
    virial = frame.matrix([f"c_p[{k}]" for k in range(1, 7)]) / BAR_PER_EV_A3
    shares = -frame.matrix([f"c_sum[{k}]" for k in range(2, 8)]) / BAR_PER_EV_A3 / volume
    found = {
        "energy": (frame.thermo["c_pe"] - atoms.get_potential_energy()) / len(atoms),
        "forces": frame.atoms[described, 5:8] - forces,
        "charges": frame.atoms[described, 8] - atoms.get_charges(),
        "nothing": frame.atoms[~described, 5:],
        "energy shares": (frame.thermo["c_sum[1]"] - frame.thermo["c_pe"]) / len(atoms),
        "virial shares": shares - virial,
    }
    if all(periodic):
        found["virial"] = virial + atoms.get_stress(voigt=False)
    elif not any(periodic):
        found["virial"] = virial - atoms.positions.T @ forces / volume
    return {key: float(np.abs(value).max(initial=0.0)) for key, value in found.items()}


CASES = [
    pytest.param(
        scenario,
        ranks,
        marks=() if scenario.quick and ranks == 2 else pytest.mark.slow,
        id=f"{scenario.name}-{ranks}",
    )
    for scenario in SCENARIOS
    for ranks in scenario.ranks
]


@pytest.mark.parametrize(("scenario", "ranks"), CASES)
def test_every_frame_has_the_numbers_of_ase(
    bench, deep_model, tiny_model_without_charges, model_of, record_property, scenario, ranks
):
    model = {"deep": deep_model, "none": tiny_model_without_charges}.get(scenario.model)
    model = model or model_of(scenario.model)
    atoms = scenario.atoms()
    charge = float(scenario.style.split()[-1]) if scenario.style.startswith("charge") else 0.0
    write_structure(bench.directory, atoms, scenario)
    frames = frames_of(bench, bench.run(deck_of(scenario, model, ranks), ranks=ranks))
    assert frames
    if scenario.unjudged > 0:
        frames = [f for f in frames if f[1].thermo["Step"] % scenario.unjudged != 0]
    worst: dict[str, float] = {}
    for periodic, frame in frames:
        for key, value in deviations(frame, periodic, model, charge).items():
            worst[key] = max(worst.get(key, 0.0), value)
    record_property("scenario", (scenario.name, ranks, worst))
    limits = LIMITS[scenario.tolerance]
    limits = {**limits, "nothing": 0.0, "energy shares": SHARES, "virial shares": SHARES}
    for key, value in worst.items():
        assert value <= limits[key], f"{key} differ by {value:.1e}"
