"""Every charge model in ASE: exact derivatives, also in a field; polarisation and Born charges."""

import numpy as np
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError

from equicalc import EquiCalculator
from equicalc.data.batch import make_sample
from equicalc.data.structures import from_atoms
from equicalc.errors import ConfigError
from tests.calculator.structures import TIGHT, crystal, molecule, results
from tests.conftest import export_tiny, tiny_network
from tests.derivatives import (
    DERIVATIVE_TOLERANCE,
    VOIGT,
    assert_stress_is_a_derivative,
    deformation,
    derivative,
    strained,
)

# Born charges are derivatives of the dipole: the same stencil, e instead of eV/angstrom.
BORN_TOLERANCE = 1e-7
# The same sums in another order, energies of some 10 eV.
EXACT = 1e-9
FIELD = (0.1, -0.05, 0.2)  # V/angstrom

FORMAL = {"formal_charges": {"K": 1, "Cl": -1}}
MODELS = {
    "fixed": {},
    "fixed with widths": {"charge_model": "fixed", "sigmas": {"Cl": 1.3}},
    "predicted": {"charge_weights": "environment"},
    "predicted with widths": {"charge_model": "predicted", "sigmas": {"K": 0.8}},
    "transferred": FORMAL,
    "equilibrated": {"sigmas": {"Cl": 1.2}},
}
POLAR = ("fixed", "transferred")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def path_of(tmp_path_factory):
    """Function from the name of a model to its file."""
    written = {}

    def path(name):
        if name not in written:
            settings = {"charge_model": name, **MODELS[name]}
            target = tmp_path_factory.mktemp("model") / "model.pt"
            written[name] = export_tiny(target, epsilon_inf=1.8, **settings)
        return written[name]

    return path


def slab():
    atoms = crystal()
    atoms.pbc = (True, True, False)
    return atoms


STRUCTURES = {"crystal": crystal, "molecule": molecule, "slab": slab}


def displaced(atoms, atom, axis, step):
    moved = atoms.copy()
    moved.positions[atom, axis] += step
    return moved


def check_forces(calculator, atoms):
    forces = results(calculator, atoms)["forces"]
    assert np.abs(forces).max() > 0.1
    for atom, axis in [(0, 0), (1, 2), (3, 1), (4, 0)]:

        def energy(step, atom=atom, axis=axis):
            return results(calculator, displaced(atoms, atom, axis, step))["energy"]

        assert abs(-derivative(energy) - forces[atom, axis]) < DERIVATIVE_TOLERANCE


# ---- energies --------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", MODELS)
def test_forces_are_the_derivative_of_the_energy(path_of, name, structure):
    calculator = EquiCalculator(path_of(name), kspace_accuracy=TIGHT)
    check_forces(calculator, STRUCTURES[structure]())


@pytest.mark.parametrize("charge", [0.0, 0.7])
@pytest.mark.parametrize("name", MODELS)
def test_stress_is_the_derivative_of_the_energy(path_of, name, charge):
    calculator = EquiCalculator(path_of(name), kspace_accuracy=TIGHT)
    atoms = crystal(charge)
    stress = results(calculator, atoms)["stress"]
    assert_stress_is_a_derivative(stress, lambda x: results(calculator, x)["energy"], atoms)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("make", [crystal, molecule])
def test_the_calculator_equals_the_potential_of_training(path_of, name, make):
    from equicalc.train.potential import Potential

    network = tiny_network(epsilon_inf=1.8, **{"charge_model": name, **MODELS[name]})
    atoms = make()
    structure = from_atoms([atoms])[0]
    sample = make_sample(structure, ["K", "Cl"], network.config.cutoff)
    potential = Potential(network.double(), TIGHT)
    polar = name.split()[0] in POLAR or not atoms.pbc.any()
    expected = potential(sample, need_stress=bool(atoms.pbc.all()), need_born=polar)
    energy = float(expected.energy.detach())
    found = results(EquiCalculator(path_of(name), kspace_accuracy=TIGHT), atoms)
    assert found["energy"] == pytest.approx(energy, abs=EXACT)
    assert np.abs(found["forces"] - expected.forces.detach().numpy()).max() < EXACT
    assert np.abs(found["charges"] - expected.charges.detach().numpy()).max() < EXACT
    assert found["charges"].sum() == pytest.approx(atoms.info["charge"], abs=EXACT)
    if polar:
        key = "polarization" if atoms.pbc.any() else "dipole"
        assert np.abs(found[key] - expected.dipole[0].detach().numpy()).max() < EXACT


