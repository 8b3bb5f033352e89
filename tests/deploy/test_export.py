"""Export: the file holds the same function as the network, and is replaced atomically."""

import json

import pytest
import torch

from equicalc.core import load_library
from equicalc.deploy import export_network, read_metadata
from equicalc.deploy.export import write_atomically
from equicalc.deploy.self_check import reference_properties, self_check_structure
from equicalc.nn import EquiNetwork, NetworkConfig
from tests.derivatives import strained

# fused operators sum in another order; features of random weights at close contacts reach 1e4
ROUNDING = 1e-10
# central differences of an energy of order 10 eV with step 1e-5: rounding/step ~ 1e-9
FINITE_DIFFERENCE = 1e-6


def make_network(**changes) -> EquiNetwork:
    torch.manual_seed(5)
    network = EquiNetwork(NetworkConfig(**{"elements": ["K", "Cl"], "channels": 8, **changes}))
    network.set_statistics({"K": -1.25, "Cl": -2.5}, 0.5, 10.0, {"K": 0.7, "Cl": -0.7})
    return network


@pytest.mark.parametrize(
    "changes", [{}, {"n_layers": 3}, {"n_layers": 1}, {"charge_model": "none"}, {"l_max": 0}]
)
def test_loaded_file_equals_the_network(tmp_path, changes):
    network = make_network(**changes)
    path = export_network(network, tmp_path / "m.pt")
    module = torch.jit.load(str(path))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 3, generator=generator, dtype=torch.float64) * 2.0
    receivers = torch.arange(20) // 5
    edges = torch.stack([receivers, (receivers + 1 + torch.arange(20) % 3) % 4])
    species = torch.tensor([0, 1, 1, 0])
    for total in (None, torch.tensor(1.0, dtype=torch.float64)):
        expected = network.to(torch.float64)(species, vectors, edges, 4, total)
        found = module(species, vectors, edges, 4, total)
        for a, b in zip(expected, found, strict=True):
            assert (a - b).abs().max() < ROUNDING


def test_export_leaves_the_network_untouched(tmp_path):
    network = make_network().to(torch.float32)
    trained = sum(p.requires_grad for p in network.parameters())
    export_network(network, tmp_path / "m.pt")
    assert next(network.parameters()).dtype == torch.float32
    assert sum(p.requires_grad for p in network.parameters()) == trained


def test_metadata_and_attributes_come_from_one_source(tmp_path):
    network = make_network()
    path = export_network(network, tmp_path / "salt.pt", level_of_theory="PBEsol", licence="MIT")
    metadata = read_metadata(path)
    info = load_library().Model.load(str(path)).info
    assert metadata["name"] == info.name == "salt"
    assert metadata["elements"] == info.elements == ["K", "Cl"]
    assert metadata["cutoff"] == info.cutoff
    assert metadata["exchange_width"] == info.exchange_width == 9 * 8
    assert list(metadata["charges"]["sigma"].values()) == info.sigmas
    assert metadata["charges"]["nominal"]["K"] == info.nominal_charges[0]
    assert json.loads(info.json) == metadata


def test_reference_energies_survive_unrounded(tmp_path):
    network = make_network()
    network.set_statistics({"K": -16123.456789012345, "Cl": -2.5}, 0.5, 10.0)
    metadata = read_metadata(export_network(network, tmp_path / "m.pt"))
    assert metadata["reference_energies"]["K"] == pytest.approx(-16123.456789012345, abs=1e-11)


def test_reference_forces_and_stress_match_finite_differences():
    network = make_network().to(torch.float64)
    atoms = self_check_structure(network.config)
    reference = reference_properties(network, atoms)
    step = 1e-5

    def energy(structure):
        return reference_properties(network, structure)["energy"]

    for atom, axis in [(0, 0), (3, 1), (5, 2)]:
        values = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            values.append(energy(moved))
        numeric = -(values[0] - values[1]) / (2 * step)
        assert numeric == pytest.approx(reference["forces"][atom][axis], abs=FINITE_DIFFERENCE)
    for a, b in [(0, 0), (1, 2)]:
        values = []
        for sign in (1, -1):
            values.append(energy(strained(atoms, a, b, sign * step)))
        numeric = (values[0] - values[1]) / (2 * step) / atoms.get_volume()
        assert numeric == pytest.approx(reference["stress"][a][b], abs=FINITE_DIFFERENCE)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "m.pt"
    target.write_bytes(b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match=r"No space left on device: .* needs"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
