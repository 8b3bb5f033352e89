"""The kernels for CUDA devices compile; machines without a device can tell that much."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
SOURCES = sorted((CSRC / "cuda").glob("*.cu"))
NVCC = shutil.which("nvcc")


@pytest.fixture(scope="module")
def setup():
    """The functions of setup.py, without a build."""
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


@pytest.mark.skipif(NVCC is None, reason="no nvcc in PATH")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels_compile(source, setup, tmp_path):
    # without optimisation and machine code, which take most of the time
    flags = setup["NVCC_FLAGS"].replace("-O3", "-Xcicc -O0").split()
    # all that builds of torch without CUDA lack of the headers of torch
    macros = tmp_path / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h"
    macros.parent.mkdir(parents=True)
    macros.write_text("#pragma once\n#define C10_CUDA_BUILD_SHARED_LIBS\n")
    for directory in (*cpp_extension.include_paths(), tmp_path):
        flags += ["-isystem", str(directory)]
    command = [
        NVCC,
        *flags,
        f"-I{CSRC}",
        "-arch=sm_90",
        "-ptx",
        str(source),
        "-o",
        str(tmp_path / "kernels"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_architectures_become_options_of_nvcc(setup):
    assert setup["architecture_flags"]("8.0;9.0+PTX") == (
        "-gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=sm_90 "
        "-gencode=arch=compute_90,code=compute_90"
    )
    with pytest.raises(SystemExit, match="found 'ampere' in TORCH_CUDA_ARCH_LIST"):
        setup["architecture_flags"]("ampere")


def test_a_build_that_insists_on_kernels_says_what_is_missing(setup, monkeypatch):
    monkeypatch.setenv("EQUICALC_CUDA", "1")
    monkeypatch.setattr("torch.version.cuda", None)
    with pytest.raises(SystemExit, match="is built without CUDA"):
        setup["has_cuda"]()
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setenv("CUDA_HOME", "/nonexistent")
    with pytest.raises(SystemExit, match="found no nvcc"):
        setup["has_cuda"]()
    monkeypatch.setenv("EQUICALC_CUDA", "0")
    assert not setup["has_cuda"]()


def test_a_build_without_cuda_has_no_kernels_for_devices():
    import torch

    from equicalc.core import load_library

    load_library()
    if torch.version.cuda is None:
        assert not torch.ops.equicalc.has_cuda_kernels()
