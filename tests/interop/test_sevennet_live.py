"""The weights that the package sevenn ships, against that package, where it is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sevenn", reason="pip install sevenn")

from equicalc import EquiCalculator
from equicalc.deploy import export_network
from equicalc.interop.sevennet import import_sevennet
from equicalc.lammps_run import single_point

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "reference")]
import make_sevennet  # noqa: E402
from structures import ELEMENTS, structures  # noqa: E402

# eV/atom, eV/angstrom, eV/angstrom^3
PROMISE = np.array([1e-6, 1e-5, 1e-6])
# float32 against float64 for forces of up to 25 eV/angstrom
SINGLE_PRECISION = np.array([1e-5, 2e-4, 1e-5])


# name and mode
NETWORKS = [
    ("7net-0", None),
    ("7net-l3i5", None),
    ("7net-mf-0", "PBE"),
    ("7net-mf-0", "R2SCAN"),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda param: ":".join(filter(None, param)))
def both(request, tmp_path_factory):
    """What the package's network in float64 says, and the model file made from its weights."""
    name, modal = request.param
    found = import_sevennet(name, ELEMENTS, modal)
    path = tmp_path_factory.mktemp("live") / "model.pt"
    export_network(found.network, path, **found.about)
    network, cutoff = make_sevennet.load_double(name)

    def original(atoms):
        return make_sevennet.evaluate(network, cutoff, atoms, modal)

    return original, str(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crystal", "triclinic", "surface", "molecule", "liquid"])
def test_model_file_gives_the_numbers_of_the_package(both, kind):
    original, path = both
    atoms = structures()[kind]
    expected = original(atoms)
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


@pytest.mark.slow
@pytest.mark.lammps
def test_two_ranks_of_lammps_give_what_the_package_gives(both, tmp_path):
    original, path = both
    atoms = structures()["liquid"]
    expected = original(atoms)
    found = single_point(atoms, path, ["H", "O"], tmp_path, ranks=2, kspace=None)
    error = [
        abs(found["energy"] - expected["energy"]) / len(atoms),
        np.abs(found["forces"] - expected["forces"]).max(),
        np.abs(found["stress"] - expected["stress"]).max(),
    ]
    assert (error < PROMISE).all(), error


def test_file_of_a_few_elements_passes_its_own_check(tmp_path):
    # small forces beside errors of the radial tables that do not depend on them
    found = import_sevennet("7net-0", ["H", "O", "Na", "Cl"])
    path = export_network(found.network, tmp_path / "few.pt", **found.about)
    EquiCalculator(str(path), dtype="float64")  # SelfCheckError otherwise


@pytest.mark.parametrize(
    ("name", "modal", "theory"),
    [("7net-0", None, "PBE"), ("7net-mf-0", "PBE", "PBE"), ("7net-mf-0", "R2SCAN", "r2SCAN")],
)
def test_shipped_weights_are_recognised(name, modal, theory):
    about = import_sevennet(name, ["Na"], modal).about
    assert about["licence"].startswith("MIT")
    assert about["level_of_theory"].startswith(theory)
