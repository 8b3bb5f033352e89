"""The same structure in every unit system of LAMMPS is the same physics."""

import numpy as np
import pytest
from ase.data import atomic_masses, atomic_numbers
from ase.units import create_units

from equicalc.lammps_run import write_data
from tests.lammps.conftest import assert_same

# One eV, angstrom, e, V/angstrom, fs, u and eV/A^3 in units of the deck, from ASE's constants.
CODATA = create_units("2018")
ELECTRON_CHARGE = CODATA._e
PASCAL = 1e30 * ELECTRON_CHARGE
UNITS: dict[str, dict[str, float]] = {
    "metal": {
        "energy": 1, "length": 1, "charge": 1, "field": 1, "time": 1e-3, "mass": 1,
        "pressure": PASCAL / 1e5,
    },
    "real": {
        "energy": CODATA.mol / CODATA.kcal, "length": 1, "charge": 1, "field": 1, "time": 1,
        "mass": 1, "pressure": PASCAL / 101325,
    },
    "electron": {
        "energy": 1 / CODATA.Hartree, "length": 1 / CODATA.Bohr, "charge": 1, "field": 1e8,
        "time": 1, "mass": 1, "pressure": PASCAL,
    },
    "si": {
        "energy": ELECTRON_CHARGE, "length": 1e-10, "charge": ELECTRON_CHARGE, "field": 1e10,
        "time": 1e-15, "mass": CODATA._amu, "pressure": PASCAL,
    },
}  # fmt: skip
OTHERS = [name for name in UNITS if name != "metal"]

# Numbers are of order 1 to 100 in eV, angstrom and e; constants derived from others, as ASE has
# them, agree to 11 digits. LAMMPS' constants of pressure and of Newton's law have seven. The energy
# is compared per atom.
LIMITS = {
    "energy": 1e-9, "sum": 1e-8, "forces": 1e-8, "charges": 1e-9, "dipole": 1e-8,
    "pressure": 1e-5, "positions": 1e-6, "coulomb": 1e-8,
}  # fmt: skip


def deck_in(bench, atoms, model, name: str, kspace=None, style="") -> str:
    """Write the structure in one unit system; commands up to the pair style."""
    unit = UNITS[name]
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell.array * unit["length"])
    scaled.positions = atoms.positions * unit["length"]
    write_data(bench.directory / "structure.data", scaled, bench.elements)
    masses = [atomic_masses[atomic_numbers[e]] * unit["mass"] for e in bench.elements]
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    return f"""units {name}
boundary {boundary}
atom_style charge
atom_modify map yes
read_data structure.data
mass 1 {masses[0]:.17g}
mass 2 {masses[1]:.17g}
neighbor {0.6 * unit["length"]:.17g} bin
timestep {0.5 * unit["time"]:.17g}
pair_style equicalc {style}
pair_coeff * * {model} K Cl
{f"kspace_style {kspace}" if kspace else ""}
"""


def evaluate(bench, atoms, model, name: str, ranks=1, kspace=None, style="", body="run 0\n"):
    """Energy, forces, ... of a deck in one unit system, all back in eV, angstrom, e and eV/A^3."""
    unit = UNITS[name]
    deck = f"""{deck_in(bench, atoms, model, name, kspace, style)}
compute e all pe/atom
compute sum all reduce sum c_e
compute d all pair equicalc
compute p all pressure NULL virial
thermo_style custom step pe ecoul c_sum c_d[*] c_p[*]
thermo_modify format float %.17g norm no
dump 1 all custom 1000 out.dump id xu yu zu fx fy fz q
dump_modify 1 sort id format float %.17g first yes
{body}"""
    run = bench.run(deck, ranks=ranks)
    table, rows = run.thermo[-1], bench.frames("out.dump")[-1]
    dipole = np.array([table[f"c_d[{k}]"][-1] for k in (1, 2, 3)])
    return {
        "energy": table["PotEng"][-1] / unit["energy"],
        "coulomb": table["E_coul"][-1] / unit["energy"],
        "sum": table["c_sum"][-1] / unit["energy"],
        "forces": rows[:, 4:7] / (unit["energy"] / unit["length"]),
        "charges": rows[:, 7] / unit["charge"],
        "dipole": dipole / (unit["charge"] * unit["length"]),
        "pressure": np.array([table[f"c_p[{k}]"][-1] for k in range(1, 7)]) / unit["pressure"],
        "positions": rows[:, 1:4] / unit["length"],
    }


