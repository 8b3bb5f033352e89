"""What a long run allocates, and what is said when there is no memory left."""

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from equicalc.lammps_run import executable, write_data

MESH = "pppm 1.0e-4"
DYNAMICS = "velocity all create 300 7\nfix 1 all nve\ntimestep 0.0005\nneigh_modify {}\n"
NO_NEW_LIST = "every 1000 delay 1000 check no"
STEPS = 18


# ---- allocations of a step --------------------------------------------------------------------


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """Library that counts large allocations of the processes into which it is loaded."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to build the counter of allocations with")
    library = tmp_path_factory.mktemp("counter") / "allocations.so"
    source = Path(__file__).parent / "allocations.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    return library


def allocations(bench, counter, deck, ranks):
    """How often the ranks asked for many bytes at once, after the deck has set LARGE_BYTES.

    Not counted is what MPI asks for, which keeps messages that come before they are waited for.
    """
    folder = bench.directory / "counts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = bench.directory / "in.deck"
    path.write_text(deck)
    words = [executable("lmp"), "-in", "in.deck", "-log", "none"]
    words = ["env", f"LD_PRELOAD={counter}", f"LARGE_COUNTS={folder}", *words]
    if ranks > 1:
        words = [executable("mpirun"), "-np", str(ranks), *words]
    subprocess.run(words, cwd=bench.directory, check=True, stdout=subprocess.DEVNULL)
    counts = [int(file.read_text()) for file in folder.iterdir()]
    assert len(counts) >= ranks
    return sum(counts)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "model", ["deep", "none", "predicted with widths", "scattered", "own mesh", "own mesh, float32"]
)
def test_steps_allocate_nothing_of_the_size_of_their_data(
    bench, deep_model, tiny_model_without_charges, model_of, counter, ranks, model
):
    atoms = bench.salt((4, 4, 4 * ranks), rattle=0.05)
    write_data(bench.directory / "structure.data", atoms, bench.elements)
    path = dict.fromkeys(["deep", "scattered", "own mesh", "own mesh, float32"], deep_model)
    path["none"] = tiny_model_without_charges
    file = path.get(model) or model_of(model)
    kspace = {
        "none": None,
        "own mesh": "equicalc 1.0e-4",
        "own mesh, float32": "equicalc 1.0e-4 precision float32",
    }.get(model, MESH)
    # with shares of atoms, too
    outputs = "compute s all stress/atom NULL\ncompute t all reduce sum c_s[1]\n"
    outputs += "thermo_style custom step pe c_t\nthermo 1\n" if model == "scattered" else ""
    # one number of eight bytes for each atom of a rank
    least = 8 * len(atoms) // ranks
    counts = []
    for more in (0, STEPS):
        body = DYNAMICS.format(NO_NEW_LIST) + outputs + "run 12\n"
        body += f"shell putenv LARGE_BYTES={least}\nrun {1 + more} pre no\n"
        deck = bench.deck(file, body, kspace=kspace).replace(
            "read_data", f"processors 1 1 {ranks}\nread_data"
        )
        counts.append(allocations(bench, counter, deck, ranks))
    # transforms of torch take seven parts of a mesh each time
    each = 0 if "own" not in model else 7 * ranks
    # a buffer may have to grow now and then, which takes less than one on each step of one rank
    assert counts[1] - counts[0] < STEPS * (each + 1)


def test_the_counter_of_allocations_sees_those_of_the_model(bench, deep_model, counter):
    """The bound above would hold for a counter that counts nothing, too."""
    write_data(
        bench.directory / "structure.data", bench.salt((4, 4, 4), rattle=0.05), bench.elements
    )
    deck = "shell putenv LARGE_BYTES=4096\n" + bench.deck(deep_model, "run 0\n", kspace=MESH)
    assert allocations(bench, counter, deck, ranks=1) > 10


# ---- no memory left ---------------------------------------------------------------------------


def test_out_of_memory_names_rank_atoms_edges_and_what_to_do(bench, tiny_model_without_charges):
    """A run gets the address space of a small one and some more, which the large one exceeds."""
    body = DYNAMICS.format(NO_NEW_LIST) + "run 1\n"

    def run(repeat, limit=None):
        write_data(
            bench.directory / "structure.data", bench.salt(repeat, rattle=0.05), bench.elements
        )
        shell = 'shell "grep VmPeak /proc/$PPID/status"\n'
        deck = bench.deck(tiny_model_without_charges, body + shell, kspace=None)
        (bench.directory / "in.deck").write_text(deck)
        return subprocess.run(
            [executable("lmp"), "-in", "in.deck", "-log", "none"],
            cwd=bench.directory,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))),
        )

    small = run((2, 2, 2))
    peak = 1024 * int(re.findall(r"VmPeak:\s+(\d+) kB", small.stdout)[-1])
    # enough for LAMMPS' own arrays, for which it has a message of its own, but not for ours
    for more in range(10, 200, 10):
        large = run((10, 10, 20), peak + more * 2**20)
        assert large.returncode != 0, "the run had memory enough"
        if "pair_style equicalc" in large.stdout:
            break
    for words in ("out of memory", "rank 0", "16000 atoms", "neighbour pairs", "more ranks"):
        assert words in large.stdout, large.stdout
