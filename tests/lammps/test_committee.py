"""Several models in LAMMPS: means, deviations, and what can be done with them; as in ASE."""

import numpy as np
import pytest

from equicalc import EquiCalculator
from tests.conftest import export_committee, export_tiny
from tests.lammps.test_errors import assert_says, message

# Sums in another order, as for one model.
LIMITS = {"energy": 1e-9, "forces": 1e-7, "stress": 1e-8, "charges": 1e-9, "deviations": 1e-9}


@pytest.fixture(scope="session")
def committee(tmp_path_factory):
    """Function from a charge model to three files."""
    written = {}

    def paths(kind):
        if kind not in written:
            settings = {"formal_charges": {"K": 1, "Cl": -1}} if kind == "transferred" else {}
            directory = tmp_path_factory.mktemp("committee")
            written[kind] = export_committee(directory, kind, epsilon_inf=1.8, **settings)
        return written[kind]

    return paths


def from_ase(atoms, models):
    kspace = "ewald" if any(atoms.pbc) else "direct"
    calculator = EquiCalculator(models, kspace=kspace, kspace_accuracy=1e-12, check=False)
    wanted = ["energy", "forces", "charges"] + (["stress"] if all(atoms.pbc) else [])
    calculator.calculate(atoms, wanted)
    return calculator.results


def from_lammps(bench, atoms, models, ranks=1, charged=True):
    names = " ".join(map(str, models))
    body = f"""compute a all equicalc/atom deviation {"charge" if charged else "network"} energy
compute p all pair equicalc
compute e all pe/atom
compute s all stress/atom NULL
compute sums all reduce sum c_e c_a[3] c_s[1] c_s[4]
compute v all pressure NULL virial
thermo_style custom step pe c_sums[*] c_p[*] c_v[*] vol
thermo_modify format float %.17g
dump 1 all custom 1 out.dump id fx fy fz q c_a[1] c_a[2]
dump_modify 1 sort id format float %.17g
run 0
"""
    kspace = bench.tight if charged and any(atoms.pbc) else None
    deck = bench.deck(names, body, kspace=kspace, style="deviation 1")
    if not any(atoms.pbc):
        deck = deck.replace("atom_style", "boundary f f f\natom_style")
    table = bench.run(deck, atoms, ranks=ranks).thermo[-1]
    rows = bench.frames("out.dump")[-1]
    assert table["c_sums[1]"][-1] == pytest.approx(table["PotEng"][-1], abs=1e-9)
    assert table["c_sums[2]"][-1] == pytest.approx(table["PotEng"][-1], abs=1e-9)
    for sum_of_shares, pressure in (("c_sums[3]", "c_v[1]"), ("c_sums[4]", "c_v[4]")):
        expected = -table[pressure][-1] * table["Volume"][-1]
        assert table[sum_of_shares][-1] == pytest.approx(expected, rel=1e-9, abs=1e-6)
    if charged:
        assert np.abs(rows[:, 4] - rows[:, 6]).max() < 1e-14
    return {
        "energy": table["PotEng"][-1],
        "forces": rows[:, 1:4],
        "charges": rows[:, 4],
        "deviations": rows[:, 5],
        "range": np.array([table[f"c_p[{k}]"][-1] for k in (5, 6, 7)]),
    }


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [("none", 2), ("predicted", 1), ("predicted", 4), ("transferred", 2), ("equilibrated", 2)],
)
def test_committee_agrees_with_ase(bench, committee, kind, ranks):
    atoms, models = bench.salt(), committee(kind)
    expected = from_ase(atoms, models)
    found = from_lammps(bench, atoms, models, ranks, charged=kind != "none")
    deviations = expected["forces_deviation"]
    assert deviations.min() > 1e-5
    assert abs(found["energy"] - expected["energy"]) / len(atoms) < LIMITS["energy"]
    assert np.abs(found["forces"] - expected["forces"]).max() < LIMITS["forces"]
    assert np.abs(found["charges"] - expected["charges"]).max() < LIMITS["charges"]
    assert np.abs(found["deviations"] - deviations).max() < LIMITS["forces"]
    extremes = [deviations.max(), deviations.min(), deviations.mean()]
    assert np.abs(found["range"] - extremes).max() < LIMITS["forces"]


def test_committee_of_a_cluster_agrees_with_ase(bench, committee):
    atoms, models = bench.cluster(), committee("predicted")
    expected = from_ase(atoms, models)
    found = from_lammps(bench, atoms, models, 2)
    assert np.abs(found["forces"] - expected["forces"]).max() < LIMITS["forces"]
    assert np.abs(found["deviations"] - expected["forces_deviation"]).max() < LIMITS["forces"]


def test_pressure_of_a_committee_is_the_mean(bench, committee):
    atoms, models = bench.salt((2, 1, 1)), committee("predicted")
    alone = [bench.from_lammps(atoms, model)["stress"] for model in models]
    found = bench.from_lammps(atoms, " ".join(map(str, models)), ranks=2)
    assert np.abs(found["stress"] - np.mean(alone, axis=0)).max() < 1e-12


def test_models_may_list_elements_in_another_order(bench, tmp_path, committee):
    models = committee("none")
    other = export_tiny(tmp_path / "other.pt", "none", elements=("Cl", "K"))
    alone = [bench.from_lammps(bench.salt(), model, kspace=None) for model in (models[0], other)]
    found = bench.from_lammps(bench.salt(), f"{models[0]} {other}", kspace=None, ranks=2)
    expected = np.mean([one["forces"] for one in alone], axis=0)
    assert np.abs(found["forces"] - expected).max() < 1e-11


