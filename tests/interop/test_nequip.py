"""Imported NequIP networks say what the package nequip says about the same structures."""

import json

import numpy as np
import pytest
import torch

from equicalc.errors import ModelFileError, UnsupportedElementError
from equicalc.interop import nequip_file
from equicalc.interop.nequip import import_nequip
from equicalc.interop.pickled import load_package_pickle
from tests.interop.comparing import PROMISE, REFERENCE, errors
from tests.interop.structures import structures

# numbers of the package, written by tests/reference/make_nequip.py
NUMBERS = json.loads((REFERENCE / "nequip.json").read_text())
STORED = NUMBERS["parity"]
FILES = ("nequip_parity.ckpt", "nequip_parity.nequip.zip")
ALL_FILES = (*FILES, "nequip_linear.ckpt", "nequip_linear.nequip.zip")
# the same arithmetic in another order
ROUNDING = 1e-10


def load(name, fused, elements=None):
    network = import_nequip(REFERENCE / name, elements).network
    network.set_fused(fused)
    return network.requires_grad_(False)


def numbers_of(name):
    return NUMBERS[name.partition(".")[0].removeprefix("nequip_")]


@pytest.mark.parametrize("name", ALL_FILES)
def test_torch_expressions_equal_the_original(name):
    network = load(name, fused=False)
    for kind, atoms in structures().items():
        assert (errors(network, atoms, numbers_of(name)[kind]) < ROUNDING).all(), kind


@pytest.mark.parametrize("name", ALL_FILES[::2])
def test_fused_operators_equal_the_original(name):
    network = load(name, fused=True)
    for kind, atoms in structures().items():
        found = errors(network, atoms, numbers_of(name)[kind])
        assert (found < PROMISE[: len(found)]).all(), kind


@pytest.mark.parametrize("name", NUMBERS)
def test_stored_numbers_are_large_enough_to_tell_networks_apart(name):
    assert max(np.abs(v["forces"]).max() for v in NUMBERS[name].values()) > 0.1


def test_fewer_elements_leave_the_energies_unchanged():
    few = load(FILES[1], fused=False, elements=["O", "H"])
    assert few.config.elements == ["H", "O"]
    assert (errors(few, structures()["liquid"], STORED["liquid"]) < ROUNDING).all()


def test_unknown_elements_are_named():
    with pytest.raises(UnsupportedElementError, match="does not know Xe; it knows H, O, Na"):
        load(FILES[0], fused=False, elements=["Xe"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"per_edge_type_cutoff": {"H": 2.0}}, "per_edge_type_cutoff"),
        ({"convnet_nonlinearity_type": "norm"}, "norm"),
        ({"_target_": "allegro.model.AllegroModel"}, "AllegroModel.*nequip-package build"),
        ({"readout_mlp_nonlinearity": "softplus"}, "softplus"),
        ({"convnet_nonlinearity_gates": {"e": "sin", "o": "tanh"}}, "'sin'"),
        ({"convnet_nonlinearity_scalars": {"e": "silu", "o": "abs"}}, "'abs' on odd scalars"),
        ({"type_names": ["A", "O", "Na", "Si", "Cl"]}, "other types"),
        ({"l_max": 4, "num_features": 2}, "l_max is 4"),
        ({"l_max": 1}, "num_features"),
        ({"pair_potential": {"_target_": "x.LennardJones"}}, "LennardJones"),
        ({"bessel_trainable": False}, "averaged weights"),
    ],
)
def test_variants_that_cannot_be_imported_are_refused(tmp_path, change, named):
    content = torch.load(REFERENCE / FILES[0], weights_only=False)
    content["hyper_parameters"]["model"] |= change
    torch.save(content, tmp_path / "variant.ckpt")
    with pytest.raises(ModelFileError, match=named):
        import_nequip(tmp_path / "variant.ckpt")


@pytest.mark.parametrize("harmonics", ["1x0e+1x2e", "1x0e+1x1e"])
def test_harmonics_of_other_kinds_are_refused(tmp_path, harmonics):
    content = torch.load(REFERENCE / "nequip_linear.ckpt", weights_only=False)
    content["hyper_parameters"]["model"]["irreps_edge_sh"] = harmonics
    torch.save(content, tmp_path / "variant.ckpt")
    with pytest.raises(ModelFileError, match=r"harmonics .*expected 1x0e\+1x1o"):
        import_nequip(tmp_path / "variant.ckpt")


def test_layers_with_radial_networks_of_their_own_shape_are_refused(tmp_path):
    content = torch.load(REFERENCE / FILES[0], weights_only=False)
    weights = content["state_dict"]
    name = "model.sole_model.model.func.layer1_convnet.conv.edge_mlp.mlp.{}.weight"
    for layer in (0, 2):  # one more hidden neuron
        axis = 1 if layer == 0 else 0
        weights[name.format(layer)] = torch.cat(
            [weights[name.format(layer)], weights[name.format(layer)].narrow(axis, 0, 1)], axis
        )
    content["state_dict"] = {k: v for k, v in weights.items() if not k.startswith("ema.")}
    torch.save(content, tmp_path / "variant.ckpt")
    with pytest.raises(ModelFileError, match=r"hidden widths \[\[8, 8\], \[9, 8\], \[8, 8\]\]"):
        import_nequip(tmp_path / "variant.ckpt")


def test_weights_before_their_average_is_taken_are_refused(tmp_path):
    content = torch.load(REFERENCE / FILES[0], weights_only=False)
    content["schedulefree_optimizer_state_dict"] = {}
    torch.save(content, tmp_path / "variant.ckpt")
    with pytest.raises(ModelFileError, match=r"schedule-free.*nequip-package build"):
        import_nequip(tmp_path / "variant.ckpt")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda n: setattr(n["type_embed"], "do_categorical_graph_field_embed", True), "further"),
        (lambda n: setattr(n["spharm"], "irreps_edge_sh", "1x0e+1x1e"), "harmonics"),
        (lambda n: n["pair_potential"].tensor("atomic_numbers").add_(1), "other species"),
    ],
)
def test_packages_of_other_variants_are_refused(monkeypatch, change, named):
    def changed(path, member):
        model = load_package_pickle(path, member)
        change(model.get("sole_model.model.func").get("_modules"))
        return model

    monkeypatch.setattr(nequip_file, "load_package_pickle", changed)
    with pytest.raises(ModelFileError, match=named):
        import_nequip(REFERENCE / FILES[1])


def test_other_functions_without_kinks_are_read():
    assert load("nequip_linear.nequip.zip", fused=False).config.scalars["e"][0] == "ssp"


def test_files_of_other_origin_are_refused(tmp_path):
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    (tmp_path / "text.nequip.zip").write_text("not a package")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    for name in ("text.ckpt", "text.nequip.zip", "other.ckpt", "missing.ckpt"):
        with pytest.raises(ModelFileError, match=name):
            import_nequip(tmp_path / name)
