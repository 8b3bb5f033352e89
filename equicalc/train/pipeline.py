"""From a configuration file to a finished run directory."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from equicalc.data.batch import Batch, make_sample
from equicalc.data.consistency import copies, doubts
from equicalc.data.selection import (
    check_boundaries,
    check_elements,
    check_training_labels,
    elements_of,
    select,
    split,
)
from equicalc.data.statistics import shortest_distances
from equicalc.data.structures import Structure, file_hash, read_structures
from equicalc.dispersion import without_dispersion
from equicalc.errors import ConfigError
from equicalc.evaluate import compare
from equicalc.nn.architectures import NETWORKS
from equicalc.train import checkpoint
from equicalc.train.config import load_config
from equicalc.train.directory import interruption_message, prepared_directory
from equicalc.train.plots import draw_loss, draw_parity
from equicalc.train.potential import Potential
from equicalc.train.settings import Config
from equicalc.train.start import load_best, make_network
from equicalc.train.team import Team, in_team
from equicalc.train.trainer import Trainer, TrainingInterrupted, log_columns


def run(
    config_path: str | Path,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train a model.

    Parameters
    ----------
    config_path : str or Path
        YAML file, see `equicalc.train.settings`.
    resume : bool
        Go on from the checkpoint in the run directory.
    overrides : mapping, optional
        Settings that replace those of the file: ``{"training.max_epochs": 10}``.
    stop_after : int, optional
        Stop after this epoch; a later call with ``resume`` goes on.

    Returns
    -------
    Path
        The run directory, with ``config.yaml`` (every setting), ``checkpoint.pt`` (to resume),
        ``best.pt`` (averaged weights of the best validation loss), ``log.csv``, ``metrics.json``,
        ``loss.png`` and ``parity.png``.

    Raises
    ------
    ConfigError
        A setting is wrong, or the run directory holds another run.
    DataError
        The data cannot be used.
    TrainingError
        The loss is not a number any more.
    TrainingInterrupted
        Ctrl-C; the last complete epoch is in the run directory.
    """
    config = load_config(config_path, overrides)
    directory = Path(config.run.directory or ".")
    training, validation = load_data(config)
    for doubt in [*doubts([*training, *validation]), *copies(training, validation)]:
        print(f"warning: {doubt}", file=sys.stderr)
    elements = config.model.elements or elements_of(training)
    check_elements([*training, *validation], elements)
    config.model.elements = list(config.model.network(elements).elements)
    if config.model.has_charges:
        check_boundaries([*training, *validation])
    _check_labels(config, training)
    _check_device(config)
    team = config.run.devices, config.run.device.startswith("cuda")
    with prepared_directory(directory, config, resume, data_hash(config)):
        try:
            in_team(*team, _work, config, training, validation, resume, stop_after)
            finish(directory, config, training, validation)
        except KeyboardInterrupt:
            raise TrainingInterrupted(interruption_message(directory, config_path)) from None
    return directory


def load_data(config: Config) -> tuple[list[Structure], list[Structure]]:
    """Read, check, filter and split the data."""
    data = config.data

    def read(paths: list[str]) -> list[Structure]:
        structures = [s for path in paths for s in read_structures(path, data.keys)]
        check_training_labels(structures)
        chosen = select(structures, data.max_energy_above_min, data.max_force)
        return without_dispersion(chosen, config.model.dispersion)

    training = read(data.train)
    if data.validation is not None:
        return training, read(data.validation)
    return split(training, data.validation_fraction, data.split_seed)


def _check_labels(config: Config, training: list[Structure]) -> None:
    """Raise ConfigError when the configuration counts on something that the data lack."""
    unseen = set(config.model.elements) - set(elements_of(training))
    if unseen:
        raise ConfigError(
            f"model.elements has {', '.join(sorted(unseen))}, of which the training data have no "
            f"atom (they have {', '.join(elements_of(training))}); a model cannot learn it"
        )
    weights = [config.loss.initial_weights(), config.loss.final_weights()]
    for term in ("charges", "dipole", "polarization", "born"):
        wanted = max(getattr(w, term) for w in weights) > 0.0
        if wanted and all(getattr(structure, term) is None for structure in training):
            raise ConfigError(
                f"loss.{term} is set, but no training structure has {term}; leave it out, or give "
                "these labels in data.train"
            )


