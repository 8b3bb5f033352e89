"""What crosses ranks between the layers of a network."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from equicalc.lammps_run import executable, write_data

# no new neighbour list after the first
DYNAMICS = """neighbor 3.0 bin
velocity all create 300 7
fix 1 all nve
timestep 0.0005
neigh_modify every 1000 delay 1000 check no
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """Library that counts the bytes which the processes into which it is loaded send."""
    headers = Path(sysconfig.get_path("data")) / "include"
    if shutil.which("cc") is None or not (headers / "mpi.h").exists():
        pytest.skip("there is no C compiler or no mpi.h to build the counter of messages with")
    library = tmp_path_factory.mktemp("counter") / "messages.so"
    source = Path(__file__).parent / "messages.c"
    subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", f"-I{headers}", source, "-o", library], check=True
    )
    return library


def sent(bench, counter, deck, processors):
    """Bytes that all ranks send in a whole run of a deck."""
    folder = bench.directory / "counts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = bench.directory / "in.deck"
    path.write_text(deck.replace("read_data", f"processors {processors}\nread_data"))
    words = [executable("mpirun"), "-np", "2", "env", f"LD_PRELOAD={counter}"]
    words += [f"SENT_BYTES={folder}", executable("lmp"), "-in", "in.deck", "-log", "none"]
    subprocess.run(words, cwd=bench.directory, check=True, stdout=subprocess.DEVNULL)
    return sum(int(file.read_text()) for file in folder.iterdir())


def sent_of_features(bench, counter, model, repeat):
    """Bytes of features and of their gradients in a step, of a box cut into halves along z."""
    atoms = bench.salt((1, 1, 2), rattle=0.05) * repeat
    write_data(bench.directory / "structure.data", atoms, bench.elements)
    network = bench.deck(model, "", kspace=None)
    positions_alone = bench.header + "pair_style zero 4.0\npair_coeff * *\n"
    of_a_step = []
    for deck in (network, positions_alone):
        few, more = (
            sent(bench, counter, deck + DYNAMICS + f"run {steps}\n", "1 1 2") for steps in (2, 6)
        )
        of_a_step.append((more - few) // 4)
    return of_a_step[0] - of_a_step[1]


def test_features_cross_once_for_each_atom_of_the_other_rank(
    bench, counter, tiny_model_without_charges
):
    """Ranks have all atoms of each other as ghosts: the wider the box, the fewer images of each."""
    thin = sent_of_features(bench, counter, tiny_model_without_charges, (1, 1, 1))
    assert thin > 0
    assert sent_of_features(bench, counter, tiny_model_without_charges, (3, 3, 1)) == 9 * thin


def test_features_of_ghosts_beyond_the_cutoff_do_not_cross(
    bench, counter, tiny_model_without_charges
):
    """In a box of twice the length twice as many atoms are ghosts, and as many have edges."""
    short, long = (
        sent_of_features(bench, counter, tiny_model_without_charges, (1, 1, n)) for n in (1, 2)
    )
    whether_needed = 8 * 16  # bytes, of the ghosts that the longer box has more
    assert long == short + whether_needed
