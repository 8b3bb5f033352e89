"""Seconds per epoch of training: ``OMP_NUM_THREADS=1 python -m benchmarks.speed.training``.

The same network on the same structures three times: through the operators of csrc, through torch
expressions (their oracle), and made of e3nn's modules. Gradients of the loss are compared in
float64 before anything is measured. Times are processor time of one thread, which other programs
on the machine disturb least; whole steps count, from joining structures to averaging weights.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.common import markdown_table, processor, quartiles, write_text
from benchmarks.speed.e3nn_modules import E3nnNetwork
from equicalc.data.batch import Batch, collate, make_sample
from equicalc.data.selection import elements_of
from equicalc.nn import EquiNetwork
from equicalc.train import loss
from equicalc.train.config import load_config
from equicalc.train.pipeline import load_data
from equicalc.train.potential import Potential
from equicalc.train.settings import Config
from equicalc.train.start import make_network
from equicalc.train.team import Team
from equicalc.train.trainer import Trainer

KCL = Path(__file__).resolve().parents[2] / "examples" / "train_kcl.yaml"
GRADIENT_TOLERANCE = 1e-9  # float64, relative to the largest element


@dataclass
class Case:
    """A network, and how many structures of KCl an epoch of it has (0: all)."""

    name: str
    structures: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("examples/train_kcl.yaml: 1 layer, 96 channels, correlation 4, fixed charges", 24),
    Case(
        "default: 2 layers, 64 channels, correlation 3, predicted charges",
        8,
        {"model": {"cutoff": 5.0}},
    ),
)


def fused(network: EquiNetwork) -> EquiNetwork:
    """Return a copy that goes through the operators of csrc."""
    network = copy.deepcopy(network)
    network.set_fused(True)
    return network


def expressions(network: EquiNetwork) -> EquiNetwork:
    """Return a copy that goes through torch expressions."""
    network = copy.deepcopy(network)
    network.set_fused(False)
    return network


VARIANTS: dict[str, Callable[[EquiNetwork], EquiNetwork]] = {
    "equicalc": fused,
    "torch expressions": expressions,
    "e3nn modules": E3nnNetwork,
}


def setting(case: Case) -> tuple[Config, EquiNetwork, list[Batch]]:
    """Return configuration, network and training structures of a case."""
    config = load_config(KCL)
    if "model" in case.overrides:
        config.model = type(config.model)(**case.overrides["model"])
    training, _ = load_data(config)
    training = training[: case.structures or None]
    elements = elements_of(training)
    config.model.elements = list(config.model.network(elements).elements)
    cutoff = config.model.network(elements).cutoff
    samples = [make_sample(structure, elements, cutoff) for structure in training]
    network = make_network(config, training, samples, torch.device("cpu"), fresh=True)
    return config, network, samples


def outputs_and_gradients(
    config: Config, network: EquiNetwork, samples: list[Batch]
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Energies, forces, and gradients of the loss by parameters, float64, for one batch."""
    potential = Potential(network.double())
    batch = collate(samples)
    prediction = potential(batch, create_graph=True, need_stress=False)
    sums = loss.sums(prediction, batch, config.loss.shape())
    loss.total(sums, loss.counts(batch), config.loss.weights(1.0)).backward()
    named = {n: p.grad for n, p in potential.network.named_parameters() if p.grad is not None}
    return prediction.energy.detach(), prediction.forces.detach(), named


def check(config: Config, network: EquiNetwork, samples: list[Batch]) -> None:
    """Raise RuntimeError unless all variants are one function with one gradient of the loss."""
    # the same weights with constants that were never rounded to float32
    exact = EquiNetwork(network.config)
    rounded = {k: v for k, v in network.state_dict().items() if not k.endswith("frequencies")}
    exact.load_state_dict(exact.state_dict() | rounded)
    reference = outputs_and_gradients(config, expressions(exact), samples)
    for name, make in VARIANTS.items():
        found = outputs_and_gradients(config, make(copy.deepcopy(exact)), samples)
        pairs = list(zip(found[:2], reference[:2], strict=True))
        # e3nn keeps some of the same parameters in other shapes and scales
        pairs += [(g, reference[2][n]) for n, g in found[2].items() if n in reference[2]]
        if name != "e3nn modules" and found[2].keys() != reference[2].keys():
            raise RuntimeError(f"{name}: other parameters have gradients")
        for a, b in pairs:
            if (a - b).abs().max() > GRADIENT_TOLERANCE * max(1.0, float(b.abs().max())):
                raise RuntimeError(f"{name}: deviates by {float((a - b).abs().max()):.2g}")


def epochs(config: Config, network: EquiNetwork, samples: list[Batch], count: int) -> list[float]:
    """Return processor seconds of epochs, after a first one that is not counted."""
    trainer = Trainer(config, Potential(network), samples, [], Team(), {})
    seconds = []
    for _ in range(count + 1):
        start = time.process_time()
        trainer.train_epoch()
        seconds.append(time.process_time() - start)
        trainer.epoch += 1
    return seconds[1:]


def rows_of(case: Case, count: int) -> list[list[str]]:
    """Return the lines of the table for one network."""
    config, network, samples = setting(case)
    check(config, network, samples[:2])
    medians: dict[str, tuple[float, float, float]] = {}
    for name, make in VARIANTS.items():
        medians[name] = quartiles(epochs(config, make(network), samples, count))
    own = medians["equicalc"][1]
    return [
        [
            case.name,
            str(len(samples)),
            name,
            f"{middle:.2f} ({low:.2f} to {high:.2f})",
            f"{1000.0 * middle / len(samples):.1f}",
            "" if name == "equicalc" else f"{middle / own:.1f}",
        ]
        for name, (low, middle, high) in medians.items()
    ]


def main() -> None:
    """Measure and write benchmarks/results/speed/training.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for case in CASES for row in rows_of(case, arguments.epochs)]
    header = ["network", "structures", "through", "seconds per epoch (quartiles)"]
    header += ["ms per structure", "equicalc is faster by"]
    lines = [
        "# Training",
        "",
        "KCl, 64 atoms and about 1150 edges per structure, two structures in a step, float32; loss "
        f"of energies and forces. Processor time of one thread of {processor()}, torch "
        f"{torch.__version__}; median of {arguments.epochs} epochs after the first. Made by "
        "`OMP_NUM_THREADS=1 python -m benchmarks.speed.training`.",
        "",
        markdown_table(header, rows),
        "",
        "All three are the same function: energies, forces and gradients of the loss agree in "
        "float64 before they are measured.",
    ]
    print("\n".join(lines))
    write_text("training", "\n".join(lines))


if __name__ == "__main__":
    main()
