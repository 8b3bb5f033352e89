"""Whole networks from model files through the source of the kernels for devices."""

from pathlib import Path

import pytest
import torch
from ase.build import bulk

from equicalc.core import load_library
from equicalc.data.neighbors import NeighborList
from equicalc.deploy import export_network
from equicalc.models import resolve
from equicalc.nn import EquiNetwork, NetworkConfig
from tests.comparing import assert_close

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
# the same sums in another order, relative to the largest number or to one in eV, e, eV/angstrom
ROUNDING = 1e-10
SINGLE = 2e-5


def three_layers(folder: Path) -> Path:
    config = NetworkConfig(elements=["Na", "Cl"], n_layers=3, channels=12, cutoff=4.0)
    network = EquiNetwork(config)
    network.set_statistics({"Na": -1.0, "Cl": -2.0}, 0.5, 12.0)
    return Path(export_network(network, folder / "three.pt"))


def imported(kind: str, folder: Path) -> Path:
    if kind in ("sevennet", "biases"):
        from equicalc.interop.sevennet import import_sevennet

        file, modal = ("parity", None) if kind == "sevennet" else ("biases", "pbe")
        found = import_sevennet(REFERENCE / f"sevennet_{file}.pth", modal=modal)
    elif kind == "mace":
        from equicalc.interop.mace import import_mace

        found = import_mace(REFERENCE / "mace_density.model")
    else:
        from equicalc.interop.nequip import import_nequip

        found = import_nequip(REFERENCE / "nequip_parity.nequip.zip")
    return Path(export_network(found.network, folder / f"{kind}.pt", **found.about))


def evaluate(path: Path, dtype: str) -> list[torch.Tensor]:
    """Energies, charge variables and gradients of edges of a rattled cell, as TorchScript."""
    core = load_library()
    model = core.Model.load(str(path), dtype, scripted=True)
    atoms = bulk("NaCl", "rocksalt", a=5.5, cubic=True)
    atoms.rattle(0.1, seed=2)
    species = torch.arange(len(atoms)) % min(len(model.info.elements), 3)
    cutoff = model.info.cutoff
    index, vectors = NeighborList(cutoff).update(atoms.positions, atoms.cell[:], atoms.pbc)
    evaluator = core.Evaluator(model)
    result = evaluator.forward(species, index, vectors, len(atoms))
    weights = torch.linspace(-1, 1, result.variables.numel(), dtype=torch.float64)
    gradient = weights.view_as(result.variables) if model.info.has_charges else None
    return [result.energies, result.variables, evaluator.backward(gradient)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", ROUNDING), ("float32", SINGLE)])
@pytest.mark.parametrize(
    "kind", ["kcl", "sio2", "three layers", "sevennet", "biases", "mace", "nequip"]
)
def test_networks_are_the_same_function(kind, dtype, tolerance, tmp_path, host_groups):
    if kind in ("kcl", "sio2"):
        path = resolve(kind)
    else:
        path = three_layers(tmp_path) if kind == "three layers" else imported(kind, tmp_path)
    expected = evaluate(path, dtype)
    host_groups.use_host_groups(1)
    try:
        found = evaluate(path, dtype)
    finally:
        host_groups.use_host_groups(0)
    assert_close(found, expected, tolerance)
