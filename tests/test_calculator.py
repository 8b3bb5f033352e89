"""The ASE calculator: exact derivatives, symmetries, any cell, clear errors."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell
from ase.calculators.calculator import PropertyNotImplementedError
from ase.units import Bohr, Hartree

from equicalc import EquiCalculator
from equicalc.electrostatics import mesh
from equicalc.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    SelfCheckError,
    UnsupportedElementError,
)

# A five-point stencil of step h errs by h^4 times the fifth derivative, and by 1e-14 eV / h.
STEP = 2e-3
DERIVATIVE_TOLERANCE = 1e-7
# The same sums in another order, energies of some 10 eV.
EXACT = 1e-10
# The Coulomb sum is truncated at this accuracy; equal systems in other cells differ by it.
TIGHT = 1e-12
EQUAL_SYSTEMS = 1e-8
# The bound for single precision, eV/angstrom.
FLOAT32_FORCES = 1e-4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def calculator(tiny_model):
    return EquiCalculator(tiny_model, kspace_accuracy=TIGHT)


def crystal():
    """Eight ions in a triclinic cell, far from equilibrium."""
    atoms = bulk("KCl", "rocksalt", a=6.0, cubic=True)
    strain = np.eye(3) + 0.06 * np.random.default_rng(0).normal(size=(3, 3))
    atoms.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
    atoms.rattle(0.2, seed=1)
    return atoms


def molecule():
    atoms = Atoms("K2Cl3", np.random.default_rng(2).normal(scale=1.0, size=(5, 3)))
    atoms.positions += 2.5 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    atoms.info["charge"] = -1
    return atoms


def slab():
    atoms = bulk("KCl", "rocksalt", a=6.0, cubic=True)
    atoms.rattle(0.2, seed=3)
    atoms.pbc = (True, True, False)
    atoms.cell[2] = 0.0
    return atoms


STRUCTURES = {"crystal": crystal, "molecule": molecule, "slab": slab}


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return STRUCTURES[request.param]()


def results(calculator, atoms):
    calculator.calculate(atoms, ["energy"])
    return calculator.results


def derivative(energy):
    """Central five-point difference of a function of one displacement at zero."""
    e = [energy(k * STEP) for k in (-2, -1, 1, 2)]
    return (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * STEP)


# ---- derivatives -----------------------------------------------------------------------------


def test_forces_are_the_derivative_of_the_energy(calculator, structure):
    forces = results(calculator, structure)["forces"]
    numeric = np.zeros_like(forces)
    for atom, axis in np.ndindex(*forces.shape):

        def energy(step, atom=atom, axis=axis):
            moved = structure.copy()
            moved.positions[atom, axis] += step
            return results(calculator, moved)["energy"]

        numeric[atom, axis] = -derivative(energy)
    assert np.abs(forces).max() > 0.1
    assert np.abs(forces - numeric).max() < DERIVATIVE_TOLERANCE


def test_stress_is_the_derivative_of_the_energy(calculator):
    atoms = crystal()
    atoms.info["charge"] = 0.5  # the neutralising background takes part
    stress = results(calculator, atoms)["stress"]
    for k, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):

        def energy(step, a=a, b=b):
            strain = np.eye(3)
            strain[a, b] += 0.5 * step
            strain[b, a] += 0.5 * step
            strained = atoms.copy()
            strained.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
            return results(calculator, strained)["energy"]

        assert abs(derivative(energy) / atoms.get_volume() - stress[k]) < DERIVATIVE_TOLERANCE
    assert np.abs(stress).max() > 0.01


def test_stress_is_the_derivative_of_the_energy_where_the_mesh_changes(tiny_model):
    accuracy, step = 1e-5, 1e-5
    calculator = EquiCalculator(tiny_model, kspace="p3m", kspace_accuracy=accuracy)
    start = bulk("KCl", "rocksalt", a=6.0, cubic=True) * 2
    start.rattle(0.2, seed=4)
    spline = mesh.choose_spline(np.ones(len(start)), accuracy)

    def scaled(strain):
        atoms = start.copy()
        atoms.set_cell(start.cell[:] * (1.0 + strain), scale_atoms=True)
        return atoms

    def points(strain):
        return tuple(m.points for m in mesh.blended_meshes(scaled(strain).cell[:], *spline))

    scan = np.linspace(-0.1, 0.1, 161)
    blended = [x for x in scan if len(points(x)) > 1]
    assert len({points(x) for x in blended}) > 2, "the scan must pass changes of the mesh"
    for strain in blended:
        energy = [results(calculator, scaled(strain + k * step))["energy"] for k in (-2, -1, 1, 2)]
        slope = (energy[0] - 8 * energy[1] + 8 * energy[2] - energy[3]) / (12 * step)
        atoms = scaled(strain)
        pull = np.sum(results(calculator, atoms)["stress"][:3]) * atoms.get_volume()
        # The project's bound for runs at constant pressure, eV/angstrom^3.
        assert abs(slope - pull / (1.0 + strain)) / atoms.get_volume() < 1e-7


def test_stress_of_a_slab_is_the_derivative_of_the_energy_in_its_plane(calculator):
    atoms = slab()
    atoms.cell[2] = (1.0, -2.0, 20.0)
    stress = results(calculator, atoms)["stress"]
    normal = np.cross(*atoms.cell[:2])
    normal /= np.linalg.norm(normal)
    in_plane = np.eye(3) - np.outer(normal, normal)
    full = np.array([stress[[0, 5, 4]], stress[[5, 1, 3]], stress[[4, 3, 2]]])
    assert np.abs(full @ normal).max() < EXACT
    for a, b in [(0, 0), (1, 1), (0, 1)]:

        def energy(step, a=a, b=b):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * step
            strain[b, a] += 0.5 * step
            deformation = np.eye(3) + in_plane @ strain @ in_plane
            strained = atoms.copy()
            strained.set_cell(atoms.cell[:] @ deformation)
            strained.positions = atoms.positions @ deformation
            return results(calculator, strained)["energy"]

        expected = (in_plane @ full @ in_plane)[a, b]
        numeric = derivative(energy) / abs(atoms.cell.volume)
        assert abs(numeric - expected) < DERIVATIVE_TOLERANCE
    assert np.abs(stress).max() > 0.001


def test_charges_respond_to_the_neighbours(calculator):
    """Without this the derivatives above would not test the response of the charges."""
    charges = results(calculator, crystal())["charges"]
    assert np.ptp(charges[:4]) > 1e-3


# ---- symmetries ------------------------------------------------------------------------------


@pytest.mark.parametrize("improper", [False, True])
def test_rotations_and_reflections_turn_the_forces_only(calculator, structure, improper):
    matrix = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    matrix *= np.sign(np.linalg.det(matrix)) * (-1 if improper else 1)
    turned = structure.copy()
    turned.positions = structure.positions @ matrix
    turned.cell[:] = structure.cell[:] @ matrix
    before = copy.deepcopy(results(calculator, structure))
    after = results(calculator, turned)
    assert abs(after["energy"] - before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["forces"] - before["forces"] @ matrix).max() < EQUAL_SYSTEMS
    assert np.abs(after["charges"] - before["charges"]).max() < EQUAL_SYSTEMS


def test_translation_and_wrapping_change_nothing(calculator, structure):
    before = copy.deepcopy(results(calculator, structure))
    moved = structure.copy()
    moved.positions += [3.3, -7.1, 20.5]
    if structure.pbc[0]:
        moved.positions[0] += 2 * structure.cell[0] - structure.cell[1]
    after = results(calculator, moved)
    assert abs(after["energy"] - before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["forces"] - before["forces"]).max() < EQUAL_SYSTEMS


def test_permutation_permutes_the_atoms_only(calculator, structure):
    order = np.random.default_rng(5).permutation(len(structure))
    before = copy.deepcopy(results(calculator, structure))
    after = results(calculator, structure[order])
    assert abs(after["energy"] - before["energy"]) < EXACT
    for key in ("energies", "forces", "charges"):
        assert np.abs(after[key] - before[key][order]).max() < EXACT


def test_left_handed_cells_give_the_same(calculator):
    atoms = crystal()
    before = copy.deepcopy(results(calculator, atoms))
    other = atoms.copy()
    other.set_cell(atoms.cell[[1, 0, 2]])
    after = results(calculator, other)
    assert abs(after["energy"] - before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["stress"] - before["stress"]).max() < EQUAL_SYSTEMS


def test_supercells_repeat_the_cell(calculator):
    atoms = crystal()
    before = copy.deepcopy(results(calculator, atoms))
    after = results(calculator, atoms.repeat((2, 1, 1)))
    assert abs(after["energy"] - 2 * before["energy"]) < EQUAL_SYSTEMS
    assert np.abs(after["forces"] - np.tile(before["forces"], (2, 1))).max() < EQUAL_SYSTEMS
    assert np.abs(after["stress"] - before["stress"]).max() < EQUAL_SYSTEMS


def test_cells_smaller_than_the_cutoff_equal_their_supercell(calculator):
    atoms = bulk("KCl", "rocksalt", a=5.2)  # 3.7 angstrom between an atom and its own image
    atoms.positions[1] += [0.1, 0.3, -0.2]
    small = copy.deepcopy(results(calculator, atoms))
    large = results(calculator, make_supercell(atoms, 3 * np.eye(3)))
    assert np.diff(atoms.cell.lengths()).max() < 1e-9
    assert atoms.cell.lengths()[0] < calculator._info.cutoff
    assert abs(large["energy"] - 27 * small["energy"]) < EQUAL_SYSTEMS
    assert np.abs(large["stress"] - small["stress"]).max() < EQUAL_SYSTEMS
    assert np.abs(large["charges"][:2] - small["charges"]).max() < EQUAL_SYSTEMS


# ---- few atoms, other boundaries -------------------------------------------------------------


def test_lonely_atom_feels_no_force(calculator):
    atoms = Atoms("K", [[1.0, 2.0, 3.0]], info={"charge": 1.0})
    found = results(calculator, atoms)
    assert np.abs(found["forces"]).max() == 0.0
    assert found["charges"].tolist() == [1.0]
    assert np.isfinite(found["energy"])


def test_ions_beyond_the_cutoff_feel_the_coulomb_force(calculator):
    r = 9.0
    atoms = Atoms("KCl", [[0, 0, 0], [0, 0, r]])
    found = results(calculator, atoms)
    q = found["charges"]
    # k_e q^2 / r^2; at 9 sigma the Gaussians are points to exp(-r^2 / 4 sigma^2) = 2e-9.
    assert found["forces"][0, 2] == pytest.approx(-q[0] * q[1] * Hartree * Bohr / r**2, rel=1e-6)
    assert q.sum() == pytest.approx(0.0, abs=EXACT)


def test_metal_slab_of_ase_with_a_cell_of_rank_two_works(calculator):
    atoms = fcc111("Cl", (2, 2, 2), a=5.5)  # no vacuum: the third cell vector is zero
    assert np.isfinite(results(calculator, atoms)["forces"]).all()


# ---- properties ------------------------------------------------------------------------------


def test_atomic_energies_sum_to_the_energy(calculator, structure):
    found = results(calculator, structure)
    assert found["energies"].sum() == pytest.approx(found["energy"], abs=EXACT)
    assert found["free_energy"] == found["energy"]


def test_atomic_stresses_sum_to_the_stress(calculator):
    atoms = crystal()
    atoms.calc = calculator
    stresses = calculator.get_property("stresses", atoms)
    assert stresses.shape == (8, 6)
    assert np.abs(stresses.sum(axis=0) - atoms.get_stress()).max() < EXACT
    assert np.ptp(stresses, axis=0).min() > 1e-4


def test_mesh_agrees_with_the_exact_sum_and_still_gives_atomic_stresses(calculator, tiny_model):
    accuracy = 1e-6
    mesh = EquiCalculator(tiny_model, kspace="p3m", kspace_accuracy=accuracy)
    atoms = crystal()
    exact = copy.deepcopy(results(calculator, atoms))
    found = results(mesh, atoms)
    # Charges below 1 e and sigma = 1 A: the accuracy is about the error of forces in eV/A.
    assert 0 < np.abs(found["forces"] - exact["forces"]).max() < 10 * accuracy
    assert np.abs(found["stress"] - exact["stress"]).max() < 10 * accuracy
    stresses = mesh.get_property("stresses", atoms)
    assert np.abs(stresses.sum(axis=0) - exact["stress"]).max() < 10 * accuracy


@pytest.mark.parametrize("charge", [0.0, 1.0, -0.5])
def test_charges_sum_to_the_total_charge(calculator, charge):
    atoms = crystal()
    atoms.info["charge"] = charge
    assert results(calculator, atoms)["charges"].sum() == pytest.approx(charge, abs=EXACT)


def test_changing_the_total_charge_changes_the_results(calculator):
    atoms = crystal()
    atoms.calc = calculator
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1.0
    assert abs(atoms.get_potential_energy() - neutral) > 1e-3
    del atoms.info["charge"]
    assert atoms.get_potential_energy() == pytest.approx(neutral, abs=EXACT)


def test_results_are_kept_until_something_changes(calculator, monkeypatch):
    atoms = crystal()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    monkeypatch.setattr(calculator, "calculate", None)
    atoms.set_initial_charges(np.ones(8))  # plays no role
    assert atoms.get_potential_energy() == energy
    assert atoms.get_forces().shape == (8, 3)
    assert atoms.get_charges().shape == (8,)
    monkeypatch.undo()


def test_dipole_is_the_first_moment_of_the_charges(calculator):
    atoms = molecule()
    atoms.calc = calculator
    assert np.allclose(atoms.get_dipole_moment(), atoms.get_charges() @ atoms.positions, rtol=0)


@pytest.mark.parametrize("atoms", [crystal(), slab()])
def test_dipole_of_a_periodic_structure_is_refused(calculator, atoms):
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="depends on the choice of the cell"):
        atoms.get_dipole_moment()


@pytest.mark.parametrize(
    ("atoms", "text"), [(molecule(), "three periodic directions"), (slab(), "give it a height")]
)
def test_stress_without_a_volume_is_refused(calculator, atoms, text):
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match=text):
        atoms.get_stress()
    assert np.isfinite(atoms.get_potential_energy())


def test_single_precision_agrees_with_double(calculator, tiny_model, structure):
    single = EquiCalculator(tiny_model, dtype="float32", kspace="auto", kspace_accuracy=TIGHT)
    double = results(calculator, structure)
    found = results(single, structure)
    assert found["forces"].dtype == np.float64
    assert 0 < np.abs(found["forces"] - double["forces"]).max() < FLOAT32_FORCES


@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-6), ("float32", 1e-5)])
def test_default_accuracy_of_the_coulomb_forces_follows_the_precision(tiny_model, dtype, accuracy):
    default = results(EquiCalculator(tiny_model, dtype=dtype, kspace="p3m"), crystal())
    named = EquiCalculator(tiny_model, dtype=dtype, kspace="p3m", kspace_accuracy=accuracy)
    assert np.array_equal(default["forces"], results(named, crystal())["forces"])
    other = EquiCalculator(tiny_model, dtype=dtype, kspace="p3m", kspace_accuracy=0.1 * accuracy)
    assert not np.array_equal(default["forces"], results(other, crystal())["forces"])


def test_model_without_charges_has_short_range_only(tiny_model_without_charges):
    calculator = EquiCalculator(tiny_model_without_charges)
    atoms = Atoms("KCl", [[0, 0, 0], [0, 0, 9.0]])
    found = results(calculator, atoms)
    assert np.abs(found["forces"]).max() == 0.0
    assert found["charges"].tolist() == [0.0, 0.0]
    atoms = crystal()
    atoms.calc = calculator
    stresses = calculator.get_property("stresses", atoms)
    assert np.abs(stresses.sum(axis=0) - atoms.get_stress()).max() < EXACT


# ---- parameters ------------------------------------------------------------------------------


def test_parameters_survive_a_round_trip(tiny_model):
    calculator = EquiCalculator(tiny_model, dtype="float32", skin=1.0)
    described = json.loads(json.dumps(calculator.todict()))
    assert described == {"model": str(tiny_model), "dtype": "float32", "skin": 1.0}
    assert EquiCalculator(**described).parameters == calculator.parameters


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_give_the_same_results(tiny_model, duplicate):
    calculator = EquiCalculator(tiny_model)
    atoms = crystal()
    expected = results(calculator, atoms)["forces"]
    assert np.array_equal(results(duplicate(calculator), atoms)["forces"], expected)


def test_setting_a_parameter_takes_effect(tiny_model):
    calculator = EquiCalculator(tiny_model)
    atoms = crystal()
    atoms.calc = calculator
    double = atoms.get_forces()
    calculator.set(dtype="float32")
    assert np.abs(atoms.get_forces() - double).max() > 0.0


@pytest.mark.parametrize(
    ("parameter", "match"),
    [
        ({"dtpye": "float32"}, "no parameter 'dtpye'; it has: check, device, dtype"),
        ({"dtype": "float16"}, "dtype = 'float16', expected one of float64, float32"),
        ({"device": "gpu"}, "device = 'gpu', expected the name of a torch device"),
        ({"kspace": "pppm"}, "kspace = 'pppm', expected one of auto, ewald"),
        ({"kspace_accuracy": 0.0}, "kspace_accuracy = 0.0, expected > 0"),
        ({"skin": -1}, "skin = -1, expected a length"),
    ],
)
def test_impossible_parameters_are_named(tiny_model, parameter, match):
    with pytest.raises(ConfigError, match=match):
        EquiCalculator(tiny_model, **parameter)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_device_is_named(tiny_model):
    with pytest.raises(ConfigError, match="device = 'cuda', expected 'cpu'"):
        EquiCalculator(tiny_model, device="cuda")


# ---- bad input -------------------------------------------------------------------------------


def test_unknown_element_is_named_with_those_of_the_model(calculator):
    with pytest.raises(UnsupportedElementError, match=r"found element\(s\) Br, Na .* knows K, Cl"):
        calculator.calculate(Atoms("KNaBrCl", np.diag([1, 2, 3, 4])[:, :3]))


def test_positions_that_are_not_numbers_are_named(calculator):
    atoms = crystal()
    atoms.positions[3, 0] = np.nan
    atoms.calc = calculator
    with pytest.raises(DataError, match="not finite numbers, first atom 3"):
        atoms.get_forces()


def test_empty_structure_is_refused(calculator):
    with pytest.raises(DataError, match="without atoms"):
        calculator.calculate(Atoms())


@pytest.mark.parametrize("charge", ["two", None, np.nan])
def test_total_charge_that_is_not_a_number_is_refused(calculator, charge):
    with pytest.raises(DataError, match=r'atoms.info\["charge"\]'):
        calculator.calculate(Atoms("K", info={"charge": charge}))


def test_total_charge_of_a_model_without_charges_is_refused(tiny_model_without_charges):
    calculator = EquiCalculator(tiny_model_without_charges)
    with pytest.raises(DataError, match="has no charges"):
        calculator.calculate(Atoms("K", info={"charge": 1.0}))


def test_one_periodic_direction_is_refused(calculator):
    atoms = Atoms("KCl", [[0, 0, 0], [3, 0, 0]], cell=[6, 0, 0], pbc=(True, False, False))
    with pytest.raises(DataError, match=r"Coulomb energy cannot be calculated: .*periodic"):
        calculator.calculate(atoms)


def test_missing_model_lists_the_shipped_ones():
    with pytest.raises(ModelFileError, match="Shipped models"):
        EquiCalculator("no-such-model")


def test_truncated_model_is_refused(tiny_model, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(tiny_model.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="truncated or damaged"):
        EquiCalculator(path)


@pytest.mark.parametrize("key", ["energy", "forces", "stress", "charges"])
def test_self_check_finds_a_model_that_computes_something_else(tiny_model, tmp_path, key):
    extra = {"equicalc.json": ""}
    module = torch.jit.load(str(tiny_model), _extra_files=extra)
    metadata = json.loads(extra["equicalc.json"])
    metadata["self_check"][key] = (np.array(metadata["self_check"][key]) + 1e-2).tolist()
    path = tmp_path / "model.pt"
    torch.jit.save(module, str(path), _extra_files={"equicalc.json": json.dumps(metadata)})
    with pytest.raises(SelfCheckError, match=rf"self-check on this machine: {key} differ by"):
        EquiCalculator(path)
    EquiCalculator(path, check=False)
