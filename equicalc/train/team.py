"""Several processes that train one model: torch's DistributedDataParallel."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from equicalc import errors

# How long a process waits for the others before it gives up.
TEAM_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Team:
    """This process among those which train together.

    Parameters
    ----------
    rank, size : int
        Number of this process and of all processes.
    """

    rank: int = 0
    size: int = 1

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, in place, the same on each."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def decide(self, flag: bool, device: torch.device) -> bool:
        """Return the first process's decision, on every process."""
        if self.size == 1:
            return flag
        answer = torch.tensor([flag], dtype=torch.int32, device=device)
        dist.broadcast(answer, src=0)
        return bool(answer.item())


def in_team(size: int, cuda: bool, work: Callable[..., None], *arguments: Any) -> None:
    """Run ``work(team, *arguments)`` in several processes at once.

    Parameters
    ----------
    size : int
        Number of processes; one is this very process.
    cuda : bool
        One CUDA device for each process, which talk through nccl; otherwise gloo.
    work : callable
        A function of a module, so that new processes find it.

    Raises
    ------
    EquicalcError
        What `work` raised in one of the processes, with the same type and text.
    """
    if size == 1:
        work(Team(), *arguments)
        return
    with tempfile.TemporaryDirectory(prefix="equicalc-") as folder:
        context = torch.multiprocessing.start_processes(
            _member,
            (size, cuda, str(Path(folder) / "meeting"), work, arguments),
            nprocs=size,
            join=False,
            start_method="spawn",
        )
        try:
            while not context.join():
                pass
        except torch.multiprocessing.ProcessRaisedException as error:
            own = _own_error(str(error))
            raise (own or error) from None
        except KeyboardInterrupt:
            for process in context.processes:
                process.terminate()
                process.join()
            raise


def _member(
    rank: int,
    size: int,
    cuda: bool,
    meeting: str,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Body of one of several processes."""
    signal.signal(signal.SIGINT, _end_without(os.getppid()))
    if cuda:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=TEAM_TIMEOUT,
    )
    try:
        work(Team(rank, size), *arguments)
    finally:
        dist.destroy_process_group()


def _end_without(parent: int) -> Callable[..., None]:
    """What a process does at SIGINT: end when its parent is gone, and else wait for its decision.

    Ctrl-C reaches every process of the terminal, and the parent ends the others. When the parent
    was killed, the kernel sends this signal in its place (torch asks for it), and a process
    that went on would write to the directory of a run that is resumed elsewhere.
    """

    def handle(*_: Any) -> None:
        if os.getppid() != parent:
            os._exit(1)

    return handle


def _own_error(text: str) -> errors.EquicalcError | None:
    """Find the package's own error at the end of the traceback text of another process."""
    kinds = {kind.__name__: kind for kind in _all_kinds(errors.EquicalcError)}
    lines = text.strip().splitlines()
    for number in reversed(range(len(lines))):
        name, _, message = lines[number].partition(": ")
        kind = kinds.get(name.rsplit(".", 1)[-1])
        if kind is not None:
            return kind("\n".join([message, *lines[number + 1 :]]))
    return None


def _all_kinds(kind: type[errors.EquicalcError]) -> list[type[errors.EquicalcError]]:
    found = [kind]
    for child in kind.__subclasses__():
        found.extend(_all_kinds(child))
    return found
