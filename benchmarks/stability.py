"""Long runs of the shipped models in LAMMPS: crystals at 300 and 900 K, a melt at 1300 K.

    python benchmarks/stability.py                     (or: make bench-long)

216 atoms at constant pressure for 20 ps each. A run is stable when no atom is lost, every number
is finite, the temperature stays at the thermostat's, and no two atoms come closer than real ions
do. Writes benchmarks/results/stability.{json,md}; exit code 1 when a run is not stable.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read

from equicalc.lammps_run import run_deck, write_data
from equicalc.models import resolve

HERE = Path(__file__).resolve().parent
ELEMENTS = ["Na", "K", "Cl"]
# The mean over 200 samples of a 216-atom NPT run scatters by about 1 %.
TEMPERATURE_TOLERANCE = 0.05
# Below the closest contacts of alkali halide melts, far above the repulsive core.
CLOSEST_CONTACT = 1.6  # angstrom

DECK = """\
units           metal
atom_style      charge
read_data       start.data
pair_style      equicalc precision {precision}
pair_coeff      * * {model} {mapping}
kspace_style    pppm 1.0e-5
timestep        {timestep}
velocity        all create {start} 20261 mom yes rot no dist gaussian
thermo          100
thermo_style    custom step temp pe etotal vol press atoms
thermo_modify   flush yes lost error

fix             npt all npt temp {start} {temperature} 0.1 iso 0.0 0.0 1.0
run             {preparation}
unfix           npt
fix             npt all npt temp {temperature} {temperature} 0.1 iso 0.0 0.0 1.0
dump            traj all custom 500 traj.dump id element x y z
dump_modify     traj element {elements} sort id
run             {steps}
"""


def rocksalt(lattice_constant: float, mixed: bool) -> Atoms:
    """Return 216 ions: KCl, or with half of the cations replaced by Na."""
    atoms = bulk("KCl", "rocksalt", a=lattice_constant, cubic=True).repeat(3)
    if mixed:
        cations = np.flatnonzero(atoms.numbers == 19)
        chosen = np.random.default_rng(4711).permutation(cations)[: len(cations) // 2]
        atoms.numbers[chosen] = 11
    return atoms


def run_case(
    model: str, temperature: float, start: float, mixed: bool, options: argparse.Namespace
) -> dict:
    """Run one deck and judge it."""
    folder = HERE / "output" / f"stability_{model}_{temperature:g}"
    folder.mkdir(parents=True, exist_ok=True)
    elements = ELEMENTS if mixed else ELEMENTS[1:]
    atoms = rocksalt(6.5 if mixed else 6.35, mixed)
    write_data(folder / "start.data", atoms, elements)
    deck = folder / "in.stability"
    per_ps = 1000.0 / options.timestep
    deck.write_text(
        DECK.format(
            precision=options.precision,
            model=resolve(model).resolve(),
            mapping=" ".join(elements),
            elements=" ".join(elements),
            timestep=options.timestep / 1000.0,
            temperature=temperature,
            start=start,
            preparation=round(2.0 * per_ps),
            steps=round(options.picoseconds * per_ps),
        )
    )

    def show(line: str) -> None:
        words = line.split()
        if words and words[0].isdigit() and int(words[0]) % 1000 == 0:
            print(f"  {model} {temperature:g} K: {line}", flush=True)

    run = run_deck(deck, options.ranks, on_line=show)
    thermo = run.thermo[-1]
    frames = read(folder / "traj.dump", ":", format="lammps-dump-text")
    closest = min(
        float(np.min(f.get_all_distances(mic=True) + 100.0 * np.eye(len(f)))) for f in frames
    )
    mean = float(thermo["Temp"].mean())
    finite = all(np.isfinite(values).all() for values in thermo.values())
    return {
        "model": model,
        "temperature_K": temperature,
        "mean_temperature_K": mean,
        "picoseconds": options.picoseconds,
        "lost_atoms": int(len(atoms) - thermo["Atoms"].min()),
        "closest_contact_A": closest,
        "volume_A3_per_atom": float(thermo["Volume"].mean() / len(atoms)),
        "us_per_atom_step": 1e6 * run.loop_times[-1] / len(atoms) / float(np.ptp(thermo["Step"])),
        "stable": bool(
            finite
            and thermo["Atoms"].min() == len(atoms)
            and abs(mean / temperature - 1.0) < TEMPERATURE_TOLERANCE
            and closest > CLOSEST_CONTACT
        ),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--precision", default="float32", choices=("float64", "float32"))
    parser.add_argument("--timestep", type=float, default=2.0, help="fs")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    options = parser.parse_args()
    cases = [
        run_case("kcl", 300.0, 300.0, False, options),
        run_case("kcl", 900.0, 900.0, False, options),
        run_case("nakcl", 1300.0, 2200.0, True, options),
    ]
    lines = [
        f"# {options.picoseconds:g} ps NPT, 216 atoms, {options.ranks} ranks, "
        f"{options.precision}, {options.timestep:g} fs",
        "",
        "| model | thermostat (K) | mean T (K) | lost atoms | closest contact (Å) "
        "| volume (Å³/atom) | stable |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        lines.append(
            f"| `{case['model']}` | {case['temperature_K']:.0f} | {case['mean_temperature_K']:.0f} "
            f"| {case['lost_atoms']} | {case['closest_contact_A']:.2f} "
            f"| {case['volume_A3_per_atom']:.2f} | {'yes' if case['stable'] else 'NO'} |"
        )
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "stability.md").write_text("\n".join(lines) + "\n")
    (results / "stability.json").write_text(
        json.dumps({"settings": vars(options), "runs": cases}, indent=1) + "\n"
    )
    print("\n".join(lines))
    return 0 if all(case["stable"] for case in cases) else 1


if __name__ == "__main__":
    raise SystemExit(main())
