"""`compute heat/flux` is the energy current, and its per-atom virials sum to the virial."""

import numpy as np
import pytest

from equicalc.deploy import export_network
from tests.conftest import tiny_network
from tests.lammps.test_errors import assert_says, message

# Name: (charge model, layers, `ghosts`).
MODELS = {
    "one layer": ("none", 1, "exchange"),
    "one layer with fixed charges": ("fixed", 1, "exchange"),
    "one layer from extended ghosts": ("fixed", 1, "extended"),
    "two layers": ("none", 2, "extended"),
    "three layers with fixed charges": ("fixed", 3, "extended"),
}

FLUX = """compute ke all ke/atom
compute pe all pe/atom
compute s all centroid/stress/atom NULL virial
compute j all heat/flux ke pe s
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Function from a name in MODELS to the file."""
    written = {}

    def path(name):
        if name not in written:
            kind, n_layers, _ = MODELS[name]
            sigmas = {"K": 0.8} if kind == "fixed" else None
            network = tiny_network(kind, n_layers=n_layers, sigmas=sigmas)
            directory = tmp_path_factory.mktemp("models")
            written[name] = export_network(network, directory / "model.pt")
        return written[name]

    return path


def deck(bench, model, name, body, boundary="p p p"):
    kind, _, ghosts = MODELS[name]
    charged = kind != "none"
    text = bench.deck(
        model(name),
        FLUX + body,
        kspace="ewald 1.0e-10" if charged and "p" in boundary else None,
        style=f"ghosts {ghosts}",
    )
    return text.replace("atom_style", f"boundary {boundary}\natom_style")


def flux(table):
    return np.array([table[f"c_j[{k}]"] for k in range(1, 7)]).T


@pytest.mark.parametrize(("name", "ranks"), [*((name, 2) for name in MODELS), ("two layers", 1)])
def test_heat_flux_of_a_cluster_is_the_energy_current(bench, model, name, ranks):
    """J = d/dt sum_i r_i E_i, by central differences along a run at constant energy."""
    step = 2e-5  # ps
    body = f"""velocity all create 2000 7
fix 1 all nve
timestep {step}
thermo 1
thermo_style custom step c_j[*]
thermo_modify format float %.17g
dump 1 all custom 1 out.dump id x y z c_ke c_pe
dump_modify 1 sort id format float %.17g
run 12
"""
    text = deck(bench, model, name, body, "f f f")
    found = flux(bench.run(text, bench.cluster(), ranks=ranks).thermo[-1])[:, :3]
    moments = np.array(
        [(rows[:, 1:4] * rows[:, 4:].sum(axis=1, keepdims=True)).sum(axis=0)
         for rows in bench.frames("out.dump")]
    )  # fmt: skip
    # Fourth order: the error of second order, 1e-10 of a third time derivative, would show.
    expected = (
        8 * (moments[3:-1] - moments[1:-3]) - (moments[4:] - moments[:-4])
    ) / (12 * step)  # fmt: skip
    scale = np.abs(expected).max()
    assert scale > 10.0  # eV angstrom / ps
    # rounding of moments, 1e-13 of 1000 eV angstrom, over the time step; velocity Verlet's own
    # error of the energies, the square of the time step
    assert np.abs(found[2:-2] - expected).max() < 1e-5 * scale


@pytest.mark.parametrize("name", MODELS)
def test_virials_of_atoms_sum_to_the_pressure(bench, model, name):
    body = """compute total all pressure NULL virial
compute sums all reduce sum c_s[*]
thermo_style custom step vol c_total[*] c_sums[*]
thermo_modify format float %.17g
run 0
"""
    table = bench.run(deck(bench, model, name, body), bench.skewed_salt(), ranks=2).thermo[-1]
    pressure = np.array([table[f"c_total[{k}]"][-1] for k in range(1, 7)])
    sums = -np.array([table[f"c_sums[{k}]"][-1] for k in range(1, 10)]) / table["Volume"][-1]
    assert np.abs(sums[:6] - pressure).max() < 1e-9 * np.abs(pressure).max()
    # the whole is symmetric, its parts are not
    assert np.abs(sums[6:] - pressure[3:]).max() < 1e-9 * np.abs(pressure).max()


