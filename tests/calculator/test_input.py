"""The ASE calculator: parameters, and clear errors for bad input."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms

from equicalc import EquiCalculator
from equicalc.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    SelfCheckError,
    UnsupportedElementError,
)
from tests.calculator.structures import (
    crystal,
    results,
)

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


@pytest.mark.parametrize("charged", [True, False])
def test_atoms_at_the_same_place_are_named(tiny_model, tiny_model_without_charges, charged):
    atoms = crystal()
    atoms += Atoms("K", [atoms.positions[2]])
    atoms.calc = EquiCalculator(tiny_model if charged else tiny_model_without_charges)
    last = len(atoms) - 1
    with pytest.raises(DataError, match=rf"atoms 2 .*and {last} \(K\) are .*del atoms\[{last}\]"):
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
