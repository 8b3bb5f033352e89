"""`equicalc relax` and `equicalc md`."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units

from equicalc.commands.common import (
    check_format,
    check_spared,
    check_writable,
    make_calculator,
    naming,
    progress_bar,
    read_frames,
    read_structure,
    split_index,
    write_structure,
)
from equicalc.dynamics import COLUMNS, MDSettings, run_md
from equicalc.errors import ConfigError, EquicalcError, NotConvergedError
from equicalc.relaxation import relax as relax_atoms

if TYPE_CHECKING:
    from ase import Atoms

PICTURES = (".png", ".pdf", ".svg")
TRAJECTORIES = (".xyz", ".extxyz", ".traj")


def relax(options: argparse.Namespace) -> None:
    """Relax a structure and write it; an unconverged one goes beside the name asked for."""
    check_writable(options.output)
    atoms = read_structure(options.structure)
    source, _ = split_index(options.structure)
    if len(read_frames(source)) > 1:  # a single structure may be replaced by the relaxed one
        check_spared(options.output, source)
    check_format(options.output, atoms)
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
    source, _ = split_index(options.structure)
    for path in (options.output, options.log):
        check_spared(path, source)
        check_spared(_partial(path) if path else None, source)
    if options.log and options.output and Path(options.log) == Path(options.output):
        raise ConfigError(
            f"--output and --log are both '{options.log}'; give the table of energies a name of "
            "its own: --log run.csv"
        )
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
        with naming(options.plot):
            plots.save(figure, options.plot)
    _summary(records, len(atoms), settings)


def _partial(path: str | Path) -> Path:
    """Name of a file while the run goes on."""
    path = Path(path)
    return path.with_name(f"{path.stem}.partial{path.suffix}")


class _Recorder:
    """Writes trajectory and log under temporary names while the run goes on."""

    def __init__(self, options: argparse.Namespace, settings: MDSettings):
        self.bar = progress_bar(settings.steps, settings.ensemble)
        self.stack = ExitStack()
        self.finals = [Path(p) for p in (options.output, options.log) if p]
        self.partials = [_partial(p) for p in self.finals]
        self.trajectory: Any = None
        self.log: Any = None
        # of text files, up to the last whole record, bytes
        self.whole: dict[Path, int] = {}
        if options.output:
            self.frames = _partial(options.output)
            self._open_trajectory()
        if options.log:
            self.table = _partial(options.log)
            # a line at a time, so that nothing is lost when the run is killed
            with naming(self.table, is_replaced=False):
                stream = self.table.open("w", newline="", buffering=1)
                self.log = csv.DictWriter(self.stack.enter_context(stream), COLUMNS)
                self.log.writeheader()
            self.whole[self.table] = self.table.stat().st_size

    def _open_trajectory(self) -> None:
        from ase.io.trajectory import Trajectory

        self.frames.unlink(missing_ok=True)
        if self.frames.suffix == ".traj":
            self.trajectory = self.stack.enter_context(Trajectory(str(self.frames), "w"))
        else:
            self.trajectory = self.frames
            self.whole[self.frames] = 0

    def __call__(self, atoms: Atoms, record: dict[str, float]) -> None:
        if self.trajectory is not None:
            with naming(self.frames, is_replaced=False):
                self._write_frame(atoms)
        if self.log is not None:
            with naming(self.table, is_replaced=False):
                self.log.writerow({key: repr(float(value)) for key, value in record.items()})
            self.whole[self.table] = self.table.stat().st_size
        self.bar.update(int(record["step"]) - self.bar.n)
        self.bar.set_postfix_str(
            f"{record['temperature_K']:.0f} K, {record['potential_energy_eV']:.3f} eV"
        )

    def _write_frame(self, atoms: Atoms) -> None:
        if not isinstance(self.trajectory, Path):
            self.trajectory.write(atoms)
            return
        import ase.io

        ase.io.write(self.trajectory, atoms, format="extxyz", append=True)
        self.whole[self.trajectory] = self.trajectory.stat().st_size

    def close(self) -> None:
        """Close the files and the progress bar."""
        self.bar.close()
        self.stack.close()

    def keep_partial(self) -> None:
        """Say where the part of the run that was done lies; records cut short are taken off."""
        with suppress(OSError):  # a full disk also refuses what is left in the buffers
            self.close()
        for path, size in self.whole.items():
            if path.exists():
                os.truncate(path, size)
        for path in self.partials:
            if path.exists():
                print(f"the part that was done is in {path}", file=sys.stderr)
        if self.trajectory is not None and self.frames.exists():
            print(
                f"to go on from there: equicalc md MODEL {self.frames} --keep-velocities -o "
                "another name",
                file=sys.stderr,
            )

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
