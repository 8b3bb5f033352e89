"""A polar slab: energy against the thickness of the vacuum, with and without slab treatment.

    python -m benchmarks.long_range.slab

Six layers of KCl (001), all cations moved up by 0.3 angstrom: a slab with a dipole M. Repeated in
three directions, it feels the field of its copies, an error that only falls with the inverse of
the height L of the cell: E(L) = E - 2 pi k_e M^2 / (A L). With two periodic directions the sum has
no copies, and the energy does not depend on the vacuum. The same in LAMMPS: `boundary p p p`, and
`boundary p p f` with `kspace_modify slab 3.0`. Exit code 1 when the treated energies depend on
the vacuum or the others do not follow the formula.
"""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms
from ase.build import bulk

from benchmarks.long_range.common import folder_of, markdown_table, options_of, publish
from equicalc import EquiCalculator, plots
from equicalc.electrostatics import COULOMB_CONSTANT
from equicalc.lammps_run import run_deck, write_data
from equicalc.models import resolve

VACUUM = (5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0)
IN_LAMMPS = (10.0, 20.0, 40.0, 80.0)
# relative accuracy of every sum here; energies of some ten eV then agree to about 1e-6 eV
ACCURACY = 1e-8
# meV: dependence of the corrected energy on the vacuum (ASE: rounding of the sums; LAMMPS: its
# copies three heights away interact by higher multipoles, and its accuracy is an estimate)
LIMIT, LIMIT_LAMMPS = 1e-2, 1.0
# meV: deviation from 2 pi k_e M^2/(A L) where the vacuum is thick; what comes on top decays as
# exp(-2 pi vacuum / 6.3 angstrom)
FORMULA, THICK = 0.1, 10.0

DECK = """\
units           metal
atom_style      charge
boundary        p p {boundary}
read_data       slab.data
pair_style      equicalc precision float64
pair_coeff      * * {model} K Cl
kspace_style    ewald {accuracy}
{modify}
thermo_style    custom step pe
thermo_modify   format float %.15g
run             0
"""


def polar_slab(vacuum: float, shift: float) -> Atoms:
    """KCl (001), six layers with cations `shift` (angstrom) above the anions, 24 atoms."""
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True).repeat((1, 1, 3))
    atoms.positions[atoms.numbers == 19, 2] += shift
    thickness = np.ptp(atoms.positions[:, 2])
    atoms.positions[:, 2] += 0.5 * vacuum - atoms.positions[:, 2].min()
    atoms.cell[2, 2] = thickness + vacuum
    return atoms


def in_ase(atoms: Atoms, calculator: EquiCalculator, pbc: tuple[bool, bool, bool]) -> dict:
    """Energy (eV), forces (eV/angstrom) and charges (e) with the periodic directions `pbc`."""
    atoms = atoms.copy()
    atoms.pbc = pbc
    atoms.calc = calculator
    return {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "charges": atoms.get_charges(),
    }


def in_lammps(atoms: Atoms, model: str, treated: bool) -> float:
    """Energy (eV) in LAMMPS, repeated along z or treated as a slab."""
    folder = folder_of("slab")
    write_data(folder / "slab.data", atoms, ["K", "Cl"])
    deck = folder / "in.slab"
    deck.write_text(
        DECK.format(
            boundary="f" if treated else "p",
            model=resolve(model).resolve(),
            accuracy=ACCURACY,
            modify="kspace_modify   slab 3.0" if treated else "",
        )
    )
    return float(run_deck(deck).thermo[-1]["PotEng"][-1])


def main() -> int:
    """Run the proof."""
    options = options_of(__doc__, [("--model", {"default": "kcl", "help": "file or name"})])
    vacuum = VACUUM[1::3] if options.quick else VACUUM
    calculator = EquiCalculator(options.model, kspace="ewald", kspace_accuracy=ACCURACY)
    results = []
    for thickness in vacuum:
        atoms = polar_slab(thickness, 0.3)
        copies = in_ase(atoms, calculator, (True, True, True))
        slab = in_ase(atoms, calculator, (True, True, False))
        dipole = float(slab["charges"] @ atoms.positions[:, 2])
        result = {
            "vacuum": thickness,
            "copies": copies["energy"],
            "slab": slab["energy"],
            "formula": -2.0 * math.pi * COULOMB_CONSTANT * dipole**2 / atoms.get_volume(),
            "force": float(np.abs(copies["forces"] - slab["forces"]).max()),
            "dipole": dipole,
        }
        if thickness in IN_LAMMPS:
            result["lammps_copies"] = in_lammps(atoms, options.model, False)
            result["lammps_slab"] = in_lammps(atoms, options.model, True)
        results.append(result)
        print(f"  vacuum {thickness:g} A done", flush=True)
    return report(results, options)


