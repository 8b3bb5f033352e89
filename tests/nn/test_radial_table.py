"""Splines of radial functions against the functions."""

import math

import pytest
import torch

from equicalc.nn.radial_table import RadialTable

pytestmark = pytest.mark.usefixtures("double_precision")

CUTOFF = 5.0


def switched_bessel(onset):
    """Eight Bessel functions times the XPLOR switch, whose second derivative jumps at the onset."""
    frequencies = torch.arange(1, 9) * (math.pi / CUTOFF)

    def values(r):
        r2, on2, off2 = r**2, onset**2, CUTOFF**2
        switch = (off2 - r2) ** 2 * (off2 + 2 * r2 - 3 * on2) / (off2 - on2) ** 3
        switch = torch.where(r < onset, 1.0, torch.where(r < CUTOFF, switch, 0.0))
        return torch.sin(r.unsqueeze(1) * frequencies) / r.unsqueeze(1) * switch.unsqueeze(1)

    return values


def errors(spacing, breaks, onset=4.5):
    """Largest error of values and of slopes, relative to the largest value and slope."""
    function = switched_bessel(onset)
    table = RadialTable([5, 3], CUTOFF, spacing, breaks)
    table.fit(function(table.points()))
    r = torch.linspace(0.3, CUTOFF - 1e-6, 4001).requires_grad_()
    found, expected = table(r), function(r)
    slopes = [
        torch.stack([torch.autograd.grad(f[:, k].sum(), r, retain_graph=True)[0] for k in range(8)])
        for f in (found, expected)
    ]
    return (
        ((found - expected).abs().max() / expected.abs().max()).item(),
        ((slopes[0] - slopes[1]).abs().max() / slopes[1].abs().max()).item(),
    )


@pytest.mark.parametrize(
    ("spacing", "largest_value", "largest_slope"), [(0.004, 2e-8, 1.5e-6), (0.002, 2e-9, 1e-6)]
)
def test_values_and_slopes_are_those_of_the_function(spacing, largest_value, largest_slope):
    """Fourth and third order in the spacing, which is three times as large at the cutoff."""
    value, slope = errors(spacing, [4.5])
    assert value < largest_value
    assert slope < largest_slope


def test_the_error_of_values_goes_with_the_fourth_power_of_the_spacing():
    coarse, fine = errors(0.02, [4.5])[0], errors(0.01, [4.5])[0]
    assert 11 < coarse / fine < 20


def test_a_kink_belongs_on_a_knot():
    assert errors(0.01, [4.5], onset=4.5)[1] < 0.1 * errors(0.01, [4.4], onset=4.52)[1]


def test_functions_vanish_from_the_cutoff_on_and_are_finite_at_zero():
    table = RadialTable([3, 5], CUTOFF, 0.05)
    table.fit(switched_bessel(4.5)(table.points()))
    assert torch.equal(table(torch.tensor([5.0, 5.1, 100.0])), torch.zeros(3, 8))
    # sin(k r) / r
    expected = torch.arange(1, 9) * (math.pi / CUTOFF)
    assert (table(torch.zeros(1))[0] - expected).abs().max() < 1e-8


def test_slopes_are_derivatives_of_values_in_float64():
    table = RadialTable([40], CUTOFF, 0.1)
    table.fit(torch.randn(len(table.points()), 40))
    r = (0.01 + 4.9 * torch.rand(20)).requires_grad_()
    assert torch.autograd.gradcheck(table, (r,))


def test_wrong_shapes_are_refused():
    table = RadialTable([3], CUTOFF, 0.5)
    with pytest.raises(ValueError, match="expected values of shape"):
        table.fit(torch.zeros(len(table.points()), 4))
    with pytest.raises(ValueError, match="breaks must ascend"):
        RadialTable([3], CUTOFF, 0.5, [5.5])


def test_a_scripted_table_can_be_filled():
    table = torch.jit.script(RadialTable([3, 5], CUTOFF, 0.05))
    table.fit(switched_bessel(4.5)(table.points()))
    assert table(torch.tensor([2.0])).abs().max() > 0.1


def test_scripted_table_is_filled_in_double_precision():
    torch.set_default_dtype(torch.float32)  # what TorchScript takes for numbers without a type
    function = switched_bessel(4.5)
    made = [RadialTable([5, 3], CUTOFF, 0.05, [4.5]) for _ in range(2)]
    made[1] = torch.jit.script(made[1])
    for table in made:
        points = table.points()
        table.fit(function(points).double())
    assert (made[0].coefficients - made[1].coefficients).abs().max() < 1e-14
