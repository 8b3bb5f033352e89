"""Structures in files, and functions that run commands in this process."""

import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from equicalc import cli


@pytest.fixture
def crystal(tmp_path):
    """Eight atoms of KCl, slightly displaced, in a file."""
    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    path = tmp_path / "kcl.xyz"
    write(path, atoms)
    return path


@pytest.fixture
def labelled(tmp_path, tiny_model):
    """Three structures labelled by the model itself, energies shifted by 8 meV/atom."""
    from equicalc import EquiCalculator

    frames = []
    for seed in range(3):
        atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EquiCalculator(tiny_model)
        results = {
            "energy": atoms.get_potential_energy() + 0.008 * len(atoms),
            "forces": atoms.get_forces() + 0.1,
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    path = tmp_path / "data.xyz"
    write(path, frames)
    return path


def equicalc(*words):
    """Run a command in this process; returns its exit code."""
    return cli.main([str(word) for word in words])


def fails(capsys, *words):
    """Run a command that must fail; return its message, one line of `equicalc COMMAND: ...`."""
    assert equicalc(*words) == cli.EXIT_ERROR
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"equicalc {words[0]}: ")
    return message
