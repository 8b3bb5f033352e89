"""Whole runs: learning, resuming, interruption, several processes, errors."""

import csv
import errno
import fcntl
import json
import math
import os

import ase.io
import numpy as np
import pytest
import torch

from equicalc.deploy import export_run
from equicalc.errors import ConfigError, DataError
from equicalc.evaluate import evaluate
from equicalc.models import resolve
from equicalc.train import checkpoint, load_best, pipeline, run
from equicalc.train.config import load_config
from equicalc.train.trainer import Trainer, TrainingError, TrainingInterrupted

# Gradients of the same batch summed in two parts instead of one: float64 rounding, amplified by
# four steps of an optimiser that divides by small numbers.
TWO_PROCESSES = 1e-9
# A model in the file and in memory, both float32; energies are sums of some -30 eV
FLOAT32 = 1e-3


def stored(directory):
    return checkpoint.load(directory / "checkpoint.pt", checkpoint.CHECKPOINT_KIND)


def log_without_time(directory):
    with (directory / "log.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def flatten(value, path=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(item, f"{path}/{index}")
    else:
        yield path, value


def assert_identical(first, second):
    pairs = zip(flatten(first), flatten(second), strict=True)
    for (path, a), (other, b) in pairs:
        assert path == other
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        assert same or (a != a and b != b), path


def test_a_run_learns_and_leaves_everything_it_promises(write_config):
    path = write_config(training__max_epochs=12, run__plots=True)
    directory = run(path)
    log = log_without_time(directory)
    assert len(log) == 12
    assert float(log[-1]["train_loss"]) < 0.6 * float(log[0]["train_loss"])
    assert float(log[-1]["validation_loss"]) < float(log[0]["validation_loss"])
    expected = {"config.yaml", "checkpoint.pt", "best.pt", "log.csv", "metrics.json"}
    assert {p.name for p in directory.iterdir()} == expected | {"loss.png", "parity.png"}
    metrics = json.loads((directory / "metrics.json").read_text())
    best = min(log, key=lambda row: float(row["validation_loss"]))
    assert metrics["epoch"] == int(best["epoch"])
    for key in ("energy_rmse_meV_per_atom", "forces_rmse_meV_per_A", "stress_rmse_meV_per_A3"):
        assert metrics["validation"][key] == pytest.approx(float(best[key]), rel=FLOAT32)
    assert metrics["training"]["n_structures"] == 8
    # charges were learned, not left at zero
    assert 0.2 < metrics["validation"]["charge_mean_e_per_element"]["K"] < 1.5


def test_two_structures_are_learned_by_heart(write_config, frames, tmp_path):
    ase.io.write(tmp_path / "two.xyz", frames[:2])
    path = write_config(
        data__train="two.xyz",
        data__validation="two.xyz",
        training__max_epochs=150,
        training__batch_size=2,
        training__learning_rate=0.02,
        training__ema_decay=0.9,
        training__weight_decay=0.0,
        training__validate_every=50,
        training__checkpoint_every=50,
        model__channels=8,
        model__l_max=2,
        loss__energy=10.0,
        loss__stress=0.0,
    )
    directory = run(path)
    metrics = json.loads((directory / "metrics.json").read_text())["training"]
    assert metrics["forces_rmse_meV_per_A"] < 0.2 * metrics["forces_rms_reference_meV_per_A"]
    spread = np.ptp([a.get_potential_energy() / 8 for a in frames[:2]])
    assert metrics["energy_rmse_meV_per_atom"] < 1000 * 0.25 * spread


def test_two_and_two_epochs_are_four_epochs_bit_for_bit(write_config):
    straight = run(write_config("straight"))
    path = write_config("parts")
    run(path, stop_after=2)
    assert stored(straight)["epoch"] == 4
    parts = run(path, resume=True)
    assert log_without_time(parts) == log_without_time(straight)
    first, second = stored(straight), stored(parts)
    for content in (first, second):
        for key in ("config", "about", "seconds"):
            del content[key]
        del content["last_row"]["seconds"]
    assert_identical(first, second)
    best = [checkpoint.load(d / "best.pt", checkpoint.WEIGHTS_KIND) for d in (straight, parts)]
    assert_identical(best[0]["state"], best[1]["state"])


def test_seeds_decide(write_config):
    logs = [
        log_without_time(run(write_config(name, training__seed=seed, training__max_epochs=1)))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]


def test_ctrl_c_keeps_the_last_complete_epoch_and_says_how_to_go_on(write_config, monkeypatch):
    path = write_config()
    epoch_of = Trainer.train_epoch

    def interrupted(self):
        if self.epoch == 2:
            self.batch_of_step(self.order(2), 0)
            raise KeyboardInterrupt
        return epoch_of(self)

    monkeypatch.setattr(Trainer, "train_epoch", interrupted)
    with pytest.raises(TrainingInterrupted, match=r"epoch 2 is kept.*config.yaml --resume"):
        run(path)
    monkeypatch.undo()
    directory = path.parent / "runs" / "config"
    monkeypatch.chdir(path.parent)
    assert stored(directory)["epoch"] == 2
    assert [row["epoch"] for row in log_without_time(run(path, resume=True))] == list("1234")


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint(write_config, monkeypatch):
    path = write_config()
    directory = run(path, stop_after=1)
    before = (directory / "checkpoint.pt").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("equicalc.train.checkpoint.os.fsync", full)
    with pytest.raises(checkpoint.OutputError, match="No space left on device"):
        run(path, resume=True)
    assert (directory / "checkpoint.pt").read_bytes() == before


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(write_config):
    path = write_config(training__max_epochs=2)
    directory = run(path, stop_after=1)
    content = stored(directory)
    next(v for k, v in content["state"].items() if v.is_floating_point() and v.dim() == 2).fill_(
        math.nan
    )
    checkpoint.save(directory / "checkpoint.pt", content)
    before = (directory / "checkpoint.pt").read_bytes()
    words = "in epoch 2, step 1 .*checkpoint of epoch 1 .*is kept"
    with pytest.raises(TrainingError, match=words):
        run(path, resume=True)
    assert (directory / "checkpoint.pt").read_bytes() == before


def test_a_run_directory_is_not_overwritten(write_config):
    path = write_config(training__max_epochs=1)
    run(path)
    with pytest.raises(ConfigError, match=r"holds a run already. Continue it with --resume"):
        run(path)


def test_a_run_directory_belongs_to_one_training_at_a_time(write_config):
    path = write_config(training__max_epochs=2)
    directory = run(path, stop_after=1)
    before = (directory / "checkpoint.pt").read_bytes()
    other = os.open(directory, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="another training is writing"):
        run(path, resume=True)
    assert (directory / "checkpoint.pt").read_bytes() == before
    os.close(other)
    run(path, resume=True)


def test_a_directory_that_cannot_be_locked_is_used_with_a_warning(
    write_config, monkeypatch, capsys
):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("equicalc.train.directory.fcntl.flock", no_locks)
    run(write_config(training__max_epochs=1))
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_there_must_be_something_to_resume(write_config):
    with pytest.raises(ConfigError, match="nothing to resume"):
        run(write_config(), resume=True)


def test_a_resumed_run_must_be_the_same_run(write_config):
    path = write_config(training__max_epochs=2)
    run(path, stop_after=1)
    words = "cannot resume with another training.learning_rate: .* 0.01, .* 0.5"
    with pytest.raises(ConfigError, match=words):
        run(path, resume=True, overrides={"training.learning_rate": 0.5})
    run(path, resume=True, overrides={"training.checkpoint_every": 2, "training.patience": 5})


def test_a_resumed_run_must_have_the_same_data(write_config, data_file, frames):
    path = write_config(training__max_epochs=2)
    run(path, stop_after=1)
    ase.io.write(data_file, frames[:-1])
    with pytest.raises(ConfigError, match=r"the contents of data.xyz changed"):
        run(path, resume=True)


def test_patience_ends_a_run_that_does_not_improve(write_config):
    path = write_config(
        training__max_epochs=50, training__patience=2, training__learning_rate=1e-12
    )
    directory = run(path, overrides={"training.ema_decay": 0.0, "model.channels": 2})
    log = log_without_time(directory)
    assert len(log) < 50
    losses = [float(row["validation_loss"]) for row in log]
    assert int(np.argmin(losses)) == len(losses) - 3


def test_a_run_can_start_from_the_weights_of_another(write_config):
    first = run(write_config("first", training__max_epochs=3))
    path = write_config(
        "second",
        model__init=str(first / "best.pt"),
        training__max_epochs=1,
        training__learning_rate=1e-12,
        training__ema_decay=0.0,
    )
    second = run(path)
    errors = [
        json.loads((d / "metrics.json").read_text())["validation"]["forces_rmse_meV_per_A"]
        for d in (first, second)
    ]
    assert errors[1] == pytest.approx(errors[0], rel=FLOAT32)
    with pytest.raises(ConfigError, match=r"best.pt' has model.channels = 4, .* says 6"):
        run(path, overrides={"model.channels": 6, "run.directory": "third"})


def test_a_run_can_start_from_a_model_file(write_config, tmp_path):
    first = run(write_config("first", training__max_epochs=3))
    model = export_run(first, tmp_path / "first.pt")
    path = write_config(
        "second",
        model__init=model.name,
        training__max_epochs=1,
        training__learning_rate=1e-12,
        training__ema_decay=0.0,
    )
    errors = [
        json.loads((d / "metrics.json").read_text())["validation"]["forces_rmse_meV_per_A"]
        for d in (first, run(path))
    ]
    assert errors[1] == pytest.approx(errors[0], rel=FLOAT32)
    with pytest.raises(ConfigError, match=r"first.pt' has model.channels = 4, .* says 6"):
        run(path, overrides={"model.channels": 6, "run.directory": "third"})


def test_a_shipped_model_can_be_named_as_the_start(write_config):
    assert load_config(write_config(model__init="kcl")).model.init == str(resolve("kcl"))


def test_given_reference_energies_are_used(write_config):
    path = write_config(model__reference_energies={"K": -1.25, "Cl": -2.5}, training__max_epochs=1)
    network = load_best(run(path)).network
    fixed = network.reference_fixed.double() * network.reference_unit
    assert dict(zip(network.config.elements, fixed.tolist(), strict=True)) == {
        "K": -1.25,
        "Cl": -2.5,
    }
    with pytest.raises(ConfigError, match=r"model.reference_energies has no value for Cl"):
        run(path, overrides={"model.reference_energies": {"K": 1.0}, "run.directory": "other"})


def test_the_first_energies_are_close_because_references_are_fitted_to_the_rest(
    write_config, frames
):
    path = write_config(training__max_epochs=1, training__learning_rate=1e-12)
    log = log_without_time(run(path))
    # Coulomb and repulsive energies alone are several eV per atom
    spread = 1000 * np.std([a.get_potential_energy() / 8 for a in frames])
    assert float(log[0]["train_energy_rmse_meV_per_atom"]) < 10 * spread


def test_a_model_without_charges_trains(write_config):
    path = write_config(model__charge_model="none", model__initial_charges=None)
    log = log_without_time(run(path, stop_after=2))
    assert float(log[-1]["train_loss"]) < float(log[0]["train_loss"])
    assert float(log[-1]["charge_K_e"]) == 0.0


def test_born_charges_dipoles_and_charges_train(write_config, frames, tmp_path):
    labelled = []
    for frame in frames[:4]:
        atoms = frame.copy()
        atoms.calc = frame.calc
        sign = np.where(atoms.numbers == 19, 1.0, -1.0)
        atoms.arrays["born_effective_charges"] = 1.1 * sign[:, None] * np.eye(3).ravel()
        atoms.arrays["charges"] = 0.9 * sign
        labelled.append(atoms)
    ase.io.write(tmp_path / "born.xyz", labelled)
    path = write_config(
        data__train="born.xyz",
        model__charge_model="transferred",
        model__formal_charges={"K": 1, "Cl": -1},
        model__epsilon_inf=1.4,
        loss__born=1.0,
        loss__charges=1.0,
        training__learning_rate=0.02,
        training__max_epochs=12,
        training__batch_size=1,
        training__ema_decay=0.5,
    )
    metrics = json.loads((run(path) / "metrics.json").read_text())["training"]
    # from 1/sqrt(1.4) = 0.85 e
    assert metrics["charges_rmse_e"] < 0.15
    assert metrics["born_rmse_e"] < 0.3


def test_an_element_outside_the_model_is_named(write_config):
    with pytest.raises(
        DataError, match=r"structure 0: atom 1 is Cl, but the model has the elements K"
    ):
        run(write_config(model__elements=["K"], model__initial_charges=None))


def test_an_element_that_the_data_lack_is_named(write_config):
    path = write_config(model__elements=["K", "Cl", "Br"], model__initial_charges=None)
    with pytest.raises(ConfigError, match=r"model.elements has Br, .* \(they have Cl, K\)"):
        run(path)


def test_a_loss_of_labels_that_the_data_lack_is_an_error(write_config):
    path = write_config(model__charge_model="fixed", loss__final={"born": 1.0})
    with pytest.raises(ConfigError, match=r"loss.born is set, but no training structure has born"):
        run(path)


def test_cuda_that_is_not_there_is_an_error(write_config):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ConfigError, match="needs as many CUDA devices, found 0"):
        run(write_config(run__device="cuda"))


