"""Force error against the number of training structures, for degrees 0, 1, 2 and descriptors.

    python -m benchmarks.long_range.learning_curves --workers 2

Networks with features up to degree 0, 1 and 2, and the invariant descriptor model of
`benchmarks.long_range.descriptors`, all of about the same number of parameters, with the same steps
and the same Coulomb energy of the same fixed charges; every training is repeated with other first
weights, other training structures and another order of them. The validation structures are the
same for all. Quartz takes about an hour and a half on one core; ``--data nacl`` are the salt and
its melt.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import multiprocessing
from collections.abc import Callable

import ase.io
import numpy as np
import torch
from ase import Atoms
from matplotlib.figure import Figure

from benchmarks.long_range.common import (
    DATA,
    folder_of,
    markdown_table,
    options_of,
    publish,
    train_model,
)
from benchmarks.long_range.descriptors import (
    Described,
    DescriptorConfig,
    DescriptorModel,
    describe,
    force_error,
    train_descriptors,
)
from equicalc import plots
from equicalc.data.structures import from_atoms
from equicalc.electrostatics import solve
from equicalc.evaluate import evaluate
from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.train import load_best

# File, what it is, and charges, e: those of the shipped models
DATASETS = {
    "sio2": (
        "sio2_72.xyz.gz",
        "Quartz, 72 atoms, MD at 300 and 600 K, PBE",
        {"O": -1.29, "Si": 2.58},
    ),
    "nacl": (
        "nakcl_7net0_64.xyz",
        "NaCl, solid and molten, 64 atoms, 100 to 2200 K, labels of SevenNet-0",
        {"Na": 0.69, "Cl": -0.69},
    ),
}
SIGMA = 1.0
SHAPE = {"cutoff": 4.5, "readout_hidden": 32, "charge_model": "fixed", "sigma": SIGMA}
BATCH, LEARNING_RATE = 2, 1e-2
SIZES = (5, 10, 20, 40, 80)
N_VALIDATION = 20
REFERENCE = (2, 24)  # degree and channels of the network that all others are as large as
DESCRIPTORS = "symmetry functions"


@dataclasses.dataclass(frozen=True)
class Task:
    """One training."""

    data: str
    model: str
    size: int
    seed: int
    steps: int


def parameters_of(module: torch.nn.Module) -> int:
    """Trained parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def network_parameters(elements: list[str], l_max: int, channels: int) -> int:
    """Trained parameters of a network."""
    config = NetworkConfig(elements=elements, l_max=l_max, channels=channels, **SHAPE)
    return parameters_of(EquiNetwork(config))


def nearest(count: Callable[[int], int], target: int) -> int:
    """Width, of the even ones, with which there are about `target` parameters."""
    return min(range(4, 129, 2), key=lambda width: abs(count(width) - target))


@functools.cache
def models_of(data: str) -> dict[str, tuple[int, int]]:
    """Name of every model -> its degree (-1: descriptors) and width."""
    elements = list(DATASETS[data][2])
    target = network_parameters(elements, *REFERENCE)
    models = {}
    for l_max in (0, 1, 2):
        count = functools.partial(network_parameters, elements, l_max)
        channels = nearest(count, target)
        models[f"l_max {l_max}, {channels} channels, {count(channels)} parameters"] = (
            l_max,
            channels,
        )

    def described(width: int) -> int:
        return parameters_of(DescriptorModel(descriptors(data, width)))

    width = nearest(described, target)
    models[f"{DESCRIPTORS}, {described(width)} parameters"] = (-1, width)
    return models


def descriptors(data: str, hidden: int) -> DescriptorConfig:
    """Shape of the descriptor model."""
    return DescriptorConfig(list(DATASETS[data][2]), cutoff=SHAPE["cutoff"], hidden=hidden)


@functools.cache
def frames_of(data: str) -> list[Atoms]:
    """All structures of a set."""
    file, _, charges = DATASETS[data]
    return [f for f in ase.io.read(DATA / file, ":") if set(f.symbols) == set(charges)]


def split_of(task: Task) -> tuple[list[int], list[int]]:
    """Indices of the structures for training and validation; smaller sets are part of larger."""
    order = np.random.default_rng(11).permutation(len(frames_of(task.data)))
    pool = np.random.default_rng(task.seed).permutation(order[N_VALIDATION:])
    return pool[: task.size].tolist(), order[:N_VALIDATION].tolist()


def structures_of(task: Task) -> tuple[list[Atoms], list[Atoms]]:
    """Training and validation structures."""
    frames = frames_of(task.data)
    training, validation = split_of(task)
    return [frames[i] for i in training], [frames[i] for i in validation]


@functools.cache
def described(data: str, index: int) -> Described:
    """Descriptors of a structure, with energy and forces of the fixed charges taken off."""
    charges = DATASETS[data][2]
    (s,) = from_atoms([frames_of(data)[index]])
    coulomb = solve([charges[e] for e in s.symbols], s.positions, s.cell, s.pbc, SIGMA)
    rest = dataclasses.replace(
        s, energy=s.energy - coulomb.energy, forces=s.forces - coulomb.forces
    )
    return describe(rest, descriptors(data, 1))


