"""Labels that contradict each other are noticed, and sound ones are left in peace."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from equicalc.data import from_atoms
from equicalc.data.consistency import copies, doubts
from equicalc.data.structures import read_structures

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
SOUND = ["aln_pbesol_128.xyz.gz", "batio3_135.xyz.gz", "mgo_pbesol_64.xyz", "nacl_pbesol_64.xyz"]
SOUND += ["nakcl_7net0_64.xyz", "sio2_72.xyz.gz", "nacl_pbesol_512.xyz"]


def copper(n=12, strain=0.0, repeat=1, rattle=0.05):
    """Displaced copper in cells that are strained at random, labelled by EMT."""
    rng = np.random.default_rng(4)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(repeat)
        atoms.rattle(rattle, rng=rng)
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain * rng.normal(size=(3, 3))), True)
        atoms.calc = EMT()
        names = ("energy", "forces", "stress")
        values = {name: atoms.calc.get_property(name, atoms) for name in names}
        atoms.calc = SinglePointCalculator(atoms, **values)
        frames.append(atoms)
    return from_atoms(frames)


def changed(structures, energy=1.0, forces=1.0, stress=1.0):
    return [
        replace(s, energy=energy * s.energy, forces=forces * s.forces, stress=stress * s.stress)
        for s in structures
    ]


@pytest.mark.parametrize("name", SOUND)
def test_data_of_the_examples_raise_no_doubt(name):
    assert doubts(read_structures(EXAMPLES / name)) == []


def test_sound_labels_of_strained_cells_raise_no_doubt():
    assert doubts(copper(strain=0.01)) == []
    assert doubts(copper(strain=0.01, rattle=0.01)) == []
    assert doubts([*copper(6), *copper(6, repeat=2)]) == []


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"forces": -1.0}, "forces have the opposite sign"),
        ({"energy": 1 / units.Hartree}, "energies seem to be in Hartree"),
        ({"energy": units.mol / units.kcal}, "energies seem to be in kcal/mol"),
        ({"energy": 1 / 4}, "energies seem to be per atom"),
        ({"forces": units.Bohr / units.Hartree}, "forces seem to be in Hartree/bohr"),
        (
            {"energy": 1 / units.Hartree, "forces": units.Bohr / units.Hartree},
            "energies seem to be in Hartree and forces in Hartree/bohr",
        ),
    ],
)
def test_energies_and_forces_that_do_not_belong_together_are_noticed(factors, words):
    (doubt,) = doubts(changed(copper(), **factors))
    assert words in doubt


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (-1.0, "it has the opposite sign"),
        (1 / units.GPa, "it seems to be in GPa."),
        (-10 / units.GPa, "it seems to be in kbar, of the opposite sign"),
    ],
)
def test_stress_that_does_not_belong_to_the_energies_is_noticed(factor, words):
    (doubt,) = doubts(changed(copper(strain=0.01, rattle=0.01), stress=factor))
    assert words in doubt


def test_energies_per_atom_in_cells_of_different_sizes_are_noticed():
    structures = [*copper(6), *copper(6, repeat=2)]
    per_atom = [replace(s, energy=(s.energy - 5.0 * len(s)) / len(s)) for s in structures]
    (doubt,) = doubts(per_atom)
    assert "4 to 32 atoms have nearly the same energy" in doubt


def test_outliers_are_named():
    structures = copper()
    structures[3].energy += 1e4
    assert "structure 3: its energy is +2500 eV/atom" in doubts(structures)[0]
    structures = copper()
    structures[5].forces[0, 0] = 1e4
    assert "structure 5: an atom feels 1e+04 eV/angstrom" in doubts(structures)[0]


@pytest.mark.parametrize(("what", "name"), [("forces", "forces"), ("energy", "energies")])
def test_labels_that_are_zero_everywhere_are_noticed(what, name):
    assert f"the {name} are zero" in doubts(changed(copper(), **{what: 0.0}))[0]


@pytest.mark.parametrize(("name", "words"), [("REF_stress", "{stress: REF_stress}"),
                                             ("virial", "stress = -virial / volume")])  # fmt: skip
def test_stresses_that_are_not_read_are_noticed(name, words):
    structures = [replace(s, stress=None, unread=(name,)) for s in copper()]
    (doubt,) = doubts(structures)
    assert words in doubt


def test_validation_structures_of_the_training_are_named():
    structures = copper()
    assert copies(structures[:8], structures[8:]) == []
    (doubt,) = copies(structures[:8], structures[6:])
    assert "2 of 6 validation structures are also in the training data" in doubt
