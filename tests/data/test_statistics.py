"""What the data fix before training."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equicalc.data import from_atoms
from equicalc.data.statistics import (
    check_per_element,
    fit_reference_energies,
    guess_charges,
    rms_force,
    shortest_distances,
)
from equicalc.errors import DataError

# least squares of a few well-conditioned numbers
ROUNDING = 1e-10


def structure(formula: str, energy: float, force: float = 0.0):
    atoms = Atoms(formula)
    atoms.positions[:] = np.arange(len(atoms))[:, None] * 3.0
    forces = np.full((len(atoms), 3), force)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return from_atoms([atoms])[0]


def test_reference_energies_of_different_compositions_are_found():
    data = [structure("NaCl", -5.0), structure("NaCl2", -8.0), structure("Na2", -4.0)]
    fitted = fit_reference_energies(data, ["Na", "Cl"])
    assert fitted == pytest.approx({"Na": -2.0, "Cl": -3.0}, abs=ROUNDING)


def test_one_composition_shares_its_energy_equally():
    fitted = fit_reference_energies(
        [structure("KCl", -5.0), structure("K2Cl2", -10.0)], ["K", "Cl"]
    )
    assert fitted == pytest.approx({"K": -2.5, "Cl": -2.5}, abs=ROUNDING)


def test_energy_that_the_model_has_already_is_not_fitted_again():
    data = [structure("K", -3.0), structure("K2", -6.0)]
    fitted = fit_reference_energies(data, ["K"], explained=np.array([-1.0, -2.0]))
    assert fitted == pytest.approx({"K": -2.0}, abs=ROUNDING)


def test_an_element_without_data_gets_zero():
    assert fit_reference_energies([structure("K", -3.0)], ["K", "Br"])["Br"] == 0.0


def test_rms_force_counts_components():
    assert rms_force([structure("KCl", 0.0, 2.0), structure("K2Cl2", 0.0, 2.0)]) == 2.0
    assert rms_force([structure("KCl", 0.0)]) == 1.0


def test_guessed_charges_are_neutral_over_the_data_and_have_the_right_signs():
    data = [structure("NaCl", 0.0), structure("MgCl2", 0.0)]
    charges = guess_charges(data, ["Na", "Mg", "Cl"])
    assert charges["Na"] > charges["Mg"] > 0 > charges["Cl"]
    assert charges["Na"] + charges["Mg"] + 3 * charges["Cl"] == pytest.approx(0, abs=ROUNDING)


def test_values_per_element_must_be_complete():
    with pytest.raises(DataError, match="key has no value for Cl and a value for Br"):
        check_per_element({"K": 1.0, "Br": 1.0}, ["K", "Cl"], "key")


def test_shortest_distance_of_each_pair_over_all_structures_and_images():
    chain = Atoms("NaClNa", [[0, 0, 0], [2.5, 0, 0], [0, 3.0, 0]], cell=[7, 9, 9], pbc=True)
    short = Atoms("ClNa", [[0, 0, 0], [0, 0, 6.8]], cell=[9, 9, 9], pbc=True)
    for atoms in (chain, short):
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((len(atoms), 3)))
    found = shortest_distances(from_atoms([chain, short]), ["Na", "Cl"], 5.0)
    # Cl-Cl is nowhere within 5 angstrom; the second Na-Cl pair is an image at 2.2
    assert found == pytest.approx({"Na-Cl": 2.2, "Na-Na": 3.0}, abs=ROUNDING)
