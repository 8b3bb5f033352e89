"""The loop: steps, validation, checkpoints, early stopping; on one device or several."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from equicalc.data.batch import Batch, collate, without_labels
from equicalc.errors import EquicalcError, InterruptedRunError
from equicalc.train import checkpoint, loss
from equicalc.train.optimizer import AveragedWeights, learning_rate, make_optimizer
from equicalc.train.potential import Potential
from equicalc.train.settings import Config
from equicalc.train.team import Team

# Columns of log.csv. Errors are root mean squares over all values; losses as configured.
COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "validation_loss",
    "train_energy_rmse_meV_per_atom",
    "train_forces_rmse_meV_per_A",
    "energy_rmse_meV_per_atom",
    "forces_rmse_meV_per_A",
    "stress_rmse_meV_per_A3",
    "seconds",
)


def log_columns(elements: Sequence[str]) -> list[str]:
    """Columns of ``log.csv``: losses and errors, then the mean charge of each element."""
    return [*COLUMNS, *(f"charge_{element}_e" for element in elements)]


class TrainingError(EquicalcError):
    """Training cannot go on; the last checkpoint is kept."""


class TrainingInterrupted(InterruptedRunError):
    """The user stopped the run; the last complete epoch is kept."""


class Trainer:
    """One run.

    Parameters
    ----------
    config : Config
        Settings.
    potential : Potential
        On its device, with its statistics.
    training, validation : sequence of Batch
        All structures, on the device.
    team : Team
        Which part of each batch is this process's.
    weights_header : dict
        What goes into ``best.pt`` beside the weights.
    """

    def __init__(
        self,
        config: Config,
        potential: Potential,
        training: Sequence[Batch],
        validation: Sequence[Batch],
        team: Team,
        weights_header: dict[str, Any],
    ):
        self.config = config
        self.potential = potential
        self.training = training
        self.team = team
        self.header = weights_header
        self.directory = Path(config.run.directory or ".")
        self.device = potential.network.energy_scale.device
        settings = config.training
        self.optimizer = make_optimizer(potential.network, settings)
        self.average = AveragedWeights(potential.network, settings.ema_decay)
        self.shape = config.loss.shape()
        final = config.loss.final_weights()
        initial = config.loss.initial_weights()
        has_stress = any(bool(sample.has_stress.any()) for sample in training)
        self.need_stress = max(final.stress, initial.stress) > 0.0 and has_stress
        self.need_born = max(final.born, initial.born) > 0.0
        self.counts = [loss.counts(sample) for sample in training]
        self.steps_per_epoch = math.ceil(len(training) / settings.batch_size)
        self.validation = self._fixed_batches(validation)
        self.epoch = 0
        self.last_saved = 0
        self.best_loss = math.inf
        self.best_epoch = 0
        self.seconds = 0.0
        self.last_row: dict[str, Any] = {}
        self.module: torch.nn.Module = potential
        if team.size > 1:
            ids = [self.device] if self.device.type == "cuda" else None
            self.module = torch.nn.parallel.DistributedDataParallel(potential, device_ids=ids)

    def _fixed_batches(self, samples: Sequence[Batch]) -> list[Batch]:
        """This process's validation structures in batches."""
        mine = list(samples)[self.team.rank :: self.team.size]
        size = self.config.training.batch_size
        return [collate(mine[i : i + size]) for i in range(0, len(mine), size)]

    def batch_of_step(self, order: list[int], step: int) -> tuple[Batch, torch.Tensor]:
        """This process's part of a global batch, and the counts of the global one.

        Every process computes the counts from the list of structures, so that means are over the
        global batch without asking the others. A process without a structure takes one
        without labels: it must take part in the sum of gradients.
        """
        size = self.config.training.batch_size
        chosen = order[step * size : (step + 1) * size]
        counts = torch.stack([self.counts[i] for i in chosen]).sum(0)
        mine = chosen[self.team.rank :: self.team.size]
        if mine:
            return collate([self.training[i] for i in mine]), counts
        return without_labels(self.training[chosen[0]]), counts

    def order(self, epoch: int) -> list[int]:
        """Order of the training structures in an epoch: depends on seed and epoch only."""
        generator = torch.Generator().manual_seed(self.config.training.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.training), generator=generator).tolist()

    def train_epoch(self) -> dict[str, float]:
        """One pass over the data; returns errors of the training structures on the way."""
        epoch = self.epoch
        settings = self.config.training
        weights = self.config.loss.weights(epoch / settings.max_epochs)
        order = self.order(epoch)
        totals = torch.zeros(3, len(loss.TERMS), dtype=torch.float64, device=self.device)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        rate = 0.0
        for step in range(self.steps_per_epoch):
            batch, counts = self.batch_of_step(order, step)
            rate = learning_rate(
                settings, epoch * self.steps_per_epoch + step, self.steps_per_epoch
            )
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            try:
                prediction = self.module(
                    batch, create_graph=True, need_stress=self.need_stress, need_born=self.need_born
                )
            # The Coulomb sum refuses charges that are not numbers.
            except ValueError as error:
                raise self._failure(str(error), order, step) from error
            term_sums = loss.sums(prediction, batch, self.shape)
            value = loss.total(term_sums, counts, weights)
            self.optimizer.zero_grad(set_to_none=True)
            parameters = [p for p in self.potential.parameters() if p.requires_grad]
            objective = value
            if self.team.size > 1:
                # torch averages gradients over processes, the loss is a sum over them; and it waits
                # for a gradient of every parameter, also of those that this loss does not feel.
                nothing = torch.stack([p.sum() for p in parameters]).sum() * 0.0
                objective = value * self.team.size + nothing
            # not by positions as well, of which the forces are made
            objective.backward(inputs=parameters)
            limit = settings.gradient_clip or math.inf
            norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
            self._check(value, norm, order, step)
            self.optimizer.step()
            self.potential.network.constrain()
            self.average.update(self.potential.network)
            loss_sum += value.detach()
            totals += error_sums(prediction, batch)
        self.team.add_up(totals)
        self.team.add_up(loss_sum)
        rmse = root_mean_squares(totals)
        return {
            "learning_rate": rate,
            "train_loss": float(loss_sum) / self.steps_per_epoch,
            "train_energy_rmse_meV_per_atom": 1000.0 * rmse["energy"],
            "train_forces_rmse_meV_per_A": 1000.0 * rmse["forces"],
        }

    def _check(self, value: torch.Tensor, norm: torch.Tensor, order: list[int], step: int) -> None:
        """Raise TrainingError when the loss or its gradient is not a number."""
        if not (math.isfinite(float(value.detach())) and math.isfinite(float(norm))):
            problem = f"the loss is {float(value.detach())} and its gradient norm {float(norm)}"
            raise self._failure(problem, order, step)

    def _failure(self, problem: str, order: list[int], step: int) -> TrainingError:
        """Error that says where, what is kept, and what to change."""
        size = self.config.training.batch_size
        kept = (
            f"the checkpoint of epoch {self.last_saved} in '{self.directory}' is kept"
            if self.last_saved
            else "no checkpoint was written yet"
        )
        return TrainingError(
            f"{problem} in epoch {self.epoch + 1}, step {step + 1} (training structures "
            f"{order[step * size : (step + 1) * size]}); {kept}. Lower training.learning_rate, set "
            "loss.huber_forces or leave out extreme structures with data.max_force"
        )

    def validate(self) -> dict[str, float]:
        """Loss (with the final weights) and errors of the averaged network on validation data."""
        terms = torch.zeros(2, len(loss.TERMS), dtype=torch.float64, device=self.device)
        totals = torch.zeros(3, len(loss.TERMS), dtype=torch.float64, device=self.device)
        elements = self.potential.elements
        charges = torch.zeros(2, len(elements), dtype=torch.float64, device=self.device)
        with self.average.applied_to(self.potential.network):
            for batch in self.validation:
                prediction = self.potential(
                    batch, need_stress=bool(batch.has_stress.any()), need_born=self.need_born
                )
                terms += torch.stack(
                    [loss.sums(prediction, batch, self.shape).detach(), loss.counts(batch)]
                )
                totals += error_sums(prediction, batch)
                ones = torch.ones_like(prediction.charges)
                values = torch.stack([prediction.charges.detach(), ones])
                charges.index_add_(1, batch.species, values)
        for values in (terms, totals, charges):
            self.team.add_up(values)
        rmse = root_mean_squares(totals)
        mean_charges = (charges[0] / charges[1].clamp(min=1.0)).tolist()
        return {
            **{f"charge_{e}_e": q for e, q in zip(elements, mean_charges, strict=True)},
            "validation_loss": float(
                loss.total(terms[0], terms[1], self.config.loss.final_weights())
            ),
            "energy_rmse_meV_per_atom": 1000.0 * rmse["energy"],
            "forces_rmse_meV_per_A": 1000.0 * rmse["forces"],
            "stress_rmse_meV_per_A3": 1000.0 * rmse["stress"],
        }

    def fit(self, log: checkpoint.CsvLog | None, bar: Any, stop_after: int | None = None) -> str:
        """Run epochs until one of the limits; returns why it stopped.

        Parameters
        ----------
        log : CsvLog or None
            Where the first process writes a line per epoch.
        bar : tqdm-like or None
            Progress of the first process.
        stop_after : int, optional
            Stop after this epoch (to be resumed).
        """
        settings = self.config.training
        started = time.monotonic()
        before = self.seconds
        while self.epoch < settings.max_epochs:
            row: dict[str, Any] = {"epoch": self.epoch + 1, **self.train_epoch()}
            self.epoch += 1
            last = self.epoch == settings.max_epochs
            improved = False
            if last or self.epoch % settings.validate_every == 0:
                row.update(self.validate())
                if not math.isfinite(row["validation_loss"]):
                    raise TrainingError(
                        f"the validation loss is {row['validation_loss']} in epoch {self.epoch}; "
                        f"the checkpoint of epoch {self.last_saved} is kept. Lower "
                        "training.learning_rate or look for extreme validation structures"
                    )
                improved = row["validation_loss"] < self.best_loss
            self.seconds = before + time.monotonic() - started
            row["seconds"] = round(self.seconds, 3)
            if improved:
                self.best_loss, self.best_epoch = row["validation_loss"], self.epoch
            self.last_row = row
            reason = self._reason_to_stop(stop_after)
            stop = self.team.decide(bool(reason), self.device)
            if self.team.rank == 0:
                self._write(row, improved, log, last or stop)
                self._show(row, bar)
            if stop:
                return reason
        return "all epochs done"

    def _reason_to_stop(self, stop_after: int | None) -> str:
        settings = self.config.training
        waited = self.epoch - self.best_epoch
        if settings.patience is not None and waited >= settings.patience:
            return f"the validation loss has not improved for {waited} epochs"
        if settings.max_time_minutes is not None and self.seconds > 60 * settings.max_time_minutes:
            return f"the time limit of {settings.max_time_minutes} minutes is reached"
        if stop_after is not None and self.epoch >= stop_after:
            return f"stopped after epoch {self.epoch} as asked"
        return ""

    def _write(
        self, row: dict[str, Any], improved: bool, log: checkpoint.CsvLog | None, last: bool
    ) -> None:
        """Log and checkpoints of a finished epoch: weights first, the line that names them last."""
        if improved:
            checkpoint.save(self.directory / "best.pt", self.weights(row))
        if log is not None:
            log.append(row)
        if last or self.epoch % self.config.training.checkpoint_every == 0:
            checkpoint.save(self.directory / "checkpoint.pt", self.state_dict())
            self.last_saved = self.epoch

    def _show(self, row: dict[str, Any], bar: Any) -> None:
        if bar is None:
            return
        shown = {"loss": f"{row['train_loss']:.3g}"}
        if "validation_loss" in row:
            shown["E"] = f"{row['energy_rmse_meV_per_atom']:.2f} meV/atom"
            shown["F"] = f"{row['forces_rmse_meV_per_A']:.1f} meV/A"
        shown["best"] = str(self.best_epoch)
        bar.set_postfix(shown, refresh=False)
        bar.update(1)

    def weights(self, row: dict[str, Any]) -> dict[str, Any]:
        """Content of ``best.pt``: averaged weights, the network's shape, and who it is."""
        with self.average.applied_to(self.potential.network):
            state = {k: v.clone() for k, v in self.potential.network.state_dict().items()}
        errors = {k: v for k, v in row.items() if "rmse" in k and not k.startswith("train")}
        return {
            "kind": checkpoint.WEIGHTS_KIND,
            "version": checkpoint.VERSION,
            **self.header,
            "epoch": self.epoch,
            "validation": errors,
            "state": state,
        }

    def state_dict(self) -> dict[str, Any]:
        """Content of ``checkpoint.pt``: everything that the next epoch depends on."""
        return {
            "kind": checkpoint.CHECKPOINT_KIND,
            "version": checkpoint.VERSION,
            "config": self.config.to_dict(),
            **self.header,
            "epoch": self.epoch,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "last_row": self.last_row,
            "state": self.potential.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.potential.network.load_state_dict(state["state"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.epoch = self.last_saved = state["epoch"]
        self.best_loss, self.best_epoch = state["best_loss"], state["best_epoch"]
        self.seconds = state["seconds"]
        self.last_row = state["last_row"]


def error_sums(prediction: Any, batch: Batch) -> torch.Tensor:
    """For each of `loss.TERMS`: sum of squares, of absolute values, and count, [3, 7]."""
    rows = []
    values = {
        "energy": ((prediction.energy - batch.energy) / batch.n_atoms)[:, None],
        "forces": prediction.forces - batch.forces,
        "charges": (prediction.charges - batch.charges)[:, None],
        "dipole": prediction.dipole - batch.dipole,
        "polarization": loss.polarization_error(prediction.dipole, batch),
    }
    if prediction.stress is not None:
        values["stress"] = (prediction.stress - batch.stress).flatten(1)
    if prediction.born is not None:
        values["born"] = (prediction.born - batch.born).flatten(1)
    for term in loss.TERMS:
        if term not in values:
            rows.append(torch.zeros(3, dtype=torch.float64, device=batch.positions.device))
            continue
        error = values[term].detach()
        known = getattr(batch, f"has_{term}")
        if error.shape[0] != batch.n_structures or term in ("forces", "charges", "born"):
            known = known[batch.structure]
        error = error[known]
        count = torch.tensor(float(error.numel()), dtype=torch.float64, device=error.device)
        rows.append(torch.stack([error.square().sum(), error.abs().sum(), count]))
    return torch.stack(rows, dim=1)


def root_mean_squares(totals: torch.Tensor) -> dict[str, float]:
    """Root mean square error of each term from `error_sums`; NaN where there are no values."""
    squares, _, count = totals.tolist()
    return {
        term: math.sqrt(squares[i] / count[i]) if count[i] else math.nan
        for i, term in enumerate(loss.TERMS)
    }
