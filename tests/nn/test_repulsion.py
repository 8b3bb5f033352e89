"""The operator for screened repulsion against torch expressions, values and derivatives."""

import copy

import pytest
import torch

from equicalc.nn.repulsion import ZieglerBiersackLittmark
from equicalc.nn.screened_repulsion import ScreenedRepulsion

# sums of the same numbers in another order, relative to the largest
ROUNDING = {torch.float64: 1e-12, torch.float32: 2e-5}
ELEMENTS = ["H", "O", "Na"]
SETTINGS = {
    "energy": 14.3996, "length": 0.4543, "exponent": 0.3, "order": 5.0,
    "coefficients": [0.1818, 0.5099, 0.2802, 0.02817], "decays": [3.2, 0.9423, 0.4028, 0.2016],
}  # fmt: skip


def modules():
    yield ZieglerBiersackLittmark(ELEMENTS, 2.0)
    yield ScreenedRepulsion(ELEMENTS, SETTINGS)
    yield ScreenedRepulsion(ELEMENTS, SETTINGS | {"reach": 1.6})


def problem(n_local=7, n_total=9, n_edges=60, dtype=torch.float64):
    torch.manual_seed(0)
    species = torch.randint(0, len(ELEMENTS), (n_total,))
    receivers = torch.randint(0, n_local, (n_edges,)).sort().values
    index = torch.stack([receivers, torch.randint(0, n_total, (n_edges,))])
    distance = (0.3 + 2.5 * torch.rand(n_edges, dtype=torch.float64)).to(dtype)
    return distance, species, index, n_local


def energies(module, fused, distance, *rest):
    module = copy.deepcopy(module).to(distance.dtype)
    module.fused = fused
    return module(distance, *rest)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_equal_torch_expressions(dtype):
    for module in modules():
        found = []
        for fused, x in ((False, torch.float64), (True, dtype)):
            distance, *rest = problem(dtype=dtype)
            distance = distance.to(x).requires_grad_(True)
            values = energies(module, fused, distance, *rest)
            weights = torch.linspace(-1, 1, len(values), dtype=torch.float64)
            (gradient,) = torch.autograd.grad((weights * values).sum(), distance)
            assert values.dtype == torch.float64
            assert gradient.dtype == x
            found.append((values, gradient))
        for a, b in zip(*found, strict=True):
            assert a.abs().max() > 1.0
            assert ((a - b).abs() <= ROUNDING[dtype] * (1.0 + a.abs().max())).all()


def test_second_derivatives_agree_with_finite_differences():
    for module in modules():
        distance, *rest = problem(n_edges=20)
        distance = distance.requires_grad_(True)
        function = lambda r, m=module, a=rest: energies(m, True, r, *a)  # noqa: E731
        assert torch.autograd.gradcheck(function, (distance,))
        assert torch.autograd.gradgradcheck(function, (distance,))


def test_pairs_beyond_their_reach_and_atoms_without_neighbours_have_no_energy():
    for module in modules():
        distance, species, index, n_local = problem()
        far = torch.full_like(distance, 5.0).requires_grad_(True)
        values = energies(module, True, far, species, index, n_local)
        (gradient,) = torch.autograd.grad(values.sum(), far)
        assert not values.any()
        assert not gradient.any()
        none = energies(module, True, distance[:0], species, index[:, :0], n_local)
        assert none.shape == (n_local,)
        assert not none.any()


def test_wrong_shapes_and_types_are_refused():
    module = next(modules())
    distance, species, index, n_local = problem()
    with pytest.raises(RuntimeError, match="screened_repulsion takes distances"):
        module(distance, species, index[:, 1:], n_local)
    with pytest.raises(RuntimeError, match="coefficients must be a tensor of type Float"):
        module(distance.float(), species, index, n_local)
    module.pairs = module.pairs.view(torch.float64)
    with pytest.raises(RuntimeError, match="bits of float64 as int64 on cpu, found cpu Double"):
        module(distance, species, index, n_local)


def test_casts_of_a_network_do_not_round_the_pairs():
    module = next(modules())
    pairs = module.pairs.clone()
    assert torch.equal(module.float().double().pairs, pairs)
