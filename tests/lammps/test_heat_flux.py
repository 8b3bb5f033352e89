"""`compute heat/flux` is the energy current, and its per-atom virials sum to the virial."""

import numpy as np
import pytest
import torch

from equicalc.deploy import export_network
from tests.conftest import tiny_network
from tests.lammps.test_errors import assert_says, message

# Name: (layers, `ghosts`, settings of the network).
WIDTHS = {"sigmas": {"K": 0.8}}
ENVIRONMENT = {"charge_weights": "environment", **WIDTHS}
FORMAL = {"charge_model": "transferred", "formal_charges": {"K": 1, "Cl": -1}}
MODELS = {
    "one layer": (1, "exchange", {}),
    "one layer with fixed charges": (1, "exchange", {"charge_model": "fixed", **WIDTHS}),
    "one layer from extended ghosts": (1, "extended", {"charge_model": "fixed", **WIDTHS}),
    "two layers": (2, "extended", {}),
    "three layers with fixed charges": (3, "extended", {"charge_model": "fixed", **WIDTHS}),
    "one layer with predicted charges": (1, "exchange", {"charge_model": "predicted"}),
    "predicted charges": (2, "extended", {"charge_model": "predicted", **ENVIRONMENT}),
    "transferred charges": (2, "extended", {**FORMAL, **ENVIRONMENT}),
    "one layer with equilibrated charges": (1, "exchange", {"charge_model": "equilibrated"}),
    "equilibrated charges": (2, "extended", {"charge_model": "equilibrated", **WIDTHS}),
}
AT_REST = [name for name, (_, _, s) in MODELS.items() if s.get("charge_model", "fixed") == "fixed"]
RESPONDING = [name for name in MODELS if name not in AT_REST]
EQUILIBRATED = [name for name in RESPONDING if "equilibrated" in name]
SHIFTED = [name for name in RESPONDING if name not in EQUILIBRATED]

# The mesh of the charges is another one where the box is, or the crystal is elsewhere on it.
OF_MESH = 1e-6

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
            n_layers, _, settings = MODELS[name]
            network = tiny_network(**{"charge_model": "none", "n_layers": n_layers, **settings})
            if settings.get("charge_model") == "predicted":
                for layer in (network.readout.linear, network.readout.output[-1]):
                    layer.weight.data[1] *= 20.0  # charges that respond much
            if settings.get("charge_model") == "equilibrated":
                chi = network.charge_head.electronegativity  # charges near 0.7 e
                chi.data += torch.tensor([-2.0, 2.0], dtype=chi.dtype)
            directory = tmp_path_factory.mktemp("models")
            written[name] = export_network(network, directory / "model.pt")
        return written[name]

    return path


def deck(bench, model, name, body, boundary="p p p", words=""):
    _, ghosts, settings = MODELS[name]
    charged = "charge_model" in settings
    solver = "ewald 1.0e-10" if name in AT_REST else "equicalc 1.0e-8"
    text = bench.deck(
        model(name),
        FLUX + body,
        kspace=solver if charged and "p" in boundary else None,
        style=f"ghosts {ghosts} {words}",
    )
    return text.replace("atom_style", f"boundary {boundary}\natom_style")


NOW = """velocity all create 2000 7 loop geom
thermo_style custom step c_j[*]
thermo_modify format float %.17g
run 0
"""


def flux(table):
    return np.array([table[f"c_j[{k}]"] for k in range(1, 7)]).T


# Of a run of the cluster: a time step of ps, and central differences of fourth order. That of
# second order has an error of 1e-10 of a third time derivative, which would show.
STEP = 2e-5
RUN = f"""velocity all create 2000 7
fix 1 all nve
timestep {STEP}
thermo 1
thermo_style custom step c_j[*]
thermo_modify format float %.17g
"""


def rate(values):
    return (8 * (values[3:-1] - values[1:-3]) - (values[4:] - values[:-4])) / (12 * STEP)


def moment(positions, values):
    return (positions * values[:, :, None]).sum(axis=1)


