"""Imported MACE networks say what the package mace-torch says about the same structures."""

import json

import numpy as np
import pytest
import torch

from equicalc.errors import ConfigError, ModelFileError, UnsupportedElementError
from equicalc.interop import import_network
from equicalc.interop.mace import import_mace
from equicalc.interop.pickled import StandIn, load_pickled
from equicalc.nn.mace_config import MaceConfig, MaceLayerConfig
from tests.interop.comparing import PROMISE, REFERENCE, errors
from tests.interop.structures import structures

VARIANTS = (
    "vectors",
    "heads:one",
    "heads:two",
    "density",
    "tanh",
    "no_gate:one",
    "no_gate:two",
)
# the same arithmetic in another order; the model `vectors` is stored in float32, couplings too,
# which are exact here
ROUNDING = {"vectors": 1e-6}
EXACT = 1e-10


def stored(name):
    """Numbers of mace-torch, written by tests/reference/make_mace.py."""
    return json.loads((REFERENCE / "mace.json").read_text())[name]


def load(name, fused, elements=None):
    file, _, head = name.partition(":")
    network = import_mace(REFERENCE / f"mace_{file}.model", elements, head or None).network
    network.set_fused(fused)
    return network.requires_grad_(False)


@pytest.mark.parametrize("name", VARIANTS)
def test_torch_expressions_equal_the_original(name):
    network, expected = load(name, fused=False), stored(name)
    for kind, atoms in structures().items():
        assert (errors(network, atoms, expected[kind]) < ROUNDING.get(name, EXACT)).all(), kind


@pytest.mark.parametrize("name", VARIANTS)
def test_fused_operators_equal_the_original(name):
    network, expected = load(name, fused=True), stored(name)
    for kind, atoms in structures().items():
        found = errors(network, atoms, expected[kind])
        assert (found < PROMISE[: len(found)]).all(), kind


def test_stored_numbers_are_large_enough_to_tell_networks_apart():
    for name in VARIANTS:
        assert max(np.abs(v["forces"]).max() for v in stored(name).values()) > 0.1


def test_fewer_elements_leave_the_energies_unchanged():
    few = load("heads:two", fused=False, elements=["O", "H"])
    assert few.config.elements == ["H", "O"]
    assert (errors(few, structures()["liquid"], stored("heads:two")["liquid"]) < EXACT).all()


def test_unknown_elements_are_named():
    with pytest.raises(UnsupportedElementError, match="does not know Xe; it knows H, O, Na"):
        load("density", fused=False, elements=["Na", "Xe"])


def test_heads_are_chosen_by_name():
    with pytest.raises(ModelFileError, match=r"heads one, two, found head None.*--head"):
        load("heads", fused=False)
    with pytest.raises(ModelFileError, match="found head three"):
        load("heads:three", fused=False)
    with pytest.raises(ConfigError, match="no heads"):
        import_network("nequip", "model.ckpt", None, "one")


def rewrite(monkeypatch, change):
    """Let the importer see a changed model."""
    import equicalc.interop.mace as module

    def changed(path):
        model = load_pickled(path)
        change(model)
        return model

    monkeypatch.setattr(module, "load_pickled", changed)


def other_class(name):
    return type(name, (StandIn,), {"origin": f"mace.modules.{name}"})()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: setattr(type(m), "origin", "mace.modules.models.AtomicDipolesMACE"), "Dipoles"),
        (lambda m: setattr(m, "use_so3", True), "use_so3"),
        (lambda m: m._modules.update(joint_embedding=StandIn()), "embeddings"),
        (
            lambda m: m._modules["radial_embedding"]._modules.update(distance_transform=StandIn()),
            "distance transform",
        ),
        (
            lambda m: m._modules["radial_embedding"]._modules.update(
                bessel_fn=other_class("GaussianBasis")
            ),
            "GaussianBasis",
        ),
        (
            lambda m: m._modules["interactions"]._modules.update(
                {"1": other_class("RealAgnosticAttResidualInteractionBlock")}
            ),
            "AttResidual",
        ),
        (
            lambda m: m._modules["readouts"]._modules.update({"0": other_class("DipoleReadout")}),
            "DipoleReadout",
        ),
    ],
)
def test_variants_that_cannot_be_imported_are_refused(monkeypatch, change, named):
    rewrite(monkeypatch, change)
    with pytest.raises(ModelFileError, match=named):
        load("density", fused=False)


def test_what_no_check_foresees_is_an_error_that_names_the_file(monkeypatch):
    rewrite(monkeypatch, lambda m: m._buffers.pop("atomic_numbers"))
    with pytest.raises(ModelFileError, match=r"mace_density.model' is of a variant of mace .*None"):
        import_network("mace", REFERENCE / "mace_density.model")


def test_files_of_other_origin_are_refused(tmp_path):
    (tmp_path / "text.model").write_text("not a model")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.model")
    for name in ("text.model", "other.model", "missing.model"):
        with pytest.raises(ModelFileError, match=name):
            import_mace(tmp_path / name)


def test_networks_of_this_architecture_can_be_described_without_a_file():
    layers = [
        {"sent": "4x0e", "features": "4x0e+4x1o", "own": False},
        {"sent": "4x0e+4x1o", "features": "4x0e"},
    ]
    config = MaceConfig(elements=["Na"], l_max=2, channels=4, layers=layers)
    assert config.exchange_width == 16
    assert MaceConfig(**config.to_dict()) == config
    for wrong in ({"features": "4x0e+4x1e"}, {"correlation": 4}, {"features": "5x0e"}):
        with pytest.raises(ValueError, match=r"correlation|features"):
            MaceConfig(elements=["Na"], channels=4, layers=[MaceLayerConfig(**wrong)])
