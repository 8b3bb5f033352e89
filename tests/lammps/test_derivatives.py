"""Forces and pressure are the derivatives of the energy; per-atom shares sum to the totals."""

import numpy as np
import pytest
from ase import units

# Central differences: rounding of the energy (1e-13 of 100 eV) over the step 1e-5, and the third
# derivative times its square.
NUMDIFF_FORCES = 1e-6  # eV/angstrom
# A step of 1e-4: its square times the third derivative (up to 100 eV/angstrom^3), and the error of
# equilibrated energies, the square of 1e-6 V.
LOOSE_NUMDIFF = 3e-6
# The same in bar, relative to pressures of order 1e5.
NUMDIFF_PRESSURE = 1e-6
# Shares are summed over ranks in another order than totals.
SUM = 1e-9


@pytest.mark.parametrize(
    ("kspace", "style"),
    [
        ("ewald 1.0e-10", ""),
        ("ewald 1.0e-10", "charge 1.0"),
        ("pppm 1.0e-7\nkspace_modify diff ad", ""),
    ],
)
def test_forces_are_derivatives_of_the_energy(bench, tiny_model, kspace, style):
    body = """fix nd all numdiff 1 1.0e-5
variable dx atom fx-f_nd[1]
variable dy atom fy-f_nd[2]
variable dz atom fz-f_nd[3]
compute worst all reduce maxabs v_dx v_dy v_dz
thermo_style custom step pe c_worst[*]
run 0
"""
    atoms = bench.salt((2, 1, 1))
    deck = bench.deck(tiny_model, body, kspace=kspace, style=style)
    table = bench.run(deck, atoms, ranks=2).thermo[-1]
    assert max(table[f"c_worst[{k}]"][-1] for k in (1, 2, 3)) < (
        NUMDIFF_FORCES if kspace.startswith("ewald") else 1e-5  # the mesh's own error
    )


def worst_numdiff(bench, model, atoms, kspace, style="", boundary="p p p"):
    """Largest difference of a force from the central difference of the energy, eV/angstrom."""
    body = """fix nd all numdiff 1 1.0e-4
variable dx atom fx-f_nd[1]
variable dy atom fy-f_nd[2]
variable dz atom fz-f_nd[3]
compute worst all reduce maxabs v_dx v_dy v_dz
thermo_style custom step pe c_worst[*]
run 0
"""
    deck = bench.deck(model, body, kspace=kspace, style=style)
    deck = deck.replace("atom_style", f"boundary {boundary}\natom_style")
    table = bench.run(deck, atoms, ranks=2).thermo[-1]
    return max(table[f"c_worst[{k}]"][-1] for k in (1, 2, 3))


@pytest.mark.parametrize("kspace", ["ewald 1.0e-10", "ewald 1.0e-4"])
@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("fixed with widths", ""),
        ("predicted with widths", "charge 1.0"),
        ("equilibrated", ""),
        ("equilibrated with widths", "charge 1.0"),
        ("transferred", "efield 0.1 -0.05 0.2"),
    ],
)
def test_forces_of_every_charge_model_are_derivatives(bench, model_of, name, style, kspace):
    """Also where the solver is inexact: the range of width pairs ends smoothly."""
    atoms = bench.salt((1, 1, 1))
    assert worst_numdiff(bench, model_of(name), atoms, kspace, style) < LOOSE_NUMDIFF


@pytest.mark.parametrize("name", ["predicted with widths", "transferred", "equilibrated"])
def test_forces_of_a_cluster_in_a_field_are_derivatives(bench, model_of, name):
    atoms, style = bench.cluster(), "charge 1.0 efield 0.1 -0.05 0.2"
    worst = worst_numdiff(bench, model_of(name), atoms, None, style, "f f f")
    assert worst < LOOSE_NUMDIFF


def test_forces_of_a_slab_in_a_field_are_derivatives(bench, model_of):
    kspace = "ewald 1.0e-10\nkspace_modify slab 3.0"
    model, style = model_of("equilibrated with widths"), "efield 0 0 0.2"
    assert worst_numdiff(bench, model, bench.slab(), kspace, style, "p p f") < LOOSE_NUMDIFF


