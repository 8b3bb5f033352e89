"""Building blocks against e3nn in float64: harmonics, couplings, convolutions, products."""

import math

import pytest
import torch
from e3nn import o3

from equicalc.nn.convolution import (
    EquivariantConvolution,
    ScalarConvolution,
    SpeciesConvolution,
)
from equicalc.nn.irreps import clebsch_gordan, coupling_paths, l_slice
from equicalc.nn.product import SymmetricProduct
from equicalc.nn.radial import RadialBasis, envelope
from equicalc.nn.spherical import spherical_harmonics

pytestmark = pytest.mark.usefixtures("double_precision")

# float64 against float64, a few hundred terms of order one
ROUNDING = 1e-12


def unit_vectors(n: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3), dim=1)


def test_spherical_harmonics_equal_e3nn():
    unit = unit_vectors(100)
    expected = o3.spherical_harmonics([0, 1, 2, 3], unit, True, normalization="component")
    assert (spherical_harmonics(unit, 3) - expected).abs().max() < ROUNDING


@pytest.mark.parametrize(
    ("l_max", "parity", "count"), [(1, True, 4), (2, True, 11), (2, False, 15), (3, True, 23)]
)
def test_number_of_paths_is_the_number_of_allowed_couplings(l_max, parity, count):
    paths = coupling_paths(l_max, l_max, l_max, parity)
    irreps = o3.Irreps([(1, (degree, (-1) ** degree)) for degree in range(l_max + 1)])
    if parity:
        allowed = sum(ir in irreps for a in irreps for b in irreps for ir in a.ir * b.ir)
        assert len(paths) == allowed
    assert len(paths) == count


def test_couplings_equal_e3nn_tensor_product():
    for l1, l2, l3 in coupling_paths(2, 2, 2, parity=False):
        product = o3.FullTensorProduct(
            f"{l1}e", f"{l2}e", [f"{l3}e"], irrep_normalization="component"
        )
        a, b = torch.randn(2 * l1 + 1), torch.randn(2 * l2 + 1)
        ours = torch.einsum("abc,a,b->c", clebsch_gordan(l1, l2, l3), a, b)
        assert (ours - product(a, b)).abs().max() < 1e-6  # e3nn keeps this table in float32


def test_envelope_has_two_vanishing_derivatives_at_the_cutoff():
    x = torch.tensor([5.0 - 1e-9], requires_grad=True)
    value = envelope(x, torch.tensor(5.0))
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert max(value.abs().item(), first.abs().item(), second.abs().item()) < 1e-6
    assert envelope(torch.tensor([0.0]), torch.tensor(5.0)).item() == 1.0
    assert envelope(torch.tensor([6.0]), torch.tensor(5.0)).item() == pytest.approx(0, abs=1e-12)


def graph(n: int = 6):
    index = torch.tensor([(i, j) for i in range(n) for j in range(n) if i != j]).T
    unit = unit_vectors(index.shape[1])
    return index, unit, torch.rand(index.shape[1], 5)


@pytest.mark.parametrize("parity", [True, False])
def test_full_convolution_equals_e3nn_tensor_product_per_edge(parity):
    n, l_max, channels = 6, 2, 3
    index, unit, radial = graph(n)
    convolution = EquivariantConvolution(5, l_max, channels, parity)
    x = torch.randn(n, 9, channels)
    harmonics = spherical_harmonics(unit, l_max)
    ours = convolution(x, radial, harmonics, index, n)

    paths = coupling_paths(l_max, l_max, l_max, parity)
    expected = torch.zeros(n, 9, channels)
    weight = torch.einsum("eb,bpc->epc", radial, convolution.weight)
    for p, (l1, l2, l3) in enumerate(paths):
        same_output = sum(1 for path in paths if path[2] == l3)
        w3j = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * math.sqrt(2 * l3 + 1)
        for e in range(index.shape[1]):
            i, j = index[:, e].tolist()
            coupled = torch.einsum(
                "abk,a,bc->kc", w3j, harmonics[e, l_slice(l1)], x[j, l_slice(l2)]
            )
            expected[i, l_slice(l3)] += coupled * weight[e, p] / math.sqrt(same_output)
    assert (ours - expected).abs().max() < ROUNDING


def test_scalar_convolution_is_the_scalar_part_of_a_tensor_product():
    n, l_max, channels = 6, 2, 3
    index, unit, radial = graph(n)
    convolution = ScalarConvolution(5, l_max, channels)
    x = torch.randn(n, 9, channels)
    harmonics = spherical_harmonics(unit, l_max)
    ours = convolution(x, radial, harmonics, index, n).reshape(n, l_max + 1, channels)
    weight = (radial @ convolution.weight).reshape(-1, l_max + 1, channels)
    for degree in range(l_max + 1):
        cg = clebsch_gordan(degree, degree, 0)[:, :, 0]
        edge = torch.einsum(
            "ab,ea,ebc->ec", cg, harmonics[:, l_slice(degree)], x[index[1]][:, l_slice(degree)]
        )
        expected = torch.zeros(n, channels).index_add(0, index[0], edge * weight[:, degree])
        assert (ours[:, degree].abs() - expected.abs()).abs().max() < ROUNDING


def test_species_convolution_equals_a_convolution_with_scalar_features():
    n, l_max, channels = 6, 2, 4
    index, unit, radial = graph(n)
    species = torch.arange(n) % 2
    convolution = SpeciesConvolution(2, 2, 5, l_max, channels)
    harmonics = spherical_harmonics(unit, l_max)
    ours = convolution(species, radial, harmonics, index, n)
    for degree, weight in enumerate(convolution.mixing.weights):
        per_species = weight.reshape(2, 5, channels)[species[index[1]]]
        radial_weight = torch.einsum("eb,ebc->ec", radial, per_species)
        edge = harmonics[:, l_slice(degree), None] * radial_weight[:, None]
        expected = torch.zeros(n, 2 * degree + 1, channels).index_add(0, index[0], edge)
        assert (ours[:, l_slice(degree)] - expected).abs().max() < ROUNDING


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
def test_products_are_equivariant_and_of_the_given_order(correlation):
    product = SymmetricProduct(2, 3, 2, correlation, parity=True)
    a, species = torch.randn(5, 9, 3), torch.arange(5) % 2
    rotation = o3.rand_matrix(dtype=torch.float64)
    irreps = o3.Irreps("0e + 1o + 2e")
    wigner = irreps.D_from_matrix(rotation)
    rotated = torch.einsum("mn,anc->amc", wigner, a)
    out = torch.einsum("mn,anc->amc", wigner, product(a, species))
    assert (product(rotated, species) - out).abs().max() < 1e-10
    scales = torch.linspace(0.5, 1.5, correlation + 1)
    values = torch.stack([product(s * a, species).flatten() / s for s in scales])
    differences = values
    for _ in range(correlation):
        differences = differences.diff(dim=0)
    assert differences.abs().max() < 1e-10 * max(1.0, values.abs().max().item())


def test_radial_basis_vanishes_at_the_cutoff():
    basis = RadialBasis(4.0, 8, 16, 6)
    assert basis(torch.tensor([4.0, 4.5])).abs().max() < 1e-12
    assert basis(torch.tensor([2.0])).shape == (1, 6)
