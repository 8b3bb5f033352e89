"""The tour: one model file, relaxed and run in ASE, run in LAMMPS on 1 and 2 ranks, compared.

    python examples/demo.py            (or: make demo)

Takes at most five minutes on two cores: the lengths of the runs follow from a short test run.
Everything is written to examples/output/demo.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read
from shared import DATA, Story, ThermoProgress, bar, table

from equicalc import EquiCalculator, plots
from equicalc.analysis import partial_rdfs
from equicalc.dynamics import MDSettings, run_md
from equicalc.lammps_run import run_deck, single_point, write_data
from equicalc.relaxation import relax

ELEMENTS = ["K", "Cl"]
TEMPERATURE = 300.0  # K
TIMESTEP_FS = 2.0
RECORD_EVERY = 10  # steps
MD_SECONDS = 180.0  # for the three molecular dynamics runs together
RANKS = (1, 2)
TRIAL_STEPS = 20
MOST_STEPS = 3000
FEWEST_STEPS = 200

# Lattice constant of the cells in the training data, angstrom.
DATA_LATTICE_CONSTANT = 6.292
# Structures of the data above this are beyond any crystal or melt, eV/atom from the lowest.
PARITY_WINDOW = 0.5

# Coulomb sums so tight that only rounding is left between ASE and LAMMPS.
TIGHT_KSPACE = "ewald 1.0e-12"
TIGHT_ACCURACY = 1e-12

DECK = """\
units           metal
atom_style      charge
read_data       {data}

pair_style      equicalc
pair_coeff      * * {model} K Cl
kspace_style    equicalc 1.0e-5

velocity        all create {temperature} 20261 mom yes rot no dist gaussian
fix             npt all npt temp {temperature} {temperature} 0.1 iso 0.0 0.0 1.0
timestep        {timestep}
thermo          {every}
thermo_style    custom step temp pe etotal vol press
thermo_modify   flush yes
dump            traj all custom {dump_every} {name}.dump id element x y z q
dump_modify     traj element K Cl sort id
run             {steps}
"""


def main() -> None:
    """Run the tour."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    parser.add_argument("--seconds", type=float, default=MD_SECONDS, help="for the MD runs")
    options = parser.parse_args()
    # as each LAMMPS rank has: 64 atoms are too few to share
    torch.set_num_threads(1)
    model = str(Path(options.model).resolve()) if Path(options.model).is_file() else options.model
    story = Story("demo", 5)

    story.chapter(f"relaxing the cell of KCl in ASE with model '{options.model}'")
    calculator = EquiCalculator(model)
    unit = bulk("KCl", "rocksalt", a=DATA_LATTICE_CONSTANT * 1.01, cubic=True)
    unit.calc = calculator
    relaxed = relax(unit, cell=True, fmax=1e-4)
    lattice_constant = relaxed.atoms.cell.lengths().mean()
    print(
        f"  a = {lattice_constant:.4f} Å after {relaxed.steps} steps "
        f"(cells of the training data: {DATA_LATTICE_CONSTANT} Å)"
    )

    story.chapter("one structure, 64 atoms displaced by 0.1 Å: ASE against LAMMPS")
    points = compare_single_points(story, model, relaxed.atoms.repeat(2))

    start = relaxed.atoms.repeat(2)
    start.calc = calculator
    steps = affordable_steps(
        options.seconds, [ase_speed(start), *lammps_speeds(story, model, start)]
    )
    story.chapter(f"{steps} steps of NPT at {TEMPERATURE:.0f} K in ASE")
    runs, frames, speeds = {}, {}, {}
    runs["ASE"], frames["ASE"], speeds["ASE"] = ase_npt(start.copy(), calculator, steps)

    story.chapter("the same in LAMMPS on 1 and 2 MPI ranks; the input deck is")
    for ranks in RANKS:
        label = lammps_label(ranks)
        runs[label], frames[label], speeds[label] = lammps_npt(story, model, start, ranks, steps)

    story.chapter("table and pictures")
    pictures = draw(story, model, calculator, runs, frames)
    text = result_table(lattice_constant, points, runs, speeds)
    (story.folder / "table.txt").write_text(text + "\n")
    print(text)
    story.end(pictures)


