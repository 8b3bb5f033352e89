"""E(3)-equivariant potentials with learned charges for ASE and LAMMPS."""

from typing import TYPE_CHECKING, Any

from equicalc.errors import EquicalcError

if TYPE_CHECKING:
    from equicalc import _core as _core
    from equicalc.calculator import EquiCalculator

__version__ = "0.1.0"
__all__ = ["EquiCalculator", "EquicalcError", "__version__"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: only when a calculator is asked for.
    if name == "EquiCalculator":
        from equicalc.calculator import EquiCalculator

        return EquiCalculator
    raise AttributeError(f"module 'equicalc' has no attribute {name!r}")
