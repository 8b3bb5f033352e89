"""The way of GPUs through the pair style, on the CPU and, where there is one, on a GPU.

`device staged` does on the CPU all that `device cuda` does: the scripted network, edges and sums of
forces as operations of torch, features of ghosts by way of the host, backward passes on a thread of
their own.
"""

import numpy as np
import pytest
import torch

from equicalc.lammps_run import LammpsError
from tests.conftest import export_committee, export_tiny
from tests.lammps.conftest import CHARGE_MODELS, assert_same

# The same sums in another order, another network code for some: see test_ghosts.py.
LIMITS = {
    "energy": 1e-11, "atom energies": 1e-9, "forces": 1e-9, "stress": 1e-10, "charges": 1e-11,
    "dipole": 1e-8, "steps": 0.5,
}  # fmt: skip
# Seven digits of sums of order 10.
SINGLE = dict.fromkeys(LIMITS, 1e-4) | {"atom energies": 1e-3, "dipole": 1e-2, "steps": 1.5}

SUM = "ewald 1.0e-8"
DEVICES = [
    "staged",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
        ],
    ),
]


def compare(bench, atoms, model, device, words="", limits=LIMITS, **options):
    expected = bench.evaluate(atoms, model, kspace=SUM)
    found = bench.evaluate(atoms, model, kspace=SUM, words=f"device {device} {words}", **options)
    assert_same(found, expected, limits)


# ---- the same numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_three_layers_give_what_they_give_on_the_cpu(bench, deep_model, device, ranks):
    compare(bench, bench.skewed_salt(), deep_model, device, ranks=ranks)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_every_charge_model_works(bench, model_of, device, name):
    compare(bench, bench.salt((2, 1, 1)), model_of(name), device, ranks=2)


@pytest.mark.parametrize("device", DEVICES)
def test_single_precision_is_as_good(bench, deep_model, device):
    words = "precision float32"
    compare(bench, bench.salt((2, 1, 1)), deep_model, device, words, SINGLE, ranks=2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ranks", [1, 2])
def test_extended_ghosts_work(bench, deep_model, device, ranks):
    atoms = bench.salt((1, 1, 1))
    compare(bench, atoms, deep_model, device, "ghosts extended", ranks=ranks)


@pytest.mark.parametrize("device", DEVICES)
def test_box_thinner_than_the_cutoff_works(bench, deep_model, device):
    atoms = bench.salt((1, 1, 1), rattle=0.1)
    atoms.set_cell(atoms.cell.array * 0.62, scale_atoms=True)  # 3.9 angstrom, cutoff 4
    compare(bench, atoms * (1, 1, 3), deep_model, device, ranks=2, processors="1 1 2")


@pytest.mark.parametrize("device", DEVICES)
def test_ranks_without_atoms_take_part(bench, deep_model, device):
    atoms = bench.salt((1, 1, 2))
    atoms.cell[2] *= 4  # all atoms in the lowest quarter
    compare(bench, atoms, deep_model, device, ranks=4, processors="1 1 4")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["cluster", "slab"])
def test_open_directions_work(bench, deep_model, device, kind):
    compare(bench, getattr(bench, kind)(), deep_model, device, ranks=2)


@pytest.mark.parametrize("device", DEVICES)
def test_single_atom_without_edges_works(bench, deep_model, device):
    atoms = bench.salt((1, 1, 1))[:1]
    compare(bench, atoms, deep_model, device)


