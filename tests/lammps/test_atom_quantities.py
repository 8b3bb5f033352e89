"""`compute equicalc/atom`: numbers about single atoms, those of ASE or of LAMMPS itself."""

import numpy as np
import pytest

from equicalc import EquiCalculator
from equicalc.core import load_library
from equicalc.data.neighbors import NeighborList
from tests.lammps.test_errors import assert_says, message

RAW = {
    "fixed": ["raw_charge", "weight"],
    "predicted with widths": ["raw_charge", "weight"],
    "transferred": ["raw_charge", "weight", "bond_dipole_x", "bond_dipole_y", "bond_dipole_z"],
    "equilibrated": ["electronegativity", "hardness"],
}


def quantities(bench, model, atoms, words, ranks=1, kspace=None, more=""):
    body = f"""compute a all equicalc/atom {" ".join(words)}
compute e all pe/atom
{more}
dump 1 all custom 1 out.dump id q c_e c_a{"[*]" if len(words) > 1 else ""}
dump_modify 1 sort id format float %.17g
run 0
"""
    deck = bench.deck(model, body, kspace=kspace or bench.tight)
    bench.run(deck, atoms, ranks=ranks)
    rows = bench.frames("out.dump")[-1]
    return {"q": rows[:, 1], "pe": rows[:, 2]} | {w: rows[:, 3 + k] for k, w in enumerate(words)}


def raw_outputs(model, atoms):
    """What the network says before charges are made of it."""
    core = load_library()
    loaded = core.Model.load(str(model), "float64", "cpu")
    species = np.array([loaded.info.elements.index(s) for s in atoms.get_chemical_symbols()])
    import torch

    index, vectors = NeighborList(loaded.info.cutoff, 0.0).update(
        atoms.positions, atoms.cell[:], atoms.pbc
    )
    result = core.Evaluator(loaded).forward(torch.from_numpy(species), index, vectors, len(atoms))
    return result.energies.numpy(), result.variables.numpy()


@pytest.mark.parametrize("name", RAW)
def test_quantities_are_those_of_the_network(bench, model_of, name):
    atoms, model = bench.salt((2, 1, 1)), model_of(name)
    words = ["network", "charge", "energy", "electrostatic", *RAW[name]]
    found = quantities(bench, model, atoms, words, ranks=2)
    energies, variables = raw_outputs(model, atoms)
    assert np.abs(found["network"] - energies).max() < 1e-10
    for column, word in enumerate(RAW[name]):
        assert np.abs(found[word] - variables[:, column]).max() < 1e-10
    assert np.array_equal(found["charge"], found["q"])
    assert np.abs(found["energy"] - found["pe"]).max() < 1e-11
    assert np.abs(found["network"] + found["electrostatic"] - found["energy"]).max() < 1e-11


@pytest.mark.parametrize("ranks", [2])
def test_potential_is_that_of_all_other_charges(bench, model_of, ranks):
    atoms, model = bench.salt((2, 1, 1)), model_of("predicted with widths")
    found = quantities(bench, model, atoms, ["potential", "charge", "electrostatic"], ranks)
    expected = 0.5 * found["charge"] * found["potential"]
    assert np.abs(found["electrostatic"] - expected).max() < 1e-10
    from equicalc.electrostatics import solve

    sigmas = np.where(np.array(atoms.get_chemical_symbols()) == "K", 0.8, 1.0)
    solved = solve(
        found["charge"], atoms.positions, atoms.cell[:], atoms.pbc, sigmas, 1e-12, "ewald"
    )
    assert np.abs(found["potential"] - solved.potentials).max() < 1e-8


def test_one_quantity_is_a_vector(bench, tiny_model):
    found = quantities(bench, tiny_model, bench.salt((1, 1, 1)), ["charge"])
    assert np.array_equal(found["charge"], found["q"])


def test_atoms_outside_of_the_group_have_zeros(bench, tiny_model):
    body = """group cations type 1
compute a cations equicalc/atom charge potential
dump 1 all custom 1 out.dump id type c_a[*]
dump_modify 1 sort id format float %.17g
run 0
"""
    bench.run(bench.deck(tiny_model, body), bench.salt((1, 1, 1)), ranks=2)
    rows = bench.frames("out.dump")[-1]
    inside = rows[:, 1] == 1
    assert np.abs(rows[inside, 2:]).min() > 0.1
    assert np.all(rows[~inside, 2:] == 0.0)


def test_quantities_follow_atoms_from_rank_to_rank(bench, model_of):
    more = "velocity all create 3000 5\nfix 1 all nve\nneigh_modify every 1 delay 0 check no\n"
    body = more + "timestep 0.002\n"
    tables = []
    for ranks in (1, 2):
        deck = bench.deck(
            model_of("fixed"),
            f"{body}compute a all equicalc/atom network potential\n"
            "dump 1 all custom 20 out.dump id c_a[*] x\n"
            "dump_modify 1 sort id format float %.17g\nrun 20\n",
            kspace="ewald 1.0e-8",
        )
        bench.run(deck, bench.salt((2, 1, 1)), ranks=ranks)
        tables.append(bench.frames("out.dump")[-1])
    assert np.abs(tables[0] - tables[1]).max() < 1e-8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", ["names no quantity", "compute ID all equicalc/atom charge"]),
        ("colour", ["does not know 'colour'", "charge_model: predicted", "raw_charge"]),
        ("hardness", ["does not know 'hardness'"]),
        ("deviation", ["only when asked for", "pair_style equicalc deviation 1"]),
    ],
)
def test_impossible_quantities_are_named(bench, tiny_model, words, says):
    body = f"compute a all equicalc/atom {words}\nrun 0\n"
    assert_says(message(bench, bench.deck(tiny_model, body)), *says)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("command", ["write_data out.data", "delete_atoms group some"])
def test_quantities_of_atoms_that_have_moved_in_memory_are_refused(
    bench, tiny_model, command, ranks
):
    """Else they would be those of other atoms."""
    body = (
        "compute a all equicalc/atom charge\nvelocity all set 300 200 -250\nneighbor 3.0 bin\n"
        "neigh_modify every 100 delay 100 check no\nfix 1 all nve\ngroup some id 1 5\nrun 20\n"
        f"{command}\nwrite_dump all custom out.dump id c_a\n"
    )
    deck = bench.deck(tiny_model, body, kspace="equicalc 1.0e-4")
    found = message(bench, deck, bench.salt((2, 1, 1)), ranks=ranks)
    assert_says(found, "the 'charge' of step 20", "another order", "Type 'run 0' before")
    bench.run(deck.replace("write_dump", "run 0\nwrite_dump"), ranks=ranks)


def test_other_pair_styles_have_no_such_quantities(bench):
    deck = bench.header + "pair_style lj/cut 5.0\npair_coeff * * 0.1 2.0\n"
    deck += "compute a all equicalc/atom charge\nrun 0\n"
    assert_says(message(bench, deck), "needs 'pair_style equicalc'", "found 'pair_style lj/cut'")


def test_names_of_the_calculator_and_the_compute_agree(bench, tiny_model):
    """energy: the shares that ASE calls energies."""
    atoms = bench.salt((1, 1, 1))
    found = quantities(bench, tiny_model, atoms, ["energy"])
    calculator = EquiCalculator(str(tiny_model), kspace="ewald", kspace_accuracy=1e-12)
    assert np.abs(found["energy"] - calculator.get_property("energies", atoms)).max() < 1e-8