def _check_device(config: Config) -> None:
    if config.run.device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count < config.run.devices:
            raise ConfigError(
                f"run.device: {config.run.device} with run.devices: {config.run.devices} needs as "
                f"many CUDA devices, found {count}; use run.device: cpu"
            )


def _work(
    team: Team,
    config: Config,
    training: list[Structure],
    validation: list[Structure],
    resume: bool,
    stop_after: int | None,
) -> None:
    """Training in one process."""
    if config.run.threads is not None:
        torch.set_num_threads(max(config.run.threads // team.size, 1))
    elif team.size > 1 and config.run.device == "cpu":
        torch.set_num_threads(max(torch.get_num_threads() // team.size, 1))
    device = torch.device(config.run.device)
    if device.type == "cuda" and team.size > 1:
        device = torch.device("cuda", team.rank)
    elements = config.model.elements
    cutoff = config.model.network(elements).cutoff

    def graphs(structures: list[Structure]) -> list[Batch]:
        return [make_sample(s, elements, cutoff).to(device) for s in structures]

    training_graphs, validation_graphs = graphs(training), graphs(validation)
    network = make_network(config, training, training_graphs, device, fresh=not resume)
    trainer = Trainer(
        config,
        Potential(network),
        training_graphs,
        validation_graphs,
        team,
        header(config, training, validation),
    )
    if resume:
        stored = checkpoint.load(
            trainer.directory / "checkpoint.pt", checkpoint.CHECKPOINT_KIND, device
        )
        trainer.load_state_dict(stored)
    if team.rank > 0:
        trainer.fit(None, None, stop_after)
        return
    log = checkpoint.CsvLog(trainer.directory / "log.csv", log_columns(elements), trainer.epoch)
    bar = progress_bar(config, trainer.epoch) if config.run.progress else None
    try:
        reason = trainer.fit(log, bar, stop_after)
    finally:
        if bar is not None:
            bar.close()
    if config.run.progress:
        print(
            f"{reason}; best epoch {trainer.best_epoch}, {len(training)} training and "
            f"{len(validation)} validation structures",
            file=sys.stderr,
        )


def progress_bar(config: Config, done: int) -> Any:
    """Progress over epochs; in a log file a line every half minute."""
    from tqdm import tqdm

    return tqdm(
        total=config.training.max_epochs,
        initial=done,
        desc=config.about.name,
        unit="epoch",
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        dynamic_ncols=sys.stderr.isatty(),
    )


def data_hash(config: Config) -> str:
    """SHA-256 of all data files of a configuration."""
    return file_hash([*config.data.train, *(config.data.validation or [])])


def header(
    config: Config, training: list[Structure], validation: list[Structure]
) -> dict[str, Any]:
    """What a weights file says about itself."""
    data, settings = config.data, config.model.network(config.model.elements)
    files = [*data.train, *(data.validation or [])]
    return {
        "architecture": NETWORKS[type(settings)].architecture,
        "network": settings.to_dict(),
        "about": dataclasses.asdict(config.about),
        "training_dtype": config.run.dtype,
        "data": {
            "files": [Path(f).name for f in files],
            "sha256": data_hash(config),
            "n_training": len(training),
            "n_validation": len(validation),
            "shortest_distances": shortest_distances(
                training, config.model.elements, config.model.cutoff
            ),
        },
    }


def finish(
    directory: Path, config: Config, training: list[Structure], validation: list[Structure]
) -> None:
    """Errors of the best model on all data, and pictures."""
    if not (directory / "best.pt").is_file():
        return
    potential = load_best(directory, getattr(torch, config.run.dtype))
    comparisons = {
        "training": compare(potential, training),
        "validation": compare(potential, validation),
    }
    best = checkpoint.load(directory / "best.pt", checkpoint.WEIGHTS_KIND)
    checkpoint.write_json(
        directory / "metrics.json",
        {"epoch": best["epoch"], **{name: c.metrics() for name, c in comparisons.items()}},
    )
    if config.run.plots:
        draw_loss(directory)
        draw_parity(directory, comparisons)
