"""Symmetry functions and a small network per element: an invariant model to compare with.

The descriptors are those of Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007): for every
atom, sums over neighbours of radial Gaussians, and sums over pairs of neighbours of
``2^(1 - zeta) (1 + lambda cos(theta))^zeta exp(-eta (r_ij^2 + r_ik^2)) f_c f_c``, one set per
element or pair of elements of the neighbours. A network per element makes an energy of them; forces
are its derivative. Only for benchmarks: plain torch, trained here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from equicalc.data.batch import Batch, collate, make_sample
from equicalc.data.structures import Structure


@dataclass
class DescriptorConfig:
    """Shape of the model.

    Parameters
    ----------
    elements : sequence of str
        Chemical symbols.
    cutoff : float
        angstrom.
    n_radial : int
        Radial Gaussians, evenly spaced from 1.5 angstrom to the cutoff.
    n_widths : int
        Radial decays eta of the angular functions.
    zetas : sequence of int
        Sharpness of the angular functions, powers of two, each with lambda = 1 and -1.
    hidden : int
        Width of the two hidden layers of each element's network.
    """

    elements: Sequence[str]
    cutoff: float = 5.0
    n_radial: int = 10
    n_widths: int = 3
    zetas: Sequence[int] = (1, 4, 16)
    hidden: int = 32


def power(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """Return values to the power of 1, 2, 4, ..., by squares."""
    for _ in range(exponent.bit_length() - 1):
        values = values.square()
    return values


def triplets_of(edge_index: torch.Tensor) -> torch.Tensor:
    """Pairs of edges with the same receiver, each pair once, ``[2, T]``; receivers are sorted."""
    receiver = edge_index[0].numpy()
    counts = np.bincount(receiver)
    starts = np.cumsum(counts) - counts
    firsts, seconds = [], []
    for start, count in zip(starts, counts, strict=True):
        a, b = np.triu_indices(count, 1)
        firsts.append(start + a)
        seconds.append(start + b)
    return torch.from_numpy(np.stack([np.concatenate(firsts), np.concatenate(seconds)]))


def descriptors_of(
    config: DescriptorConfig, batch: Batch, triplets: torch.Tensor, vectors: torch.Tensor
) -> torch.Tensor:
    """Return the descriptors ``[N, D]`` for edge vectors ``[E, 3]``."""
    n, n_elements = batch.species.shape[0], len(config.elements)
    receiver, sender = batch.edge_index[0], batch.edge_index[1]
    distance = torch.linalg.vector_norm(vectors, dim=1)
    smooth = 0.5 + 0.5 * torch.cos(math.pi * distance / config.cutoff)
    kind = batch.species.index_select(0, sender)

    centres = torch.linspace(1.5, config.cutoff, config.n_radial)
    widths = 2.0 / torch.linspace(2.0, config.cutoff, config.n_widths).square()
    spacing = (config.cutoff - 1.5) / (config.n_radial - 1)
    radial = torch.exp(-(((distance[:, None] - centres) / spacing) ** 2))
    radial = radial * smooth[:, None]
    flat = torch.zeros(n * n_elements, config.n_radial, dtype=radial.dtype)
    flat = flat.index_add(0, receiver * n_elements + kind, radial)

    first, second = triplets[0], triplets[1]
    a, b = vectors.index_select(0, first), vectors.index_select(0, second)
    ra, rb = distance.index_select(0, first), distance.index_select(0, second)
    cosine = (a * b).sum(1) / (ra * rb)
    both = smooth.index_select(0, first) * smooth.index_select(0, second)
    decay = torch.exp(-(ra.square() + rb.square())[:, None] * widths) * both[:, None]
    angles = torch.cat(
        [
            2.0 * power((0.5 * (1.0 + sign * cosine[:, None])).clamp(min=1e-6), zeta)
            for zeta in config.zetas
            for sign in (1.0, -1.0)
        ],
        dim=1,
    )
    angular = (decay[:, :, None] * angles[:, None]).flatten(1)
    low = torch.minimum(kind[first], kind[second])
    high = torch.maximum(kind[first], kind[second])
    pair = high * (high + 1) // 2 + low
    n_pairs = n_elements * (n_elements + 1) // 2
    flat_pairs = torch.zeros(n * n_pairs, angular.shape[1], dtype=angular.dtype)
    flat_pairs = flat_pairs.index_add(0, receiver[first] * n_pairs + pair, angular)
    return torch.cat([flat.reshape(n, -1), flat_pairs.reshape(n, -1)], dim=1)


@dataclass
class Described:
    """A structure and its descriptors, which no training changes.

    Attributes
    ----------
    batch : Batch
        The graph.
    values : tensor [N, D]
    slopes : tensor [E, D, 3]
        Derivatives of a receiver's descriptors by the vectors of its edges, 1/angstrom.
    """

    batch: Batch
    values: torch.Tensor
    slopes: torch.Tensor


def describe(structure: Structure, config: DescriptorConfig) -> Described:
    """Return a structure with its descriptors."""
    batch = make_sample(structure, config.elements, config.cutoff)
    vectors = vectors_of(batch).requires_grad_(True)
    values = descriptors_of(config, batch, triplets_of(batch.edge_index), vectors)
    slopes = torch.stack(
        [
            torch.autograd.grad(column.sum(), vectors, retain_graph=True)[0]
            for column in values.unbind(1)
        ],
        dim=1,
    )
    return Described(batch, values.detach(), slopes)


def join(samples: Sequence[Described]) -> Described:
    """Join structures."""
    return Described(
        collate([s.batch for s in samples]),
        torch.cat([s.values for s in samples]),
        torch.cat([s.slopes for s in samples]),
    )


class DescriptorModel(torch.nn.Module):
    """Energies of batches of structures; descriptors are standardised on the training data."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, config: DescriptorConfig):
        super().__init__()
        self.config = config
        n_elements = len(config.elements)
        n_pairs = n_elements * (n_elements + 1) // 2
        n = n_elements * config.n_radial
        n += n_pairs * config.n_widths * 2 * len(config.zetas)
        self.register_buffer("mean", torch.zeros(n_elements, n))
        self.register_buffer("deviation", torch.ones(n_elements, n))
        self.networks = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(n, config.hidden),
                torch.nn.SiLU(),
                torch.nn.Linear(config.hidden, config.hidden),
                torch.nn.SiLU(),
                torch.nn.Linear(config.hidden, 1),
            )
            for _ in config.elements
        )
        self.scale = 1.0

    def standardise(self, samples: Sequence[Described]) -> None:
        """Set mean and deviation of every descriptor of every element from training data."""
        values = torch.cat([s.values for s in samples])
        species = torch.cat([s.batch.species for s in samples])
        for element in range(len(self.config.elements)):
            own = values[species == element]
            self.mean[element] = own.mean(0)
            # descriptors that hardly vary carry rounding, not information
            self.deviation[element] = own.std(0).clamp(min=1e-3 * float(own.std(0).max()))

    def forward(self, sample: Described) -> tuple[torch.Tensor, torch.Tensor]:
        """Return energies ``[S]`` (eV, up to a constant per structure) and forces ``[N, 3]``."""
        batch = sample.batch
        values = sample.values.requires_grad_(True)
        scaled = (values - self.mean[batch.species]) / self.deviation[batch.species]
        energies = torch.zeros_like(values[:, 0])
        for element, network in enumerate(self.networks):
            own = torch.nonzero(batch.species == element).squeeze(1)
            energies = energies.index_add(0, own, network(scaled[own]).squeeze(1))
        total = torch.zeros(batch.n_structures, dtype=energies.dtype)
        total = self.scale * total.index_add(0, batch.structure, energies)
        (by_values,) = torch.autograd.grad(total.sum(), values, create_graph=self.training)
        receiver, sender = batch.edge_index[0], batch.edge_index[1]
        by_edges = torch.einsum("ed,edx->ex", by_values.index_select(0, receiver), sample.slopes)
        forces = torch.zeros(len(values), 3, dtype=energies.dtype)
        return total, forces.index_add(0, receiver, by_edges).index_add(0, sender, -by_edges)


