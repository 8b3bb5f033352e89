"""What setup.py tells ninja: torch is parsed once, and what changed is compiled again."""

import os
import runpy
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from setuptools import Extension

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_SCOPE = "-fno-sanitize-address-use-after-scope"


def globals_of_setup() -> dict[str, Any]:
    """The globals of setup.py, without a build; what is set here its functions see."""
    functions = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    return functions["ninja_script"].__globals__


@pytest.fixture
def setup():
    return globals_of_setup()


def place(rule: str) -> str:
    """Directory and name of the source of a rule, for example ``coulomb/ewald``."""
    source = Path(rule.split()[3])
    return f"{source.parent.name}/{source.stem}"


def test_only_files_that_include_torch_wait_for_its_precompiled_header(setup):
    if not setup["can_precompile"]():
        pytest.skip("c++ is not GCC")
    script = setup["ninja_script"](setup["extensions"]())
    rules = {place(line): line for line in script.splitlines() if ": compile " in line}
    waiting = {source for source, rule in rules.items() if "precompiled.h.gch" in rule}
    # through one header of ours, through two, through those of another directory
    expected = {"model/graph", "operators/gate_op", "direct/update", "lammps_plugin/pair_init"}
    assert expected <= waiting
    vectors = {"direct/kernels_avx2", "operators/tensor_forward"}
    assert vectors | {"coulomb/mesh", "lammps_plugin/units"} <= set(rules) - waiting


def test_a_build_with_checks_leaves_the_other_alone(setup, monkeypatch):
    assert "-fsanitize" not in setup["ninja_script"](setup["extensions"]())
    monkeypatch.setenv("EQUICALC_SANITIZE", "1")
    checked = globals_of_setup()
    assert checked["NINJA_DIR"] != setup["NINJA_DIR"]
    script = checked["ninja_script"](checked["extensions"]())
    assert str(setup["NINJA_DIR"]) not in script
    lines = script.splitlines()
    assert "-fsanitize=address,undefined" in next(x for x in lines if x.startswith("flags = "))
    # every file is checked; only for loops over vectors one check is left out
    options = {place(a): b for a, b in pairwise(lines) if ": compile " in a}
    assert not [name for name, extra in options.items() if "-fno-sanitize=" in extra]
    fewer = {name for name, extra in options.items() if WITHOUT_SCOPE in extra}
    kernels = {"operators/tensor_backward", "operators/radial_kernels", "direct/kernels_avx512"}
    assert kernels <= fewer
    every = {"model/graph", "coulomb/ewald", "operators/tensor_op", "direct/backward"}
    assert every <= set(options) - fewer


FAULTY = """
#define EQUICALC_ISA here
#define EQUICALC_LANE_BYTES 16
#include "vectors/lanes.h"
#include <cstdlib>
#include <vector>
using Four = equicalc::direct::here::Pack<float, 4>;
int main(int, char **arguments) {
    const int first = std::atoi(arguments[1]), factor = std::atoi(arguments[2]);
    std::vector<float> numbers(6, 1.0f);
    Four sum = Four::zero();
    for (int k = 0; k < 2; ++k) {
        sum.add(float(k), Four::load(numbers.data() + first + k));
    }
    sum.store(numbers.data());
    volatile int product = factor * 3;
    return product == 7 || numbers[0] != 1.0f;
}
"""


