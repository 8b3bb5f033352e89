"""Beside other potentials, and in decks of molecules: nothing is counted twice or left out."""

import numpy as np
import pytest

from equicalc.lammps_run import write_data

SAME = 1e-9
OUT = (
    "dump 1 all custom 1 out.dump id fx fy fz q\ndump_modify 1 sort id format float %.17g\n"
    "thermo_style custom step pe pxx pxy\nthermo_modify format float %.17g\nrun 0\n"
)
ZBL = "pair_coeff 1 1 {0} 19 19\npair_coeff 1 2 {0} 19 17\npair_coeff 2 2 {0} 17 17\n"


def numbers(bench, deck, atoms, ranks=1):
    """Energy, two components of the pressure, and forces with charges of all atoms."""
    table = bench.run(deck, atoms, ranks).thermo[-1]
    totals = np.array([table[key][-1] for key in ("PotEng", "Pxx", "Pxy")])
    return totals, bench.frames("out.dump")[-1][:, 1:]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_overlay_with_zbl_is_the_sum_of_both(bench, deep_model, ranks):
    atoms = bench.skewed_salt()
    alone = numbers(bench, bench.deck(deep_model, OUT), atoms)
    zbl = bench.header + "pair_style zbl 3.0 3.8\n" + ZBL.format("") + OUT
    core = numbers(bench, zbl, atoms)
    both = bench.deck(deep_model, ZBL.format("zbl") + OUT)
    both = both.replace("pair_style equicalc", "pair_style hybrid/overlay zbl 3.0 3.8 equicalc")
    both = both.replace("pair_coeff * * ", "pair_coeff * * equicalc ")
    totals, atoms_found = numbers(bench, both, atoms, ranks)
    assert core[0][0] > 0.1
    assert np.abs(totals - alone[0] - core[0]).max() < SAME * np.abs(totals).max()
    assert np.abs(atoms_found[:, :3] - alone[1][:, :3] - core[1][:, :3]).max() < SAME
    assert np.abs(atoms_found[:, 3] - alone[1][:, 3]).max() < SAME


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kspace", ["ewald 1.0e-12", "equicalc 1.0e-8"])
@pytest.mark.parametrize("first", ["with charges", "without"])
def test_models_with_and_without_charges_add_up(
    bench, deep_model, tiny_model_without_charges, first, kspace, ranks
):
    atoms = bench.skewed_salt()
    with_charges = numbers(bench, bench.deck(deep_model, OUT, kspace=kspace), atoms)
    without = numbers(bench, bench.deck(tiny_model_without_charges, OUT, kspace=None), atoms)
    models = [deep_model, tiny_model_without_charges]
    coefficients = "".join(
        f"pair_coeff * * equicalc {k} {model} K Cl\n"
        for k, model in enumerate(models if first == "with charges" else models[::-1], start=1)
    )
    deck = bench.header + "pair_style hybrid/overlay equicalc equicalc\n" + coefficients
    totals, atoms_found = numbers(bench, f"{deck}kspace_style {kspace}\n{OUT}", atoms, ranks)
    expected = with_charges[0] + without[0]
    assert np.abs(totals - expected).max() < SAME * np.abs(expected).max()
    forces = with_charges[1][:, :3] + without[1][:, :3]
    assert np.abs(atoms_found[:, :3] - forces).max() < SAME
    assert np.abs(atoms_found[:, 3] - with_charges[1][:, 3]).max() < SAME


@pytest.mark.parametrize("ranks", [1, 2])
def test_charges_of_the_deck_may_act_beside_a_model_without(
    bench, tiny_model_without_charges, ranks
):
    atoms = bench.skewed_salt()
    charges = "set type 1 charge 0.7\nset type 2 charge -0.7\n"
    kspace = "kspace_style ewald 1.0e-10\n"
    coulomb = f"{bench.header}{charges}pair_style coul/long 8.0\npair_coeff * *\n{kspace}{OUT}"
    expected = numbers(bench, coulomb, atoms)
    alone = numbers(bench, bench.deck(tiny_model_without_charges, OUT, kspace=None), atoms)
    both = (
        f"{bench.header}{charges}pair_style hybrid/overlay equicalc coul/long 8.0\n"
        f"pair_coeff * * equicalc {tiny_model_without_charges} K Cl\npair_coeff * * coul/long\n"
    )
    totals, found = numbers(bench, both + kspace + OUT, atoms, ranks)
    sums = expected[0] + alone[0]
    assert np.abs(totals - sums).max() < SAME * np.abs(sums).max()
    assert np.abs(found[:, :3] - expected[1][:, :3] - alone[1][:, :3]).max() < SAME


def bonded_deck(bench, model, special):
    """Atoms 1 and 2 are bonded, by a bond without energy."""
    atoms = bench.salt((2, 1, 1))
    write_data(bench.directory / "structure.data", atoms, bench.elements)
    path = bench.directory / "structure.data"
    text = path.read_text().replace("2 atom types", "2 atom types\n1 bonds\n1 bond types")
    lines, in_atoms = [], False
    for line in text.split("\n"):
        words = line.split()
        in_atoms = in_atoms or line.startswith("Atoms")
        if in_atoms and len(words) >= 6:
            line = " ".join([words[0], "1", *words[1:]])  # the number of the molecule
        lines.append(line.replace("# charge", "# full"))
    path.write_text("\n".join(lines) + "\nBonds\n\n1 1 1 2\n")
    deck = bench.deck(model, OUT).replace("atom_style charge", "atom_style full\nbond_style zero")
    return deck.replace("pair_style", f"bond_coeff *\nspecial_bonds {special}\npair_style", 1)


@pytest.mark.parametrize("special", ["lj/coul 1 1 1", "lj/coul 0.5 0.5 0.5"])
def test_bonded_neighbours_count_as_all_others(bench, deep_model, special):
    expected = numbers(bench, bench.deck(deep_model, OUT), bench.salt((2, 1, 1)))
    found = numbers(bench, bonded_deck(bench, deep_model, special), None, 2)
    assert np.abs(found[0] - expected[0]).max() < SAME * np.abs(expected[0]).max()
    assert np.abs(found[1] - expected[1]).max() < SAME


@pytest.mark.parametrize("ranks", [1, 2])
def test_swaps_of_types_see_the_energy_of_the_swapped(bench, tiny_model_without_charges, ranks):
    """At no temperature `fix atom/swap` takes what lowers the energy, and nothing else."""
    body = (
        "group both type 1 2\nfix mc both atom/swap 1 5 271 0.001 ke no types 1 2\nthermo 1\n"
        "thermo_style custom step pe f_mc[1] f_mc[2]\nthermo_modify format float %.15g\nrun 10\n"
    )
    deck = bench.deck(tiny_model_without_charges, body, kspace=None)
    table = bench.run(deck, bench.salt((2, 1, 1)), ranks).thermo[-1]
    assert table["f_mc[1]"][-1] >= 45
    assert table["f_mc[2]"][-1] < table["f_mc[1]"][-1]
    assert np.diff(table["PotEng"]).max() < SAME
