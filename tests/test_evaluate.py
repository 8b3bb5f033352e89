"""Errors of models on labelled data, against formulas written out."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from equicalc import EquiCalculator
from equicalc.data import from_atoms
from equicalc.errors import DataError
from equicalc.evaluate import compare, evaluate

# sums of a few hundred float64 numbers
ROUNDING = 1e-10
OFFSET = 0.125  # eV/atom
PAIR = {"sigma": 3.0, "epsilon": 0.1, "rc": 6.0, "smooth": True}


def labelled(seed: int, n: int, stress: bool = True):
    """Rattled NaCl whose labels are Lennard-Jones results plus known errors."""
    rng = np.random.default_rng(seed)
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((n, 1, 1))
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    atoms.calc = LennardJones(**PAIR)
    sign = np.where(atoms.numbers == 11, 1.0, 3.0)
    results = {
        "energy": atoms.get_potential_energy() - OFFSET * len(atoms),
        "forces": atoms.get_forces() + 0.01 * sign[:, None] * [1, -1, 1],
    }
    if stress:
        results["stress"] = atoms.get_stress() + 0.002
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture
def frames():
    return [labelled(0, 1), labelled(1, 2), labelled(2, 3, stress=False)]


def test_errors_are_those_that_were_put_in(frames):
    metrics = evaluate(LennardJones(**PAIR), frames)
    assert (metrics["n_structures"], metrics["n_atoms"]) == (3, 12)
    for kind in ("rmse", "mae"):
        assert metrics[f"energy_{kind}_meV_per_atom"] == pytest.approx(1000 * OFFSET, rel=ROUNDING)
        assert metrics[f"stress_{kind}_meV_per_A3"] == pytest.approx(2.0, rel=1e-6)
        per_element = metrics[f"forces_{kind}_meV_per_A_per_element"]
        assert per_element == pytest.approx({"Na": 10.0, "Cl": 30.0}, rel=1e-6)
    assert metrics["forces_mae_meV_per_A"] == pytest.approx(20.0, rel=1e-6)
    assert metrics["forces_rmse_meV_per_A"] == pytest.approx(np.sqrt(500.0), rel=1e-6)


def test_a_constant_offset_is_removed_only_when_asked(frames):
    metrics = evaluate(LennardJones(**PAIR), frames, align=True)
    assert metrics["energy_rmse_meV_per_atom"] < 1e-6
    assert metrics["energy_offset_removed_meV_per_atom"] == pytest.approx(1000 * OFFSET, rel=1e-6)


def test_quantities_without_labels_have_no_key(frames):
    metrics = evaluate(LennardJones(**PAIR), frames[2:])
    assert not any("stress" in key or "dipole" in key for key in metrics)
    assert not any(key.startswith("charge") for key in metrics)
    frames[0].calc.results.pop("energy")
    assert "energy_rmse_meV_per_atom" not in evaluate(LennardJones(**PAIR), frames[:1])


def test_models_without_charges_are_compared_on_ions_too(frames, tiny_model_without_charges):
    """As when they were trained on them; front ends refuse a total charge that changes nothing."""
    for frame in frames:
        frame.symbols = ["K" if k % 2 else "Cl" for k in range(len(frame))]
    calculator = EquiCalculator(tiny_model_without_charges)
    neutral = evaluate(calculator, from_atoms(frames))
    for frame in frames:
        frame.info["charge"] = 1.0
    assert evaluate(calculator, from_atoms(frames)) == neutral


def test_a_file_and_structures_give_the_same(frames, tmp_path):
    path = tmp_path / "data.xyz"
    ase.io.write(path, frames)
    from_file = evaluate(LennardJones(**PAIR), path)
    from_structures = evaluate(LennardJones(**PAIR), from_atoms(frames))
    # extended XYZ is written with 8 decimals
    assert from_file["forces_rmse_meV_per_A"] == pytest.approx(
        from_structures["forces_rmse_meV_per_A"], abs=1e-3
    )


def test_forces_come_with_the_element_of_each_component(frames):
    comparison = compare(LennardJones(**PAIR), frames[:1])
    reference, predicted = comparison.flat("forces")
    assert reference.shape == predicted.shape == comparison.force_symbols().shape == (6,)
    assert comparison.force_symbols().tolist() == ["Na"] * 3 + ["Cl"] * 3


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(DataError, match="there are no structures to evaluate"):
        evaluate(LennardJones(**PAIR), [])


def test_structures_without_any_label_are_an_error():
    with pytest.raises(DataError, match="none of 1 structures has an energy, forces or stress"):
        evaluate(LennardJones(**PAIR), [bulk("NaCl", "rocksalt", a=5.6)])
