"""The compiled core (csrc/): importing this module makes torch.ops.equicalc.* exist."""

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
    return _core