def test_virial_of_the_network_is_the_derivative_under_strain(bench, tiny_model_without_charges):
    body = """compute v all pressure NULL virial
fix nd all numdiff/virial 1 1.0e-6 v
thermo_style custom step pe c_v[*] f_nd[*]
thermo_modify format float %.12g
run 0
"""
    deck = bench.deck(tiny_model_without_charges, body, kspace=None)
    table = bench.run(deck, bench.skewed_salt(), ranks=2).thermo[-1]
    found = np.array([table[f"c_v[{k}]"][-1] for k in range(1, 7)])
    expected = np.array([table[f"f_nd[{k}]"][-1] for k in range(1, 7)])
    # this fix orders components as Voigt: xx yy zz yz xz xy
    expected = expected[[0, 1, 2, 5, 4, 3]]
    assert np.abs(found - expected).max() < NUMDIFF_PRESSURE * np.abs(found).max()


def box_commands(name: str, lengths: np.ndarray, strain: float) -> str:
    """The command that gives an orthogonal box (corner at 0) one strain, atoms included."""
    x, y, z = lengths
    word = {
        "Pxx": f"x final 0 {x * (1 + strain):.17g}",
        "Pyy": f"y final 0 {y * (1 + strain):.17g}",
        "Pzz": f"z final 0 {z * (1 + strain):.17g}",
        "Pxy": f"xy final {y * strain:.17g}",
        "Pxz": f"xz final {z * strain:.17g}",
        "Pyz": f"yz final {z * strain:.17g}",
    }[name]
    return f"change_box all {word} remap units box\n"


def pressures_and_slopes(bench, atoms, deck, names):
    """Pressures and -dE/dstrain / V in bar, the latter by central differences of the box.

    fix numdiff/virial strains the atoms but not the box, which the lattice sum depends on.
    """
    step = 1e-5
    deck += "thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol\n"
    deck += "thermo_modify format float %.17g\nrun 0\n"
    lengths = atoms.cell.lengths()
    for name in names:
        for strain in (step, -step):
            deck += box_commands(name, lengths, strain) + "run 0\n"
        deck += box_commands(name, lengths, 0.0)
    first, *others = bench.run(deck, atoms).thermo
    energies = np.array([table["PotEng"][-1] for table in others]).reshape(-1, 2)
    slopes = -(energies[:, 0] - energies[:, 1]) / (2 * step)
    slopes *= bench.bar_per_ev_a3 / first["Volume"][-1]
    return np.array([first[name][-1] for name in names]), slopes


@pytest.mark.parametrize("style", ["", "charge 1.0"])
def test_pressure_is_the_derivative_under_strain_of_the_box(bench, tiny_model, style):
    deck = bench.deck(tiny_model, "", style=style)
    deck = deck.replace("pair_style", "change_box all triclinic\npair_style")
    names = ["Pxx", "Pyy", "Pzz", "Pxy", "Pxz", "Pyz"]
    pressures, slopes = pressures_and_slopes(bench, bench.salt(), deck, names)
    assert np.abs(pressures - slopes).max() < NUMDIFF_PRESSURE * np.abs(pressures).max()


@pytest.mark.parametrize("style", ["", "charge 1.0"])
def test_pressure_of_a_slab_is_the_derivative_under_strain_of_the_box(bench, tiny_model, style):
    atoms = bench.salt((2, 2, 1))
    atoms.center(vacuum=6.0, axis=2)
    deck = bench.deck(tiny_model, "", kspace=f"{bench.tight}\nkspace_modify slab 3.0", style=style)
    deck = deck.replace("atom_style", "boundary p p f\natom_style")
    pressures, slopes = pressures_and_slopes(bench, atoms, deck, ["Pxx", "Pyy", "Pzz"])
    assert np.abs(pressures - slopes).max() < NUMDIFF_PRESSURE * np.abs(pressures).max()