def compare_single_points(story: Story, model: str, crystal: Atoms) -> dict[str, dict]:
    """Return energy, forces, stress, charges of one displaced crystal from ASE and from LAMMPS."""
    atoms = crystal.copy()
    atoms.rattle(0.1, seed=5)
    atoms.calc = EquiCalculator(model, kspace="ewald", kspace_accuracy=TIGHT_ACCURACY)
    results = {
        "ASE": {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(voigt=False),
            "charges": atoms.get_charges(),
            "n_atoms": len(atoms),
        }
    }
    for ranks in RANKS:
        folder = story.folder / f"single_point_{ranks}"
        point = single_point(atoms, model, ELEMENTS, folder, ranks=ranks, kspace=TIGHT_KSPACE)
        results[lammps_label(ranks)] = point
        print(f"  LAMMPS, {ranks} rank(s): {point['energy'] / len(atoms):.12f} eV/atom")
    print(f"  ASE:              {results['ASE']['energy'] / len(atoms):.12f} eV/atom")
    return results


def affordable_steps(seconds: float, seconds_per_step: list[float]) -> int:
    """Return how many steps of each run fit into the time of all, within readable limits."""
    steps = int(np.clip(seconds / sum(seconds_per_step), FEWEST_STEPS, MOST_STEPS))
    return steps - steps % (10 * RECORD_EVERY)


def npt_settings(steps: int) -> MDSettings:
    """Return what ASE does: the same ensemble and time scales as in the LAMMPS deck."""
    return MDSettings(
        "npt",
        TEMPERATURE,
        timestep_fs=TIMESTEP_FS,
        steps=steps,
        tau_t_fs=100.0,
        tau_p_fs=1000.0,
        seed=3,
        interval=RECORD_EVERY,
    )


def ase_speed(atoms: Atoms) -> float:
    """Return seconds per step in ASE."""
    trial = atoms.copy()
    trial.calc = atoms.calc
    run_md(trial, npt_settings(10))  # the first steps allocate
    began = time.perf_counter()
    run_md(trial, npt_settings(TRIAL_STEPS))
    return (time.perf_counter() - began) / TRIAL_STEPS


def lammps_speeds(story: Story, model: str, atoms: Atoms) -> list[float]:
    """Return seconds per step in LAMMPS on each number of ranks."""
    return [
        run_deck(write_deck(story, model, atoms, ranks, TRIAL_STEPS), ranks).loop_times[-1]
        / TRIAL_STEPS
        for ranks in RANKS
    ]


def ase_npt(
    atoms: Atoms, calculator: EquiCalculator, steps: int
) -> tuple[dict, list[Atoms], float]:
    """Run NPT in ASE; return its records, frames and microseconds per atom and step."""
    atoms.calc = calculator
    progress = bar(steps, "ASE NPT")
    frames: list[Atoms] = []

    def record(atoms: Atoms, values: dict[str, float]) -> None:
        progress.update(int(values["step"]) - progress.n)
        if int(values["step"]) % (5 * RECORD_EVERY) == 0:
            frames.append(atoms.copy())

    began = time.perf_counter()
    records = run_md(atoms, npt_settings(steps), on_record=record)
    elapsed = time.perf_counter() - began
    progress.close()
    return records, frames, 1e6 * elapsed / steps / len(atoms)


def lammps_label(ranks: int) -> str:
    """Return the name of a column of the table."""
    return f"LAMMPS, {ranks} rank{'s' if ranks > 1 else ''}"


def write_deck(story: Story, model: str, atoms: Atoms, ranks: int, steps: int) -> Path:
    """Write data file and input deck of a LAMMPS run and return the deck."""
    name = f"npt_{ranks}"
    write_data(story.folder / f"{name}.data", atoms, ELEMENTS)
    deck = story.folder / f"in.{name}"
    deck.write_text(
        DECK.format(
            data=f"{name}.data",
            model=model,
            name=name,
            temperature=TEMPERATURE,
            timestep=TIMESTEP_FS / 1000.0,
            every=RECORD_EVERY,
            dump_every=5 * RECORD_EVERY,
            steps=steps,
        )
    )
    return deck


def lammps_npt(
    story: Story, model: str, atoms: Atoms, ranks: int, steps: int
) -> tuple[dict, list[Atoms], float]:
    """Run NPT in LAMMPS; return its records, frames and microseconds per atom and step."""
    deck = write_deck(story, model, atoms, ranks, steps)
    if ranks == 1:
        print("\n" + "\n".join(f"    {line}" for line in deck.read_text().splitlines()) + "\n")
    command = "lmp" if ranks == 1 else f"mpirun -np {ranks} lmp"
    run = run_deck(deck, ranks, on_line=ThermoProgress(steps, f"{command} -in {deck.name}"))
    thermo = run.thermo[-1]
    records = {
        "time_ps": thermo["Step"] * TIMESTEP_FS / 1000.0,
        "temperature_K": thermo["Temp"],
        "potential_energy_eV": thermo["PotEng"],
        "volume_A3": thermo["Volume"],
    }
    frames = read(story.folder / f"npt_{ranks}.dump", ":", format="lammps-dump-text")
    return records, frames, 1e6 * run.loop_times[-1] / steps / len(atoms)


