"""Pseudoscalars: odd in a mirror, invariant under rotations, absent where there is a mirror."""

import pytest
import torch
from e3nn import o3

from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.nn.pseudoscalar import PseudoscalarHead, node_features

# float64 sums of a few hundred terms of order one
ROUNDING = 1e-11


@pytest.fixture(params=[1, 2, 3])
def model(request):
    """Pseudoscalars [n] as a function of positions [n, 3], for networks of one to three layers."""
    torch.manual_seed(4)
    config = NetworkConfig(elements=["Si", "O"], channels=8, n_layers=request.param)
    network = EquiNetwork(config)
    network.set_statistics({"Si": 0.0, "O": 0.0}, 1.0, 8.0)
    head = PseudoscalarHead(config.channels).double()

    def pseudoscalars(positions: torch.Tensor) -> torch.Tensor:
        mask = (torch.cdist(positions, positions) < config.cutoff).fill_diagonal_(False)
        edges = mask.nonzero().T.contiguous()
        species = torch.arange(len(positions)) % 2
        vectors = positions[edges[1]] - positions[edges[0]]
        return head(node_features(network, species, vectors, edges))

    return pseudoscalars


@pytest.fixture
def cluster() -> torch.Tensor:
    """Eight atoms at the corners of a distorted cube, [8, 3]."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 3) * 2.0
    return corners + 0.5 * torch.rand(8, 3, generator=generator, dtype=torch.float64)


def test_pseudoscalars_change_sign_in_a_mirror(model, cluster):
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    values = model(cluster)
    assert values.abs().min() > 1e3 * ROUNDING
    assert (model(cluster @ mirror) + values).abs().max() < ROUNDING


def test_pseudoscalars_are_invariant_under_rotations(model, cluster):
    rotation = o3.rand_matrix(dtype=torch.float64)
    assert (model(cluster @ rotation.T) - model(cluster)).abs().max() < ROUNDING


def test_pseudoscalars_follow_permutations(model, cluster):
    order = torch.tensor([2, 7, 0, 3, 6, 1, 4, 5])  # even and odd places keep their species
    assert (model(cluster[order]) - model(cluster)[order]).abs().max() < ROUNDING


def test_a_planar_molecule_has_no_pseudoscalar(model, cluster):
    flat = cluster.clone()
    flat[:, 2] = 0.0
    flat[4:, 0] += 7.0
    flat[4:, 1] += 0.7
    assert model(flat).abs().max() < ROUNDING
