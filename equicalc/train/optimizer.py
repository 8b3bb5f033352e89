"""AdamW's parameter groups, the learning-rate schedule, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from equicalc.train.settings import TrainingSection


def make_optimizer(network: torch.nn.Module, settings: TrainingSection) -> torch.optim.AdamW:
    """AdamW in which only weight matrices decay.

    Biases, shifts and numbers per element carry physical offsets (reference energies, nominal
    charges), which decay would pull towards zero.
    """
    decaying: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in network.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        is_offset = parameter.dim() < 2 or "bias" in leaf or "nominal" in leaf
        (free if is_offset else decaying).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    first, second = settings.betas
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(first, second), fused=True)


def learning_rate(settings: TrainingSection, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step (0 is the first): linear warm-up, then half a cosine."""
    warmup = settings.warmup_epochs * steps_per_epoch
    total = settings.max_epochs * steps_per_epoch
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    part = min((step - warmup) / max(total - warmup, 1.0), 1.0)
    low = settings.final_learning_rate
    return settings.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * part)))


class AveragedWeights:
    """Exponential moving average of the parameters of a module.

    The first steps average over less, decay = min(decay, (1 + n) / (10 + n)), so that random
    initial weights are forgotten quickly.

    Parameters
    ----------
    module : torch.nn.Module
        Its parameters now are the first average.
    decay : float
        0 switches averaging off.
    """

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay = decay
        self.n_updates = 0
        self.names = [name for name, _ in module.named_parameters()]
        self.average = [p.detach().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Take in the parameters after a step."""
        self.n_updates += 1
        decay = min(self.decay, (1.0 + self.n_updates) / (10.0 + self.n_updates))
        if self.decay == 0.0:
            decay = 0.0
        torch._foreach_lerp_(self.average, list(module.parameters()), 1.0 - decay)

    @contextmanager
    def applied_to(self, module: torch.nn.Module) -> Iterator[None]:
        """Give the module the averaged weights, and its own back at the end."""
        parameters = list(module.parameters())
        own = [p.detach().clone() for p in parameters]
        try:
            self._copy(parameters, self.average)
            yield
        finally:
            self._copy(parameters, own)

    @staticmethod
    @torch.no_grad()
    def _copy(parameters: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, object]:
        """Plain data and tensors for a checkpoint."""
        return {
            "n_updates": self.n_updates,
            "average": dict(zip(self.names, self.average, strict=True)),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over what `state_dict` gave."""
        self.n_updates = int(state["n_updates"])  # type: ignore[call-overload]
        stored: dict[str, torch.Tensor] = state["average"]  # type: ignore[assignment]
        for name, average in zip(self.names, self.average, strict=True):
            average.copy_(stored[name])