@pytest.mark.parametrize("name", ["one layer with fixed charges", "two layers"])
def test_heat_flux_of_a_crystal_does_not_depend_on_ranks(bench, model, name):
    body = """velocity all create 2000 7 loop geom
thermo_style custom step c_j[*]
thermo_modify format float %.17g
run 0
"""
    text, atoms = deck(bench, model, name, body), bench.skewed_salt()
    one, four = (flux(bench.run(text, atoms, ranks=ranks).thermo[-1])[-1] for ranks in (1, 4))
    assert np.abs(one - four).max() < 1e-9 * np.abs(one).max()
    convective = one[3:]
    assert np.abs(one[:3] - convective).max() > 1e-2 * np.abs(convective).max()


@pytest.mark.parametrize("name", ["one layer with fixed charges", "two layers"])
def test_heat_flux_is_extensive(bench, model, name):
    body = """velocity all create 2000 7
thermo_style custom step c_j[*]
thermo_modify format float %.17g
run 0
replicate 1 2 1
run 0
"""
    text, atoms = deck(bench, model, name, body), bench.salt((1, 1, 1))
    tables = bench.run(text, atoms).thermo
    single, double = flux(tables[0])[-1], flux(tables[1])[-1]
    assert np.abs(double - 2 * single).max() < 1e-8 * np.abs(single).max()


def test_heat_flux_of_a_crystal_is_that_of_a_shift_of_it(bench, model):
    """Which images of atoms are ghosts does not matter."""
    body = """velocity all create 2000 7 loop geom
thermo_style custom step c_j[*]
thermo_modify format float %.17g
run 0
displace_atoms all move 1.7 2.1 -0.9
run 0
"""
    text = deck(bench, model, "two layers", body)
    first, second = (flux(t)[-1] for t in bench.run(text, bench.salt((2, 1, 1)), ranks=2).thermo)
    assert np.abs(first - second).max() < 1e-9 * np.abs(first).max()


def test_float32_gives_the_same_current(bench, model):
    body = """velocity all create 2000 7 loop geom
thermo_style custom step c_j[*]
run 0
"""
    text, atoms = deck(bench, model, "two layers", body), bench.skewed_salt()
    exact = flux(bench.run(text, atoms).thermo[-1])[-1]
    mixed = flux(bench.run(text.replace("ghosts", "precision mixed ghosts")).thermo[-1])[-1]
    assert np.abs(exact - mixed).max() < 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize("ranks", [1, 2])
def test_mesh_of_equicalc_gives_the_current_of_the_exact_sum(bench, model, ranks):
    body = """velocity all create 2000 7 loop geom
thermo_style custom step c_j[*]
thermo_modify format float %.17g
run 0
"""
    name, atoms = "three layers with fixed charges", bench.skewed_salt()
    text = deck(bench, model, name, body)
    exact = flux(bench.run(text, atoms).thermo[-1])[-1]
    text = text.replace("ewald 1.0e-10", "equicalc 1.0e-7")
    found = flux(bench.run(text, atoms, ranks=ranks).thermo[-1])[-1]
    # what remains is the error of the mesh
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


# ---- what has no energy current ------------------------------------------------------------------


def test_models_of_several_layers_need_extended_ghosts(bench, model):
    text = deck(bench, model, "two layers", "run 0\n").replace("ghosts extended", "")
    assert_says(message(bench, text), "reach over 2 cutoffs", "pair_style equicalc ghosts extended")


def test_charges_that_respond_are_refused(bench, tiny_model):
    text = bench.deck(tiny_model, FLUX + "run 0\n", style="ghosts extended")
    assert_says(message(bench, text), "charge_model: predicted", "none or fixed", "uncompute s")


def test_the_wrong_stress_is_warned_about(bench, model):
    text = deck(bench, model, "one layer", "run 0\n").replace("centroid/stress", "stress")
    log = bench.run(text, bench.salt((1, 1, 1))).log
    assert "centroid/stress/atom NULL virial" in log
