"""Mixing of channels by element."""

import torch

from equicalc.nn.blocks import parse_irreps
from equicalc.nn.gated_network import SpeciesLinear

ROUNDING = 1e-13  # sums of as many terms in another order


def test_all_atoms_at_once_and_the_atoms_of_each_element_give_the_same():
    torch.manual_seed(0)
    irreps = parse_irreps("4x0e+3x1o"), parse_irreps("2x0e+5x1o")
    module = SpeciesLinear(3, *irreps).double()
    x = torch.randn(7, 13, dtype=torch.float64, requires_grad=True)
    for species in (torch.tensor([2, 0, 1, 2, 2, 0, 1]), torch.ones(7, dtype=torch.int64)):
        found = [function(x, species) for function in (module.of_all, module.of_chosen)]
        gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in found]
        for a, b in (found, gradients):
            assert (a - b).abs().max() < ROUNDING * (1.0 + b.abs().max())
