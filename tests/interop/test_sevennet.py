"""Imported SevenNet networks say what the package sevenn says about the same structures."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from equicalc.data.batch import make_sample
from equicalc.data.structures import from_atoms
from equicalc.errors import ModelFileError, UnsupportedElementError
from equicalc.interop.sevennet import import_sevennet
from equicalc.train.potential import Potential
from tests.interop.comparing import PROMISE, REFERENCE, errors, predict
from tests.interop.structures import structures

# file, and the mode after a colon
VARIANTS = (
    "rotations",
    "parity",
    "degree_3",
    "modes:pbe",
    "modes:r2scan",
    "biases:pbe",
    "biases:r2scan",
)
# the same arithmetic in another order
ROUNDING = 1e-10


def stored(name):
    """Numbers of the package sevenn, written by tests/reference/make_sevennet.py."""
    return json.loads((REFERENCE / "sevennet.json").read_text())[name]


def load(name, fused, elements=None):
    file, _, modal = name.partition(":")
    checkpoint = REFERENCE / f"sevennet_{file}.pth"
    network = import_sevennet(checkpoint, elements, modal or None).network
    network.set_fused(fused)
    return network.requires_grad_(False)


@pytest.mark.parametrize("name", VARIANTS)
def test_torch_expressions_equal_the_original(name):
    network, expected = load(name, fused=False), stored(name)
    for kind, atoms in structures().items():
        assert (errors(network, atoms, expected[kind]) < ROUNDING).all(), kind


@pytest.mark.parametrize("name", VARIANTS)
def test_fused_operators_equal_the_original(name):
    network, expected = load(name, fused=True), stored(name)
    for kind, atoms in structures().items():
        found = errors(network, atoms, expected[kind])
        assert (found < PROMISE[: len(found)]).all(), kind


def test_fewer_elements_leave_the_energies_unchanged():
    atoms = structures()["liquid"]
    few = load("parity", fused=False, elements=["O", "H"])
    assert few.config.elements == ["H", "O"]
    assert (errors(few, atoms, stored("parity")["liquid"]) < ROUNDING).all()


def test_isolated_atom_has_the_energy_of_the_original_without_neighbours():
    from ase import Atoms

    network = load("rotations", fused=False)
    alone = predict(network, Atoms("Na", [(0.0, 0.0, 0.0)]))
    pair = predict(network, Atoms("NaCl", [(0.0, 0.0, 0.0), (0.0, 0.0, 4.499)]))
    assert torch.isfinite(alone.energy).all()
    # at the cutoff messages vanish: the pair is two isolated atoms
    chlorine = predict(network, Atoms("Cl", [(0.0, 0.0, 0.0)]))
    assert abs(pair.energy - alone.energy - chlorine.energy) < PROMISE[0]
    assert not alone.forces.any()


def test_placeholder_among_the_elements_of_the_network_is_left_out(tmp_path):
    content = torch.load(REFERENCE / "sevennet_rotations.pth", weights_only=True)
    types = content["config"]["_type_map"]
    types[0] = types.pop(17)
    torch.save(content, tmp_path / "all.pth")
    assert import_sevennet(tmp_path / "all.pth").network.config.elements == ["H", "O", "Na", "Si"]


def test_unknown_elements_are_named():
    with pytest.raises(UnsupportedElementError, match="does not know Xe; it knows H, O, Na"):
        load("rotations", fused=False, elements=["Na", "Xe"])


def test_names_without_the_package_say_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelFileError, match="pip install sevenn"):
        import_sevennet("7net-0")


def test_names_of_what_the_package_downloads_say_how(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(ModelFileError, match="Type: sevenn cp 7net-omni "):
        import_sevennet("SevenNet-Omni", modal="mpa")
    kept = tmp_path / ".cache" / "sevennet" / "SevenNet_omni" / "checkpoint_sevennet_omni.pth"
    kept.parent.mkdir(parents=True)
    shutil.copy(REFERENCE / "sevennet_modes.pth", kept)
    about = import_sevennet("SevenNet-Omni", ["Na"], "pbe").about
    assert about["origin"].endswith("checkpoint 'SevenNet-Omni', mode pbe")


def test_modes_differ_and_are_named():
    checkpoint = REFERENCE / "sevennet_modes.pth"
    pbe, r2scan = (import_sevennet(checkpoint, ["Na"], modal) for modal in ("pbe", "r2scan"))
    assert pbe.about["training"]["mode"] == "pbe"
    assert r2scan.about["training"]["mode"] == "r2scan"
    biases = [found.network.layers[0].linear.bias for found in (pbe, r2scan)]
    assert not torch.equal(*biases)


def test_forces_train_the_biases():
    network = load("modes:pbe", fused=False).requires_grad_(True)
    atoms = from_atoms([structures()["molecule"]], "test")[0]
    sample = make_sample(atoms, network.config.elements, network.config.cutoff)
    Potential(network)(sample, create_graph=True).forces.square().sum().backward()
    for layer in network.layers:
        for linear in (layer.linear, layer.messages.mix):
            assert linear.bias.grad.abs().max() > 0


def test_frequencies_that_were_not_trained_are_those_of_the_package(tmp_path):
    content = torch.load(REFERENCE / "sevennet_rotations.pth", weights_only=True)
    coefficients = content["model_state_dict"].pop("edge_embedding.basis_function.coeffs")
    torch.save(content, tmp_path / "plain.pth")
    found = import_sevennet(tmp_path / "plain.pth").network.first.messages.radial.frequencies
    assert found.shape == coefficients.shape
    # trained ones are 2 % off
    assert (found - coefficients).abs().max() < 0.1 * found.max()
    expected = torch.arange(1, 7, dtype=torch.float64) * (np.pi / 4.5)
    assert (found / expected - 1).abs().max() < torch.finfo(torch.float32).eps


def test_networks_without_constants_have_no_biases():
    network = load("rotations", fused=True)
    assert not any(name.endswith("bias") for name in network.state_dict())


def test_couplings_that_are_not_stored_are_those_of_e3nn(tmp_path):
    # networks trained with the kernels of other libraries do not carry theirs along
    content = torch.load(REFERENCE / "sevennet_modes.pth", weights_only=True)
    content["model_state_dict"] = {
        name: value for name, value in content["model_state_dict"].items() if "_w3j_" not in name
    }
    torch.save(content, tmp_path / "bare.pth")
    bare = import_sevennet(tmp_path / "bare.pth", modal="pbe").network.state_dict()
    for name, value in load("modes:pbe", fused=True).state_dict().items():
        assert torch.equal(value, bare[name]), name


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ModelFileError, match="7net-l3i5"):
        import_sevennet("8net-0")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"radial_basis": {"radial_basis_name": "gaussian"}}, "gaussian"),
        ({"act_scalar": {"e": "silu", "o": "abs"}}, "'abs'"),
        ({"act_radial": "relu"}, "'relu'.*without kinks"),
        ({"irreps_manual": ["10x0e", "6x1e+10x0e", "8x0e", "8x0e"]}, "scalars, then others"),
        ({"version": "0.9.0", "_normalize_sph": None}, "not normalised"),
        ({"irreps_manual": ["10x0e", "4x0e+4x0e", "8x0e", "8x0e"]}, "each kind"),
    ],
)
def test_variants_that_cannot_be_imported_are_refused(tmp_path, change, named):
    content = torch.load(REFERENCE / "sevennet_rotations.pth", weights_only=True)
    content["config"] |= change
    torch.save(content, tmp_path / "variant.pth")
    with pytest.raises(ModelFileError, match=named):
        import_sevennet(tmp_path / "variant.pth")


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "hello.pth").write_text("hello")  # to pickle, the number of an unknown object
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({"config": Path("x"), "model_state_dict": {}}, tmp_path / "objects.pth")
    for name in ("text.pth", "hello.pth", "other.pth", "objects.pth"):
        with pytest.raises(ModelFileError, match=f"{name}' (cannot be read|is not)") as caught:
            import_sevennet(tmp_path / name)
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)
