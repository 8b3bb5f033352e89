"""From a configuration file to a finished run directory."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml

from equicalc.data.batch import Batch, make_sample
from equicalc.data.selection import (
    check_elements,
    check_training_labels,
    elements_of,
    select,
    split,
)
from equicalc.data.statistics import (
    check_per_element,
    fit_reference_energies,
    guess_charges,
    rms_force,
)
from equicalc.data.structures import Structure, file_hash, read_structures
from equicalc.errors import ConfigError, DataError
from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.train import checkpoint
from equicalc.train.config import Config, load_config
from equicalc.train.potential import Potential
from equicalc.train.trainer import COLUMNS, Team, Trainer, TrainingInterrupted

# Settings which a resumed run may change: where and how long, not what.
FREE_ON_RESUME = {
    "training": {"max_time_minutes", "patience", "checkpoint_every"},
    "run": {"directory", "device", "devices", "threads", "progress", "plots"},
    "about": None,
}
# How long a process waits for the others before it gives up.
TEAM_TIMEOUT = timedelta(minutes=10)


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
        YAML file, see `equicalc.train.config`.
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
    config.model.elements = config.model.elements or elements_of([*training, *validation])
    check_elements([*training, *validation], config.model.elements)
    config.model.network(config.model.elements)
    _check_device(config)
    prepare_directory(directory, config, resume)
    arguments = (config, training, validation, resume, stop_after)
    try:
        if config.run.devices > 1:
            _spawn(arguments)
        else:
            _work(0, *arguments)
    except KeyboardInterrupt:
        raise TrainingInterrupted(_interrupted(directory, config_path)) from None
    finish(directory, config, training, validation)
    return directory


def load_data(config: Config) -> tuple[list[Structure], list[Structure]]:
    """Read, check, filter and split the data."""
    data = config.data

    def read(paths: list[str]) -> list[Structure]:
        structures = [s for path in paths for s in read_structures(path)]
        check_training_labels(structures)
        return select(structures, data.max_energy_above_min, data.max_force)

    training = read(data.train)
    if data.validation is not None:
        return training, read(data.validation)
    return split(training, data.validation_fraction, data.split_seed)


def prepare_directory(directory: Path, config: Config, resume: bool) -> None:
    """Make the run directory, or check that its checkpoint belongs to this configuration."""
    existing = directory / "checkpoint.pt"
    if resume:
        if not existing.is_file():
            raise ConfigError(
                f"nothing to resume: no '{existing}'. Start the run without --resume, or set "
                "run.directory to that of the earlier run"
            )
        stored = checkpoint.load(existing, checkpoint.CHECKPOINT_KIND)["config"]
        _check_same(stored, config.to_dict())
    elif existing.exists():
        raise ConfigError(
            f"'{directory}' holds a run already. Continue it with --resume, remove it, or set "
            "another run.directory"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checkpoint.OutputError(f"cannot make '{directory}': {error}") from error
    checkpoint.write_text(
        directory / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False)
    )


def _check_same(stored: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise ConfigError when a resumed run would be another run."""
    for section, values in now.items():
        free = FREE_ON_RESUME.get(section, set())
        if free is None:
            continue
        for key, value in values.items():
            before = stored.get(section, {}).get(key)
            if key not in free and before != value:
                raise ConfigError(
                    f"cannot resume with another {section}.{key}: the run was started with "
                    f"{before!r}, the configuration now says {value!r}. Change it back, or start a "
                    "new run (model.init takes over its weights)"
                )


def _check_device(config: Config) -> None:
    if config.run.device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count < config.run.devices:
            raise ConfigError(
                f"run.device: {config.run.device} with run.devices: {config.run.devices} needs as "
                f"many CUDA devices, found {count}; use run.device: cpu"
            )