def frames(bench):
    """Positions, energies and further columns of every frame of out.dump."""
    rows = np.array(bench.frames("out.dump"))
    return rows[:, :, 1:4], rows[:, :, 4] + rows[:, :, 5], rows[:, :, 6:]


def body_with(quantities):
    """A run that dumps quantities of `compute equicalc/atom` beside positions and energies."""
    return f"""{RUN}
compute a all equicalc/atom {quantities}
dump 1 all custom 1 out.dump id x y z c_ke c_pe c_a[*]
dump_modify 1 sort id format float %.17g
run 12
"""


def run_of_cluster(bench, text):
    """Heat flux, positions, energies, and each of the quantities [frame, atom]."""
    found = flux(bench.run(text, bench.cluster(), ranks=2).thermo[-1])[:, :3]
    positions, energies, columns = frames(bench)
    return found, positions, energies, np.moveaxis(columns, 2, 0)


def assert_is_current(found, expected):
    scale = np.abs(expected).max()
    assert scale > 10.0  # eV angstrom / ps
    # rounding of moments, 1e-13 of 1000 eV angstrom, over the time step; velocity Verlet's own
    # error of the energies, the square of the time step
    assert np.abs(found[2:-2] - expected).max() < 1e-5 * scale


@pytest.mark.parametrize(
    ("name", "ranks"),
    [*((name, 2) for name in AT_REST), ("two layers", 1), ("transferred charges", 2)],
)
def test_heat_flux_of_a_cluster_is_the_energy_current(bench, model, name, ranks):
    """J = d/dt sum_i r_i E_i, by differences along a run at constant energy."""
    body = f"""{RUN}
dump 1 all custom 1 out.dump id x y z c_ke c_pe
dump_modify 1 sort id format float %.17g
run 12
"""
    text = deck(bench, model, name, body, "f f f")
    found = flux(bench.run(text, bench.cluster(), ranks=ranks).thermo[-1])[:, :3]
    positions, energies, _ = frames(bench)
    assert_is_current(found, rate(moment(positions, energies)))


@pytest.mark.parametrize("charge", [0.0, 1.5])
@pytest.mark.parametrize("name", SHIFTED)
def test_heat_flux_of_responding_charges_is_the_current_beside_their_shift(
    bench, model, name, charge
):
    """What the shift s of charges moves, between the reservoir of potential l and the atoms, is
    left out: with c_i the charges that are not formal ones or flows,
    J = d/dt sum r_i E_i - l d/dt sum r_i (c_i - <c>) - ds/dt sum r_i w_i (phi_i - l).
    """
    found, positions, energies, columns = run_of_cluster(
        bench,
        deck(
            bench,
            model,
            name,
            body_with("raw_charge weight charge potential"),
            "f f f",
            f"charge {charge}",
        ),
    )
    raw, weights, charges, potentials = columns
    shift = (charge - raw.sum(axis=1)) / weights.sum(axis=1)
    level = (weights * potentials).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    shifted = charges - raw if "transferred" in name else charges
    moved = moment(positions, shifted - shifted.mean(axis=1, keepdims=True))
    of_shift = rate(shift)[:, None] * moment(positions, weights * (potentials - level))[2:-2]
    of_charges = level[2:-2] * rate(moved)
    total = rate(moment(positions, energies))
    if "transferred" not in name:  # each is more than the limit of this test
        assert np.abs(of_shift).max() > 1e-4 * np.abs(total).max()
        assert np.abs(of_charges).max() > 1e-4 * np.abs(total).max()
    assert_is_current(found, total - of_charges - of_shift)