@pytest.mark.parametrize("style", ["", "charge 1.0"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_shares_of_atoms_sum_to_energy_and_pressure(bench, tiny_model, ranks, style):
    body = """compute e all pe/atom
compute s all stress/atom NULL
compute sums all reduce sum c_e c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]
compute p all pressure NULL virial
thermo_style custom step pe vol c_sums[*] c_p[*]
thermo_modify format float %.15g
run 0
"""
    deck = bench.deck(tiny_model, body, kspace="pppm 1.0e-5", style=style)
    table = bench.run(deck, bench.skewed_salt(), ranks=ranks).thermo[-1]
    energy, volume = table["PotEng"][-1], table["Volume"][-1]
    assert abs(table["c_sums[1]"][-1] - energy) < SUM * abs(energy)
    found = np.array([-table[f"c_sums[{k}]"][-1] / volume for k in range(2, 8)])
    expected = np.array([table[f"c_p[{k}]"][-1] for k in range(1, 7)])
    assert np.abs(found - expected).max() < SUM * np.abs(expected).max()


@pytest.mark.parametrize("style", ["", "charge 1.0"])
@pytest.mark.parametrize("name", ["predicted with widths", "equilibrated with widths"])
def test_pressure_of_charge_models_is_the_derivative_under_strain(bench, model_of, name, style):
    deck = bench.deck(model_of(name), "", style=style)
    deck = deck.replace("pair_style", "change_box all triclinic\npair_style")
    names = ["Pxx", "Pyz"]
    pressures, slopes = pressures_and_slopes(bench, bench.salt((1, 1, 1)), deck, names)
    assert np.abs(pressures - slopes).max() < NUMDIFF_PRESSURE * np.abs(pressures).max()


@pytest.mark.parametrize("style", ["", "charge 1.0"])
def test_pressure_of_an_equilibrated_slab_is_the_derivative_under_strain(bench, model_of, style):
    model = model_of("equilibrated with widths")
    deck = bench.deck(model, "", kspace=f"{bench.tight}\nkspace_modify slab 3.0", style=style)
    deck = deck.replace("atom_style", "boundary p p f\natom_style")
    pressures, slopes = pressures_and_slopes(bench, bench.slab(), deck, ["Pxx", "Pzz"])
    assert np.abs(pressures - slopes).max() < NUMDIFF_PRESSURE * np.abs(pressures).max()


def test_shares_of_atoms_sum_to_the_pressure_of_equilibrated_charges(bench, model_of):
    body = """compute s all stress/atom NULL
compute sums all reduce sum c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]
compute p all pressure NULL virial
thermo_style custom step vol c_sums[*] c_p[*]
thermo_modify format float %.15g
run 0
"""
    model = model_of("equilibrated with widths")
    deck = bench.deck(model, body, kspace="pppm 1.0e-5", style="charge 1.0")
    table = bench.run(deck, bench.skewed_salt(), ranks=2).thermo[-1]
    found = np.array([-table[f"c_sums[{k}]"][-1] / table["Volume"][-1] for k in range(1, 7)])
    expected = np.array([table[f"c_p[{k}]"][-1] for k in range(1, 7)])
    assert np.abs(found - expected).max() < SUM * np.abs(expected).max()


@pytest.mark.parametrize("name", ["predicted with widths", "equilibrated"])
def test_dynamical_matrix_is_the_derivative_of_the_forces(bench, model_of, name):
    """What phonons are made of: `dynamical_matrix` moves atoms and calls the pair style itself."""
    atoms, step = bench.salt((1, 1, 1)), 1e-3
    body = f"run 0\ndynamical_matrix all eskm {step} file dynmat.dat\n"
    bench.run(bench.deck(model_of(name), body, kspace="ewald 1.0e-10"), atoms, 2)
    n = 3 * len(atoms)
    found = np.loadtxt(bench.directory / "dynmat.dat").reshape(n, n)
    rows = []
    for axis in range(3):
        forces = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[0, axis] += sign * step
            forces.append(bench.from_ase(moved, model_of(name))["forces"])
        rows.append((forces[1] - forces[0]).ravel() / (2 * step))
    masses = np.repeat(atoms.get_masses(), 3)
    expected = np.array(rows) / np.sqrt(masses[:3, None] * masses[None, :])
    # `eskm`: 10 J/mol/angstrom^2/dalton
    expected *= units.mol / (10 * units.J)
    # of the masses in LAMMPS' data files and of its constants six digits are those of ASE
    assert np.abs(found[:3] - expected).max() < 1e-5 * np.abs(expected).max()