def _interrupted(directory: Path, config_path: str | Path) -> str:
    saved = directory / "checkpoint.pt"
    if not saved.is_file():
        return "interrupted before the end of the first epoch; nothing was kept"
    epoch = checkpoint.load(saved, checkpoint.CHECKPOINT_KIND)["epoch"]
    return (
        f"interrupted; epoch {epoch} is kept in '{directory}'. Go on with: equicalc train "
        f"{config_path} --resume"
    )


def _spawn(arguments: tuple[Any, ...]) -> None:
    """One process for each device."""
    config: Config = arguments[0]
    with tempfile.TemporaryDirectory(prefix="equicalc-") as folder:
        context = torch.multiprocessing.start_processes(
            _join_team,
            (str(Path(folder) / "meeting"), *arguments),
            nprocs=config.run.devices,
            join=False,
            start_method="spawn",
        )
        try:
            while not context.join():
                pass
        except torch.multiprocessing.ProcessRaisedException as error:
            _raise_own(error)
        except KeyboardInterrupt:
            for process in context.processes:
                process.terminate()
            raise


def _raise_own(error: Exception) -> None:
    """Raise a child's error with its own text instead of a traceback inside a traceback."""
    from equicalc import errors
    from equicalc.train.trainer import TrainingError

    last = str(error).strip().splitlines()[-1]
    name, _, text = last.partition(": ")
    kinds = {
        **{k: v for k, v in vars(errors).items() if isinstance(v, type)},
        "TrainingError": TrainingError,
        "OutputError": checkpoint.OutputError,
    }
    kind = kinds.get(name.rsplit(".", 1)[-1])
    if kind is not None and issubclass(kind, errors.EquicalcError):
        raise kind(text) from error
    raise error


def _join_team(rank: int, meeting: str, config: Config, *rest: Any) -> None:
    """Body of a process of a team: nccl between CUDA devices, gloo between CPU processes."""
    cuda = config.run.device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=config.run.devices,
        timeout=TEAM_TIMEOUT,
    )
    try:
        _work(rank, config, *rest)
    finally:
        dist.destroy_process_group()


