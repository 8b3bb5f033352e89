"""Mixing of channels by element."""

import pytest
import torch

from equicalc.deploy.traced_ops import TracedSpeciesLinear
from equicalc.nn.blocks import parse_irreps
from equicalc.nn.gated_network import SpeciesLinear

ROUNDING = 1e-13  # sums of as many terms in another order


def mixing(n_species=3):
    """A module with 13 numbers of each atom before, 17 after."""
    torch.manual_seed(0)
    irreps = parse_irreps("4x0e+3x1o"), parse_irreps("2x0e+5x1o")
    return SpeciesLinear(n_species, *irreps).double()


def traced(module):
    """The same through the operator of compiled models."""
    copy = mixing(len(module.linears))
    copy.load_state_dict(module.state_dict())
    copy.requires_grad_(False)
    copy.__class__ = TracedSpeciesLinear
    copy.stack()
    return copy


def test_all_atoms_at_once_and_the_atoms_of_each_element_give_the_same():
    module = mixing()
    x = torch.randn(7, 13, dtype=torch.float64, requires_grad=True)
    for species in (torch.tensor([2, 0, 1, 2, 2, 0, 1]), torch.ones(7, dtype=torch.int64)):
        found = [function(x, species) for function in (module.of_all, module.of_chosen)]
        gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in found]
        for a, b in (found, gradients):
            assert (a - b).abs().max() < ROUNDING * (1.0 + b.abs().max())


@pytest.mark.parametrize("species", [[1], [2, 0, 2, 2, 0], [1] * 100, [0, 1, 2] * 40])
def test_the_operator_of_compiled_models_gives_the_same(species):
    module, species = mixing(), torch.tensor(species, dtype=torch.int64)
    x = torch.randn(len(species), 13, dtype=torch.float64, requires_grad=True)
    found = [part(x, species) for part in (traced(module), module)]
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in found]
    for a, b in (found, gradients):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


def test_the_operator_says_what_it_cannot_do():
    module = mixing()
    x = torch.randn(2, 13, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="matrices for 3 elements, found the element 3"):
        traced(module)(x, torch.tensor([0, 3]))
    species = torch.tensor([0, 1])
    with pytest.raises(RuntimeError, match="a second was asked for; train through"):
        torch.autograd.grad(traced(module)(x, species).square().sum(), x, create_graph=True)
    weights = torch.zeros(3, 23, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="no gradient of its weights"):
        torch.ops.equicalc.species_linear(x, species, weights, module.linears[0].table, 17)