def vectors_of(batch: Batch) -> torch.Tensor:
    """Edge vectors ``[E, 3]`` in float32, angstrom."""
    receiver, sender = batch.edge_index[0], batch.edge_index[1]
    cells = batch.cells.index_select(0, batch.structure.index_select(0, receiver))
    shift = torch.bmm(batch.edge_shifts.unsqueeze(1), cells).squeeze(1)
    positions = batch.positions
    difference = positions.index_select(0, sender) - positions.index_select(0, receiver)
    return (difference + shift).float()


def train_descriptors(
    config: DescriptorConfig,
    samples: Sequence[Described],
    rms_of_forces: float,
    steps: int,
    batch_size: int,
    learning_rate: float,
    energy_weight: float = 10.0,
    seed: int = 0,
) -> DescriptorModel:
    """Train on energies and forces of structures (what Coulomb leaves over, if it is taken off).

    The loss is that of `equicalc.train`: mean squared error of forces plus `energy_weight` times
    that of the energy per atom. `seed`: of the first weights and the order of the structures.
    """
    torch.manual_seed(seed)
    model = DescriptorModel(config)
    model.standardise(samples)
    model.scale = rms_of_forces
    offset = float(np.mean([float(s.batch.energy) / len(s.values) for s in samples]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.01 * learning_rate)
    rng, order = np.random.default_rng(seed), np.zeros(0, int)
    start = time.perf_counter()
    for _ in range(steps):
        if len(order) < batch_size:
            order = np.concatenate([order, rng.permutation(len(samples))])
        chosen, order = order[:batch_size], order[batch_size:]
        both = join([samples[i] for i in chosen])
        batch = both.batch
        energies, forces = model(both)
        error = (energies - batch.energy) / batch.n_atoms + offset
        loss = energy_weight * error.square().mean() + (forces - batch.forces).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"  trained descriptors in {time.perf_counter() - start:.0f} s", flush=True)
    return model.eval()


def force_error(model: DescriptorModel, samples: Sequence[Described]) -> float:
    """Root mean square error of force components, eV/angstrom."""
    squares = [(model(s)[1] - s.batch.forces).square().mean() for s in samples]
    return float(torch.stack(squares).mean().sqrt())
