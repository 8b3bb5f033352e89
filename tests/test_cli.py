"""Every command: what it writes, and what it says when something is wrong."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from equicalc import cli, simulate
from equicalc.commands.common import OutputError, replacing
from equicalc.errors import EquicalcError

# Energies go through text files with eight decimals.
ENERGY_TOLERANCE = 1e-6  # eV


@pytest.fixture
def crystal(tmp_path):
    """Eight atoms of KCl, slightly displaced, in a file."""
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    path = tmp_path / "kcl.xyz"
    write(path, atoms)
    return path


@pytest.fixture
def labelled(tmp_path, tiny_model):
    """Three structures labelled by the model itself, energies shifted by 8 meV/atom."""
    from equicalc import EquiCalculator

    frames = []
    for seed in range(3):
        atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EquiCalculator(tiny_model)
        results = {
            "energy": atoms.get_potential_energy() + 0.008 * len(atoms),
            "forces": atoms.get_forces() + 0.1,
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    path = tmp_path / "data.xyz"
    write(path, frames)
    return path


def equicalc(*words):
    """Run a command in this process; returns its exit code."""
    return cli.main([str(word) for word in words])


def fails(capsys, *words):
    """Run a command that must fail; return its message, one line of `equicalc COMMAND: ...`."""
    assert equicalc(*words) == cli.EXIT_ERROR
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"equicalc {words[0]}: ")
    return message


# --- the command line itself


def test_help_does_not_import_torch_or_ase():
    program = "import sys, equicalc.cli as c; c.build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert not {"torch", "ase", "numpy", "matplotlib"} & set(done.stdout.split())


@pytest.mark.parametrize(
    "command", ["train", "export", "import", "info", "evaluate", "relax", "md", "models"]
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        equicalc(command, "--help")
    assert stopped.value.code == 0
    assert f"equicalc {command}" in capsys.readouterr().out


def test_unknown_command_and_missing_argument_exit_with_two(capsys):
    for words in (["fly"], ["relax", "kcl"], []):
        with pytest.raises(SystemExit) as stopped:
            equicalc(*words)
        assert stopped.value.code == cli.EXIT_ERROR
    capsys.readouterr()


def test_errors_of_the_program_itself_are_not_hidden(monkeypatch):
    def broken(path):
        raise ZeroDivisionError

    monkeypatch.setattr("equicalc.commands.models.resolve", broken)
    with pytest.raises(ZeroDivisionError):
        equicalc("info", "kcl")


def test_interrupt_ends_without_traceback(monkeypatch, capsys):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("equicalc.commands.models.resolve", interrupted)
    assert equicalc("info", "kcl") == cli.EXIT_INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


def test_threads_are_set_before_anything_is_loaded(monkeypatch, tiny_model):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(
        "equicalc.commands.simulation.md", lambda options: seen.append(options.threads)
    )
    seen = []
    assert equicalc("md", tiny_model, "x.xyz", "--threads", "3") == 0
    assert seen == [3]
    assert os.environ["OMP_NUM_THREADS"] == "3"


# --- info, models


def test_info_prints_what_the_file_says(tiny_model, capsys):
    assert equicalc("info", tiny_model) == 0
    text = capsys.readouterr().out
    assert "K Cl" in text
    assert "predicted; K " in text
    assert "Gaussian widths" in text


def test_info_as_json_holds_all_metadata(tiny_model, capsys):
    assert equicalc("info", tiny_model, "--json") == 0
    metadata = json.loads(capsys.readouterr().out)
    assert metadata["format_version"] == 2
    assert metadata["elements"] == ["K", "Cl"]
    assert metadata["file"] == str(tiny_model)


def test_models_lists_each_shipped_model_once(capsys):
    from equicalc.models import shipped

    assert equicalc("models", "--json") == 0
    assert list(json.loads(capsys.readouterr().out or "{}")) == shipped()
    assert equicalc("models", "--markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == shipped()
    assert equicalc("models") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == shipped()


@pytest.mark.parametrize("content", [b"not a model", b""])
def test_a_file_that_is_no_model_is_named(content, tmp_path, capsys):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    assert f"'{path}' is not a TorchScript archive" in fails(capsys, "info", path)


def test_truncated_model_is_refused_by_every_command_that_loads_it(
    tiny_model, crystal, labelled, tmp_path, capsys
):
    path = tmp_path / "short.pt"
    path.write_bytes(Path(tiny_model).read_bytes()[:-2000])
    for words in (
        ("info", path),
        ("evaluate", path, labelled),
        ("relax", path, crystal, "-o", tmp_path / "out.xyz"),
        ("md", path, crystal),
    ):
        assert "short.pt" in fails(capsys, *words)


def test_unknown_model_lists_what_may_be_typed(capsys):
    message = fails(capsys, "info", "unobtainium")
    assert "'unobtainium' is neither a file nor a shipped model" in message
    assert "equicalc export" in message


# --- evaluate


def test_evaluate_prints_the_errors(tiny_model, labelled, capsys):
    assert equicalc("evaluate", tiny_model, labelled, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["n_structures"] == 3
    assert metrics["n_atoms"] == 24
    assert metrics["energy_rmse_meV_per_atom"] == pytest.approx(8.0, abs=1e-3)
    assert metrics["energy_mae_meV_per_atom"] == pytest.approx(8.0, abs=1e-3)
    assert metrics["forces_rmse_meV_per_A"] == pytest.approx(100.0, abs=1e-3)
    assert metrics["forces_mae_meV_per_A"] == pytest.approx(100.0, abs=1e-3)
    # the data have no stress
    assert "stress_rmse_meV_per_A3" not in metrics
    assert equicalc("evaluate", tiny_model, labelled) == 0
    table = capsys.readouterr().out
    assert "3 structures, 24 atoms" in table
    assert "meV/atom" in table


def test_evaluate_removes_an_offset_only_when_asked(tiny_model, labelled, capsys):
    assert equicalc("evaluate", tiny_model, labelled, "--json", "--align") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["energy_rmse_meV_per_atom"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["energy_offset_removed_meV_per_atom"] == pytest.approx(-8.0, abs=1e-3)


def test_evaluate_draws_a_parity_plot(tiny_model, labelled, tmp_path):
    path = tmp_path / "parity.png"
    assert equicalc("evaluate", tiny_model, labelled, "--plot", path) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", [None, ""])
def test_evaluate_of_missing_or_empty_data_says_so(content, tiny_model, tmp_path, capsys):
    path = tmp_path / "data.xyz"
    if content is not None:
        path.write_text(content)
    assert str(path) in fails(capsys, "evaluate", tiny_model, path)


def test_evaluate_of_unlabelled_data_says_what_is_missing(tiny_model, crystal, capsys):
    assert "energy" in fails(capsys, "evaluate", tiny_model, crystal)


def test_evaluate_of_unknown_elements_names_them(tiny_model, tmp_path, capsys):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((8, 3)))
    write(tmp_path / "nacl.xyz", atoms)
    message = fails(capsys, "evaluate", tiny_model, tmp_path / "nacl.xyz")
    assert "Na" in message
    assert "K" in message


def test_evaluate_refuses_an_impossible_picture_before_working(tiny_model, labelled, capsys):
    message = fails(capsys, "evaluate", tiny_model, labelled, "--plot", "parity.xlsx")
    assert "expected .png, .pdf, .svg" in message


# --- relax


def test_relax_writes_the_relaxed_structure(tiny_model, crystal, tmp_path, capsys):
    out = tmp_path / "out.xyz"
    assert equicalc("relax", tiny_model, crystal, "-o", out, "--fmax", 0.05) == 0
    relaxed = read(out)
    assert np.linalg.norm(relaxed.get_forces(), axis=1).max() <= 0.05
    assert f"wrote {out}" in capsys.readouterr().out


def test_relax_of_the_cell_removes_the_stress(tiny_model, crystal, tmp_path):
    out = tmp_path / "out.xyz"
    words = ("relax", tiny_model, crystal, "-o", out, "--cell", "--hydrostatic", "--fmax", 0.02)
    assert equicalc(*words, "--optimizer", "fire") == 0
    relaxed = read(out)
    # FrechetCellFilter's generalised force on the cell is stress times volume, per cell vector
    assert abs(np.trace(relaxed.get_stress(voigt=False))) * relaxed.get_volume() / 3 < 0.2


def test_relax_takes_the_frame_asked_for(tiny_model, tmp_path):
    frames = [bulk("KCl", "rocksalt", a=a, cubic=True) for a in (6.2, 6.6)]
    write(tmp_path / "two.xyz", frames)
    out = tmp_path / "out.xyz"
    assert equicalc("relax", tiny_model, f"{tmp_path / 'two.xyz'}@0", "-o", out) == 0
    assert read(out).cell[0, 0] == pytest.approx(6.2)
    assert equicalc("relax", tiny_model, tmp_path / "two.xyz", "-o", out) == 0
    assert read(out).cell[0, 0] == pytest.approx(6.6)


def test_unconverged_structure_goes_beside_and_keeps_the_old_result(
    tiny_model, crystal, tmp_path, capsys
):
    out = tmp_path / "out.xyz"
    out.write_text("precious")
    message = fails(capsys, "relax", tiny_model, crystal, "-o", out, "--steps", 1, "--fmax", 1e-9)
    assert "not converged in 1 steps" in message
    assert out.read_text() == "precious"
    assert len(read(tmp_path / "out.unconverged.xyz")) == 8


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.xyz", None, "no file"),
        ("empty.xyz", "", "holds no structures"),
        ("text.xyz", "hello\nworld\n", "cannot be read as structures"),
    ],
)
def test_bad_structure_files_are_named(name, content, words, tiny_model, tmp_path, capsys):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    message = fails(capsys, "relax", tiny_model, path, "-o", tmp_path / "out.xyz")
    assert str(path) in message
    assert words in message


def test_frame_that_is_no_number_is_refused(tiny_model, crystal, tmp_path, capsys):
    message = fails(capsys, "relax", tiny_model, f"{crystal}@last", "-o", tmp_path / "o.xyz")
    assert "'last'" in message


def test_unknown_element_names_it_and_those_of_the_model(tiny_model, tmp_path, capsys):
    write(tmp_path / "mgo.xyz", bulk("MgO", "rocksalt", a=4.2, cubic=True))
    out = tmp_path / "out.xyz"
    message = fails(capsys, "relax", tiny_model, tmp_path / "mgo.xyz", "-o", out)
    assert "Mg" in message
    assert "K, Cl" in message
    assert not out.exists()


def test_positions_that_are_not_numbers_are_refused(tiny_model, tmp_path, capsys):
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.positions[0, 0] = np.nan
    write(tmp_path / "nan.xyz", atoms)
    assert "finite" in fails(
        capsys, "relax", tiny_model, tmp_path / "nan.xyz", "-o", tmp_path / "out.xyz"
    )


def test_unwritable_output_is_refused_before_working(tiny_model, crystal, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    for out, words in (
        (tmp_path / "nowhere" / "out.xyz", "does not exist"),
        (tmp_path / "folder", "is a directory"),
    ):
        assert words in fails(capsys, "relax", tiny_model, crystal, "-o", out)
        assert words in fails(capsys, "md", tiny_model, crystal, "-o", out)


def test_output_format_that_ase_does_not_know_keeps_the_folder_clean(
    tiny_model, crystal, tmp_path, capsys
):
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "out.nonsense"
    message = fails(capsys, "relax", tiny_model, crystal, "-o", out, "--fmax", 0.5)
    assert "cannot be written" in message
    assert sorted(tmp_path.iterdir()) == before


# --- md


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
    assert tuple(rows[0]) == simulate.COLUMNS
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
    monkeypatch.setattr(simulate, "EXPLOSION_TEMPERATURE", 300.5)
    words = ("--steps", 400, "--interval", 1, "--temperature", 300, "--timestep", 2, "-o", out)
    message = fails(capsys, "md", tiny_model, crystal, *words)
    assert "exploded at step" in message
    assert out.read_text() == "precious"
    assert len(read(tmp_path / "t.partial.xyz", ":")) >= 1


def test_interrupted_run_says_where_its_part_is(tiny_model, crystal, tmp_path, capsys, monkeypatch):
    original = simulate.run_md

    def interrupted(atoms, settings, on_record):
        original(atoms, simulate.MDSettings(steps=1, interval=1), on_record=on_record)
        raise KeyboardInterrupt

    monkeypatch.setattr("equicalc.commands.simulation.run_md", interrupted)
    words = ("md", tiny_model, crystal, "-o", tmp_path / "t.xyz")
    assert equicalc(*words) == cli.EXIT_INTERRUPTED
    assert "t.partial.xyz" in capsys.readouterr().err
    assert len(read(tmp_path / "t.partial.xyz", ":")) == 2


def test_unknown_device_is_named(tiny_model, crystal, capsys):
    assert "'abacus'" in fails(capsys, "md", tiny_model, crystal, "--device", "abacus")


# --- train, export


def test_train_export_and_evaluate_work_in_a_row(labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = {
        "model": {"cutoff": 4.0, "channels": 2, "n_radial": 2, "l_max": 1, "correlation": 2},
        "data": {"train": labelled.name, "validation_fraction": 0.34},
        "training": {"max_epochs": 1, "batch_size": 1},
        "run": {"plots": False, "progress": False, "dtype": "float64"},
    }
    Path("small.yaml").write_text(yaml.safe_dump(config))
    assert equicalc("train", "small.yaml", "--threads", 1) == 0
    assert "equicalc export" in capsys.readouterr().out
    # a run is never overwritten by accident, and a finished one may be resumed
    assert "--resume" in fails(capsys, "train", "small.yaml")
    assert equicalc("train", "small.yaml", "--resume") == 0
    assert equicalc("export", "runs/small", "-o", "small.pt") == 0
    # compared on the training data, whose file is still there
    assert "in torch and float64, 3 structures" in capsys.readouterr().out
    assert equicalc("info", "small.pt", "--json") == 0
    metadata = json.loads(capsys.readouterr().out)
    assert sorted(metadata["elements"]) == ["Cl", "K"]
    error = metadata["training"]["errors"]["validation"]["forces_rmse_meV_per_A"]
    assert equicalc("info", "small.pt") == 0
    assert f"{error:.3g} meV/Å (validation)" in capsys.readouterr().out
    assert equicalc("evaluate", "small.pt", labelled, "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_structures"] == 3


def test_train_of_a_missing_configuration_says_where_examples_are(tmp_path, capsys):
    message = fails(capsys, "train", tmp_path / "none.yaml")
    assert "examples/train_*.yaml" in message


def test_train_names_an_unknown_key(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"modle": {}}))
    assert "modle" in fails(capsys, "train", path)


def test_export_of_a_missing_run_says_what_writes_one(tmp_path, capsys):
    message = fails(capsys, "export", tmp_path / "run", "-o", tmp_path / "model.pt")
    assert "equicalc train" in message


def test_failed_export_keeps_the_old_model(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    out = tmp_path / "model.pt"
    out.write_text("precious")
    fails(capsys, "export", tmp_path / "run", "-o", out)
    assert out.read_text() == "precious"


def test_export_insists_on_the_ending_that_models_have(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert "expected .pt" in fails(capsys, "export", tmp_path / "run", "-o", tmp_path / "model")


# --- writing files


def test_replacing_gives_the_new_file_or_keeps_the_old(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_and_stop():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OutputError("stop")

    with pytest.raises(OutputError):
        write_and_stop()
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert issubclass(OutputError, EquicalcError)


# --- import


def test_import_writes_a_model_that_says_where_it_comes_from(tmp_path, monkeypatch, capsys):
    checkpoint = Path(__file__).parent / "reference" / "sevennet_rotations.pth"
    monkeypatch.chdir(tmp_path)
    assert equicalc("import", "sevennet", checkpoint, "--elements", "Na", "Cl") == 0
    printed = capsys.readouterr().out
    assert "float32: energy" in printed
    assert "wrote sevennet_rotations.pt" in printed
    assert equicalc("info", "sevennet_rotations.pt") == 0
    printed = capsys.readouterr().out
    assert "SevenNet 0.11.0 checkpoint 'sevennet_rotations.pth'" in printed
    assert "elements         Na Cl" in printed
    assert "Park" in printed


def test_import_of_what_is_not_there_names_what_could_be(tmp_path, capsys):
    assert "7net-0" in fails(capsys, "import", "sevennet", "8net", "-o", tmp_path / "m.pt")
    message = fails(capsys, "import", "sevennet", "7net-0", "--elements", "Xx")
    assert "'Xx' in --elements is not a chemical symbol" in message
