"""The compiled core in processes of other processes."""

import os
import subprocess
import sys

# Enough atoms that both threads have work; a hang ends with the time below.
PROGRAM = """
import multiprocessing, sys
import torch
from ase.build import bulk
from equicalc import EquiCalculator

atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True).repeat(3)
atoms.rattle(0.05, seed=1)
atoms.calc = EquiCalculator(sys.argv[1])
energy = atoms.get_potential_energy()
assert torch.get_num_threads() == 2

def evaluate(seed):
    copy = atoms.copy()
    copy.calc = atoms.calc if seed else EquiCalculator(sys.argv[1])
    copy.positions += 0.1  # moved as a whole: calculated again, the same energy
    return copy.get_potential_energy() - energy

with multiprocessing.get_context("fork").Pool(2) as pool:
    differences = pool.map_async(evaluate, range(4)).get(timeout=60.0)
assert torch.get_num_threads() == 2
assert max(map(abs, differences)) < 1e-8, differences
"""


def test_forked_processes_calculate_after_their_parent_did(tiny_model):
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_model)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        check=True,
        timeout=240.0,
    )
