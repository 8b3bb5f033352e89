"""Reading pickled modules of other codes without those codes, and without running anything.

A pickle names classes and functions, which unpickling imports and calls. Here only tensors, plain
containers and e3nn's irreps are made; every other name becomes a `Stand-in`, which keeps what was
pickled into it as attributes. So a file can neither run code nor needs the package that wrote it.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from equicalc.errors import ModelFileError

# Made as they are: containers, tensors and numbers. None of these runs code of the file's choice.
HARMLESS = {
    "builtins": {"set", "frozenset", "complex", "slice", "range", "bytearray"},
    "collections": {"OrderedDict", "defaultdict"},
    "_codecs": {"encode"},
    "torch": {"Size", "device", "dtype", "Tensor", "BoolStorage", "ByteStorage"}
    | {"IntStorage", "LongStorage", "HalfStorage", "BFloat16Storage"}
    | {"FloatStorage", "DoubleStorage", "float16", "float32", "float64", "int32", "int64", "bool"},
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_tensor"},
    "torch.nn.parameter": {"Parameter"},
    "torch.storage": {"TypedStorage", "UntypedStorage", "_load_from_bytes"} - {"_load_from_bytes"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.core.numeric": {"_frombuffer"},
    "e3nn.o3._irreps": {"Irreps", "Irrep", "_MulIr"},
}


class StandIn:
    """An object of a class that is not there: `origin` names it, attributes are what it held."""

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> StandIn:
        self = super().__new__(cls)
        self.__dict__["arguments"] = args
        return self

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        # objects with slots have a pair of dicts
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update({str(key): value for key, value in part.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("items", {})[key] = value

    def append(self, value: Any) -> None:
        """Keep an item of a list of unknown class."""
        self.__dict__.setdefault("values", []).append(value)

    def extend(self, values: Any) -> None:
        """Keep items of a list of unknown class."""
        self.__dict__.setdefault("values", []).extend(values)

    @property
    def kind(self) -> str:
        """Name of the class without its module."""
        return self.origin.rpartition(".")[2]

    def has(self, name: str) -> bool:
        """Whether there is an attribute, parameter, buffer or submodule of a name."""
        return _find(self, name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, parameter, buffer or submodule; dots go down."""
        found: Any = self
        for part in name.split("."):
            place = _find(found, part)
            if place is None:
                return default
            found = place[part]
        return found

    def children(self) -> list[Any]:
        """Return the submodules in order."""
        return list(self.__dict__.get("_modules", {}).values())

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor as float64; an error names what is missing."""
        found = self.get(name)
        if not isinstance(found, torch.Tensor):
            raise ModelFileError(f"found no tensor {name!r} in a {self.origin or 'module'}")
        return found.detach().double()


def _find(owner: Any, name: str) -> dict[str, Any] | None:
    for place in ("_parameters", "_buffers", "_modules", None):
        held = owner.__dict__ if place is None else owner.__dict__.get(place)
        if isinstance(held, dict) and name in held and held[name] is not None:
            return held
    return None


def stand_in(module: str, name: str) -> Any:
    """Return the class that stands for a class or function of another package."""
    return type(name, (StandIn,), {"origin": f"{module}.{name}"})


class Unpickler(pickle.Unpickler):
    """Makes what is harmless and stands in for the rest."""

    def find_class(self, module: str, name: str) -> Any:
        if name in HARMLESS.get(module, ()):
            return super().find_class(module, name)
        if module == "e3nn.o3.irreps":  # where old versions had them
            return super().find_class("e3nn.o3._irreps", name)
        return stand_in(module, name)


def load_pickled(path: str | Path) -> Any:
    """Return the object in a file of ``torch.save``, with stand-ins for unknown classes.

    Raises
    ------
    ModelFileError
        The file is missing, or is not one of ``torch.save``.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"no file '{path}'")
    reader = SimpleNamespace(Unpickler=Unpickler, load=_load, __name__="equicalc.interop.pickled")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    except Exception as error:
        raise ModelFileError(
            f"'{path}' cannot be read ({type(error).__name__}: {error}); expected a file that "
            "torch.save wrote"
        ) from error


def load_package_pickle(path: str | Path, member: str) -> Any:
    """Return a pickled object in an archive of ``torch.package``, with stand-ins.

    Raises
    ------
    KeyError
        There is no such member.
    zipfile.BadZipFile
        The file is not a zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        storages: dict[str, torch.storage.TypedStorage] = {}

        def persistent_load(saved: tuple[Any, ...]) -> Any:
            if saved[0] != "storage":
                return stand_in("torch.package", str(saved[0]))()
            _, kind, key = saved[:3]
            if key not in storages:
                data = bytearray(archive.read(f"{root}/.data/{key}.storage"))
                untyped = (
                    torch.UntypedStorage.from_buffer(data, dtype=torch.uint8, byte_order="little")
                    if data
                    else torch.UntypedStorage(0)
                )
                storages[key] = torch.storage.TypedStorage(
                    wrap_storage=untyped, dtype=kind.dtype, _internal=True
                )
            return storages[key]

        reader = Unpickler(io.BytesIO(archive.read(f"{root}/{member}")))
        reader.persistent_load = persistent_load  # type: ignore[method-assign]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")
            return reader.load()


def tensors_of(module: StandIn, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return parameters and buffers of a module and its submodules by name."""
    found: dict[str, torch.Tensor] = {}
    for place in ("_parameters", "_buffers"):
        for name, value in module.__dict__.get(place, {}).items():
            if isinstance(value, torch.Tensor):
                found[prefix + name] = value
    for name, child in module.__dict__.get("_modules", {}).items():
        if isinstance(child, StandIn):
            found |= tensors_of(child, f"{prefix}{name}.")
    return found


def _load(file: Any, **kwargs: Any) -> Any:
    return Unpickler(file, **kwargs).load()
