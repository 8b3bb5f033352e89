"""Charges from forces: exact for springs plus charges, none where there is nothing to find."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from equicalc.data.charge_fit import fit_charges
from equicalc.data.structures import from_atoms
from equicalc.electrostatics import solve

SIGMAS = {"Na": 1.0, "Cl": 1.0, "K": 1.2}
# Springs of the fit are smooth functions, those of the data a power law: not exactly in their span.
CHARGE_TOLERANCE = 0.02


def labelled(symbols, charges, seed, scale=0.05):
    """A rattled crystal with forces of Coulomb and r^-9 springs up to 4 angstrom."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat(2)
    if "K" in symbols:
        sodium = np.flatnonzero(atoms.numbers == 11)
        atoms.numbers[sodium[::3]] = 19
    atoms.rattle(scale, seed=seed)
    of_atom = np.array([charges[s] for s in atoms.get_chemical_symbols()])
    of_atom -= of_atom.mean()
    widths = np.array([SIGMAS[s] for s in atoms.get_chemical_symbols()])
    forces = solve(of_atom, atoms.positions, atoms.cell[:], atoms.pbc, widths).forces.copy()
    vectors = atoms.get_all_distances(mic=True, vector=True)
    distance = np.linalg.norm(vectors, axis=2) + 1e9 * np.eye(len(atoms))
    strength = np.where(distance < 4.0, 9 * 300.0 / distance**11, 0.0)
    forces -= (strength[:, :, None] * vectors).sum(axis=1)
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces)
    return atoms


def structures(symbols, charges, n=6):
    return from_atoms([labelled(symbols, charges, seed) for seed in range(n)])


def test_charges_of_a_salt_are_found():
    fit = fit_charges(structures(["Na", "Cl"], {"Na": 0.8, "Cl": -0.8}), ["Na", "Cl"], SIGMAS)
    assert fit.charges["Na"] == pytest.approx(0.8, abs=CHARGE_TOLERANCE)
    assert fit.charges["Cl"] == pytest.approx(-0.8, abs=CHARGE_TOLERANCE)
    assert fit.error < 0.5 * fit.error_without


def test_charges_of_three_elements_are_found():
    charges = {"Na": 0.7, "K": 0.9, "Cl": -0.77}
    data = structures(["Na", "K", "Cl"], charges)
    fit = fit_charges(data, ["Na", "K", "Cl"], SIGMAS)
    counts = {e: data[0].symbols.count(e) for e in charges}
    mean = sum(counts[e] * q for e, q in charges.items()) / len(data[0])
    for element, charge in charges.items():
        assert fit.charges[element] == pytest.approx(charge - mean, abs=2 * CHARGE_TOLERANCE)
    assert sum(counts[e] * q for e, q in fit.charges.items()) == pytest.approx(0.0, abs=1e-9)


def test_forces_of_springs_alone_give_no_charges():
    fit = fit_charges(structures(["Na", "Cl"], {"Na": 0.0, "Cl": 0.0}), ["Na", "Cl"], SIGMAS)
    assert fit is None


def test_one_element_has_no_charges_to_find():
    atoms = bulk("Al", cubic=True).repeat(2)
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.ones((32, 3)))
    assert fit_charges(from_atoms([atoms]), ["Al"], {"Al": 1.0}) is None


def test_springs_stay_within_half_of_the_cell():
    small = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    small.rattle(0.05, seed=1)
    small.calc = SinglePointCalculator(small, energy=0.0, forces=np.ones((8, 3)))
    data = structures(["Na", "Cl"], {"Na": 0.8, "Cl": -0.8})
    fit = fit_charges([*data, *from_atoms([small])], ["Na", "Cl"], SIGMAS)
    assert fit is None or fit.reach == pytest.approx(2.8)
