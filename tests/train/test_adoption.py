"""Imported networks are trained further, with a Coulomb term of their own."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml

from equicalc import EquiCalculator
from equicalc.data import from_atoms
from equicalc.data.batch import make_sample
from equicalc.deploy import export_network, export_run, read_metadata, read_network
from equicalc.errors import ConfigError
from equicalc.evaluate import predict
from equicalc.interop import import_network
from equicalc.lammps_run import single_point
from equicalc.train import load_best, run
from equicalc.train.potential import Potential

REFERENCE = Path(__file__).resolve().parent.parent / "reference"
# a float64 network through tables and operators against torch expressions, eV/angstrom
TABLES = 1e-6
# LAMMPS against ASE in float64 with a tight wave sum, eV/angstrom
FRONT_ENDS = 1e-7


SOURCES = {
    "sevennet": "sevennet_parity.pth",
    "mace": "mace_vectors.model",
    "nequip": "nequip_parity.ckpt",
}


@pytest.fixture(scope="module", params=SOURCES)
def imported(request, tmp_path_factory):
    """Model file of a small network of another code with the elements of the data."""
    found = import_network(request.param, REFERENCE / SOURCES[request.param], ["Na", "Cl"])
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


def test_trained_energies_do_not_depend_on_directions(configure, tmp_path):
    network = load_best(run(configure(epochs=2, charge_model="none"))).network
    model = export_network(network, tmp_path / "trained.pt")
    atoms = ase.io.read(tmp_path / "salt.xyz", 0)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = atoms.copy()
    turned.set_cell(atoms.cell[:] @ turn.T)
    turned.positions = atoms.positions @ turn.T
    atoms.calc, turned.calc = EquiCalculator(model), EquiCalculator(model)
    assert turned.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert np.abs(turned.get_forces() - atoms.get_forces() @ turn.T).max() < FRONT_ENDS


def test_gradients_of_a_loss_of_forces_are_those_of_finite_differences(
    imported, tmp_path, configure
):
    network = read_network(imported)
    network.set_fused(False)
    atoms = from_atoms([ase.io.read(tmp_path / "salt.xyz", 0)])[0]
    sample = make_sample(atoms, network.config.elements, network.config.cutoff)

    def loss():
        found = Potential(network)(sample, create_graph=True)
        return found.forces.square().sum() + found.energy.square().sum() * 1e-6

    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    torch.manual_seed(0)
    along = [torch.randn_like(p) for p in parameters]
    expected = sum(
        float((g * d).sum()) for g, d in zip(gradients, along, strict=True) if g is not None
    )
    step, found = 1e-6, 0.0
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for parameter, direction in zip(parameters, along, strict=True):
                parameter.add_(sign * step * direction)
        found += sign * float(loss().detach()) / (2 * step)
        with torch.no_grad():
            for parameter, direction in zip(parameters, along, strict=True):
                parameter.sub_(sign * step * direction)
    assert found == pytest.approx(expected, rel=1e-6)


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
