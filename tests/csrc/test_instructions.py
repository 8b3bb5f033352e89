"""Which vector instructions kernels use, and that all of them give the same results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from equicalc.core import load_library

ROOT = Path(__file__).resolve().parents[2]
BEST_FIRST = ("avx512", "avx2", "portable")
# operators against their torch expressions, and direct evaluation against the scripted module
TESTS = [
    "tests/csrc/test_direct.py",
    *(
        f"tests/nn/test_{name}.py"
        for name in ("fused", "tensor_convolution", "contraction", "gate", "irreps_linear",
                     "degree_linear", "edge_geometry")
    ),
]  # fmt: skip


def run_python(instructions: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with a choice of instructions from the root of the repository."""
    environment = os.environ | {"EQUICALC_INSTRUCTIONS": instructions, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def chosen_with(instructions: str) -> "subprocess.CompletedProcess[str]":
    script = "from equicalc.core import load_library; print(load_library().instructions())"
    return run_python(instructions, "-c", script)


def test_the_environment_chooses_the_instructions():
    assert chosen_with("portable").stdout.strip() == "portable"
    assert chosen_with("").stdout.strip() == load_library().instructions()


def test_unknown_instructions_are_refused_with_those_that_are_there():
    found = chosen_with("avx3")
    assert found.returncode != 0
    assert "EQUICALC_INSTRUCTIONS is 'avx3'" in found.stderr
    assert "portable. Type: unset EQUICALC_INSTRUCTIONS" in found.stderr


@pytest.mark.parametrize("instructions", BEST_FIRST[1:])
def test_operators_pass_their_tests_with_lesser_instructions(instructions):
    best = load_library().instructions()
    if BEST_FIRST.index(instructions) <= BEST_FIRST.index(best):
        pytest.skip(f"this processor uses {best} in all other tests")
    found = run_python(instructions, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                       "-m", "not slow and not cuda", "-k", "not device", *TESTS)  # fmt: skip
    assert found.returncode == 0, found.stdout[-3000:]
