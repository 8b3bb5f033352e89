"""Imported NequIP networks say what the package nequip says about the same structures."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from equicalc.data.batch import make_sample
from equicalc.data.structures import from_atoms
from equicalc.errors import ModelFileError, UnsupportedElementError
from equicalc.interop.nequip import import_nequip
from equicalc.train.potential import Potential

REFERENCE = Path(__file__).resolve().parent.parent / "reference"
sys.path.insert(0, str(Path(__file__).resolve().parent))
from structures import structures  # noqa: E402

# numbers of the package, written by tests/reference/make_nequip.py
STORED = json.loads((REFERENCE / "nequip.json").read_text())
FILES = ("nequip_parity.ckpt", "nequip_parity.nequip.zip")
# the same arithmetic in another order
ROUNDING = 1e-10
# what an imported network promises, eV/atom, eV/angstrom, eV/angstrom^3
PROMISE = np.array([1e-6, 1e-5, 1e-6])


def load(name, fused, elements=None):
    network = import_nequip(REFERENCE / name, elements).network
    for module in network.modules():
        if hasattr(module, "fused"):
            module.fused = fused
    return network.requires_grad_(False)


def errors(network, atoms, expected):
    """Errors of energy per atom, forces, stress; relative to forces above 1 eV/angstrom."""
    sample = make_sample(
        from_atoms([atoms], "test")[0], network.config.elements, network.config.cutoff
    )
    found = Potential(network)(sample, need_stress=bool(atoms.pbc.all()))
    largest = max(1.0, np.abs(expected["forces"]).max())
    result = [
        abs(found.energy.item() - expected["energy"]) / len(atoms),
        float(np.abs(found.forces.numpy() - expected["forces"]).max()) / largest,
    ]
    if atoms.pbc.all():
        result.append(float(np.abs(found.stress[0].numpy() - expected["stress"]).max()))
    return np.array(result)


@pytest.mark.parametrize("name", FILES)
def test_torch_expressions_equal_the_original(name):
    network = load(name, fused=False)
    for kind, atoms in structures().items():
        assert (errors(network, atoms, STORED[kind]) < ROUNDING).all(), kind


def test_fused_operators_equal_the_original():
    network = load(FILES[0], fused=True)
    for kind, atoms in structures().items():
        found = errors(network, atoms, STORED[kind])
        assert (found < PROMISE[: len(found)]).all(), kind


def test_stored_numbers_are_large_enough_to_tell_networks_apart():
    assert max(np.abs(v["forces"]).max() for v in STORED.values()) > 0.1


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
        ({"readout_mlp_nonlinearity": "mish"}, "mish"),
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


def test_files_of_other_origin_are_refused(tmp_path):
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    (tmp_path / "text.nequip.zip").write_text("not a package")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    for name in ("text.ckpt", "text.nequip.zip", "other.ckpt", "missing.ckpt"):
        with pytest.raises(ModelFileError, match=name):
            import_nequip(tmp_path / name)