@pytest.mark.parametrize(
    ("name", "kspace"),
    [
        *((name, "pppm 1.0e-5") for name in OTHERS),
        *((name, "equicalc 1.0e-5") for name in OTHERS),
        ("si", "ewald 1.0e-10"),
    ],
)
def test_crystal_is_the_same_in_every_unit_system(bench, model_of, name, kspace):
    atoms, model = bench.skewed_salt(), model_of("predicted with widths")
    style = f"charge {0.5 * UNITS[name]['charge']}"
    expected = evaluate(bench, atoms, model, "metal", kspace=kspace, style="charge 0.5")
    found = evaluate(bench, atoms, model, name, ranks=2, kspace=kspace, style=style)
    assert abs(expected["charges"].sum() - 0.5) < 1e-10
    assert_same(found, expected, LIMITS)


def test_metal_units_agree_with_ase(bench, model_of):
    """Anchors the comparison of the others with `units metal`."""
    atoms, model = bench.cluster(), model_of("transferred")
    found = evaluate(bench, atoms, model, "metal", style="efield 0.1 -0.05 0.2")
    expected = bench.from_ase(atoms, model, field=(0.1, -0.05, 0.2))
    for key in ("energy", "forces", "charges", "dipole"):
        assert np.abs(found[key] - expected[key]).max() < 1e-8


@pytest.mark.parametrize(
    ("name", "model"),
    [*((name, "equilibrated with widths") for name in OTHERS), ("electron", "transferred")],
)
def test_cluster_in_a_field_is_the_same_in_every_unit_system(bench, model_of, name, model):
    atoms, field = bench.cluster(), np.array([0.1, -0.05, 0.2])
    results = []
    for system in ("metal", name):
        style = "efield " + " ".join(map(repr, (field * UNITS[system]["field"]).tolist()))
        results.append(evaluate(bench, atoms, model_of(model), system, style=style))
    assert_same(results[1], results[0], LIMITS)


@pytest.mark.parametrize(
    ("name", "solver"),
    [("real", "ewald 1.0e-8"), ("si", "ewald 1.0e-8"), ("electron", "equicalc 1.0e-5")],
)
def test_slab_is_the_same_in_every_unit_system(bench, model_of, name, solver):
    atoms, model = bench.slab(), model_of("equilibrated with widths")
    kspace = f"{solver}\nkspace_modify slab 3.0"
    expected = evaluate(bench, atoms, model, "metal", kspace=kspace)
    assert_same(evaluate(bench, atoms, model, name, kspace=kspace, ranks=2), expected, LIMITS)


@pytest.mark.parametrize("name", ["real", "si"])
def test_atoms_move_the_same_in_every_unit_system(bench, model_of, name):
    atoms, model = bench.salt((2, 1, 1)), model_of("equilibrated")
    body = "fix 1 all nve\nrun 20\nwrite_dump all custom out.dump id xu yu zu fx fy fz q "
    body += "modify sort id format float %.17g\n"
    options = {"kspace": "ewald 1.0e-8", "body": body}
    expected = evaluate(bench, atoms, model, "metal", **options)
    found = evaluate(bench, atoms, model, name, **options)
    moved = np.abs(expected["positions"] - atoms.positions).max()
    assert moved > 1e-4
    # LAMMPS' constants of Newton's law have seven digits
    assert np.abs(found["positions"] - expected["positions"]).max() < 1e-5 * moved
    assert np.abs(found["forces"] - expected["forces"]).max() < 1e-6
    assert abs(found["energy"] - expected["energy"]) < 1e-6


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("model", ["fixed", "predicted with widths", "equilibrated"])
def test_heat_flux_is_the_same_in_every_unit_system(bench, model_of, model, name):
    body = """velocity all create 300 7
compute ke all ke/atom
compute pe all pe/atom
compute c all centroid/stress/atom NULL virial
compute j all heat/flux ke pe c
thermo_style custom step pe c_j[*]
thermo_modify format float %.17g norm no
run 0
"""
    currents = []
    for system in ("metal", name):
        unit = UNITS[system]
        deck = deck_in(
            bench, bench.skewed_salt(), model_of(model), system,
            kspace="equicalc 1.0e-5", style="ghosts extended",
        )  # fmt: skip
        table = bench.run(deck + body).thermo[-1]
        speed = unit["length"] / unit["time"] * UNITS["metal"]["time"]
        currents.append(
            np.array([table[f"c_j[{k}]"][-1] for k in range(1, 7)]) / (unit["energy"] * speed)
        )
    assert np.abs(currents[0][:3]).min() > 1e-2
    # LAMMPS' constants of temperature and of pressure have seven digits
    assert np.abs(currents[1] - currents[0]).max() < 1e-5 * np.abs(currents[0]).max()


def test_unknown_units_are_refused(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n").replace("units metal", "units lj")
    with pytest.raises(Exception, match=r"found 'units lj'. Type 'units metal'"):
        bench.run(deck, bench.salt((1, 1, 1)))
