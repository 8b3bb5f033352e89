"""Several models in ASE: means, deviations, and the frames that are picked by them."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from equicalc import EquiCalculator, cli
from equicalc.committee import pick_frames
from equicalc.errors import ConfigError
from tests.conftest import export_committee, export_tiny

ROUNDING = 1e-12


def crystal(rattle=0.1, seed=1):
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.rattle(rattle, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return export_committee(tmp_path_factory.mktemp("committee"), "predicted")


def test_results_are_means_over_the_models(models):
    atoms = crystal()
    atoms.calc = EquiCalculator(models)
    members = []
    for model in models:
        alone = crystal()
        alone.calc = EquiCalculator(model)
        members.append(alone)
    for name in ("potential_energy", "forces", "stress", "charges"):
        expected = np.mean([getattr(one, f"get_{name}")() for one in members], axis=0)
        assert np.abs(getattr(atoms, f"get_{name}")() - expected).max() < ROUNDING


def test_deviation_is_the_spread_of_the_forces_of_each_atom(models):
    atoms = crystal()
    calculator = EquiCalculator(models)
    calculator.calculate(atoms, ["forces"])
    forces = np.array([EquiCalculator(model).get_forces(atoms) for model in models])
    expected = np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0))
    assert expected.min() > 1e-3
    assert np.abs(calculator.results["forces_deviation"] - expected).max() < ROUNDING
    assert calculator.get_property("forces_deviation", atoms).shape == (len(atoms),)


def test_equal_models_do_not_deviate(models):
    calculator = EquiCalculator([models[0], models[0]])
    calculator.calculate(crystal(), ["forces"])
    assert calculator.results["forces_deviation"].max() == 0.0
    assert calculator.results["energy_deviation"] == 0.0


def test_one_model_in_a_list_is_that_model(models):
    alone, listed = EquiCalculator(models[0]), EquiCalculator([models[0]])
    assert alone.get_potential_energy(crystal()) == listed.get_potential_energy(crystal())
    assert "forces_deviation" not in listed.results


def test_mean_energy_is_conserved_by_the_mean_forces(models):
    atoms = crystal()
    atoms.calc = EquiCalculator(models, kspace_accuracy=1e-12)
    force, step = atoms.get_forces()[2, 1], 1e-4
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[2, 1] += sign * step
        energies.append(atoms.calc.get_potential_energy(moved))
    # the step's square times the third derivative, some 10 eV/angstrom^3
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(force, abs=1e-6)


def test_models_of_different_kinds_are_refused(models, tmp_path):
    other = export_tiny(tmp_path / "short.pt", "none")
    with pytest.raises(ConfigError, match="charge_model: predicted, 'short' has charge_model: no"):
        EquiCalculator([models[0], other])
    with pytest.raises(ConfigError, match="empty list"):
        EquiCalculator([])


def test_frames_are_picked_by_deviation_and_apart_in_time():
    deviations = [0.1, 0.5, 0.6, 0.5, 0.1, 0.3, 9.0, 0.4]
    assert pick_frames(deviations, above=0.2) == [1, 2, 3, 5, 6, 7]
    assert pick_frames(deviations, above=0.2, below=1.0) == [1, 2, 3, 5, 7]
    assert pick_frames(deviations, above=0.2, below=1.0, spacing=2) == [2, 5, 7]
    assert pick_frames(deviations, above=0.2, below=1.0, spacing=2, most=2) == [2, 7]
    assert pick_frames(deviations, above=10.0) == []


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def trajectory(tmp_path):
    """Six frames: near equilibrium, and far from it in two stretches."""
    frames = [
        crystal(rattle, seed) for seed, rattle in enumerate([0.01, 0.3, 0.4, 0.01, 0.5, 0.01])
    ]
    path = tmp_path / "run.xyz"
    write(path, frames)
    return path


def largest(models, trajectory):
    calculator = EquiCalculator(models)
    found = []
    for atoms in read(trajectory, ":"):
        calculator.calculate(atoms, ["forces"])
        found.append(calculator.results["forces_deviation"].max())
    return np.array(found)


def test_select_writes_what_the_models_disagree_on(models, trajectory, tmp_path, capsys):
    deviations = largest(models, trajectory)
    above = 0.5 * (deviations[3] + deviations[1])
    target = tmp_path / "picked.xyz"
    words = ["select", trajectory, *models, "--above", above, "--spacing", 2, "-o", target]
    assert cli.main([str(word) for word in words]) == 0
    expected = pick_frames(deviations, above, spacing=2)
    assert len(expected) == 2
    picked = read(target, ":")
    assert [atoms.info["frame"] for atoms in picked] == expected
    for atoms in picked:
        assert atoms.calc is None
        assert atoms.arrays["forces_deviation"].max() == pytest.approx(
            deviations[atoms.info["frame"]], abs=1e-7
        )
    assert "wrote 2 of them" in capsys.readouterr().out


def test_select_reports_all_deviations_as_json(models, trajectory, tmp_path, capsys):
    target = tmp_path / "picked.xyz"
    words = ["select", trajectory, *models, "--above", 1e3, "--json", "-o", target]
    assert cli.main([str(word) for word in words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["picked"] == []
    assert report["accurate"] == 6
    assert not target.exists()
    assert np.abs(np.array(report["deviations"]) - largest(models, trajectory)).max() < 1e-9


def test_frames_in_which_a_run_fell_apart_are_left_out(models, trajectory, tmp_path, capsys):
    frames = read(trajectory, ":")
    frames[4].positions[1] = frames[4].positions[0]
    frames[5].positions[0] = np.nan
    write(trajectory, frames)
    words = ["select", trajectory, *models, "--above", 0.0, "--spacing", 1]
    words += ["--json", "-o", tmp_path / "picked.xyz"]
    assert cli.main([str(word) for word in words]) == 0
    written = capsys.readouterr()
    report = json.loads(written.out)
    assert report["picked"] == [0, 1, 2, 3]
    assert report["left_out"] == 2
    assert report["deviations"][4:] == [None, None]
    assert "2 of 6 frames are left out, first frame 4" in written.err


def test_select_does_not_destroy_its_trajectory(models, trajectory, capsys):
    before = trajectory.read_text()
    words = ["select", trajectory, *models, "--above", 0.0, "-o", trajectory]
    assert cli.main([str(word) for word in words]) == cli.EXIT_ERROR
    assert "would destroy" in capsys.readouterr().err
    assert trajectory.read_text() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--above", "0.1"], "Type two or more"),
        (["--above", "0.2", "--below", "0.1"], "0 <= above < below"),
    ],
)
def test_select_names_what_is_wrong(models, trajectory, tmp_path, capsys, words, says):
    chosen = models[:1] if "two" in says else models
    command = ["select", trajectory, *chosen, *words, "-o", tmp_path / "picked.xyz"]
    assert cli.main([str(word) for word in command]) == cli.EXIT_ERROR
    assert says in capsys.readouterr().err
