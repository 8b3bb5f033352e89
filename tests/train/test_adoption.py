"""Imported networks are trained further, with a Coulomb term of their own."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from equicalc import EquiCalculator
from equicalc.data import from_atoms
from equicalc.deploy import export_network, export_run, read_metadata
from equicalc.errors import ConfigError
from equicalc.evaluate import predict
from equicalc.interop.sevennet import import_sevennet
from equicalc.lammps_run import single_point
from equicalc.train import load_best, run

REFERENCE = Path(__file__).resolve().parent.parent / "reference"
# a float64 network through tables and operators against torch expressions, eV/angstrom
TABLES = 1e-6
# LAMMPS against ASE in float64 with a tight wave sum, eV/angstrom
FRONT_ENDS = 1e-7


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Model file of a small SevenNet with the elements of the data."""
    found = import_sevennet(REFERENCE / "sevennet_parity.pth", ["Na", "Cl"])
    target = tmp_path_factory.mktemp("imported") / "small.pt"
    return export_network(found.network, target, **found.about)


@pytest.fixture
def configure(tmp_path, frames, imported, monkeypatch):
    """Return a function that writes a configuration starting from the imported network."""
    monkeypatch.chdir(tmp_path)
    salt = [frame.copy() for frame in frames]
    for frame, labelled in zip(salt, frames, strict=True):
        frame.symbols[frame.symbols == "K"] = "Na"
        frame.calc = labelled.calc
    ase.io.write(tmp_path / "salt.xyz", salt)

    def write(epochs=3, learning_rate=0.003, **model):
        raw = {
            "model": {"init": str(imported), **model},
            "data": {"train": "salt.xyz", "validation_fraction": 0.2},
            "training": {
                "max_epochs": epochs,
                "batch_size": 4,
                "learning_rate": learning_rate,
                "ema_decay": 0.0,
            },
            "run": {"dtype": "float64", "progress": False, "plots": False, "threads": 1},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


def test_training_begins_with_the_energies_of_the_imported_network(configure, imported, tmp_path):
    directory = run(configure(epochs=1, learning_rate=1e-12, charge_model="none"))
    atoms = ase.io.read(tmp_path / "salt.xyz", 0)
    found = predict(load_best(directory), from_atoms([atoms])[0])
    atoms.calc = EquiCalculator(imported)
    assert found["energy"] == pytest.approx(atoms.get_potential_energy(), abs=TABLES)
    assert np.abs(found["forces"] - atoms.get_forces()).max() < TABLES


@pytest.mark.parametrize("charge_model", ["fixed", "predicted"])
def test_charges_are_added_trained_and_exported(configure, tmp_path, charge_model):
    charges = {"Na": 0.68, "Cl": -0.68}
    path = configure(charge_model=charge_model, initial_charges=charges, sigmas={"Na": 0.8})
    directory = run(path)
    potential = load_best(directory)
    model = export_run(directory, tmp_path / "charged.pt")
    assert read_metadata(model)["charges"]["sigma"] == {"Na": 0.8, "Cl": 1.0}
    atoms = ase.io.read(tmp_path / "salt.xyz", 0)
    found = predict(potential, from_atoms([atoms])[0])
    atoms.calc = EquiCalculator(model)
    assert np.abs(found["forces"] - atoms.get_forces()).max() < TABLES
    assert np.abs(found["charges"] - atoms.get_charges()).max() < TABLES
    deviation = np.abs(atoms.get_charges() - [charges[s] for s in atoms.symbols]).max()
    # predicted charges have begun to differ from the nominal ones, fixed ones have not
    assert (deviation > 1e-6) == (charge_model == "predicted")


@pytest.mark.lammps
def test_charges_of_an_imported_network_act_in_lammps_on_two_ranks(configure, tmp_path):
    charges = {"Na": 0.68, "Cl": -0.68}
    directory = run(configure(epochs=1, charge_model="predicted", initial_charges=charges))
    model = export_run(directory, tmp_path / "charged.pt")
    atoms = ase.io.read(tmp_path / "salt.xyz", 0) * (2, 2, 2)
    run_directory = tmp_path / "lammps"
    run_directory.mkdir()
    found = single_point(
        atoms, str(model), ["Na", "Cl"], run_directory, ranks=2, kspace="ewald 1.0e-12"
    )
    atoms.calc = EquiCalculator(model, kspace="ewald", kspace_accuracy=1e-12)
    assert np.abs(found["forces"] - atoms.get_forces()).max() < FRONT_ENDS
    assert np.abs(found["charges"] - atoms.get_charges()).max() < FRONT_ENDS


def test_a_finished_training_can_be_trained_further(configure, tmp_path):
    charges = {"Na": 0.68, "Cl": -0.68}
    path = configure(epochs=1, charge_model="fixed", initial_charges=charges)
    first = run(path)
    second = run(
        path,
        overrides={
            "model.init": str(first / "best.pt"),
            "run.directory": "second",
            "training.learning_rate": 1e-12,
        },
    )
    atoms = ase.io.read(tmp_path / "salt.xyz", 0)
    energies = [predict(load_best(d), from_atoms([atoms])[0])["energy"] for d in (first, second)]
    assert energies[1] == pytest.approx(energies[0], abs=TABLES)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"channels": 8}, r"model.channels is 8, but model.init: .* brings a network of its own"),
        ({"charge_model": "transferred"}, "can have one of none, fixed, predicted"),
        ({"sigma": -1.0}, "widths of charges must be positive"),
    ],
)
def test_settings_that_an_imported_network_cannot_have_are_refused(configure, model, message):
    with pytest.raises(ConfigError, match=message):
        run(configure(**model))


def test_other_elements_are_refused_with_the_line_to_type(configure, data_file):
    with pytest.raises(ConfigError, match=r"equicalc import \.\.\. --elements Cl K"):
        run(configure(), overrides={"data.train": [data_file.name]})
