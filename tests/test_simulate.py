"""Relaxation and molecular dynamics with cheap calculators whose answers are known."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from equicalc.analysis import GPA_PER_EV_A3, linear_drift, partial_rdfs
from equicalc.errors import ConfigError, DataError
from equicalc.simulate import ExplosionError, MDSettings, relax, run_md

# EMT's lattice constant of copper, angstrom, to the digits an energy-volume curve gives.
EMT_COPPER = 3.590
LATTICE_TOLERANCE = 5e-3
# Velocity Verlet at 2 fs conserves EMT copper's energy to about 1e-5 eV/atom; ten times that.
NVE_TOLERANCE = 1e-4
# The mean over 15 records of 32 atoms scatters by about 4 % of the temperature.
TEMPERATURE_TOLERANCE = 0.15
# Thermostat chains hold the mean of a long run better than its fluctuations tell.
MEAN_TOLERANCE = 0.05


def copper(repeat=2, strain=0.0):
    atoms = bulk("Cu", "fcc", a=EMT_COPPER * (1 + strain), cubic=True).repeat(repeat)
    atoms.calc = EMT()
    return atoms


class Exploding(Calculator):
    """A force that is not a number, as of overlapping atoms."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": np.nan, "forces": np.full((len(self.atoms), 3), np.nan)}


def test_cell_relaxation_finds_the_lattice_constant():
    result = relax(copper(1, strain=0.03), cell=True, fmax=1e-3)
    assert result.converged
    assert result.max_stress < 1e-3
    assert result.atoms.cell.lengths() == pytest.approx([EMT_COPPER] * 3, abs=LATTICE_TOLERANCE)


def test_pressure_is_balanced_by_the_stress_of_the_relaxed_cell():
    result = relax(copper(1), cell=True, hydrostatic=True, pressure_gpa=5.0, fmax=1e-3)
    stress = result.atoms.get_stress(voigt=False)
    assert np.trace(stress) / 3 / units.GPa == pytest.approx(-5.0, abs=0.05)


def test_relaxation_leaves_the_argument_alone_and_lowers_the_energy():
    atoms = copper()
    atoms.rattle(0.1, seed=3)
    before = atoms.positions.copy()
    result = relax(atoms, fmax=0.01)
    assert np.array_equal(atoms.positions, before)
    assert result.energy < atoms.get_potential_energy()
    assert result.fmax <= 0.01
    assert result.max_stress is None


def test_step_limit_is_reported_as_not_converged():
    atoms = copper()
    atoms.rattle(0.1, seed=3)
    result = relax(atoms, steps=1, fmax=1e-6)
    assert not result.converged
    assert result.steps == 1


def test_unknown_optimizer_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'newton'.*lbfgs, fire, bfgs"):
        relax(copper(1), optimizer="newton")


def test_cell_relaxation_of_a_molecule_is_refused():
    atoms = molecule("H2O")
    atoms.calc = EMT()
    with pytest.raises(ConfigError, match="three periodic directions"):
        relax(atoms, cell=True)


def test_structure_without_calculator_is_refused():
    atoms = copper(1)
    atoms.calc = None
    with pytest.raises(DataError, match="no calculator"):
        relax(atoms)
    with pytest.raises(DataError, match="no calculator"):
        run_md(atoms, MDSettings())


def test_forces_that_are_not_finite_stop_a_relaxation_and_a_run():
    atoms = copper(1)
    atoms.calc = Exploding()
    with pytest.raises(ExplosionError, match="not finite"):
        relax(atoms)
    with pytest.raises(ExplosionError, match="exploded at step 0"):
        run_md(atoms, MDSettings(steps=2))


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


def test_rdf_of_rocksalt_counts_six_unlike_and_twelve_like_neighbours():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    radii, rdf = partial_rdfs([atoms, atoms], r_max=4.5, n_bins=450)
    shell = 4 * np.pi * radii**2 * (radii[1] - radii[0])
    density = 4 / atoms.get_volume()
    counts = {pair: np.sum(shell * g) * density for pair, g in rdf.items()}
    # thin shells: the integral of r^2 dr over a bin differs from its exact volume by (dr/r)^2/12
    assert counts["Cl", "Na"] == pytest.approx(6.0, rel=1e-4)
    assert counts["Na", "Na"] == pytest.approx(12.0, rel=1e-4)
    assert counts["Cl", "Cl"] == pytest.approx(12.0, rel=1e-4)


def test_rdf_of_no_frames_or_of_a_molecule_is_refused():
    with pytest.raises(DataError, match="at least one frame"):
        partial_rdfs([])
    with pytest.raises(DataError, match="three periodic directions"):
        partial_rdfs([molecule("H2O")])


def test_drift_is_the_slope_of_a_line():
    time = np.linspace(0, 2, 11)
    assert linear_drift(time, 3.0 - 0.5 * time) == pytest.approx(-0.5, rel=1e-12)
    with pytest.raises(DataError, match="two points"):
        linear_drift([0.0], [1.0])


def test_pressure_unit_is_that_of_ase():
    assert pytest.approx(1.0 / units.GPa, rel=1e-6) == GPA_PER_EV_A3
