"""Energy drift and momentum of constant-energy runs in LAMMPS, with a mesh and with exact sums.

    python benchmarks/nve_drift.py                     (or: make bench)

216 atoms of KCl at 600 K on 2 ranks: one picosecond of thermostat, then 10 ps of plain NVE, once
with `kspace_style pppm` and once with `ewald`, so that what the mesh adds can be told apart. The
drift is the slope of the least-squares line through the total energy. Writes
benchmarks/results/nve_drift.{json,md,png}; exit code 1 when the drift passes 1e-5 eV/atom/ps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase.build import bulk

from equicalc import plots
from equicalc.analysis import linear_drift
from equicalc.lammps_run import run_deck, write_data
from equicalc.models import resolve

HERE = Path(__file__).resolve().parent
ELEMENTS = ["K", "Cl"]
LIMIT = 1e-5  # eV/atom/ps
# Total momentum per atom, relative to the thermal momentum of one atom. Exact sums conserve it to
# rounding, also of float32 forces; a mesh has a small net force.
MOMENTUM_LIMIT = 1e-6

DECK = """\
units           metal
atom_style      charge
read_data       kcl.data
pair_style      equicalc precision {precision}
pair_coeff      * * {model} K Cl
kspace_style    {kspace}
timestep        {timestep}
velocity        all create {temperature} 20261 mom yes rot no dist gaussian

fix             heat all langevin {temperature} {temperature} 0.1 4711 zero yes
fix             nve all nve
thermo          100
thermo_modify   flush yes
run             {equilibration}
unfix           heat
velocity        all zero linear

variable        px equal vcm(all,x)*mass(all)/atoms
variable        py equal vcm(all,y)*mass(all)/atoms
variable        pz equal vcm(all,z)*mass(all)/atoms
thermo          {every}
thermo_style    custom step temp pe etotal press v_px v_py v_pz
thermo_modify   format float %.15g flush yes
reset_timestep  0
run             {steps}
"""


def run_nve(options: argparse.Namespace, kspace: str, folder: Path) -> dict:
    """Run one deck; return its drift, momentum and energies."""
    folder.mkdir(parents=True, exist_ok=True)
    crystal = bulk("KCl", "rocksalt", a=options.lattice_constant, cubic=True).repeat(3)
    write_data(folder / "kcl.data", crystal, ELEMENTS)
    every = 10
    deck = folder / "in.nve"
    deck.write_text(
        DECK.format(
            precision=options.precision,
            model=resolve(options.model).resolve(),
            kspace=kspace,
            timestep=options.timestep / 1000.0,
            temperature=options.temperature,
            equilibration=round(1000.0 / options.timestep),
            every=every,
            steps=round(1000.0 * options.picoseconds / options.timestep),
        )
    )

    def show(line: str) -> None:
        words = line.split()
        if words and words[0].isdigit() and int(words[0]) % 1000 == 0:
            print(f"  {kspace}: {line}", flush=True)

    run = run_deck(deck, options.ranks, on_line=show)
    thermo = run.thermo[-1]
    time = thermo["Step"] * options.timestep / 1000.0
    energy = thermo["TotEng"] / len(crystal)
    momentum = np.stack([thermo["v_px"], thermo["v_py"], thermo["v_pz"]])
    # g/mol A/ps: sqrt(m kT), with kB = 0.83144626 in these units
    thermal = np.sqrt(crystal.get_masses().mean() * 0.83144626 * options.temperature)
    return {
        "kspace": kspace,
        "drift_eV_per_atom_per_ps": linear_drift(time, energy),
        "energy_std_eV_per_atom": float(energy.std()),
        "mean_temperature_K": float(thermo["Temp"].mean()),
        "largest_momentum_relative": float(np.abs(momentum).max() / thermal),
        "seconds": run.loop_times[-1],
        "time_ps": time.tolist(),
        "total_energy_eV_per_atom": energy.tolist(),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kcl", help="model file or shipped name")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--precision", default="float64", choices=("float64", "float32"))
    parser.add_argument("--temperature", type=float, default=600.0, help="K")
    parser.add_argument("--timestep", type=float, default=2.0, help="fs")
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--lattice-constant", type=float, default=6.40, help="Å, near 600 K")
    parser.add_argument("--kspace", nargs="+", default=["pppm 1.0e-5", "ewald 1.0e-6"])
    parser.add_argument("--results", default=str(HERE / "results"), help="where to write")
    options = parser.parse_args()
    results = Path(options.results)
    results.mkdir(parents=True, exist_ok=True)
    runs = []
    for kspace in options.kspace:
        runs.append(run_nve(options, kspace, HERE / "output" / f"nve_{kspace.split()[0]}"))
        # after each run: the second takes minutes, too
        write_results(results, options, runs)
    late = [r for r in runs if abs(r["drift_eV_per_atom_per_ps"]) > LIMIT]
    exact = [r for r in runs if "ewald" in r["kspace"]]
    moving = [r for r in exact if r["largest_momentum_relative"] > MOMENTUM_LIMIT]
    for run in late:
        print(f"drift above {LIMIT:g} eV/atom/ps with {run['kspace']}")
    for run in moving:
        print(f"momentum not conserved with {run['kspace']}")
    return 1 if late or moving else 0


def write_results(folder: Path, options: argparse.Namespace, runs: list[dict]) -> None:
    """Write table, picture and numbers of the runs so far."""
    lines = [
        f"# NVE at {options.temperature:g} K, {options.picoseconds:g} ps, 216 atoms of KCl, "
        f"{options.ranks} ranks, {options.precision}, {options.timestep:g} fs, "
        f"model `{options.model}`",
        "",
        "| k-space | drift (eV/atom/ps) | scatter (eV/atom) | T (K) | momentum / thermal |",
        "|---|---|---|---|---|",
    ]
    for run in runs:
        lines.append(
            f"| `{run['kspace']}` | {run['drift_eV_per_atom_per_ps']:+.1e} "
            f"| {run['energy_std_eV_per_atom']:.1e} | {run['mean_temperature_K']:.0f} "
            f"| {run['largest_momentum_relative']:.1e} |"
        )
    (folder / "nve_drift.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
    plots.save(draw(runs), folder / "nve_drift.png")
    numbers = [
        {k: v for k, v in run.items() if k not in ("time_ps", "total_energy_eV_per_atom")}
        for run in runs
    ]
    settings = {k: v for k, v in vars(options).items() if k not in ("results", "kspace")}
    (folder / "nve_drift.json").write_text(
        json.dumps({"settings": settings, "limit": LIMIT, "runs": numbers}, indent=1) + "\n"
    )


def draw(runs: list[dict]):
    """Return the picture: total energy against time."""
    figure, axes = plots.new_figure(1, 1, (6.4, 3.2))
    for number, run in enumerate(runs):
        energy = np.array(run["total_energy_eV_per_atom"])
        axes[0, 0].plot(
            run["time_ps"],
            1e6 * (energy - energy[0]),
            color=plots.COLOURS[number],
            linewidth=1.0,
            label=f"{run['kspace']}: {run['drift_eV_per_atom_per_ps']:+.1e} eV/atom/ps",
        )
    axes[0, 0].set_xlabel("time (ps)")
    axes[0, 0].set_ylabel("total energy\n(µeV/atom, from the start)")
    figure.legend(loc="outside upper center", fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
