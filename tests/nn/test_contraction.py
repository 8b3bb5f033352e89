"""The symmetric contraction: fused operator, torch expression, and invariance."""

import itertools

import pytest
import torch
from e3nn import o3

from equicalc.nn.contraction import (
    SymmetricContraction,
    equivariant_basis,
    expand,
    symmetric_terms,
)
from tests.comparing import assert_close

pytestmark = pytest.mark.usefixtures("double_precision")

# float64: the same sums in another order, values of order ten
ROUNDING = 1e-11
# float32 has 7 digits; sums of a few hundred products of order one
FLOAT32 = 5e-5


def random_contraction(n_components, n_outputs, n_species, channels, correlation=3, share=0.3):
    """A contraction with a random selection of monomials, without any symmetry."""
    terms = [
        (output, factors)
        for output in range(n_outputs)
        for order in range(1, correlation + 1)
        for factors in itertools.combinations_with_replacement(range(n_components), order)
        if torch.rand(()) < share
    ]
    weight = torch.randn(n_species, len(terms), channels)
    return SymmetricContraction(terms, weight, n_components, n_outputs).requires_grad_(False)


def value_and_gradient(module, x, species, fused):
    module.fused = fused
    x = x.clone().requires_grad_()
    out = module(x, species)
    weights = torch.linspace(-1, 1, out.numel(), dtype=x.dtype).view_as(out)
    return out.detach(), torch.autograd.grad((out * weights).sum(), x)[0]


# 8 doubles or 16 floats fill a vector: below, above, and not a multiple
@pytest.mark.parametrize("channels", [1, 7, 8, 17, 64])
@pytest.mark.parametrize(("n_components", "n_outputs"), [(1, 1), (4, 4), (9, 1), (16, 9)])
def test_fused_contraction_equals_its_torch_expression(channels, n_components, n_outputs):
    module = random_contraction(n_components, n_outputs, 3, channels)
    x, species = torch.randn(40, n_components, channels), torch.randint(3, (40,))
    expected = value_and_gradient(module, x, species, fused=False)
    found = value_and_gradient(module, x, species, fused=True)
    assert_close(found, expected, ROUNDING)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_every_correlation_has_its_gradient(correlation):
    module = random_contraction(4, 2, 2, 3, correlation, share=1.0)
    x = torch.randn(3, 4, 3, requires_grad=True)
    species = torch.tensor([0, 1, 0])
    assert torch.autograd.gradcheck(lambda y: module(y, species), x)


