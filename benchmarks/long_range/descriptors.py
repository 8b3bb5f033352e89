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
from equicalc.data.statistics import rms_force
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
    zetas : sequence of float
        Sharpness of the angular functions, each with lambda = 1 and -1.
    hidden : int
        Width of the two hidden layers of each element's network.
    """

    elements: Sequence[str]
    cutoff: float = 5.0
    n_radial: int = 10
    n_widths: int = 3
    zetas: Sequence[float] = (1.0, 4.0, 16.0)
    hidden: int = 32


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


class DescriptorModel(torch.nn.Module):
    """Energies of batches of structures; descriptors are standardised on the training data."""

    centres: torch.Tensor
    widths: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, config: DescriptorConfig):
        super().__init__()
        self.config = config
        self.n_elements = len(config.elements)
        self.register_buffer("centres", torch.linspace(1.5, config.cutoff, config.n_radial))
        widths = 2.0 / torch.linspace(2.0, config.cutoff, config.n_widths).square()
        self.register_buffer("widths", widths)
        n_pairs = self.n_elements * (self.n_elements + 1) // 2
        n = self.n_elements * config.n_radial
        n += n_pairs * config.n_widths * 2 * len(config.zetas)
        self.register_buffer("mean", torch.zeros(self.n_elements, n))
        self.register_buffer("deviation", torch.ones(self.n_elements, n))
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

    def descriptors(self, batch: Batch, triplets: torch.Tensor, vectors: torch.Tensor):
        """Return the descriptors ``[N, D]`` for edge vectors ``[E, 3]``."""
        config, n = self.config, batch.species.shape[0]
        receiver, sender = batch.edge_index[0], batch.edge_index[1]
        distance = torch.linalg.vector_norm(vectors, dim=1)
        smooth = 0.5 + 0.5 * torch.cos(math.pi * distance / config.cutoff)
        kind = batch.species.index_select(0, sender)

        spacing = (config.cutoff - 1.5) / (config.n_radial - 1)
        radial = torch.exp(-(((distance[:, None] - self.centres) / spacing) ** 2))
        radial = radial * smooth[:, None]
        flat = torch.zeros(n * self.n_elements, config.n_radial, dtype=radial.dtype)
        flat = flat.index_add(0, receiver * self.n_elements + kind, radial)

        first, second = triplets[0], triplets[1]
        a, b = vectors.index_select(0, first), vectors.index_select(0, second)
        ra, rb = distance.index_select(0, first), distance.index_select(0, second)
        cosine = (a * b).sum(1) / (ra * rb)
        both = smooth.index_select(0, first) * smooth.index_select(0, second)
        decay = torch.exp(-(ra.square() + rb.square())[:, None] * self.widths) * both[:, None]
        angles = torch.cat(
            [
                2.0 * (0.5 * (1.0 + sign * cosine[:, None])).clamp(min=1e-6) ** zeta
                for zeta in config.zetas
                for sign in (1.0, -1.0)
            ],
            dim=1,
        )
        angular = (decay[:, :, None] * angles[:, None]).flatten(1)
        low = torch.minimum(kind[first], kind[second])
        high = torch.maximum(kind[first], kind[second])
        pair = high * (high + 1) // 2 + low
        n_pairs = self.n_elements * (self.n_elements + 1) // 2
        flat_pairs = torch.zeros(n * n_pairs, angular.shape[1], dtype=angular.dtype)
        flat_pairs = flat_pairs.index_add(0, receiver[first] * n_pairs + pair, angular)
        return torch.cat([flat.reshape(n, -1), flat_pairs.reshape(n, -1)], dim=1)

    def standardise(self, batches: Sequence[tuple[Batch, torch.Tensor]]) -> None:
        """Set mean and deviation of every descriptor of every element from training batches."""
        with torch.no_grad():
            values = torch.cat([self.descriptors(b, t, vectors_of(b)) for b, t in batches])
            species = torch.cat([b.species for b, _ in batches])
            for element in range(self.n_elements):
                own = values[species == element]
                self.mean[element] = own.mean(0)
                # descriptors that hardly vary carry rounding, not information
                self.deviation[element] = own.std(0).clamp(min=1e-3 * float(own.std(0).max()))

    def forward(self, batch: Batch, triplets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return energies ``[S]`` (eV, up to a constant per structure) and forces ``[N, 3]``."""
        positions = batch.positions.detach().requires_grad_(True)
        vectors = vectors_of(batch, positions)
        values = self.descriptors(batch, triplets, vectors)
        values = (values - self.mean[batch.species]) / self.deviation[batch.species]
        energies = torch.zeros_like(values[:, 0])
        for element, network in enumerate(self.networks):
            own = torch.nonzero(batch.species == element).squeeze(1)
            energies = energies.index_add(0, own, network(values[own]).squeeze(1))
        total = torch.zeros(batch.n_structures, dtype=energies.dtype)
        total = self.scale * total.index_add(0, batch.structure, energies)
        (gradient,) = torch.autograd.grad(total.sum(), positions, create_graph=self.training)
        return total, -gradient