def test_checks_see_what_vectors_read_and_sums_of_integers(tmp_path, monkeypatch, setup):
    if not setup["can_precompile"]():
        pytest.skip("c++ is not GCC")
    monkeypatch.setenv("EQUICALC_SANITIZE", "1")
    (tmp_path / "faulty.cpp").write_text(FAULTY)
    program = str(tmp_path / "faulty")
    flags = [*globals_of_setup()["FLAGS"].split(), WITHOUT_SCOPE, f"-I{ROOT / 'csrc'}"]
    subprocess.run(["c++", *flags, str(tmp_path / "faulty.cpp"), "-o", program], check=True)

    def found(first: int, factor: int) -> str:
        command = [program, str(first), str(factor)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert (run.returncode == 0) == (run.stderr == "")
        return run.stderr

    assert found(1, 1) == ""
    # the last vector ends behind the end, the first begins before the start
    assert "READ of size 16" in found(2, 1)
    assert "READ of size 16" in found(-1, 1)
    assert "signed integer overflow" in found(1, 0x7FFFFFFF)


def guarded(line: str) -> str:
    """A header of one line, which is read once."""
    return f"#ifndef THEIRS_H\n#define THEIRS_H\n{line}\n#endif\n"


@pytest.fixture
def tree(setup, tmp_path, monkeypatch):
    """Two sources, of which one includes the header that is precompiled; the function builds."""
    if not setup["can_precompile"]():
        pytest.skip("c++ is not GCC")
    for directory in ("csrc", "others", "build"):
        (tmp_path / directory).mkdir()
    (tmp_path / "csrc" / "ours.h").write_text("#include <theirs.h>\n")
    (tmp_path / "csrc" / "user.cpp").write_text('#include "ours.h"\nint f() { return number; }\n')
    (tmp_path / "csrc" / "kernel.cpp").write_text("int g() { return 0; }\n")
    (tmp_path / "others" / "theirs.h").write_text(guarded("constexpr int number = 1;"))
    monkeypatch.setenv("CPLUS_INCLUDE_PATH", str(tmp_path / "others"))
    setup.update(ROOT=tmp_path, NINJA_DIR=tmp_path / "build", PRECOMPILED="theirs.h")
    script = tmp_path / "build" / "build.ninja"
    extension = Extension("toy.libtoy", ["csrc/user.cpp", "csrc/kernel.cpp"])
    script.write_text(setup["ninja_script"]([extension]))

    def build(*options: str) -> str:
        """What ninja and the compiler said."""
        objects = tmp_path / "build" / "libtoy" / "csrc"
        targets = [str(objects / f"{name}.o") for name in ("user", "kernel")]
        command = [sys.executable, "-m", "ninja", "-f", str(script), *options, *targets]
        environment = {**os.environ, "NINJA_STATUS": ""}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return tmp_path, build


def names_built(output: str) -> set[str]:
    """Files that the commands in ninja's output wrote."""
    return {Path(line.split()[-1]).name for line in output.splitlines() if " -o " in line}


def test_a_changed_header_of_others_is_precompiled_and_used_again(tree):
    directory, build = tree
    first = build("-v")
    assert names_built(first) == {"precompiled.h.gch", "user.o", "kernel.o"}
    assert "warning" not in first
    assert "no work to do" in build()
    time.sleep(0.01)  # newer than what was built, also on coarse clocks
    (directory / "others" / "theirs.h").write_text(guarded("constexpr int number = 2;"))
    assert names_built(build("-v")) == {"precompiled.h.gch", "user.o"}
    assert "no work to do" in build()


def test_a_changed_header_of_ours_is_not_precompiled_again(tree):
    directory, build = tree
    build()
    time.sleep(0.01)
    (directory / "csrc" / "ours.h").write_text("#include <theirs.h>\nconstexpr int ours = 3;\n")
    assert names_built(build("-v")) == {"user.o"}


def test_the_compiler_reads_the_precompiled_header_instead_of_the_header(tree):
    directory, build = tree
    build("-v")
    # the time of the old file, so that ninja finds nothing to do for the precompiled header
    header = directory / "others" / "theirs.h"
    times = header.stat()
    header.write_text(guarded("#error read"))
    os.utime(header, ns=(times.st_atime_ns, times.st_mtime_ns))
    (directory / "build" / "libtoy" / "csrc" / "user.o").unlink()
    assert names_built(build("-v")) == {"user.o"}


def test_a_precompiled_header_that_does_not_fit_is_reported_and_left_aside(tree):
    directory, build = tree
    build()
    precompiled = directory / "build" / "precompiled.h.gch"
    times = precompiled.stat()
    precompiled.write_bytes(b"of another compiler")
    os.utime(precompiled, ns=(times.st_atime_ns, times.st_mtime_ns))
    (directory / "build" / "libtoy" / "csrc" / "user.o").unlink()
    output = build("-v")
    assert names_built(output) == {"user.o"}
    assert "[-Winvalid-pch]" in output