def draw(
    story: Story, model: str, calculator: EquiCalculator, runs: dict, frames: dict
) -> list[Path]:
    """Write the three pictures and return their paths."""
    n_atoms = len(frames["ASE"][0])
    series = plots.time_series(runs, n_atoms, f"KCl, NPT at {TEMPERATURE:.0f} K, {n_atoms} atoms")
    functions = {}
    for label, trajectory in frames.items():
        radii, functions[label] = partial_rdfs(trajectory[len(trajectory) // 2 :], r_max=9.0)
    pair_functions = plots.rdfs(radii, functions, f"KCl at {TEMPERATURE:.0f} K")
    parity = parity_on_data(calculator)
    return [
        plots.save(series, story.folder / "energy_temperature_volume.png"),
        plots.save(pair_functions, story.folder / "radial_distribution.png"),
        plots.save(parity, story.folder / "parity.png"),
    ]


def parity_on_data(calculator: EquiCalculator):
    """Compare the model with its DFT data (structures up to PARITY_WINDOW above the lowest)."""
    data = read(DATA / "kcl_pbesol_64.xyz", ":")
    energies = np.array([atoms.get_potential_energy() / len(atoms) for atoms in data])
    chosen = np.flatnonzero(energies < energies.min() + PARITY_WINDOW)
    progress = bar(len(chosen), "parity on the DFT data")
    reference, predicted, symbols = [], [], []
    model_energies = []
    for index in chosen:
        atoms = data[index].copy()
        atoms.calc = calculator
        model_energies.append(atoms.get_potential_energy() / len(atoms))
        reference.append(data[index].get_forces())
        predicted.append(atoms.get_forces())
        symbols += np.repeat(atoms.get_chemical_symbols(), 3).tolist()
        progress.update()
    progress.close()
    return plots.parity(
        {
            "energy": (energies[chosen], np.array(model_energies)),
            "forces": (np.concatenate(reference), np.concatenate(predicted)),
        },
        {"energy": "eV/atom", "forces": "eV/Å"},
        f"KCl: model against DFT (PBEsol), {len(chosen)} structures of 64 atoms",
        groups={"forces": np.array(symbols)},
    )


def result_table(lattice_constant: float, points: dict, runs: dict, speeds: dict) -> str:
    """Return the one table of the demo."""
    labels = list(points)
    ase = points["ASE"]
    n_atoms = ase["n_atoms"]

    def deviation(label: str, key: str) -> str:
        return (
            "reference" if label == "ASE" else f"{np.abs(points[label][key] - ase[key]).max():.1e}"
        )

    def lattice_at_temperature(label: str) -> str:
        volume = np.asarray(runs[label]["volume_A3"])
        return f"{np.cbrt(8.0 * volume[len(volume) // 2 :].mean() / n_atoms):.3f}"

    rows = [
        ["lattice constant, relaxed (Å)", f"{lattice_constant:.4f}", "", ""],
        [f"lattice constant, NPT {TEMPERATURE:.0f} K (Å)", *map(lattice_at_temperature, labels)],
        [
            "energy of a displaced crystal (eV/atom)",
            *(f"{points[label]['energy'] / n_atoms:.10f}" for label in labels),
        ],
        ["forces, largest difference (eV/Å)", *(deviation(label, "forces") for label in labels)],
        ["stress, largest difference (eV/Å³)", *(deviation(label, "stress") for label in labels)],
        ["charges, largest difference (e)", *(deviation(label, "charges") for label in labels)],
        [
            "mean charge of K (e)",
            *(f"{points[label]['charges'][ase['charges'] > 0].mean():+.6f}" for label in labels),
        ],
        ["speed (µs/atom/step)", *(f"{speeds[label]:.0f}" for label in labels)],
    ]
    note = (
        f"\nfloat64, {n_atoms} atoms; comparison with {TIGHT_KSPACE!r}, NPT with 'equicalc 1.0e-5';"
        f"\none thread in ASE and in each LAMMPS rank, {os.cpu_count()} CPU cores"
    )
    return table(["", *labels], rows) + note


if __name__ == "__main__":
    main()