def test_no_atoms_and_outputs_without_terms_give_zeros():
    module = SymmetricContraction([(1, (0, 2))], torch.ones(1, 1, 5), 4, 3)
    module.requires_grad_(False)
    assert module(torch.zeros(0, 4, 5), torch.zeros(0, dtype=torch.int64)).shape == (0, 3, 5)
    x = torch.randn(2, 4, 5)
    out = module(x, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(out[:, 1], x[:, 0] * x[:, 2])
    assert not out[:, [0, 2]].any()


def test_float32_agrees_with_float64():
    module = random_contraction(16, 4, 2, 16)
    x, species = torch.randn(10, 16, 16), torch.randint(2, (10,))
    exact = value_and_gradient(module, x, species, fused=True)
    single = value_and_gradient(module.float(), x.float(), species, fused=True)
    for a, b in zip(exact, single, strict=True):
        assert (a - b.double()).abs().max() < FLOAT32 * a.abs().max()


def test_result_is_independent_of_the_number_of_threads():
    module = random_contraction(9, 4, 2, 24)
    x, species = torch.randn(300, 9, 24), torch.randint(2, (300,))
    threads, results = torch.get_num_threads(), []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        results.append(value_and_gradient(module, x, species, fused=True))
    torch.set_num_threads(threads)
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


def all_terms(n_components, n_outputs):
    return [
        (output, factors)
        for output in range(n_outputs)
        for order in (1, 2, 3)
        for factors in itertools.combinations_with_replacement(range(n_components), order)
    ]


def test_expanded_couplings_equal_their_contraction_one_factor_at_a_time():
    """Asymmetric couplings of several paths: the sum over all factors is what must come out."""
    m, outputs, species, channels = 4, 3, 2, 5
    couplings = [torch.randn(outputs, *[m] * order, 2 * order) for order in (1, 2, 3)]
    weights = [torch.randn(species, 2 * order, channels) for order in (1, 2, 3)]
    terms = all_terms(m, outputs)
    weight = expand(terms, couplings, weights)
    module = SymmetricContraction(terms, weight, m, outputs).requires_grad_(False)
    x, kind = torch.randn(6, m, channels), torch.randint(species, (6,))
    expected = torch.einsum("oik,nkc,nic->noc", couplings[0], weights[0][kind], x)
    expected += torch.einsum("oijk,nkc,nic,njc->noc", couplings[1], weights[1][kind], x, x)
    expected += torch.einsum("oijlk,nkc,nic,njc,nlc->noc", couplings[2], weights[2][kind], x, x, x)
    assert (module(x, kind) - expected).abs().max() < ROUNDING * expected.abs().max()


def test_couplings_with_a_monomial_beyond_the_terms_are_an_error():
    couplings = [torch.ones(1, 4, 1)]
    with pytest.raises(ValueError, match="symmetry does not allow"):
        expand(symmetric_terms(1, [0], 1), couplings, [torch.ones(1, 1, 1)])


def test_monomials_that_symmetry_allows_are_those_of_group_theory():
    """x^1, x.x and (x.x), (x x x) of a scalar and a vector, counted by hand."""
    invariant = symmetric_terms(1, [0], 3)
    # s, s^2, x^2, y^2, z^2, s^3, s x^2, s y^2, s z^2
    assert len(invariant) == 9
    vector = symmetric_terms(1, [1], 3)
    # v_a, s v_a, s^2 v_a, v_a (x^2 + y^2 + z^2) for each a
    assert len(vector) == 3 * (1 + 1 + 1 + 3)
    assert symmetric_terms(1, [0, 1], 3) == invariant + [(o + 1, f) for o, f in vector]


def test_contraction_of_invariant_couplings_is_equivariant():
    """Pairs coupled to a vector: (l1, l2) -> 1 by Wigner 3j symbols, rotated before or after."""
    irreps = o3.Irreps.spherical_harmonics(2)
    coupling = torch.zeros(3, 9, 9, 2)
    for path, (l1, l2) in enumerate([(0, 1), (1, 2)]):
        block = o3.wigner_3j(l1, l2, 1, dtype=torch.float64).permute(2, 0, 1)
        coupling[:, irreps.slices()[l1], irreps.slices()[l2], path] = block
    linear = torch.zeros(3, 9, 1)
    linear[:, 1:4, 0] = torch.eye(3)
    terms = symmetric_terms(2, [1], 2)
    weight = expand(terms, [linear, coupling], [torch.randn(2, 1, 6), torch.randn(2, 2, 6)])
    module = SymmetricContraction(terms, weight, 9, 3).requires_grad_(False)
    rotation = -o3.rand_matrix()
    d_in, d_out = irreps.D_from_matrix(rotation), o3.Irreps("1o").D_from_matrix(rotation)
    x, kind = torch.randn(5, 9, 6), torch.randint(2, (5,))
    before = module(torch.einsum("ab,nbc->nac", d_in, x), kind)
    after = torch.einsum("ab,nbc->nac", d_out, module(x, kind))
    assert (before - after).abs().max() < ROUNDING


def test_weights_and_second_derivatives_are_refused_by_the_operator_and_served_by_torch():
    module = random_contraction(4, 1, 1, 2)
    x = torch.randn(2, 4, 2, requires_grad=True)
    species = torch.zeros(2, dtype=torch.int64)
    first = torch.autograd.grad(module(x, species).sum(), x, create_graph=False)
    assert torch.isfinite(first[0]).all()
    with pytest.raises(RuntimeError, match="fused = False"):
        torch.autograd.grad(module(x, species).sum(), x, create_graph=True)
    module.weight.requires_grad_(True)
    with pytest.raises(RuntimeError, match="no gradient of its weights"):
        module(x, species)
    module.fused = False
    slope = torch.autograd.grad(module(x, species).sum(), x, create_graph=True)[0]
    assert torch.autograd.grad(slope.pow(2).sum(), module.weight)[0].abs().max() > 0


def test_operator_has_a_shape_without_data():
    module = random_contraction(4, 2, 1, 3).to("meta")
    x = torch.empty(7, 4, 3, device="meta")
    species = torch.empty(7, dtype=torch.int64, device="meta")
    assert module(x, species).shape == (7, 2, 3)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_projected_coefficients_are_those_of_equivariant_products(correlation):
    l_max, degrees = 2, [0, 1]
    terms = symmetric_terms(l_max, degrees, correlation)
    basis = equivariant_basis(l_max, tuple(degrees), correlation)
    weight = basis @ (basis.T @ torch.randn(2, len(terms), 6))
    module = SymmetricContraction(terms, weight, 9, 4).requires_grad_(False)
    irreps, rotation = o3.Irreps.spherical_harmonics(l_max), -o3.rand_matrix()
    d_in = irreps.D_from_matrix(rotation)
    d_out = o3.Irreps.spherical_harmonics(1).D_from_matrix(rotation)
    x, kind = torch.randn(5, 9, 6), torch.randint(2, (5,))
    before = module(torch.einsum("ab,nbc->nac", d_in, x), kind)
    after = torch.einsum("ab,nbc->nac", d_out, module(x, kind))
    assert (before - after).abs().max() < ROUNDING


def test_products_of_two_vectors_and_a_scalar_are_counted():
    """s, s^2, v.v, s^3, s (v.v) of a scalar and a vector, and v, s v, s^2 v, v (v.v)."""
    assert equivariant_basis(1, (0,), 3).shape == (9, 5)
    assert equivariant_basis(1, (1,), 3).shape == (18, 4)
