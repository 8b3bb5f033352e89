"""Several replicas in one `mpirun`: each has the numbers that it has alone."""

import numpy as np
import pytest

from equicalc.lammps_run import write_data

SAME = 1e-9
PAIR = "neigh_modify every 1 delay 0 check yes\ntimestep 0.0005\n"
OUT = (
    "thermo_style custom step pe\nthermo_modify format float %.17g\n"
    "dump 1 all custom 5 out.${{w}}.dump id x y z fx fy fz q\n"
    "dump_modify 1 sort id format float %.17g\n"
)


def text(bench, name):
    return (bench.directory / name).read_text()


@pytest.mark.parametrize(("ranks", "partition"), [(2, "2x1"), (4, "2x2"), (3, "1 2")])
def test_two_replicas_at_once_are_as_each_alone(bench, tiny_model, ranks, partition):
    """Different structures, of different sizes, on different numbers of ranks."""
    structures = {"a": bench.salt((2, 1, 1)), "b": bench.salt((1, 1, 3), rattle=0.1)}
    for name, atoms in structures.items():
        write_data(bench.directory / f"{name}.data", atoms, bench.elements)
    body = "fix 1 all nve\n" + PAIR + OUT.format() + "run 5\n"
    deck = "variable w world a b\n" + bench.deck(tiny_model, body)
    deck = deck.replace("structure.data", "${w}.data")
    bench.run(deck, ranks=ranks, words=("-partition", *partition.split()))
    together = {name: bench.frames(f"out.{name}.dump") for name in structures}
    for name, atoms in structures.items():
        alone = bench.deck(tiny_model, body).replace("${w}", name)
        bench.run(alone, atoms)
        for first, second in zip(together[name], bench.frames(f"out.{name}.dump"), strict=True):
            assert np.abs(first - second).max() < SAME


def test_nudged_elastic_band_relaxes_its_replicas(bench, tiny_model_without_charges):
    """Three replicas between two positions of one atom: ends stay, forces fall."""
    atoms = bench.salt((2, 1, 1), rattle=0.02)
    final = atoms.positions[0] + [0.4, 0.3, 0.2]
    (bench.directory / "final.neb").write_text(f"1\n1 {final[0]} {final[1]} {final[2]}\n")
    body = (
        "min_style quickmin\nfix 1 all neb 1.0 parallel ideal\n" + PAIR + "thermo 5\n"
        "neb 0.0 1e-4 20 5 5 final final.neb\n"
    )
    deck = bench.deck(tiny_model_without_charges, body, kspace=None)
    bench.run(deck, atoms, ranks=3, words=("-partition", "3x1"))
    rows = [line.split() for line in text(bench, "log.lammps").splitlines()]
    numbers = [[float(word) for word in row] for row in rows if len(row) > 8 and row[0].isdigit()]
    forces = [row[1] for row in numbers]
    assert len(forces) >= 3
    assert min(forces[1:]) < forces[0]
    assert np.isfinite(numbers).all()


def test_tempering_swaps_temperatures_of_finite_replicas(bench, tiny_model):
    """Two replicas at 300 and 400 K: every swap is counted, energies stay finite."""
    body = (
        "variable t world 300.0 400.0\nvelocity all create 300 7\n"
        "fix heat all nvt temp $t $t 0.05\n" + PAIR + "temper 20 5 $t heat 3 4\n"
    )
    deck = bench.deck(tiny_model, body, kspace="pppm 1.0e-4")
    bench.run(deck, bench.salt((2, 1, 1), rattle=0.05), ranks=2, words=("-partition", "2x1"))
    rows = [line.split() for line in text(bench, "log.lammps").splitlines()]
    swaps = [row for row in rows if len(row) == 3 and all(word.isdigit() for word in row)]
    assert [int(row[0]) for row in swaps] == [0, 5, 10, 15, 20]
    for replica in (0, 1):
        assert "nan" not in text(bench, f"log.lammps.{replica}")


def test_alchemy_mixes_the_forces_of_two_replicas(bench, tiny_model):
    """The second one has another element in one place, and the charges that belong to it."""
    atoms = bench.salt((2, 1, 1))
    assert atoms.symbols[2] == "K"
    write_data(bench.directory / "structure.data", atoms, bench.elements)
    swap = 'if "$w == b" then "set atom 3 type 2"\npair_style'
    alone = {}
    for name in ("a", "b"):
        deck = f"variable w index {name}\n" + bench.deck(tiny_model, OUT.format() + "run 0\n")
        bench.run(deck.replace("pair_style", swap))
        alone[name] = bench.frames(f"out.{name}.dump")[-1]
    body = (
        "variable own world 0.75 0.25\nvariable share equal ${own}\nfix 1 all nve\n"
        "fix mix all alchemy v_share\ntimestep 0.0\n" + OUT.format() + "run 5\n"
    )
    deck = "variable w world a b\n" + bench.deck(tiny_model, body).replace("pair_style", swap)
    bench.run(deck, ranks=2, words=("-partition", "2x1"))
    mixed = 0.75 * alone["a"][:, 4:7] + 0.25 * alone["b"][:, 4:7]
    assert np.abs(alone["a"][:, 4:7] - alone["b"][:, 4:7]).max() > 0.1
    for name in ("a", "b"):
        for frame in bench.frames(f"out.{name}.dump"):
            assert np.abs(frame[:, 4:7] - mixed).max() < SAME
            assert np.abs(frame[:, 7] - alone[name][:, 7]).max() < SAME
