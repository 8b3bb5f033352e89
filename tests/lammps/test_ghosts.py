"""`ghosts extended`: no exchange between layers, the same numbers."""

import numpy as np
import pytest

from tests.lammps.conftest import CHARGE_MODELS, assert_same

# The same sums in another order.
LIMITS = {
    "energy": 1e-11, "atom energies": 1e-9, "forces": 1e-9, "stress": 1e-10, "charges": 1e-11,
    "dipole": 1e-8, "steps": 0.5,
}  # fmt: skip


def evaluate(bench, atoms, model, ghosts, ranks=1, **options):
    deck = bench.deck

    def with_ghosts(model, body, kspace=None, style=""):
        return deck(model, body, kspace=kspace, style=f"{style} ghosts {ghosts}")

    bench.deck = with_ghosts
    try:
        return bench.evaluate(atoms, model, ranks=ranks, **options)
    finally:
        bench.deck = deck


@pytest.mark.parametrize(
    ("name", "ranks"),
    [*((name, 2) for name in CHARGE_MODELS), ("transferred", 1), ("transferred", 4)],
)
def test_extended_ghosts_give_what_the_exchange_gives(bench, model_of, name, ranks):
    atoms, model = bench.skewed_salt(), model_of(name)
    expected = evaluate(bench, atoms, model, "exchange", kspace="ewald 1.0e-8")
    found = evaluate(bench, atoms, model, "extended", ranks, kspace="ewald 1.0e-8")
    assert_same(found, expected, LIMITS)


@pytest.mark.parametrize("ranks", [1, 2])
def test_three_layers_reach_through_three_cutoffs(bench, deep_model, ranks):
    atoms = bench.salt((1, 1, 1))
    atoms.set_cell(atoms.cell.array * 0.8, scale_atoms=True)  # 5 angstrom, reach 12
    expected = evaluate(bench, atoms, deep_model, "exchange")
    assert_same(evaluate(bench, atoms, deep_model, "extended", ranks), expected, LIMITS)


@pytest.mark.parametrize("kind", ["cluster", "slab"])
def test_open_directions_work(bench, model_of, kind):
    atoms, model = getattr(bench, kind)(), model_of("predicted with widths")
    expected = evaluate(bench, atoms, model, "exchange")
    assert_same(evaluate(bench, atoms, model, "extended", 2), expected, LIMITS)


def test_atoms_move_the_same(bench, deep_model):
    body = """velocity all create 600 7 loop geom
fix 1 all nve
timestep 0.001
thermo 5
thermo_style custom step pe press
thermo_modify format float %.15g
run 20
"""
    tables = []
    for ghosts in ("exchange", "extended"):
        deck = bench.deck(deep_model, body, kspace="ewald 1.0e-8", style=f"ghosts {ghosts}")
        tables.append(bench.run(deck, bench.salt((2, 1, 1)), ranks=2).thermo[-1])
    for key in ("PotEng", "Press"):
        scale = np.abs(tables[0][key]).max()
        assert np.abs(tables[0][key] - tables[1][key]).max() < 1e-8 * scale


def test_log_tells_how_far_ghosts_are_needed(bench, deep_model):
    deck = bench.deck(deep_model, "run 0\n", style="ghosts extended")
    assert "ghosts as far as 3 cutoffs" in bench.run(deck, bench.salt((1, 1, 1))).log
