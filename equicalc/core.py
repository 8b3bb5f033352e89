"""The compiled core (csrc/): importing this module makes torch.ops.equicalc.* exist."""

import os
from functools import cache
from types import ModuleType

from equicalc.errors import EquicalcError


def load_library() -> ModuleType:
    """Load the compiled core and with it the torch operator ``equicalc::exchange``.

    Returns
    -------
    module
        ``equicalc._core``: Model, Evaluator, HaloExchange, select_edges, scatter_edges.

    Raises
    ------
    EquicalcError
        When the compiled core is missing or does not fit the installed torch.
    """
    import torch  # its libraries must be in the process before ours

    try:
        from equicalc import _core
    except ImportError as error:
        raise EquicalcError(
            f"the compiled core of equicalc cannot be loaded ({error}). It is built on "
            f"installation for one version of torch (found torch {torch.__version__}, expected "
            "2.13.0); build it again: pip install --no-build-isolation -e ."
        ) from error
    _one_thread_after_fork()
    return _core


@cache
def _one_thread_after_fork() -> None:
    """Let processes that are forked from this one compute with one thread.

    The threads of OpenMP are not copied by a fork, and GNU's OpenMP waits for them for ever: a
    `multiprocessing.Pool` of forked processes would hang at its first structure.
    """
    import torch

    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