@pytest.mark.parametrize("charge", [0.0, 1.5])
@pytest.mark.parametrize("name", EQUILIBRATED)
def test_heat_flux_of_equilibrated_charges_is_the_energy_current_beside_that_of_charge(
    bench, model, name, charge
):
    """With l = chi_i + eta_i q_i + phi_i, the same for all atoms,
    J = d/dt sum r_i E_i - l d/dt sum r_i (q_i - Q/N).
    """
    found, positions, energies, columns = run_of_cluster(
        bench,
        deck(
            bench,
            model,
            name,
            body_with("electronegativity hardness charge potential"),
            "f f f",
            f"charge {charge}",
        ),
    )
    chi, eta, charges, potentials = columns
    levels = chi + eta * charges + potentials
    assert np.abs(levels - levels[:, :1]).max() < 1e-8
    moved = rate(moment(positions, charges - charge / charges.shape[1]))
    of_charges = levels[2:-2, :1] * moved
    total = rate(moment(positions, energies))
    assert np.abs(of_charges).max() > 1e-4 * np.abs(total).max()
    assert_is_current(found, total - of_charges)


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
    # forces on a mesh sum to zero to its accuracy, and so do the parts of the search's answer
    tolerance = OF_MESH if name in EQUILIBRATED else 1e-9
    assert np.abs(sums[:6] - pressure).max() < tolerance * np.abs(pressure).max()
    # the whole is symmetric, its parts are not
    assert np.abs(sums[6:] - pressure[3:]).max() < tolerance * np.abs(pressure).max()


@pytest.mark.parametrize("name", ["one layer with fixed charges", "two layers", *RESPONDING])
def test_heat_flux_of_a_crystal_does_not_depend_on_ranks(bench, model, name):
    text, atoms = deck(bench, model, name, NOW), bench.skewed_salt()
    several = 2 if name in EQUILIBRATED else 4  # searches on more ranks than cores take long
    one, more = (flux(bench.run(text, atoms, ranks=n).thermo[-1])[-1] for n in (1, several))
    assert np.abs(one - more).max() < 1e-9 * np.abs(one).max()
    convective = one[3:]
    assert np.abs(one[:3] - convective).max() > 1e-2 * np.abs(convective).max()


@pytest.mark.parametrize("name", ["one layer with fixed charges", "two layers", *RESPONDING])
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
    tolerance = OF_MESH if name in RESPONDING else 1e-8
    assert np.abs(double - 2 * single).max() < tolerance * np.abs(single).max()


@pytest.mark.parametrize("name", ["two layers", *RESPONDING])
def test_heat_flux_of_a_crystal_is_that_of_a_shift_of_it(bench, model, name):
    """Which images of atoms are ghosts does not matter."""
    body = """velocity all create 2000 7 loop geom
thermo_style custom step c_j[*]
thermo_modify format float %.17g
run 0
displace_atoms all move 1.7 2.1 -0.9
run 0
"""
    text = deck(bench, model, name, body)
    first, second = (flux(t)[-1] for t in bench.run(text, bench.salt((2, 1, 1)), ranks=2).thermo)
    tolerance = OF_MESH if name in RESPONDING else 1e-9
    assert np.abs(first - second).max() < tolerance * np.abs(first).max()


@pytest.mark.parametrize("name", RESPONDING)
def test_heat_flux_of_a_cluster_in_a_large_box_tends_to_that_of_the_cluster(bench, model, name):
    """Its images are dipoles: the part of their moments that differs between atoms falls as the
    square of their distance."""
    body = """velocity all create 2000 7
thermo_style custom step c_j[*]
thermo_modify format float %.17g
run 0
"""
    found = {}
    for length in (0.0, 25.0, 50.0):
        atoms, boundary = bench.cluster(), "p p p" if length else "f f f"
        if length:
            atoms.set_cell([length] * 3)
            atoms.pbc = True
        found[length] = flux(bench.run(deck(bench, model, name, body, boundary), atoms).thermo[-1])
    near, far = (np.abs(found[length] - found[0.0]).max() for length in (25.0, 50.0))
    assert far < 0.3 * near
    assert far < 2e-3 * np.abs(found[0.0]).max()