def vectors_of(batch: Batch, positions: torch.Tensor | None = None) -> torch.Tensor:
    """Edge vectors ``[E, 3]`` in float32, angstrom."""
    positions = batch.positions if positions is None else positions
    receiver, sender = batch.edge_index[0], batch.edge_index[1]
    cells = batch.cells.index_select(0, batch.structure.index_select(0, receiver))
    shift = torch.bmm(batch.edge_shifts.unsqueeze(1), cells).squeeze(1)
    difference = positions.index_select(0, sender) - positions.index_select(0, receiver)
    return (difference + shift).float()


def with_triplets(
    structures: Sequence[Structure], config: DescriptorConfig
) -> list[tuple[Batch, torch.Tensor]]:
    """Graphs of structures and their pairs of edges."""
    samples = [make_sample(s, config.elements, config.cutoff) for s in structures]
    return [(sample, triplets_of(sample.edge_index)) for sample in samples]


def join(samples: Sequence[tuple[Batch, torch.Tensor]]) -> tuple[Batch, torch.Tensor]:
    """Join graphs with their pairs of edges."""
    offsets = np.cumsum([0] + [batch.edge_index.shape[1] for batch, _ in samples])
    triplets = [t + int(o) for (_, t), o in zip(samples, offsets, strict=False)]
    return collate([batch for batch, _ in samples]), torch.cat(triplets, dim=1)


def train_descriptors(
    config: DescriptorConfig,
    training: Sequence[Structure],
    steps: int,
    batch_size: int,
    learning_rate: float,
    energy_weight: float = 10.0,
    seed: int = 0,
) -> DescriptorModel:
    """Train on energies and forces of `training` (what Coulomb leaves over, if it is taken off).

    The loss is that of `equicalc.train`: mean squared error of forces plus `energy_weight` times
    that of the energy per atom. `seed`: of the first weights and the order of the structures.
    """
    torch.manual_seed(seed)
    samples = with_triplets(training, config)
    model = DescriptorModel(config)
    model.standardise(samples)
    model.scale = rms_force(training)
    offset = float(np.mean([s.energy / len(s) for s in training]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.01 * learning_rate)
    rng, order = np.random.default_rng(seed), np.zeros(0, int)
    start = time.perf_counter()
    for _ in range(steps):
        if len(order) < batch_size:
            order = np.concatenate([order, rng.permutation(len(samples))])
        chosen, order = order[:batch_size], order[batch_size:]
        batch, triplets = join([samples[i] for i in chosen])
        energies, forces = model(batch, triplets)
        error = (energies - batch.energy) / batch.n_atoms + offset
        loss = energy_weight * error.square().mean() + (forces - batch.forces).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"  trained descriptors in {time.perf_counter() - start:.0f} s", flush=True)
    return model.eval()


def force_error(model: DescriptorModel, structures: Sequence[Structure]) -> float:
    """Root mean square error of force components, eV/angstrom."""
    squares = [
        (model(batch, triplets)[1] - batch.forces).square().mean()
        for batch, triplets in with_triplets(structures, model.config)
    ]
    return float(torch.stack(squares).mean().sqrt())