@pytest.mark.slow
def test_two_processes_train_like_one(write_config):
    # Batches of 7 and 1 structures: unequal parts, and one process with nothing to do.
    settings = {"run__dtype": "float64", "training__batch_size": 7, "run__threads": 2}
    one = run(write_config("one", **settings))
    two = run(write_config("two", run__devices=2, **settings))
    first, second = stored(one), stored(two)
    assert first["state"].keys() == second["state"].keys()
    for name, value in first["state"].items():
        difference = (value.double() - second["state"][name].double()).abs()
        assert float(difference.max()) < TWO_PROCESSES, name
    for a, b in zip(log_without_time(one), log_without_time(two), strict=True):
        for key in a:
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-6), key


@pytest.mark.slow
def test_an_error_in_one_of_several_processes_keeps_its_type_and_text(write_config):
    first = run(write_config("first", training__max_epochs=1))
    content = checkpoint.load(first / "best.pt", checkpoint.WEIGHTS_KIND)
    content["state"]["energy_scale"].fill_(math.nan)
    checkpoint.save(first / "best.pt", content)
    path = write_config("second", run__devices=2, model__init=str(first / "best.pt"))
    with pytest.raises(TrainingError, match=r"loss is nan .* no checkpoint was written yet"):
        run(path)


def test_best_weights_reproduce_the_metrics(write_config, frames):
    directory = run(write_config())
    metrics = json.loads((directory / "metrics.json").read_text())
    potential = load_best(directory)
    everything = evaluate(potential, frames)
    parts = [metrics["training"], metrics["validation"]]
    squares = sum(m["n_atoms"] * m["forces_rmse_meV_per_A"] ** 2 for m in parts)
    expected = math.sqrt(squares / everything["n_atoms"])
    assert everything["forces_rmse_meV_per_A"] == pytest.approx(expected, rel=FLOAT32)


def test_the_configuration_of_a_run_is_complete_and_runs_again(write_config):
    directory = run(write_config(training__max_epochs=1))
    again = run(directory / "config.yaml", overrides={"run.directory": "again"})
    assert log_without_time(directory) == log_without_time(again)


def test_pipeline_reads_a_validation_file_of_its_own(write_config, frames, tmp_path):
    ase.io.write(tmp_path / "validation.xyz", frames[:3])
    config = pipeline.load_config(write_config(data__validation="validation.xyz"))
    training, validation = pipeline.load_data(config)
    assert (len(training), len(validation)) == (10, 3)