def test_forces_of_other_styles_are_kept(bench, committee):
    """Under hybrid/overlay another style may have acted before."""
    names = " ".join(map(str, committee("none")))
    atoms, parts = bench.salt(), {}
    styles = {
        "ours": f"pair_style equicalc deviation 1\npair_coeff * * {names} K Cl\n",
        "theirs": "pair_style lj/cut 6.0\npair_coeff * * 0.05 2.5\n",
        "both": "pair_style hybrid/overlay lj/cut 6.0 equicalc deviation 1\n"
        f"pair_coeff * * equicalc {names} K Cl\npair_coeff * * lj/cut 0.05 2.5\n",
    }
    for name, style in styles.items():
        dump = (
            "dump 1 all custom 1 out.dump id fx fy fz\ndump_modify 1 sort id format float %.17g\n"
        )
        bench.run(bench.header + style + dump + "run 0\n", atoms, ranks=2)
        parts[name] = bench.frames("out.dump")[-1][:, 1:]
    assert np.abs(parts["theirs"]).max() > 0.1
    assert np.abs(parts["both"] - parts["ours"] - parts["theirs"]).max() < 1e-11


def test_energy_of_a_committee_is_conserved(bench, committee):
    names = " ".join(map(str, committee("equilibrated")))
    body = """velocity all create 100 7
fix 1 all nve
timestep 0.00025
thermo 10
thermo_style custom step etotal
thermo_modify format float %.15g
run 60
"""
    deck = bench.deck(names, "minimize 0 1e-3 20 40\nreset_timestep 0\n" + body, "ewald 1e-8")
    energy = bench.run(deck, bench.salt((2, 1, 1), 0.05), ranks=2).thermo[-1]["TotEng"]
    assert np.abs(energy - energy[0]).max() / 16 < 1e-4


def test_deviations_are_computed_every_n_steps(bench, committee):
    names = " ".join(map(str, committee("none")))
    body = """compute p all pair equicalc
velocity all create 600 7
fix 1 all nve
thermo 1
thermo_style custom step c_p[5]
thermo_modify format float %.15g
run 6
"""
    deck = bench.deck(names, body, kspace=None, style="deviation 3")
    values = bench.run(deck, bench.salt((2, 1, 1))).thermo[-1]["c_p[5]"]
    assert values[0] == values[1] == values[2] != values[3]
    assert values[3] == values[4] == values[5] != values[6]
    every = bench.run(deck.replace("deviation 3", "deviation 1")).thermo[-1]["c_p[5]"]
    assert every[[0, 3, 6]] == pytest.approx(values[[0, 3, 6]], abs=1e-12)


def test_deviations_that_nobody_computes_are_warned_about(bench, committee):
    """`fix halt` on zeros would never halt."""
    names = " ".join(map(str, committee("none")))
    deck = bench.deck(names, "compute p all pair equicalc\nrun 0\n", kspace=None)
    log = bench.run(deck, bench.salt((1, 1, 1))).log
    for words in ("WARNING: compute p (pair)", "c_p[5-7] are zero", "equicalc deviation 10'"):
        assert words in log
    asked = deck.replace("pair_style equicalc", "pair_style equicalc deviation 1")
    alone = deck.replace(names, names.split()[0])
    for other in (asked, alone):
        assert "are zero" not in bench.run(other).log


def test_a_run_halts_at_a_large_deviation(bench, committee):
    names = " ".join(map(str, committee("none")))
    body = """compute p all pair equicalc
variable worst equal c_p[5]
fix stop all halt 1 v_worst > 0.001 error soft message yes
fix 1 all nve
thermo 1
run 5
"""
    deck = bench.deck(names, body, kspace=None, style="deviation 1")
    run = bench.run(deck, bench.salt((2, 1, 1)))
    assert "Fix halt condition" in run.log
    assert run.thermo[-1]["Step"][-1] < 5


# ---- mistakes ----------------------------------------------------------------------------------


def test_one_model_has_no_deviation(bench, tiny_model):
    deck = bench.deck(tiny_model, "run 0\n", style="deviation 1")
    assert_says(message(bench, deck), "deviation 1", "one model", "MODEL MODEL ...")


def test_models_of_different_kinds_are_refused(bench, tiny_model, committee, tmp_path):
    deck = bench.deck(f"{tiny_model} {committee('none')[0]}", "run 0\n")
    assert_says(message(bench, deck), "same charge_model", "predicted", "none")
    narrow = export_tiny(tmp_path / "narrow.pt", "predicted", sigma=0.7)
    deck = bench.deck(f"{tiny_model} {narrow}", "run 0\n")
    assert_says(message(bench, deck), "same Gaussian width of K", "0.7")


def test_a_model_that_does_not_know_an_element_is_named(bench, committee, tmp_path):
    other = export_tiny(tmp_path / "other.pt", "none", elements=("K", "Na"))
    deck = bench.deck(f"{committee('none')[0]} {other}", "run 0\n", kspace=None)
    assert_says(message(bench, deck), "model 'other'", "does not know the element 'Cl'")


def test_missing_second_model_is_named(bench, tiny_model):
    assert_says(
        message(bench, bench.deck(f"{tiny_model} b.pt", "run 0\n")), "found no model 'b.pt'"
    )
