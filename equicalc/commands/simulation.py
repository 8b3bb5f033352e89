"""`equicalc relax` and `equicalc md`."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units

from equicalc.commands.common import (
    check_writable,
    make_calculator,
    progress_bar,
    read_structure,
    write_structure,
)
from equicalc.errors import EquicalcError
from equicalc.simulate import COLUMNS, MDSettings, NotConvergedError, run_md
from equicalc.simulate import relax as relax_atoms

if TYPE_CHECKING:
    from ase import Atoms

PICTURES = (".png", ".pdf", ".svg")
TRAJECTORIES = (".xyz", ".extxyz", ".traj")


def relax(options: argparse.Namespace) -> None:
    """Relax a structure and write it; an unconverged one goes beside the name asked for."""
    check_writable(options.output)
    atoms = read_structure(options.structure)
    atoms.calc = make_calculator(options)

    def report(step: int, energy: float, fmax: float) -> None:
        print(f"step {step:4d}  energy {energy:14.6f} eV  fmax {fmax:9.5f} eV/Å", file=sys.stderr)

    result = relax_atoms(
        atoms,
        cell=options.cell,
        fmax=options.fmax,
        steps=options.steps,
        pressure_gpa=options.pressure,
        hydrostatic=options.hydrostatic,
        optimizer=options.optimizer,
        on_step=report,
    )
    if not result.converged:
        path = Path(options.output)
        path = path.with_name(f"{path.stem}.unconverged{path.suffix}")
        write_structure(path, result.atoms)
        raise NotConvergedError(
            f"not converged in {result.steps} steps (largest force {result.fmax:.4g} eV/Å, limit "
            f"{options.fmax:g}); the structure reached is in {path}. Continue from it, or raise "
            "--steps"
        )
    write_structure(options.output, result.atoms)
    print(f"energy        {result.energy:.6f} eV ({result.energy / len(atoms):.6f} eV/atom)")
    print(f"largest force {result.fmax:.2e} eV/Å after {result.steps} steps")
    if result.max_stress is not None:
        lengths = " ".join(f"{value:.5f}" for value in result.atoms.cell.lengths())
        angles = " ".join(f"{value:.3f}" for value in result.atoms.cell.angles())
        print(f"largest stress {result.max_stress / units.GPa:.2e} GPa")
        print(f"cell          {lengths} Å, {angles} degrees")
    print(f"wrote {options.output}")


def md(options: argparse.Namespace) -> None:
    """Run molecular dynamics; trajectory, log and picture replace old ones when it is done."""
    settings = MDSettings(
        ensemble=options.ensemble,
        temperature=options.temperature,
        pressure_gpa=options.pressure,
        timestep_fs=options.timestep,
        steps=options.steps,
        thermostat=options.thermostat,
        barostat=options.barostat,
        tau_t_fs=options.tau_t,
        tau_p_fs=options.tau_p,
        seed=options.seed,
        keep_velocities=options.keep_velocities,
        interval=options.interval,
    )
    settings.check()
    check_writable(options.output, TRAJECTORIES)
    check_writable(options.log)
    check_writable(options.plot, PICTURES)
    atoms = read_structure(options.structure)
    if options.supercell:
        atoms = atoms.repeat(options.supercell)
    atoms.calc = make_calculator(options)
    recorder = _Recorder(options, settings)
    try:
        records = run_md(atoms, settings, on_record=recorder)
    except (EquicalcError, KeyboardInterrupt):
        recorder.keep_partial()
        raise
    finally:
        recorder.close()
    recorder.finish()
    if options.plot:
        from equicalc import plots

        figure = plots.time_series({f"{settings.ensemble} {options.model}": records}, len(atoms))
        plots.save(figure, options.plot)
    _summary(records, len(atoms), settings)


class _Recorder:
    """Writes trajectory and log under temporary names while the run goes on."""

    def __init__(self, options: argparse.Namespace, settings: MDSettings):
        self.bar = progress_bar(settings.steps, settings.ensemble)
        self.stack = ExitStack()
        self.finals = [Path(p) for p in (options.output, options.log) if p]
        self.partials = [p.with_name(f"{p.stem}.partial{p.suffix}") for p in self.finals]
        names = dict(zip(self.finals, self.partials, strict=True))
        self.trajectory: Any = None
        self.log: Any = None
        if options.output:
            from ase.io.trajectory import Trajectory

            path = names[Path(options.output)]
            path.unlink(missing_ok=True)
            if path.suffix == ".traj":
                self.trajectory = self.stack.enter_context(Trajectory(str(path), "w"))
            else:
                self.trajectory = path
        if options.log:
            stream = self.stack.enter_context(names[Path(options.log)].open("w", newline=""))
            self.log = csv.DictWriter(stream, COLUMNS)
            self.log.writeheader()

    def __call__(self, atoms: Atoms, record: dict[str, float]) -> None:
        if isinstance(self.trajectory, Path):
            import ase.io

            ase.io.write(self.trajectory, atoms, format="extxyz", append=True)
        elif self.trajectory is not None:
            self.trajectory.write(atoms)
        if self.log is not None:
            self.log.writerow({key: repr(float(value)) for key, value in record.items()})
        self.bar.update(int(record["step"]) - self.bar.n)
        self.bar.set_postfix_str(
            f"{record['temperature_K']:.0f} K, {record['potential_energy_eV']:.3f} eV"
        )

    def close(self) -> None:
        """Close the files and the progress bar."""
        self.bar.close()
        self.stack.close()

    def keep_partial(self) -> None:
        """Say where the part of the run that was done lies."""
        self.close()
        for path in self.partials:
            if path.exists():
                print(f"the part that was done is in {path}", file=sys.stderr)

    def finish(self) -> None:
        """Give the files their names."""
        for partial, final in zip(self.partials, self.finals, strict=True):
            os.replace(partial, final)
            print(f"wrote {final}")


def _summary(records: dict[str, np.ndarray], n_atoms: int, settings: MDSettings) -> None:
    """Print averages over the second half of the run, which is nearer to equilibrium."""
    half = slice(len(records["step"]) // 2, None)
    for label, key, scale, unit in (
        ("temperature", "temperature_K", 1.0, "K"),
        ("potential energy", "potential_energy_eV", 1.0 / n_atoms, "eV/atom"),
        ("volume", "volume_A3", 1.0 / n_atoms, "Å³/atom"),
        ("pressure", "pressure_GPa", 1.0, "GPa"),
    ):
        values = records[key][half] * scale
        if np.isfinite(values).all():
            print(f"{label:<17} {values.mean():.5f} ± {values.std():.5f} {unit} (second half)")
    drift = records["conserved_energy_eV"]
    if len(drift) > 1 and np.isfinite(drift).all():
        change = (drift[-1] - drift[0]) / n_atoms
        print(f"conserved energy  changed by {change:+.2e} eV/atom over {settings.steps} steps")