@pytest.mark.parametrize("name", RESPONDING)
def test_heat_flux_of_responding_charges_converges_with_the_mesh(bench, model, name):
    text, atoms = deck(bench, model, name, NOW), bench.skewed_salt()
    finest, fine, coarse = (
        flux(bench.run(text.replace("equicalc 1.0e-8", f"equicalc {a}"), atoms).thermo[-1])[-1]
        for a in ("1.0e-8", "1.0e-6", "1.0e-4")
    )
    errors = [np.abs(a - finest).max() / np.abs(finest).max() for a in (fine, coarse)]
    assert errors[0] < 0.1 * errors[1]
    assert errors[1] < 1e-2


@pytest.mark.parametrize("name", ["two layers", *RESPONDING])
def test_float32_gives_the_same_current(bench, model, name):
    body = """velocity all create 2000 7 loop geom
thermo_style custom step c_j[*]
run 0
"""
    text, atoms = deck(bench, model, name, body), bench.skewed_salt()
    exact = flux(bench.run(text, atoms).thermo[-1])[-1]
    mixed = flux(bench.run(text.replace("ghosts", "precision mixed ghosts")).thermo[-1])[-1]
    assert np.abs(exact - mixed).max() < 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize("name", RESPONDING)
def test_heat_flux_of_responding_charges_is_the_same_on_a_device(bench, model, name):
    text, atoms = deck(bench, model, name, NOW), bench.salt((1, 1, 1))
    host, device = (
        flux(bench.run(text.replace("style equicalc ghosts", words), atoms).thermo[-1])[-1]
        for words in ("style equicalc ghosts", "style equicalc device staged ghosts")
    )
    assert np.abs(host - device).max() < 1e-8 * np.abs(host).max()


def test_heat_flux_of_a_committee_is_the_mean_of_its_models(bench, model):
    """For models that are the same."""
    text, atoms = deck(bench, model, "predicted charges", NOW), bench.salt((1, 1, 1))
    path = str(model("predicted charges"))
    one, two = (
        flux(bench.run(text.replace(path, models), atoms).thermo[-1])[-1]
        for models in (path, f"{path} {path}")
    )
    assert np.abs(one - two).max() < 1e-10 * np.abs(one).max()


@pytest.mark.parametrize("ranks", [1, 2])
def test_mesh_of_equicalc_gives_the_current_of_the_exact_sum(bench, model, ranks):
    name, atoms = "three layers with fixed charges", bench.skewed_salt()
    text = deck(bench, model, name, NOW)
    exact = flux(bench.run(text, atoms).thermo[-1])[-1]
    text = text.replace("ewald 1.0e-10", "equicalc 1.0e-7")
    found = flux(bench.run(text, atoms, ranks=ranks).thermo[-1])[-1]
    # what remains is the error of the mesh
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


# ---- what has no energy current ------------------------------------------------------------------


def test_models_of_several_layers_need_extended_ghosts(bench, model):
    text = deck(bench, model, "two layers", "run 0\n").replace("ghosts extended", "")
    assert_says(message(bench, text), "reach over 2 cutoffs", "pair_style equicalc ghosts extended")


def test_kspace_styles_of_lammps_have_no_current_of_charges_that_respond(bench, model):
    text = deck(bench, model, "predicted charges", "run 0\n")
    text = text.replace("equicalc 1.0e-8", "pppm 1e-5")
    assert_says(message(bench, text), "predicted", "pppm", "kspace_style equicalc 1e-5")


def test_slabs_of_charges_that_respond_have_no_current(bench, model):
    text = deck(bench, model, "predicted charges", "run 0\n", "p p f")
    text = text.replace("equicalc 1.0e-8", "equicalc 1.0e-5\nkspace_modify slab 3.0")
    assert_says(message(bench, text, bench.slab()), "boundary p p p", "uncompute s")


def test_charges_that_respond_have_no_current_in_a_field(bench, model):
    text = deck(bench, model, "transferred charges", "run 0\n", words="efield 0 0 0.1")
    assert_says(message(bench, text), "efield", "uncompute s")


def test_the_wrong_stress_is_warned_about(bench, model):
    text = deck(bench, model, "one layer", "run 0\n").replace("centroid/stress", "stress")
    log = bench.run(text, bench.salt((1, 1, 1))).log
    assert "centroid/stress/atom NULL virial" in log
