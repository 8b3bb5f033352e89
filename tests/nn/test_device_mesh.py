"""The mesh sum for devices gives what the mesh of the CPU gives."""

import numpy as np
import pytest

from equicalc import EquiCalculator
from equicalc.electrostatics import device_mesh, mesh, solve
from tests.comparing import assert_sums_close

# float64: charges are spread in units of 2^-57 of the largest charge or coarser, sums of some
# thousand terms of order one; relative to the largest number of its kind
ROUNDING = 1e-11
# float32 has 7 digits, mesh points of opposite signs are added up
SINGLE = 3e-6

TRICLINIC = np.array([[9.0, 0.4, -0.3], [-3.0, 8.2, 0.5], [1.1, 2.0, 10.5]])
CUBIC = 9.0 * np.eye(3)
POINTS = (9, 12, 15)


def random_charges(n_atoms, n_widths=1, seed=3):
    """Charges with a total, positions inside and outside of the cell, and widths."""
    rng = np.random.default_rng(seed)
    positions = 3.0 * rng.random((n_atoms, 3)) @ TRICLINIC - TRICLINIC.sum(axis=0)
    sigmas = np.linspace(1.0, 1.3, n_widths)[np.arange(n_atoms) % n_widths]
    return rng.normal(size=n_atoms), positions, sigmas


def on_device(charges, positions, sigmas, cell, points, order, single=False):
    """Result of the kernels for devices, here on the host."""
    widths = mesh.different(sigmas)
    return device_mesh.mesh_sums(
        charges, positions, sigmas, widths, [(cell, points)], order, 1e-9, single, "cpu"
    )[0]


