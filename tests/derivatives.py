"""Differences that derivatives of energies are compared with."""

import numpy as np

# A five-point stencil of step h errs by h^4 times the fifth derivative, and by 1e-14 eV / h.
STEP = 2e-3
DERIVATIVE_TOLERANCE = 1e-7
# Places of the components of a stress with six numbers.
VOIGT = tuple(enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]))


def derivative(value):
    """Central five-point difference of a function of one displacement at zero."""
    v = [value(k * STEP) for k in (-2, -1, 1, 2)]
    return (v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * STEP)


def deformation(a, b, size):
    """Matrix of a symmetric strain with one component; rows of the cell times it are strained."""
    result = np.eye(3)
    result[a, b] += 0.5 * size
    result[b, a] += 0.5 * size
    return result


def strained(atoms, a, b, size):
    """A copy of a structure under that strain."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell[:] @ deformation(a, b, size), scale_atoms=True)
    return copy


def assert_stress_is_a_derivative(stress, energy, atoms):
    """Compare all six components with differences of ``energy(atoms)``."""
    for k, (a, b) in VOIGT:
        slope = derivative(lambda size, a=a, b=b: energy(strained(atoms, a, b, size)))
        assert abs(slope / atoms.get_volume() - stress[k]) < DERIVATIVE_TOLERANCE