def network_error(task: Task, l_max: int, channels: int) -> float:
    """Train a network; returns its force error on the validation structures, meV/angstrom."""
    charges = DATASETS[task.data][2]
    epochs = max(round(task.steps * BATCH / task.size), 1)
    training, validation = structures_of(task)
    directory = train_model(
        folder_of("learning_curves"),
        f"{task.data}_l{l_max}_{task.size}_{task.seed}",
        {
            "model": {
                "elements": list(charges), "l_max": l_max, "channels": channels,
                "initial_charges": charges, **SHAPE,
            },
            "loss": {"energy": 10, "forces": 1, "stress": 0},
            "training": {
                "seed": task.seed,
                "max_epochs": epochs,
                "batch_size": BATCH,
                "learning_rate": LEARNING_RATE,
                "final_learning_rate": 0.01,
                "validate_every": max(epochs // 5, 1),
                "checkpoint_every": epochs,
                "weight_decay": 1e-6,
                "warmup_epochs": 0.02 * epochs,
            },
        },
        training,
        validation,
    )  # fmt: skip
    return float(evaluate(load_best(directory), validation)["forces_rmse_meV_per_A"])


def descriptor_error(task: Task, hidden: int) -> float:
    """Train the descriptor model; returns its force error, meV/angstrom."""
    training, validation = ([described(task.data, i) for i in part] for part in split_of(task))
    config = descriptors(task.data, hidden)
    forces = torch.cat([s.batch.forces for s in training])
    rms = float(forces.square().mean().sqrt())
    model = train_descriptors(
        config, training, rms, task.steps, BATCH, LEARNING_RATE, seed=task.seed
    )
    return 1000.0 * force_error(model, validation)


def error_of(task: Task) -> float:
    """Train what a task asks for; returns its force error, meV/angstrom."""
    torch.set_num_threads(1)
    degree, width = models_of(task.data)[task.model]
    return descriptor_error(task, width) if degree < 0 else network_error(task, degree, width)


def main() -> int:
    """Run all trainings; the page is written when a repetition is complete."""
    options = options_of(
        __doc__,
        [
            ("--steps", {"type": int, "default": 2400, "help": "steps of every training"}),
            ("--seeds", {"type": int, "default": 3, "help": "repetitions of every training"}),
            ("--workers", {"type": int, "default": 1, "help": "trainings at a time"}),
            ("--data", {"default": "sio2", "choices": list(DATASETS)}),
        ],
    )
    sizes, steps, n_seeds = SIZES, options.steps, options.seeds
    if options.quick:
        sizes, steps, n_seeds = (5, 10), 20, 2
    tasks = [
        Task(options.data, model, size, seed, steps)
        for seed in range(n_seeds)
        for model in reversed(models_of(options.data))
        for size in sizes
    ]
    errors: dict[Task, float] = {}
    context = multiprocessing.get_context("spawn")  # forks of a process with threads may hang
    with concurrent.futures.ProcessPoolExecutor(options.workers, context) as pool:
        futures = {pool.submit(error_of, task): task for task in tasks}
        for future in concurrent.futures.as_completed(futures):
            task = futures[future]
            errors[task] = future.result()
            print(
                f"[{len(errors)}/{len(tasks)}] {task.model}, {task.size} structures, "
                f"seed {task.seed}: {errors[task]:.1f} meV/Å",
                flush=True,
            )
            seeds = {s for s in range(n_seeds) if all(t in errors for t in tasks if t.seed == s)}
            if task.seed in seeds:
                write({t: e for t, e in errors.items() if t.seed in seeds}, len(seeds), options)
    return 0


def write(errors: dict[Task, float], n_seeds: int, options) -> None:
    """Write table and picture."""
    sizes = sorted({task.size for task in errors})
    found = {
        model: [[errors[t] for t in errors if (t.model, t.size) == (model, size)] for size in sizes]
        for model in models_of(options.data)
    }
    first = next(iter(errors))
    forces = [f.get_forces().ravel() for f in structures_of(first)[1]]
    rms = 1000.0 * np.sqrt(np.square(np.concatenate(forces)).mean())
    _, what, charges = DATASETS[options.data]
    rows = [
        [model, *(f"{np.mean(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in values)]
        for model, values in found.items()
    ]
    text = (
        "# Force error against training structures\n\n"
        f"{what}; root mean square error of forces (meV/Å) of {N_VALIDATION} validation "
        f"structures, whose forces have {rms:.0f} meV/Å: mean (and range) of {n_seeds} trainings "
        f"with other structures and first weights. {first.steps} steps of {BATCH} structures "
        f"each, cutoff {SHAPE['cutoff']:g} Å, the same fixed charges ("
        + ", ".join(f"{element} {charge:+g} e" for element, charge in charges.items())
        + ") for all.\n\n"
        + markdown_table(["model", *(f"{size} structures" for size in sizes)], rows)
    )
    name = "learning_curves" + ("" if options.data == "sio2" else f"_{options.data}")
    publish(name, text, draw(found, sizes), options.quick)


def draw(errors: dict[str, list[list[float]]], sizes: list[int]) -> Figure:
    """Means and ranges of errors on logarithmic axes."""
    figure, axes = plots.new_figure(1, 1, (5.6, 4.4))
    axis = axes[0, 0]
    for number, (name, values) in enumerate(errors.items()):
        means = np.array([np.mean(v) for v in values])
        spread = [
            means - [min(v) for v in values],
            np.array([max(v) for v in values]) - means,
        ]
        axis.errorbar(
            sizes, means, spread, fmt="o" + plots.LINE_STYLES[number], ms=4, capsize=3,
            color=plots.COLOURS[number], label=name,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    low, high = axis.get_ylim()
    ticks = [t for t in (5, 10, 20, 50, 100, 200, 500) if low <= t <= high]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_xlabel("training structures")
    axis.set_ylabel("force error (meV/Å)")
    figure.legend(loc="outside upper center", fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