def mesh(accuracy, words=""):
    """The same mesh everywhere: on a GPU another spline would be the cheapest."""
    return f"equicalc {accuracy} {words}\nkspace_modify order 7"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["skewed_salt", "slab"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_mesh_of_equicalc_gives_what_it_gives_on_the_cpu(bench, deep_model, device, kind, ranks):
    atoms = getattr(bench, kind)()
    expected = bench.evaluate(atoms, deep_model, kspace=mesh("1.0e-5"))
    # it follows the network, and goes there alone
    for kspace, words in (("", f"device {device}"), (f"device {device}", "")):
        found = bench.evaluate(
            atoms, deep_model, kspace=mesh("1.0e-5", kspace), ranks=ranks, words=words
        )
        assert_same(found, expected, LIMITS)


@pytest.mark.parametrize("device", DEVICES)
def test_mesh_of_equicalc_in_single_precision_is_as_good(bench, deep_model, device):
    atoms = bench.skewed_salt()
    expected = bench.evaluate(atoms, deep_model, kspace=mesh("1.0e-5"))
    kspace = mesh("1.0e-5", f"device {device} precision float32")
    found = bench.evaluate(atoms, deep_model, kspace=kspace, ranks=2)
    assert_same(found, expected, SINGLE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CHARGE_MODELS)
def test_mesh_of_equicalc_sums_every_charge_model(bench, model_of, device, name):
    atoms, model = bench.salt((2, 1, 1)), model_of(name)
    expected = bench.evaluate(atoms, model, kspace=mesh("1.0e-5"))
    found = bench.evaluate(atoms, model, kspace=mesh("1.0e-5"), words=f"device {device}")
    # charges that are searched for end within the tolerance of this accuracy
    limits = SINGLE if "equilibrated" in name else LIMITS
    assert_same(found, expected, limits)


BOX_MOVES = """velocity all create 300 7 loop geom
neigh_modify every 1 delay 0 check yes
fix 1 all nph iso 0 0 1.0
timestep 0.00025
thermo 5
thermo_style custom step pe press vol
thermo_modify format float %.15g
run 20
"""


@pytest.mark.parametrize("device", DEVICES)
def test_mesh_of_equicalc_follows_the_box(bench, deep_model, device):
    tables = []
    for words in ("", f"device {device}"):
        deck = bench.deck(deep_model, BOX_MOVES, kspace=mesh("1.0e-4"), style=words)
        tables.append(bench.run(deck, bench.salt((2, 1, 1)), ranks=2).thermo[-1])
    assert np.ptp(tables[0]["Volume"]) > 0.01
    for key, expected in tables[0].items():
        # twenty steps magnify the rounding of the first
        assert np.abs(tables[1][key] - expected).max() <= 1e-8 * np.abs(expected).max(), key


DYNAMICS = """velocity all create 600 7 loop geom
velocity all set 200 130 -150 sum yes
neighbor 0.4 bin
neigh_modify every 1 delay 0 check yes
fix 1 all nve
timestep 0.0005
compute s all stress/atom NULL pair
compute t all reduce sum c_s[1] c_s[4]
thermo 5
thermo_style custom step pe press c_t[1] c_t[2] atoms
thermo_modify format float %.15g
run 10
group some id 3 8 17
delete_atoms group some compress no
run 10
"""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ghosts", ["exchange", "extended"])
def test_atoms_that_move_and_vanish_give_the_same(bench, deep_model, device, ghosts):
    tables = []
    for words in ("", f"device {device} ghosts {ghosts}"):
        deck = bench.deck(deep_model, DYNAMICS, kspace=SUM, style=words)
        tables.append(bench.run(deck, bench.salt((2, 1, 1)), ranks=2).thermo)
    for expected, found in zip(*tables, strict=True):
        assert np.array_equal(expected["Atoms"], found["Atoms"])
        for key in ("PotEng", "Press", "c_t[1]", "c_t[2]"):
            scale = np.abs(expected[key]).max()
            # twenty steps magnify the rounding of the first
            assert np.abs(expected[key] - found[key]).max() < 1e-8 * scale


# Neighbour lists of every step, centroid virials in some.
MIXED = """velocity all create 600 7 loop geom
neighbor 0.4 bin
neigh_modify every 1 delay 0 check no
fix 1 all nve
timestep 0.0005
compute ke all ke/atom
compute pe all pe/atom
compute s all centroid/stress/atom NULL virial
compute j all heat/flux ke pe s
thermo 3
thermo_style custom step pe press c_j[1] c_j[2] c_j[3]
thermo_modify format float %.15g
run 12
"""


@pytest.mark.parametrize("device", DEVICES)
def test_steps_with_and_without_heat_fluxes_follow_each_other(bench, device):
    model = export_tiny(bench.directory / "one_layer.pt", "none", n_layers=1)
    tables = []
    for words in ("", f"device {device}"):
        deck = bench.deck(model, MIXED, kspace=None, style=words)
        tables.append(bench.run(deck, bench.salt((2, 1, 1)), ranks=1).thermo)
    for expected, found in zip(*tables, strict=True):
        for key in ("PotEng", "Press", "c_j[1]", "c_j[2]", "c_j[3]"):
            scale = np.abs(expected[key]).max()
            # as above
            assert np.abs(expected[key] - found[key]).max() < 1e-8 * scale


@pytest.mark.parametrize("device", DEVICES)
def test_committees_and_their_deviations_are_the_same(bench, device):
    models = " ".join(map(str, export_committee(bench.directory, "predicted", 2)))
    body = "compute d all pair equicalc\nthermo_style custom step pe c_d[5] c_d[7]\n"
    body += "thermo_modify format float %.15g\nrun 0\n"
    tables = []
    for words in ("deviation 1", f"deviation 1 device {device}"):
        deck = bench.deck(models, body, kspace=SUM, style=words)
        tables.append(bench.run(deck, bench.salt((2, 1, 1)), ranks=2).thermo[-1])
    for key, values in tables[0].items():
        assert np.abs(values - tables[1][key]).max() < 1e-9 * max(1.0, np.abs(values).max())
    assert tables[0]["c_d[5]"][-1] > 1e-3


# ---- what is said -----------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_named_with_what_to_do(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n", style="device cuda")
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, bench.salt((1, 1, 1)), ranks=2)
    built_with = "without CUDA" if torch.version.cuda is None else "sees no GPU"
    for words in ("device cuda", f"torch {torch.__version__.split('+')[0]}", built_with,
                  "device cpu", "device auto"):  # fmt: skip
        assert words in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_of_the_mesh_is_named_with_what_to_do(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n", kspace="equicalc 1.0e-5 device cuda")
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, bench.salt((1, 1, 1)), ranks=2)
    for words in ("kspace_style equicalc: found 'device cuda'", "device cpu", "device auto"):
        assert words in str(caught.value)


def test_automatic_choice_takes_a_gpu_or_else_the_cpu(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n", style="device auto")
    log = bench.run(deck, bench.salt((1, 1, 1))).log
    assert ("device cuda" in log) == torch.cuda.is_available()


def test_log_names_the_device(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n", style="device staged")
    assert "  device cpu: network, graph" in bench.run(deck, bench.salt((1, 1, 1))).log


def test_overlapping_atoms_are_named(bench, deep_model):
    atoms = bench.salt((1, 1, 2))
    atoms.positions[9] = atoms.positions[8]
    deck = bench.deck(deep_model, "run 0\n", kspace=SUM, style="device staged")
    with pytest.raises(LammpsError) as caught:
        bench.run(deck, atoms, ranks=2)
    for words in ("atom 9", "atom 10", "is 0.000000 angstrom away"):
        assert words in str(caught.value)
