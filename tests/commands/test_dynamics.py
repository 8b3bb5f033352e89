"""`equicalc md`: what it writes, and what is left of a run that fails."""

import csv

import pytest
from ase import Atoms
from ase.io import read, write

from equicalc import cli, dynamics
from equicalc.commands import simulation
from tests.commands.conftest import equicalc, fails

# Energies go through text files with eight decimals.
ENERGY_TOLERANCE = 1e-6  # eV


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_md_writes_trajectory_log_and_picture(ensemble, tiny_model, crystal, tmp_path, capsys):
    out, log, plot = (tmp_path / name for name in ("t.xyz", "log.csv", "plot.png"))
    words = ("--steps", 4, "--interval", 2, "--timestep", 0.5, "--temperature", 50)
    files = ("-o", out, "--log", log, "--plot", plot)
    assert equicalc("md", tiny_model, crystal, "--ensemble", ensemble, *words, *files) == 0
    assert len(read(out, ":")) == 3
    with log.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["step"]) for row in rows] == [0, 2, 4]
    assert tuple(rows[0]) == dynamics.COLUMNS
    assert read(out, "-1").get_potential_energy() == pytest.approx(
        float(rows[-1]["potential_energy_eV"]), abs=ENERGY_TOLERANCE
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*partial*"))
    assert "temperature" in capsys.readouterr().out


def test_md_writes_ase_trajectories_and_supercells(tiny_model, crystal, tmp_path):
    out = tmp_path / "t.traj"
    words = ("--steps", 2, "--interval", 1, "--supercell", 1, 1, 2, "-o", out)
    assert equicalc("md", tiny_model, crystal, *words) == 0
    frames = read(out, ":")
    assert [len(atoms) for atoms in frames] == [16, 16, 16]


def test_md_continues_with_the_velocities_of_a_trajectory(tiny_model, crystal, tmp_path):
    first, second = tmp_path / "first.traj", tmp_path / "second.traj"
    words = ("--steps", 2, "--interval", 2)
    assert equicalc("md", tiny_model, crystal, *words, "-o", first) == 0
    assert equicalc("md", tiny_model, first, *words, "--keep-velocities", "-o", second) == 0
    assert read(second, "0").get_velocities() == pytest.approx(read(first, "-1").get_velocities())


def test_wrong_ensemble_lists_the_right_ones(tiny_model, crystal, capsys):
    message = fails(capsys, "md", tiny_model, crystal, "--ensemble", "npz")
    assert "ensemble is 'npz'; expected one of nve, nvt, npt" in message


def test_npt_of_a_molecule_is_refused(tiny_model, tmp_path, capsys):
    write(tmp_path / "pair.xyz", Atoms("KCl", [[0, 0, 0], [2.7, 0, 0]]))
    message = fails(capsys, "md", tiny_model, tmp_path / "pair.xyz", "--ensemble", "npt")
    assert "three periodic directions" in message


def test_failed_run_keeps_the_old_trajectory_and_the_part_that_was_done(
    tiny_model, crystal, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "t.xyz"
    out.write_text("precious")
    # any positive temperature counts as an explosion; the first record is written by then
    monkeypatch.setattr(dynamics, "EXPLOSION_TEMPERATURE", 300.5)
    words = ("--steps", 400, "--interval", 1, "--temperature", 300, "--timestep", 2, "-o", out)
    message = fails(capsys, "md", tiny_model, crystal, *words)
    assert "exploded at step" in message
    assert out.read_text() == "precious"
    assert len(read(tmp_path / "t.partial.xyz", ":")) >= 1


def test_interrupted_run_says_where_its_part_is(tiny_model, crystal, tmp_path, capsys, monkeypatch):
    original = dynamics.run_md

    def interrupted(atoms, settings, on_record):
        original(atoms, dynamics.MDSettings(steps=1, interval=1), on_record=on_record)
        raise KeyboardInterrupt

    monkeypatch.setattr("equicalc.commands.simulation.run_md", interrupted)
    words = ("md", tiny_model, crystal, "-o", tmp_path / "t.xyz")
    assert equicalc(*words) == cli.EXIT_INTERRUPTED
    assert "t.partial.xyz" in capsys.readouterr().err
    assert len(read(tmp_path / "t.partial.xyz", ":")) == 2


@pytest.mark.parametrize("ending", [".xyz", ".traj"])
def test_full_disk_is_named_and_leaves_whole_records(
    tiny_model, crystal, tmp_path, capsys, monkeypatch, ending
):
    original = simulation._Recorder._write_frame

    def fails_at_the_third(self, atoms):
        self.n_written = getattr(self, "n_written", 0) + 1
        if self.n_written < 3:
            return original(self, atoms)
        if ending == ".xyz":
            with self.trajectory.open("a") as stream:
                stream.write("8\nLattice=")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(simulation._Recorder, "_write_frame", fails_at_the_third)
    out, log = tmp_path / f"t{ending}", tmp_path / "t.csv"
    words = ("--steps", 5, "--interval", 1, "-o", out, "--log", log)
    message = fails(capsys, "md", tiny_model, crystal, *words)
    partial = tmp_path / f"t.partial{ending}"
    assert f"cannot write '{partial}': No space left on device" in message
    assert len(read(partial, ":")) == 2
    assert len((tmp_path / "t.partial.csv").read_text().splitlines()) == 3
    assert not out.exists()
    # and the part can be continued
    assert equicalc("md", tiny_model, partial, "--keep-velocities", "--steps", 1) == 0


def test_the_part_that_was_done_is_not_destroyed_by_going_on(tiny_model, crystal, tmp_path, capsys):
    partial = tmp_path / "t.partial.xyz"
    assert equicalc("md", tiny_model, crystal, "--steps", 1, "-o", partial) == 0
    before = partial.read_text()
    for out in (partial, tmp_path / "t.xyz"):
        words = ("--keep-velocities", "--steps", 1, "-o", out)
        assert "would destroy" in fails(capsys, "md", tiny_model, partial, *words)
    assert partial.read_text() == before


def test_trajectory_and_log_of_one_name_are_refused(tiny_model, crystal, tmp_path, capsys):
    out = tmp_path / "t.xyz"
    message = fails(capsys, "md", tiny_model, crystal, "--steps", 1, "-o", out, "--log", out)
    assert "a name of its own" in message


def test_pressure_without_npt_is_refused(tiny_model, crystal, capsys):
    assert "--ensemble npt" in fails(capsys, "md", tiny_model, crystal, "--pressure", 1)


def test_unknown_device_is_named(tiny_model, crystal, capsys):
    assert "'abacus'" in fails(capsys, "md", tiny_model, crystal, "--device", "abacus")
