"""How far numbers are from those of another way to compute them."""

from collections.abc import Mapping

import numpy as np

# What sums of charges are compared by.
SUMS = ("energy", "potentials", "forces", "virial")


def assert_close(found, expected, tolerance):
    """Every array or tensor agrees, relative to the largest number in it or to one.

    Both are sequences of them, or dictionaries with the same keys.
    """
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        names = list(expected)
        found, expected = ([values[name] for name in names] for values in (found, expected))
    else:
        names = list(range(len(expected)))
    for name, a, b in zip(names, found, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, name
        deviation = np.abs(a - b).max(initial=0.0)
        largest = max(1.0, np.abs(b).max(initial=0.0))
        assert deviation <= tolerance * largest, f"{name} differ by {deviation:.1e}"


def assert_sums_close(found, expected, tolerance):
    """Results of two Coulomb sums agree."""
    assert_close([found[k] for k in SUMS], [expected[k] for k in SUMS], tolerance)


def rms(values):
    """Root of the mean squared length of vectors ``[n, 3]``."""
    return float(np.sqrt((np.asarray(values) ** 2).sum(-1).mean()))
