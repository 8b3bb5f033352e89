"""Operators are tested with the kernels of the CPU and with the source of those for devices."""

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HOST_GROUPS = ROOT / "tests" / "csrc" / "host_groups.cpp"

# Tests of operators that run on devices too.
MODULES = (
    "test_contraction",
    "test_degree_linear",
    "test_device_edges",
    "test_device_mesh",
    "test_edge_geometry",
    "test_fused",
    "test_fused_training",
    "test_gate",
    "test_irreps_linear",
    "test_repulsion",
    "test_tensor_convolution",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.split(".")[-1] in MODULES:
        # on the host the others have one thread
        on_cpu = "threads" in metafunc.function.__name__
        names = ["cpu"] if on_cpu else ["cpu", "device source"]
        metafunc.parametrize("kernels", names, indirect=True)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """New tensors are float64, and random ones the same in every run."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def host_groups() -> ctypes.CDLL:
    """The kernels for devices, compiled for the host; kept in build/ until their source changes."""
    from equicalc.core import load_library

    load_library()
    compiler = shutil.which("c++")
    assert compiler is not None, "building equicalc needed a C++ compiler; found no c++ in PATH"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", f"-I{CSRC}"]
    if os.environ.get("EQUICALC_SANITIZE") == "1":  # make sanitize
        flags += ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        flags += ["-fno-sanitize=vptr,null,alignment,object-size,nonnull-attribute"]
        flags += ["--param", "asan-instrumentation-with-call-threshold=0"]
    sources = [HOST_GROUPS, *sorted(CSRC.rglob("*.h"))]
    text = b"".join([" ".join(flags).encode(), *(source.read_bytes() for source in sources)])
    name = hashlib.sha256(text).hexdigest()[:16]
    library = ROOT / "build" / "tests" / f"host_groups_{name}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    with (library.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not library.exists():
            new = library.with_suffix(".new")
            command = [compiler, *flags, str(HOST_GROUPS), "-o", str(new)]
            subprocess.run(command, check=True, env={**os.environ, "LD_PRELOAD": ""})
            new.replace(library)
    return ctypes.CDLL(str(library))


@pytest.fixture(autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Which kernels the operators use during a test."""
    if getattr(request, "param", "cpu") == "cpu":
        yield
        return
    library = request.getfixturevalue("host_groups")
    library.use_host_groups(1)
    yield
    library.use_host_groups(0)