@pytest.mark.parametrize("order", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("n_widths", [1, 3])
@pytest.mark.parametrize("cell", [TRICLINIC, CUBIC, -TRICLINIC], ids=["skew", "cubic", "left"])
def test_sum_is_that_of_the_cpu(order, n_widths, cell):
    atoms = random_charges(20, n_widths)
    expected = mesh.mesh_sum(*atoms, cell, POINTS, order, 1e-9)
    assert_sums_close(on_device(*atoms, cell, POINTS, order), expected, ROUNDING)


@pytest.mark.parametrize("points", [(5, 5, 5), (8, 5, 6), (5, 8, 16)])
def test_meshes_as_small_as_the_spline(points):
    atoms = random_charges(7)
    expected = mesh.mesh_sum(*atoms, TRICLINIC, points, 5, 1e-9)
    assert_sums_close(on_device(*atoms, TRICLINIC, points, 5), expected, ROUNDING)


@pytest.mark.parametrize("n_atoms", [0, 1])
def test_one_atom_and_none(n_atoms):
    atoms = random_charges(n_atoms)
    expected = mesh.mesh_sum(*atoms, TRICLINIC, POINTS, 6, 1e-9)
    found = on_device(*atoms, TRICLINIC, POINTS, 6)
    assert found["forces"].shape == (n_atoms, 3)
    assert found["potentials"].shape == (n_atoms,)
    assert_sums_close(found, expected, ROUNDING)


@pytest.mark.parametrize("size", [0.0, 1e-280, 1e-12, 1e6])
def test_charges_of_any_size(size):
    """The unit in which they are spread follows them."""
    charges, positions, sigmas = random_charges(20)
    unit = on_device(charges, positions, sigmas, TRICLINIC, POINTS, 6)
    found = on_device(size * charges, positions, sigmas, TRICLINIC, POINTS, 6)
    powers = {"energy": 2, "virial": 2, "forces": 2, "potentials": 1}
    for kind, power in powers.items():
        scale = size**power
        largest = max(1.0, np.abs(unit[kind]).max())
        np.testing.assert_allclose(
            found[kind], scale * unit[kind], rtol=0, atol=ROUNDING * scale * largest
        )


def test_all_charge_at_one_place_does_not_overflow():
    positions = np.tile([[1.0, 2.0, 3.0]], (64, 1))
    atoms = np.full(64, 1.0), positions, np.ones(64)
    expected = mesh.mesh_sum(*atoms, CUBIC, POINTS, 3, 1e-9)
    assert_sums_close(on_device(*atoms, CUBIC, POINTS, 3), expected, ROUNDING)


@pytest.mark.parametrize("n_widths", [1, 2])
def test_float32_meshes_are_right_to_their_rounding(n_widths):
    atoms = random_charges(20, n_widths)
    found = on_device(*atoms, TRICLINIC, POINTS, 6, single=True)
    assert_sums_close(found, on_device(*atoms, TRICLINIC, POINTS, 6), SINGLE)
    assert not np.array_equal(found["forces"], on_device(*atoms, TRICLINIC, POINTS, 6)["forces"])


def test_forces_do_not_depend_on_the_order_of_atoms_in_any_bit():
    charges, positions, sigmas = random_charges(40, 2)
    order = np.random.default_rng(5).permutation(40)
    first = on_device(charges, positions, sigmas, TRICLINIC, POINTS, 5)
    again = on_device(charges[order], positions[order], sigmas[order], TRICLINIC, POINTS, 5)
    assert np.array_equal(again["forces"], first["forces"][order])
    assert_sums_close(
        again, first | {k: first[k][order] for k in ("forces", "potentials")}, ROUNDING
    )


@pytest.mark.parametrize(
    ("points", "order", "message"),
    [
        ((9, 9, 9), 9, "order of the spline must lie between 3 and 8; found 9"),
        ((9, 9, 5), 6, "order 6 needs as many points in each direction; found"),
    ],
)
def test_impossible_meshes_are_refused(points, order, message):
    with pytest.raises(RuntimeError, match=message):
        on_device(*random_charges(4), CUBIC, points, order)


def test_members_must_be_given_for_several_widths():
    charges, positions, sigmas = random_charges(4, 2)
    widths = mesh.different(sigmas)
    sent = device_mesh.send(charges, positions, sigmas[:1], widths[:1], "cpu")
    with pytest.raises(RuntimeError, match=r"members are int32 \[n\] for several sigmas"):
        device_mesh.wave_sum(sent, CUBIC, POINTS, 5, widths, (3.0, 4.0), False)


@pytest.fixture
def everything_on_devices(monkeypatch):
    """`solve` takes the CPU for a device with the costs of the CPU: meshes stay the same."""
    monkeypatch.setattr(mesh, "is_cpu", lambda device: False)
    monkeypatch.setattr(mesh, "costs_on", lambda device: mesh.CPU)
    calls = []
    mesh_sums = device_mesh.mesh_sums

    def counted(*arguments):
        calls.append(len(arguments[4]))
        return mesh_sums(*arguments)

    monkeypatch.setattr(device_mesh, "mesh_sums", counted)
    return calls


# The second cell lies where 10 points become 12 along two directions.
@pytest.mark.parametrize(
    ("length", "n_meshes"), [(9.0, 1), (None, 4)], ids=["one mesh", "blend of meshes"]
)
@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False)], ids=["bulk", "slab"])
def test_solve_goes_through_the_device(pbc, length, n_meshes, request):
    charges, _, sigmas = random_charges(12)
    if length is None:
        _, spacing = mesh.choose_spline(sigmas, 1e-3)
        length = 10 * spacing * (1.0 - 0.5 * mesh.BLEND)
    cell = np.diag([length, length * (1.0 - mesh.BLEND), 12.0])
    positions = np.random.default_rng(8).random((12, 3)) @ cell
    arguments = charges, positions, cell, pbc, sigmas, 1e-3, "p3m"
    expected = solve(*arguments)
    calls = request.getfixturevalue("everything_on_devices")
    found = solve(*arguments)
    assert calls == [n_meshes]
    assert_sums_close(vars(found), vars(expected), ROUNDING)


def test_calculator_goes_through_the_device(request):
    from ase.build import bulk

    atoms = bulk("KCl", "rocksalt", a=6.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    found = []
    for _ in range(2):
        atoms.calc = EquiCalculator("kcl", kspace="p3m", check=False)
        found.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
        calls = request.getfixturevalue("everything_on_devices")
    assert calls
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-9)


def test_devices_take_the_mesh_where_it_reaches_the_accuracy():
    many, few = np.ones(1000), np.ones(2)
    assert mesh.is_cheaper(many, 1e-6, "cuda")
    assert not mesh.is_cheaper(few, 1e-6, "cuda")
    assert not mesh.is_cheaper(many, 0.1 * mesh.BEST_ACCURACY, "cuda")
