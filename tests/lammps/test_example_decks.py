"""The decks of examples/, as LAMMPS runs them."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from equicalc.lammps_run import run_deck

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# few steps of each stage
SHORT = {
    "in.kcl_npt": {"steps": 20},
    "in.kcl_heat_flux": {"preparation": 20, "steps": 40},
    "in.nakcl_melt": {"crystal": 20, "melting": 20, "cooling": 20, "steps": 50},
    "in.nacl_coexistence": {"crystal": 20, "melting": 20, "joining": 20, "steps": 250},
}


def run(name, folder, ranks, variables):
    shutil.copy(EXAMPLES / name, folder / name)
    words = [word for key, value in variables.items() for word in ("-var", key, str(value))]
    return run_deck(folder / name, ranks, arguments=words)


def test_every_deck_is_among_these():
    assert sorted(SHORT) == sorted(path.name for path in EXAMPLES.glob("in.*"))


@pytest.mark.parametrize(
    "name",
    [
        "in.kcl_npt",
        "in.kcl_heat_flux",
        pytest.param("in.nakcl_melt", marks=pytest.mark.slow),
        pytest.param("in.nacl_coexistence", marks=pytest.mark.slow),
    ],
)
def test_every_stage_of_a_deck_runs(name, tmp_path):
    stages = run(name, tmp_path, 2, SHORT[name]).thermo
    lengths = [stage["Step"][-1] - stage["Step"][0] for stage in stages]
    # a minimisation may come first
    assert lengths[-len(SHORT[name]) :] == list(SHORT[name].values())
    assert all(np.isfinite(stage["Temp"]).all() for stage in stages)


@pytest.mark.slow
def test_half_of_the_cell_is_molten_when_constant_enthalpy_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    example = __import__("06_melting_point")
    run("in.nacl_coexistence", tmp_path, 2, {"steps": 250})
    frames = read(tmp_path / "nacl_coexistence.dump", ":", format="lammps-dump-text")
    crystalline = example.order_along_z(frames[0]) > example.ORDERED
    assert 0.3 < crystalline.mean() < 0.7
    # one crystal and one melt: two boundaries around the periodic cell
    assert np.count_nonzero(crystalline != np.roll(crystalline, 1)) == 2


def test_integrals_longer_than_half_of_a_run_are_refused():
    """Before anything runs."""
    script = EXAMPLES / "07_thermal_conductivity.py"
    words = ["--steps", "500", "--longest", "0.6"]  # of 2 fs
    found = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    for expected in ("runs of 1 ps", "up to 0.5 ps", "found --longest 0.6", "type --longest 0.5"):
        assert expected in found.stderr, found.stderr
    assert not found.stdout
