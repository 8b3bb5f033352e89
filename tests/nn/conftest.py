"""Operators are tested with the kernels of the CPU and with the source of those for devices."""

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HOST_GROUPS = ROOT / "tests" / "csrc" / "host_groups.cpp"

# Tests of operators that run on devices too.
MODULES = (
    "test_contraction",
    "test_device_edges",
    "test_edge_geometry",
    "test_fused",
    "test_fused_training",
    "test_gate",
    "test_irreps_linear",
    "test_tensor_convolution",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.split(".")[-1] in MODULES:
        metafunc.fixturenames.append("kernels")
        metafunc.parametrize("kernels", ["cpu", "device source"], indirect=True)


@pytest.fixture(scope="session")
def host_groups(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels for devices, compiled for the host."""
    from equicalc.core import load_library

    load_library()
    compiler = shutil.which("c++")
    assert compiler is not None, "building equicalc needed a C++ compiler; found no c++ in PATH"
    library = tmp_path_factory.mktemp("groups") / "libhost_groups.so"
    command = [compiler, "-std=c++20", "-O1", "-fPIC", "-shared", f"-I{CSRC}"]
    subprocess.run([*command, str(HOST_GROUPS), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which kernels the operators use during a test."""
    if request.param == "cpu":
        yield request.param
        return
    library = request.getfixturevalue("host_groups")
    library.use_host_groups(1)
    yield request.param
    library.use_host_groups(0)
