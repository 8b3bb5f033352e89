"""How atoms are spread over ranks changes nothing but the time."""

import numpy as np
import pytest

from tests.lammps.conftest import assert_same

# Sums run in another order; energies are of order 100 eV, forces of order 1 eV/angstrom.
ROUNDING = {"energy": 1e-12, "forces": 1e-11, "stress": 1e-12, "charges": 1e-12}


@pytest.mark.parametrize("processors", ["2 1 1", "1 2 2", "4 1 1", "1 1 4"])
def test_any_processor_grid_gives_the_same(bench, tiny_model, processors):
    atoms = bench.skewed_salt()
    ranks = int(np.prod([int(word) for word in processors.split()]))
    expected = bench.from_lammps(atoms, tiny_model)
    found = bench.from_lammps(atoms, tiny_model, ranks=ranks, processors=processors)
    assert_same(found, expected, ROUNDING)


@pytest.mark.parametrize("charged", [True, False])
def test_ranks_without_atoms_take_part(bench, tiny_model, tiny_model_without_charges, charged):
    atoms = bench.salt((1, 1, 2))
    atoms.cell[2] *= 4  # all atoms in the lowest quarter: three of four ranks have none
    model = tiny_model if charged else tiny_model_without_charges
    kspace = bench.tight if charged else None
    expected = bench.from_lammps(atoms, model, kspace=kspace)
    found = bench.from_lammps(atoms, model, kspace=kspace, ranks=4, processors="1 1 4")
    assert_same(found, expected, ROUNDING)


@pytest.mark.parametrize("style", ["float64", "float32"])
def test_box_thinner_than_the_cutoff_agrees_with_ase(bench, deep_model, style):
    atoms = bench.salt((1, 1, 1))
    atoms.set_cell(atoms.cell.array * 0.62, scale_atoms=True)  # 3.9 angstrom, cutoff 4
    atoms *= (1, 1, 3)
    expected = bench.from_ase(atoms, deep_model)
    found = bench.from_lammps(atoms, deep_model, ranks=2, precision=style)
    limit = 1e-7 if style == "float64" else 1e-3
    assert bench.differences(found, expected)["forces"] < limit


def test_tiled_communication_gives_the_same(bench, tiny_model):
    atoms = bench.skewed_salt()
    expected = bench.from_lammps(atoms, tiny_model)
    found = bench.from_lammps(
        atoms, tiny_model, ranks=3, extra="comm_style tiled\nbalance 1.0 rcb\n"
    )
    assert_same(found, expected, ROUNDING)


def test_null_types_carry_nothing(bench, tiny_model):
    salt = bench.salt((2, 1, 1))
    with_argon = salt.copy()
    # An atom of a third type in the middle of the others: no energy, no force, no charge.
    with_argon.append("Ar")
    with_argon.positions[-1] = [1.5, 1.5, 1.5]
    body = (
        "thermo_style custom step pe\nthermo_modify format float %.17g\n"
        "dump 1 all custom 1 out.dump id fx fy fz q\n"
        "dump_modify 1 sort id format float %.17g\nrun 0\n"
    )
    from equicalc.lammps_run import write_data

    expected = bench.from_lammps(salt, tiny_model)
    write_data(bench.directory / "structure.data", with_argon, ["K", "Cl", "Ar"])
    deck = bench.deck(tiny_model, body).replace("K Cl\n", "K Cl NULL\n")
    table = bench.run(deck, ranks=2).thermo[-1]
    rows = bench.frames("out.dump")[-1]
    assert abs(table["PotEng"][-1] - expected["energy"]) < 1e-9
    assert np.abs(rows[:-1, 1:4] - expected["forces"]).max() < 1e-9
    assert np.abs(rows[:-1, 4] - expected["charges"]).max() < 1e-12
    assert np.all(rows[-1, 1:] == 0.0)
