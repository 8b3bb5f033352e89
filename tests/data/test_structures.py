"""Reading labelled structures: what is understood, and what is refused with which words."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from equicalc.data import from_atoms, read_structures
from equicalc.data.selection import (
    check_boundaries,
    check_elements,
    check_training_labels,
    elements_of,
    select,
    split,
)
from equicalc.errors import DataError

# extended XYZ is written with 8 decimals
DECIMALS = 1e-7


def labelled(energy=-1.5, shift=0.0, **results) -> Atoms:
    atoms = bulk("KCl", "rocksalt", a=6.3)
    atoms.positions[0] += shift
    values = {"energy": energy, "forces": np.full((2, 3), 0.25), **results}
    atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in values.items() if v is not None})
    return atoms


def test_labels_survive_the_way_through_a_file(tmp_path):
    atoms = labelled(stress=np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    atoms.info.update(charge=2.0, weight=0.5, polarizability=np.eye(3) * 0.1)
    atoms.arrays["born_effective_charges"] = np.arange(18.0).reshape(2, 9)
    ase.io.write(tmp_path / "a.xyz", [atoms, labelled()])
    first, second = read_structures(tmp_path / "a.xyz")
    assert first.symbols == ["K", "Cl"]
    assert first.energy == -1.5
    assert np.allclose(first.forces, 0.25, atol=DECIMALS)
    assert np.array_equal(first.stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    assert (first.total_charge, first.weight) == (2.0, 0.5)
    assert np.array_equal(first.born[1], [[9, 10, 11], [12, 13, 14], [15, 16, 17]])
    assert first.epsilon_inf == pytest.approx(1 + 0.1 / (0.0055263 * atoms.cell.volume), rel=1e-5)
    assert (second.total_charge, second.weight, second.stress, second.born) == (0, 1, None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energy": float("nan")}, "energy holds NaN"),
        ({"forces": np.array([[0, 0, 0], [0, np.inf, 0]])}, r"forces holds NaN.* \[1, 1\]"),
        ({"stress": np.full(6, np.nan)}, "stress holds NaN"),
    ],
)
def test_nan_labels_name_the_structure(change, words):
    with pytest.raises(DataError, match=f"structure 1: {words}"):
        from_atoms([labelled(), labelled(**change)])


def test_nan_positions_are_refused():
    with pytest.raises(DataError, match="structure 0: positions holds NaN"):
        from_atoms([labelled(shift=np.nan)])


def test_an_unknown_element_is_refused():
    with pytest.raises(DataError, match="atom 1 has the unknown element 'X'"):
        from_atoms([Atoms("KX", positions=np.eye(3)[:2])])


def test_a_structure_without_atoms_is_refused():
    with pytest.raises(DataError, match="structure 0: no atoms"):
        from_atoms([Atoms()])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no data file '.*nowhere.xyz'"):
        read_structures(tmp_path / "nowhere.xyz")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(DataError, match=r"empty.xyz' is empty"):
        read_structures(tmp_path / "empty.xyz")


@pytest.mark.parametrize("text", ["hello\nworld\n", "3\n\nK 0 0 0\n"])
def test_a_file_that_is_no_structure_is_named(tmp_path, text):
    (tmp_path / "bad.xyz").write_text(text)
    with pytest.raises(DataError, match=r"bad.xyz' cannot be read"):
        read_structures(tmp_path / "bad.xyz")


@pytest.mark.parametrize(("missing", "words"), [("energy", "no energy"), ("forces", "no forces")])
def test_training_needs_energy_and_forces(missing, words):
    structures = from_atoms([labelled(), labelled(**{missing: None})], "file.xyz")
    with pytest.raises(DataError, match=f"file.xyz, structure 1: {words}"):
        check_training_labels(structures)


def test_labels_may_have_other_names(tmp_path):
    atoms = labelled()
    plain = atoms.copy()
    plain.info["REF_energy"] = -7.0
    plain.arrays["REF_forces"] = np.full((2, 3), 0.5)
    plain.info["REF_stress"] = np.arange(1.0, 7.0)
    ase.io.write(tmp_path / "ref.xyz", plain)
    names = {"energy": "REF_energy", "forces": "REF_forces", "stress": "REF_stress"}
    structure = read_structures(tmp_path / "ref.xyz", names)[0]
    assert structure.energy == -7.0
    assert np.array_equal(structure.forces, np.full((2, 3), 0.5))
    assert structure.stress[0, 1] == 6.0
    without = read_structures(tmp_path / "ref.xyz")
    with pytest.raises(DataError, match=r"no energy.*data.keys: {energy: REF_energy}"):
        check_training_labels(without)


def test_a_wire_has_no_coulomb_sum():
    wire = labelled()
    wire.pbc = [False, False, True]
    with pytest.raises(DataError, match=r"structure 1: one periodic direction"):
        check_boundaries(from_atoms([labelled(), wire]))


def test_elements_outside_the_model_are_named():
    with pytest.raises(DataError, match=r"structure 0: atom 1 is Cl, but the model has .* K, Br"):
        check_elements(from_atoms([labelled()]), ["K", "Br"])


def test_elements_come_in_the_order_of_the_periodic_table():
    assert elements_of(from_atoms([labelled()])) == ["Cl", "K"]


def test_structures_high_above_the_lowest_of_their_composition_are_left_out():
    sodium = bulk("NaCl", "rocksalt", a=5.6)
    sodium.calc = SinglePointCalculator(sodium, energy=-9.0, forces=np.zeros((2, 3)))
    structures = from_atoms([labelled(-1.5), labelled(-0.6), labelled(0.6), sodium])
    kept = select(structures, max_energy_above_min=0.5)
    assert [s.energy for s in kept] == [-1.5, -0.6, -9.0]


def test_structures_with_large_forces_are_left_out():
    structures = from_atoms([labelled(), labelled(forces=np.full((2, 3), 5.0))])
    assert select(structures, max_force=1.0) == structures[:1]
    with pytest.raises(DataError, match=r"none of 2 structures .*max_force = 0.1"):
        select(structures, max_force=0.1)


def test_the_split_depends_on_the_seed_only():
    structures = from_atoms([labelled(energy=float(i)) for i in range(20)])
    training, validation = split(structures, 0.25, seed=7)
    again = split(structures, 0.25, seed=7)
    assert (len(training), len(validation)) == (15, 5)
    assert [s.energy for s in validation] == [s.energy for s in again[1]]
    assert {s.energy for s in training}.isdisjoint({s.energy for s in validation})
    other = split(structures, 0.25, seed=8)[1]
    assert [s.energy for s in other] != [s.energy for s in validation]


def test_one_structure_cannot_be_split():
    with pytest.raises(DataError, match="found 1 structure to split"):
        split(from_atoms([labelled()]), 0.1, 0)