def report(results: list[dict], options) -> int:
    """Write table and picture, and judge."""
    limit = results[-1]["slab"]

    def shown(result: dict, key: str) -> str:
        # the sum with zero drops the sign of a rounded zero, which rounding of energies decides
        return f"{round(1000 * (result[key] - limit), 3) + 0.0:+.3f}" if key in result else ""

    rows = [
        [
            f"{r['vacuum']:g}",
            shown(r, "copies"),
            f"{1000 * r['formula']:+.3f}",
            shown(r, "slab"),
            f"{1000 * r['force']:.1f}",
            shown(r, "lammps_copies"),
            shown(r, "lammps_slab"),
        ]
        for r in results
    ]
    header = ["vacuum (Å)", "pbc T T T", "-2πk M²/(A L)", "pbc T T F",
              "force error of T T T (meV/Å)", "LAMMPS p p p", "LAMMPS p p f, slab 3.0"]  # fmt: skip
    atoms = polar_slab(0.0, 0.3)
    text = (
        "# A polar slab and its vacuum\n\n"
        f"Energy (meV per cell of {len(atoms)} atoms) from that of the slab alone, model "
        f"`{options.model}`: KCl (001), six layers, cations 0.3 Å above anions, dipole "
        f"{results[-1]['dipole']:.2f} e Å on {atoms.cell[0, 0] ** 2:.1f} Å².\n\n"
        + markdown_table(header, rows)
    )
    publish("slab", text, draw(results, limit), options.quick)
    thick = [r for r in results if r["vacuum"] >= THICK]
    spread = 1000 * np.ptp([r["slab"] for r in thick])
    in_lammps = [abs(r["lammps_slab"] - limit) for r in thick if "lammps_slab" in r]
    misfit = 1000 * max(abs(r["copies"] - r["slab"] - r["formula"]) for r in thick)
    failures = []
    if spread > LIMIT:
        failures.append(f"the slab's energy depends on the vacuum by {spread:.3g} meV")
    if in_lammps and 1000 * max(in_lammps) > LIMIT_LAMMPS:
        failures.append(f"LAMMPS' slab is off by {1000 * max(in_lammps):.3g} meV")
    if misfit > FORMULA:
        failures.append(f"the copies' energy is {misfit:.3g} meV from the formula")
    for failure in failures:
        print(failure)
    return int(bool(failures))


def draw(results: list[dict], limit: float):
    """Energy against the vacuum and against the inverse height of the cell."""
    figure, axes = plots.new_figure(1, 2, (9.0, 3.6))
    vacuum = np.array([r["vacuum"] for r in results])
    heights = np.array([polar_slab(v, 0.3).cell[2, 2] for v in vacuum])
    known = [number for number, r in enumerate(results) if "lammps_slab" in r]

    def energies(key: str, numbers=slice(None)) -> np.ndarray:
        chosen = np.array([r.get(key, np.nan) for r in results])[numbers]
        return 1000 * (chosen if key == "formula" else chosen - limit)

    for axis, x in zip(axes[0], (vacuum, 1.0 / heights), strict=True):
        axis.plot(x, energies("formula"), color=plots.GREY, lw=4, alpha=0.4, label="-2πk M²/(A L)")
        axis.plot(x, energies("copies"), "s-", color=plots.COLOURS[1], ms=4, label="pbc T T T")
        axis.plot(x, energies("slab"), "o-", color=plots.COLOURS[0], ms=4, label="pbc T T F")
        hollow = {"color": "black", "mfc": "none", "ms": 9, "linestyle": "none"}
        for key, marker, label in (
            ("lammps_copies", "s", "LAMMPS p p p"),
            ("lammps_slab", "o", "LAMMPS p p f, slab 3.0"),
        ):
            axis.plot(x[known], energies(key, known), marker, label=label, **hollow)
    axes[0, 0].set_xlabel("vacuum (Å)")
    axes[0, 1].set_xlabel("1 / height of the cell (1/Å)")
    axes[0, 1].set_xlim(left=0.0)
    axes[0, 0].set_ylabel("energy from the slab alone (meV)")
    axes[0, 0].legend(fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