def _work(
    rank: int,
    config: Config,
    training: list[Structure],
    validation: list[Structure],
    resume: bool,
    stop_after: int | None,
) -> None:
    """Training in one process."""
    team = Team(rank, config.run.devices)
    if config.run.threads is not None:
        torch.set_num_threads(max(config.run.threads // team.size, 1))
    elif team.size > 1 and config.run.device == "cpu":
        torch.set_num_threads(max(torch.get_num_threads() // team.size, 1))
    device = torch.device(config.run.device)
    if device.type == "cuda" and team.size > 1:
        device = torch.device("cuda", rank)
    elements, cutoff = config.model.elements, config.model.cutoff

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
    directory = trainer.directory
    if resume:
        stored = checkpoint.load(directory / "checkpoint.pt", checkpoint.CHECKPOINT_KIND, device)
        trainer.load_state_dict(stored)
    if rank > 0:
        trainer.fit(None, None, stop_after)
        return
    log = checkpoint.CsvLog(directory / "log.csv", COLUMNS, trainer.epoch)
    bar = progress_bar(config, trainer.epoch) if config.run.progress else None
    reason = trainer.fit(log, bar, stop_after)
    if bar is not None:
        bar.close()
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


def header(
    config: Config, training: list[Structure], validation: list[Structure]
) -> dict[str, Any]:
    """What a weights file says about itself."""
    data = config.data
    files = [*data.train, *(data.validation or [])]
    return {
        "network": config.model.network(config.model.elements).to_dict(),
        "about": dataclasses.asdict(config.about),
        "training_dtype": config.run.dtype,
        "data": {
            "files": [Path(f).name for f in files],
            "sha256": file_hash(files),
            "n_training": len(training),
            "n_validation": len(validation),
        },
    }


def make_network(
    config: Config,
    training: list[Structure],
    graphs: list[Batch],
    device: torch.device,
    fresh: bool = True,
) -> EquiNetwork:
    """Network with random (or earlier) weights and the statistics of the training data.

    With `fresh` False a checkpoint will overwrite everything: only the shape is made.
    """
    model = config.model
    elements = model.elements
    torch.manual_seed(config.training.seed)
    # float64 at birth, so that both precisions start from the same numbers.
    network = EquiNetwork(model.network(elements)).to(torch.float64)
    dtype = getattr(torch, config.run.dtype)
    if not fresh:
        return network.to(device=device, dtype=dtype)
    if model.init is not None:
        load_weights(network, model.init)
    else:
        charges = model.initial_charges
        if charges is None:
            charges = guess_charges(training, elements)
        _check_elements_of(charges, elements, "model.initial_charges")
        mean_neighbours = sum(g.edge_index.shape[1] for g in graphs) / sum(map(len, training))
        network.set_statistics(
            dict.fromkeys(elements, 0.0), rms_force(training), mean_neighbours, charges
        )
    network = network.to(device=device)
    set_reference_energies(network, config, training, graphs)
    return network.to(dtype)


def set_reference_energies(
    network: EquiNetwork, config: Config, training: list[Structure], graphs: list[Batch]
) -> None:
    """Give the network its reference energies: those of the configuration, or a fit.

    The fit is to what the untrained network leaves over: Coulomb and repulsive energies are several
    eV per atom from the first step on, and would otherwise be learned slowly as an offset.
    """
    model, elements = config.model, config.model.elements
    if model.reference_energies is not None:
        _check_elements_of(model.reference_energies, elements, "model.reference_energies")
        values = model.reference_energies
    elif model.init is not None and not model.refit_reference_energies:
        return
    else:
        _write_reference(network, dict.fromkeys(elements, 0.0))
        potential = Potential(network)
        energies = [float(potential(g, need_stress=False).energy[0].detach()) for g in graphs]
        import numpy as np

        values = fit_reference_energies(training, elements, np.array(energies))
    _write_reference(network, values)


def _write_reference(network: EquiNetwork, values: dict[str, float]) -> None:
    """Set only the reference energies, through the network's own setter."""
    scale = float(network.energy_scale)
    mean_neighbours = float(network.message_scale) ** -2
    network.set_statistics(values, scale, mean_neighbours, None)


def _check_elements_of(values: dict[str, float], elements: list[str], key: str) -> None:
    try:
        check_per_element(values, elements, key)
    except DataError as error:
        raise ConfigError(str(error)) from None


def load_weights(network: EquiNetwork, path: str | Path) -> None:
    """Give a network the weights of an earlier run; ConfigError when the shapes differ."""
    content = checkpoint.load(path, checkpoint.WEIGHTS_KIND)
    stored = content["network"]
    for key, value in network.config.to_dict().items():
        if stored.get(key) != value:
            raise ConfigError(
                f"model.init: '{path}' has model.{key} = {stored.get(key)!r}, the configuration "
                f"says {value!r}; a run can only start from a network of the same shape"
            )
    network.load_state_dict(content["state"])


def load_best(directory: str | Path, dtype: torch.dtype = torch.float64) -> Potential:
    """Potential with the best weights of a run.

    Parameters
    ----------
    directory : str or Path
        A run directory.
    dtype : torch.dtype
        Precision of the network.

    Raises
    ------
    DataError
        When there is no ``best.pt`` or it is damaged.
    """
    content = checkpoint.load(Path(directory) / "best.pt", checkpoint.WEIGHTS_KIND)
    network = EquiNetwork(NetworkConfig.from_dict(content["network"])).to(torch.float64)
    network.load_state_dict(content["state"])
    return Potential(network.to(dtype))


def finish(
    directory: Path, config: Config, training: list[Structure], validation: list[Structure]
) -> None:
    """Errors of the best model on all data, and pictures."""
    from equicalc.evaluate import compare

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
        from equicalc.train.plots import draw_loss, draw_parity

        draw_loss(directory)
        draw_parity(directory, comparisons)
