"""Models that need a D3 correction: with LAMMPS' own, under hybrid/overlay, or not at all."""

import numpy as np
import pytest

from equicalc import EquiCalculator
from equicalc.lammps_run import run_deck, write_data
from tests.conftest import export_tiny

PBE = {"functional": "pbe", "damping": "bj"}
# Both libraries sum D3 over pairs up to 60 bohr, and end there in their own ways.
ENERGY_PER_ATOM = 1e-5  # eV
FORCES = 1e-5  # eV/angstrom

DECK = """units metal
boundary {boundary}
atom_style charge
atom_modify map yes
neigh_modify one 20000 page 400000
read_data structure.data
{pair}
kspace_style ewald 1.0e-12
{slab}
dump forces all custom 1 forces.dump id fx fy fz
dump_modify forces sort id format float %20.15g
thermo_style custom step pe
run 0
"""
OVERLAY = """pair_style hybrid/overlay equicalc dispersion/d3 bj pbe 31.75 21.17
pair_coeff * * equicalc {model} K Cl
pair_coeff * * dispersion/d3 K Cl"""
ALONE = """pair_style equicalc
pair_coeff * * {model} K Cl"""


@pytest.fixture
def run(tmp_path):
    model = export_tiny(tmp_path / "d3.pt", "fixed", dispersion=PBE)

    def run(atoms, pair, ranks=1):
        write_data(tmp_path / "structure.data", atoms, ["K", "Cl"])
        deck = DECK.format(
            boundary="p p p" if all(atoms.pbc) else "p p f",
            pair=pair.format(model=model),
            slab="" if all(atoms.pbc) else "kspace_modify slab 3.0",
        )
        (tmp_path / "in.deck").write_text(deck)
        return run_deck(tmp_path / "in.deck", ranks), EquiCalculator(model, kspace_accuracy=1e-12)

    return run


def small_crystal():
    from ase.build import bulk

    atoms = bulk("KCl", "rocksalt", a=6.2, cubic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


@pytest.mark.parametrize("ranks", [1, 2])
def test_overlay_with_d3_gives_what_ase_gives(run, tmp_path, ranks):
    atoms = small_crystal()
    found, calculator = run(atoms, OVERLAY, ranks)
    energy = found.thermo[-1]["PotEng"][0]
    assert energy == pytest.approx(
        calculator.get_property("energy", atoms), abs=ENERGY_PER_ATOM * len(atoms)
    )
    rows = np.loadtxt(tmp_path / "forces.dump", skiprows=9)
    assert np.abs(rows[:, 1:] - calculator.get_property("forces", atoms)).max() < FORCES


def test_overlay_with_d3_gives_what_ase_gives_for_a_slab(run, tmp_path):
    atoms = small_crystal()
    atoms.center(vacuum=6.0, axis=2)
    atoms.pbc = (True, True, False)
    found, calculator = run(atoms, OVERLAY)
    assert found.thermo[-1]["PotEng"][0] == pytest.approx(
        calculator.get_property("energy", atoms), abs=ENERGY_PER_ATOM * len(atoms)
    )
    rows = np.loadtxt(tmp_path / "forces.dump", skiprows=9)
    assert np.abs(rows[:, 1:] - calculator.get_property("forces", atoms)).max() < FORCES


def test_a_model_that_needs_d3_stops_without_it(run):
    with pytest.raises(Exception, match="hybrid/overlay equicalc dispersion/d3 bj pbe"):
        run(small_crystal(), ALONE)
