"""The weights that the package sevenn ships, against that package, where it is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sevenn", reason="pip install sevenn")

from equicalc import EquiCalculator
from equicalc.deploy import export_network
from equicalc.interop.sevennet import import_sevennet

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "reference")]
import make_sevennet  # noqa: E402
from structures import ELEMENTS, structures  # noqa: E402

# eV/atom, eV/angstrom, eV/angstrom^3
PROMISE = np.array([1e-6, 1e-5, 1e-6])
# float32 against float64 for forces of up to 25 eV/angstrom
SINGLE_PRECISION = np.array([1e-5, 2e-4, 1e-5])


@pytest.fixture(scope="module", params=["7net-0", "7net-l3i5"])
def both(request, tmp_path_factory):
    """The package's network in float64, and the model file made from its weights."""
    found = import_sevennet(request.param, ELEMENTS)
    path = tmp_path_factory.mktemp("live") / "model.pt"
    export_network(found.network, path, **found.about)
    return make_sevennet.load_double(request.param), str(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crystal", "triclinic", "surface", "molecule", "liquid"])
def test_model_file_gives_the_numbers_of_the_package(both, kind):
    (network, cutoff), path = both
    atoms = structures()[kind]
    expected = make_sevennet.evaluate(network, cutoff, atoms)
    for dtype, allowed in (("float64", PROMISE), ("float32", PROMISE + SINGLE_PRECISION)):
        atoms.calc = EquiCalculator(path, dtype=dtype)
        error = [
            abs(atoms.get_potential_energy() - expected["energy"]) / len(atoms),
            np.abs(atoms.get_forces() - expected["forces"]).max(),
        ]
        if "stress" in expected:
            error.append(np.abs(atoms.get_stress(voigt=False) - expected["stress"]).max())
        print(kind, dtype, error)
        assert (error < allowed[: len(error)]).all(), (dtype, error)


def test_shipped_weights_are_recognised():
    about = import_sevennet("7net-0", ["Na"]).about
    assert about["licence"].startswith("MIT")
    assert "PBE" in about["level_of_theory"]
