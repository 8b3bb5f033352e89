"""Distribution functions and drifts of runs, against numbers known otherwise."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from equicalc.analysis import linear_drift, partial_rdfs
from equicalc.errors import DataError


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