# ---- response --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make", "key"),
    [
        ("fixed", crystal, "polarization"),
        ("transferred", crystal, "polarization"),
        ("transferred", molecule, "dipole"),
        ("predicted", molecule, "dipole"),
    ],
)
@pytest.mark.parametrize("charge", [0.0, -0.6])
def test_born_charges_are_the_derivative_of_the_dipole(path_of, name, make, key, charge):
    calculator = EquiCalculator(path_of(name), kspace_accuracy=TIGHT)
    atoms = make(charge)
    born = results(calculator, atoms, ["born_effective_charges"])["born_effective_charges"]
    for atom, axis in [(0, 1), (3, 2)]:

        def dipole(step, atom=atom, axis=axis):
            return results(calculator, displaced(atoms, atom, axis, step))[key]

        assert np.abs(derivative(dipole) - born[atom, :, axis]).max() < BORN_TOLERANCE


@pytest.mark.parametrize("name", [*POLAR, "fixed with widths"])
def test_forces_in_a_field_are_the_derivative_of_the_enthalpy_of_a_crystal(path_of, name):
    calculator = EquiCalculator(path_of(name), kspace_accuracy=TIGHT, electric_field=FIELD)
    check_forces(calculator, crystal())


@pytest.mark.parametrize("name", MODELS)
def test_forces_in_a_field_are_the_derivative_of_the_enthalpy_of_a_molecule(path_of, name):
    calculator = EquiCalculator(path_of(name), kspace_accuracy=TIGHT, electric_field=FIELD)
    check_forces(calculator, molecule())


@pytest.mark.parametrize("name", MODELS)
def test_the_enthalpy_falls_with_the_field_as_the_dipole_says(path_of, name):
    atoms = molecule()

    def energy(step):
        field = step * np.array(FIELD)
        calculator = EquiCalculator(path_of(name), electric_field=field, check=False)
        return results(calculator, atoms)["energy"]

    dipole = results(EquiCalculator(path_of(name)), atoms)["dipole"]
    assert derivative(energy) == pytest.approx(-np.dot(FIELD, dipole), abs=DERIVATIVE_TOLERANCE)


def test_a_field_acts_on_each_atom_through_its_born_charge(path_of):
    atoms = crystal()
    found = results(EquiCalculator(path_of("transferred")), atoms, ["born_effective_charges"])
    in_field = results(EquiCalculator(path_of("transferred"), electric_field=FIELD), atoms)
    expected = np.einsum("iab,a->ib", found["born_effective_charges"], FIELD)
    assert np.abs(in_field["forces"] - found["forces"] - expected).max() < EXACT


def test_polarisation_counts_formal_charges_when_an_atom_changes_the_cell(path_of):
    calculator, atoms = EquiCalculator(path_of("transferred"), kspace_accuracy=TIGHT), crystal()
    before = results(calculator, atoms)["polarization"]
    atoms.positions[4] += atoms.cell[0] - 2 * atoms.cell[1]
    quanta = np.linalg.solve(atoms.cell[:].T, results(calculator, atoms)["polarization"] - before)
    assert quanta == pytest.approx(np.round(quanta), abs=EXACT)
    assert np.abs(quanta).max() > 0.5


@pytest.mark.parametrize("name", ["predicted", "equilibrated"])
def test_polarisation_without_a_definition_is_refused(path_of, name):
    calculator = EquiCalculator(path_of(name))
    for wanted in ("polarization", "born_effective_charges"):
        with pytest.raises(PropertyNotImplementedError, match="fixed or transferred"):
            calculator.calculate(crystal(), [wanted])
    calculator = EquiCalculator(path_of(name), electric_field=FIELD)
    with pytest.raises(ConfigError, match="charge_model: fixed or transferred"):
        calculator.calculate(crystal(), ["energy"])


