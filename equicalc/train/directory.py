"""The run directory: made once, continued only by the same run."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from equicalc.errors import ConfigError
from equicalc.train import checkpoint
from equicalc.train.settings import Config

# Settings which a resumed run may change: where and how long, not what.
FREE_ON_RESUME: dict[str, set[str] | None] = {
    "training": {"max_time_minutes", "patience", "checkpoint_every"},
    "run": {"directory", "device", "devices", "threads", "progress", "plots"},
    "about": None,
}


@contextmanager
def prepared_directory(
    directory: Path, config: Config, resume: bool, sha256: str
) -> Iterator[None]:
    """Make the run directory, or check that its checkpoint belongs to this configuration.

    Until the end it belongs to this process: another one that wants it gets a ConfigError.
    """
    existing = directory / "checkpoint.pt"
    if resume:
        if not existing.is_file():
            raise ConfigError(
                f"nothing to resume: no '{existing}'. Start the run without --resume, or set "
                "run.directory to that of the earlier run"
            )
        stored = checkpoint.load(existing, checkpoint.CHECKPOINT_KIND)
        _check_same(stored["config"], config.to_dict())
        if stored["data"]["sha256"] != sha256:
            raise ConfigError(
                f"cannot resume: the contents of {', '.join(stored['data']['files'])} changed "
                "since the run was started. Put the old data back, or start a new run"
            )
    elif existing.exists():
        raise ConfigError(
            f"'{directory}' holds a run already. Continue it with --resume, remove it, or set "
            "another run.directory"
        )
    with _held(directory):
        checkpoint.write_text(
            directory / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False)
        )
        yield


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Make a directory and hold its lock, which a process loses with its life."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise checkpoint.OutputError(f"cannot make '{directory}': {error}") from error
    try:
        _lock(descriptor, directory)
        _remove_leftovers(directory)
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(directory: Path) -> None:
    """Remove what a killed process was writing."""
    try:
        for leftover in directory.glob(".*.tmp"):
            leftover.unlink()
    except OSError as error:
        raise checkpoint.OutputError(f"cannot write in '{directory}': {error}") from error


def _lock(descriptor: int, directory: Path) -> None:
    """Raise ConfigError when another process has the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"another training is writing to '{directory}'. Wait for its end, or set another "
            "run.directory"
        ) from None
    except OSError as error:  # of network file systems without locks
        print(
            f"warning: '{directory}' cannot be locked ({error.strerror}); nothing keeps another "
            "training from writing to it",
            file=sys.stderr,
        )


def _check_same(stored: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise ConfigError when a resumed run would be another run."""
    for section, values in now.items():
        free = FREE_ON_RESUME.get(section, set())
        if free is None:
            continue
        for key, value in values.items():
            # A key that the checkpoint does not know yet had its default.
            before = stored.get(section, {}).get(key, value)
            if key not in free and before != value:
                raise ConfigError(
                    f"cannot resume with another {section}.{key}: the run was started with "
                    f"{before!r}, the configuration now says {value!r}. Change it back, or start a "
                    "new run (model.init takes over its weights)"
                )


def interruption_message(directory: Path, config_path: str | Path) -> str:
    """What Ctrl-C left behind, and how to go on."""
    saved = directory / "checkpoint.pt"
    if not saved.is_file():
        return "interrupted before the end of the first epoch; nothing was kept"
    epoch = checkpoint.load(saved, checkpoint.CHECKPOINT_KIND)["epoch"]
    return (
        f"interrupted; epoch {epoch} is kept in '{directory}'. Go on with: equicalc train "
        f"{config_path} --resume"
    )
