"""Molecular dynamics with a cheap calculator whose answers are known."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from equicalc.dynamics import MDSettings, run_md
from equicalc.errors import ConfigError, DataError, ExplosionError
from tests.copper import Exploding, copper

# Velocity Verlet at 2 fs conserves EMT copper's energy to about 1e-5 eV/atom; ten times that.
NVE_TOLERANCE = 1e-4
# The mean over 15 records of 32 atoms scatters by about 4 % of the temperature.
TEMPERATURE_TOLERANCE = 0.15
# Thermostat chains hold the mean of a long run better than its fluctuations tell.
MEAN_TOLERANCE = 0.05


def test_nve_conserves_energy_and_momentum():
    atoms = copper()
    records = run_md(atoms, MDSettings("nve", 300.0, timestep_fs=2.0, steps=100, interval=5))
    total = records["total_energy_eV"] / len(atoms)
    assert len(total) == 21
    assert np.ptp(total) < NVE_TOLERANCE
    assert np.array_equal(records["conserved_energy_eV"], records["total_energy_eV"])
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10


def test_initial_velocities_have_exactly_the_temperature():
    records = run_md(copper(), MDSettings("nve", 450.0, steps=0))
    assert records["temperature_K"][0] == pytest.approx(450.0, rel=1e-12)


@pytest.mark.parametrize("thermostat", ["nose-hoover", "langevin"])
def test_thermostats_reach_the_temperature(thermostat):
    settings = MDSettings("nvt", 500.0, timestep_fs=4.0, steps=300, thermostat=thermostat)
    records = run_md(copper(2), settings)
    mean = records["temperature_K"][len(records["step"]) // 2 :].mean()
    assert mean == pytest.approx(500.0, rel=TEMPERATURE_TOLERANCE)


@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
def test_few_atoms_have_the_temperature_of_their_thermostat(ensemble):
    # the centre of mass at rest takes 3 of 12 degrees of freedom: counted, 300 K would be 400 K
    settings = MDSettings(ensemble, 300.0, timestep_fs=4.0, steps=4000, tau_t_fs=50.0, interval=1)
    mean = run_md(copper(1), settings)["temperature_K"].mean()
    assert mean == pytest.approx(300.0, rel=MEAN_TOLERANCE)


def test_a_single_atom_takes_the_temperature_of_its_noise():
    atoms = Atoms("Cu", [[0.0, 0.0, 0.0]])
    atoms.calc = EMT()
    settings = MDSettings("nvt", 300.0, steps=50, thermostat="langevin", interval=1)
    records = run_md(atoms, settings)
    assert records["temperature_K"][0] == pytest.approx(300.0)
    assert records["temperature_K"].min() > 0.0


@pytest.mark.parametrize("barostat", ["isotropic", "full"])
def test_npt_moves_the_volume_and_conserves_its_extended_energy(barostat):
    atoms = copper(2, strain=0.01)
    settings = MDSettings(
        "npt", 300.0, timestep_fs=2.0, steps=200, barostat=barostat, tau_p_fs=300.0
    )
    records = run_md(atoms, settings)
    assert np.ptp(records["volume_A3"]) > 1e-3 * records["volume_A3"][0]
    assert np.ptp(records["conserved_energy_eV"]) / len(atoms) < 10 * NVE_TOLERANCE


def test_langevin_has_no_conserved_energy():
    records = run_md(copper(1), MDSettings("nvt", steps=10, thermostat="langevin"))
    assert np.isnan(records["conserved_energy_eV"]).all()


def test_langevin_keeps_the_centre_of_mass_and_the_constraints_of_the_caller():
    atoms = copper(1)
    centre = atoms.get_center_of_mass()
    run_md(atoms, MDSettings("nvt", steps=20, thermostat="langevin"))
    assert atoms.get_center_of_mass() == pytest.approx(centre, abs=1e-10)
    assert atoms.constraints == []
    atoms.set_constraint(FixAtoms([0]))
    fixed = atoms.positions[0].copy()
    records = run_md(atoms, MDSettings("nvt", 300.0, steps=20, thermostat="langevin"))
    assert np.array_equal(atoms.positions[0], fixed)
    # nine degrees of freedom are left of twelve, and the drawn velocities know it
    assert records["temperature_K"][0] == pytest.approx(300.0, rel=1e-12)
    assert len(atoms.constraints) == 1


def test_nose_hoover_with_constraints_is_refused():
    atoms = copper(1)
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(ConfigError, match=r"FixAtoms.*langevin"):
        run_md(atoms, MDSettings("nvt"))


def test_same_seed_gives_the_same_run_and_another_seed_another():
    def final(seed):
        atoms = copper(1)
        run_md(atoms, MDSettings("nvt", steps=20, thermostat="langevin", seed=seed))
        return atoms.positions

    assert np.array_equal(final(7), final(7))
    assert not np.array_equal(final(7), final(8))


def test_velocities_of_the_structure_are_kept_when_asked():
    atoms = copper(1)
    atoms.set_velocities(np.full((4, 3), 0.01) * [[1], [-1], [1], [-1]])
    expected = atoms.get_kinetic_energy()
    records = run_md(atoms, MDSettings(steps=0, keep_velocities=True))
    assert records["kinetic_energy_eV"][0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ensemble": "nvx"}, "ensemble is 'nvx'; expected one of nve, nvt, npt"),
        ({"thermostat": "x"}, "nose-hoover, langevin"),
        ({"barostat": "x"}, "isotropic, full"),
        ({"timestep_fs": 0.0}, "timestep_fs is 0.0; expected a positive number"),
        ({"interval": 0}, "interval is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"temperature": -5.0}, "temperature is -5.0"),
        ({"ensemble": "nvt", "temperature": 0.0}, "above 0 K"),
    ],
)
def test_impossible_settings_are_named(change, words):
    with pytest.raises(ConfigError, match=words):
        run_md(copper(1), MDSettings(**change))


def test_npt_of_a_molecule_is_refused():
    atoms = molecule("H2O")
    atoms.calc = EMT()
    with pytest.raises(ConfigError, match="three periodic directions"):
        run_md(atoms, MDSettings("npt"))


def test_structure_without_calculator_is_refused():
    atoms = copper(1)
    atoms.calc = None
    with pytest.raises(DataError, match="no calculator"):
        run_md(atoms, MDSettings())


def test_energies_that_are_not_finite_stop_a_run():
    atoms = copper(1)
    atoms.calc = Exploding()
    with pytest.raises(ExplosionError, match="exploded at step 0"):
        run_md(atoms, MDSettings(steps=2))