def test_a_field_across_a_slab_needs_no_polarisation(path_of):
    calculator = EquiCalculator(
        path_of("predicted"), kspace_accuracy=TIGHT, electric_field=(0.0, 0.0, 0.1)
    )
    atoms = slab()
    atoms.cell[2] = (0.0, 0.0, 6.0)
    atoms.cell[:2, 2] = 0.0
    check_forces(calculator, atoms)


def check_stress_at_fixed_voltages(path, atoms, field, components):
    """Against the derivative of E - F.M with F.a of every periodic vector as it was."""
    calculator = EquiCalculator(path, kspace_accuracy=TIGHT, electric_field=field)
    stress = results(calculator, atoms)["stress"]
    for k, (a, b) in components:

        def enthalpy(step, a=a, b=b):
            voltages = np.linalg.solve(deformation(a, b, step), field)
            calculator.set(electric_field=voltages, check=False)
            return results(calculator, strained(atoms, a, b, step))["energy"]

        assert abs(derivative(enthalpy) / atoms.get_volume() - stress[k]) < DERIVATIVE_TOLERANCE


@pytest.mark.parametrize("charge", [0.0, 0.7])
@pytest.mark.parametrize("name", [*POLAR, "fixed with widths"])
def test_stress_in_a_field_is_the_derivative_at_fixed_voltages(path_of, name, charge):
    check_stress_at_fixed_voltages(path_of(name), crystal(charge), FIELD, VOIGT)


@pytest.mark.parametrize("name", MODELS)
def test_stress_of_a_slab_in_a_field_across_it_is_a_derivative(path_of, name):
    atoms = slab()
    atoms.cell[2] = (0.0, 0.0, 12.0)
    atoms.cell[:2, 2] = 0.0
    in_plane = [VOIGT[0], VOIGT[1], VOIGT[5]]
    check_stress_at_fixed_voltages(path_of(name), atoms, (0.0, 0.0, 0.1), in_plane)


@pytest.mark.parametrize("name", POLAR)
def test_stress_in_a_field_does_not_depend_on_images_of_atoms(path_of, name):
    calculator = EquiCalculator(path_of(name), kspace_accuracy=TIGHT, electric_field=FIELD)
    atoms = crystal()
    before = results(calculator, atoms)["stress"]
    atoms.positions[4] += atoms.cell[0] - 2 * atoms.cell[1]
    assert np.abs(results(calculator, atoms)["stress"] - before).max() < EXACT


@pytest.mark.parametrize("name", POLAR)
def test_stress_of_atoms_in_a_field_sums_to_the_stress(path_of, name):
    calculator = EquiCalculator(path_of(name), kspace_accuracy=TIGHT, electric_field=FIELD)
    found = results(calculator, crystal(), ["stress", "stresses"])
    assert np.abs(found["stresses"].sum(axis=0) - found["stress"]).max() < EXACT


def test_stress_turns_with_crystal_and_field(path_of):
    """Crystal and field are turned by 120 degrees about (1, 1, 1): x to y to z."""
    atoms = crystal()
    expected = results(EquiCalculator(path_of("transferred"), electric_field=FIELD), atoms)
    atoms.set_cell(np.roll(atoms.cell[:], 1, axis=1))
    atoms.positions = np.roll(atoms.positions, 1, axis=1)
    turned = EquiCalculator(path_of("transferred"), electric_field=np.roll(FIELD, 1))
    found = results(turned, atoms)["stress"]
    assert np.abs(found - expected["stress"][[2, 0, 1, 5, 3, 4]]).max() < EXACT


@pytest.mark.parametrize("bad", [0.1, (0.1, 0.2), (0.0, 0.0, float("nan")), ("x", "y", "z")])
def test_an_impossible_field_is_named(path_of, bad):
    with pytest.raises(ConfigError, match="electric_field"):
        EquiCalculator(path_of("fixed"), electric_field=bad)
