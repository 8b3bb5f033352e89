"""Files are compared with their networks before they take their place."""

from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator

from equicalc.deploy import deviation
from equicalc.deploy.deviation import common_structures, export_checked, some_frames
from equicalc.errors import DataError, ModelFileError
from tests.conftest import tiny_network


def salt():
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("charge", [0.0, 1.0])
@pytest.mark.parametrize("charge_model", ["predicted", "none"])
def test_deviations_are_those_of_rounding(tmp_path, charge_model, charge):
    atoms = salt()
    atoms.info["charge"] = charge
    found = export_checked(tiny_network(charge_model), tmp_path / "m.pt", [atoms])
    assert atoms.info["charge"] == charge
    # Coulomb sums are compared to the accuracy of the reference
    assert found["float64"].energy < 1e-10
    assert found["float64"].forces < 1e-10
    assert 0.0 < found["float32"].forces < 1e-4
    assert found["float32"].stress > 0.0
    assert found["float64"].n_structures == 2  # that of the self-check too
    assert (tmp_path / "m.pt").is_file()


def test_without_structures_that_of_the_self_check_is_taken(tmp_path):
    found = export_checked(tiny_network("none"), tmp_path / "m.pt", [])
    assert found["float64"].largest_force > 0.0


def test_each_element_is_compared_whatever_the_structures(tmp_path, monkeypatch):
    from equicalc.deploy import export

    network = tiny_network("none")
    reference = export.reference_properties

    def altered(network, atoms):  # an atom of the other element feels something else
        found = reference(network, atoms)
        found["forces"][found["symbols"].index("Cl")][0] += 1.0
        return found

    monkeypatch.setattr(export, "reference_properties", altered)
    with pytest.raises(ModelFileError, match="from its network"):
        export_checked(network, tmp_path / "m.pt", [bulk("K", "bcc", a=5.3)])


def test_large_forces_of_one_structure_do_not_excuse_another():
    one, two = (
        {"energy": 0.0, "forces": [[force, 0.0, 0.0]], "stress": None} for force in (1e4, 0.1)
    )

    class Wrong(Calculator):
        implemented_properties: ClassVar = ["energy", "forces"]

        def calculate(self, atoms, properties, changes):
            super().calculate(atoms, properties, changes)
            right = 1e4 if atoms.positions[0, 0] else 0.1
            self.results = {"energy": 0.0, "forces": np.array([[right + 0.01, 0.0, 0.0]])}

    found = deviation.Deviation()
    deviation._add(found, Wrong(), Atoms("K", [(1.0, 0.0, 0.0)]), one)
    assert found.is_within("float64")
    deviation._add(found, Wrong(), Atoms("K", [(0.0, 0.0, 0.0)]), two)
    assert not found.is_within("float64")


def test_stresses_are_compared():
    found = deviation.Deviation(relative_stress=1e-2)
    assert not any(found.is_within(dtype) for dtype in ("float64", "float32"))


def test_large_deviation_is_refused_and_the_old_file_kept(tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    path.write_text("old")
    reference = deviation.reference_copy

    def altered(network):
        copy = reference(network)
        copy.energy_scale.mul_(1.001)
        return copy

    monkeypatch.setattr(deviation, "reference_copy", altered)
    with pytest.raises(ModelFileError, match=r"in float64 is .* from its network"):
        export_checked(tiny_network("none"), path, [salt()])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_refused(tmp_path):
    network = tiny_network("none")
    network.energy_scale.fill_(float("nan"))
    with pytest.raises(DataError, match="numbers that are not finite, first at atom 0"):
        export_checked(network, tmp_path / "m.pt", [salt()])


def test_common_structures_hold_only_elements_of_the_model():
    found = common_structures(["Na", "Cl", "O", "H"])
    assert [atoms.get_chemical_formula() for atoms in found] == ["Cl4Na4", "H2O"]
    assert np.ptp(found[1].positions) > 0
    assert common_structures(["Xe"]) == []


def test_frames_of_files_that_are_gone_are_skipped(tmp_path):
    from ase.io import write

    slab = salt()
    slab.pbc = (True, True, False)
    write(tmp_path / "data.xyz", [salt(), slab, salt(), salt(), salt(), salt()])
    found = some_frames([tmp_path / "gone.xyz", tmp_path / "data.xyz"])
    assert len(found) == 4
    assert all(atoms.pbc.all() for atoms in found)
