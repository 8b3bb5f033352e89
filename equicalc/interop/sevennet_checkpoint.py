"""SevenNet checkpoints: finding them, reading them without SevenNet, and what is supported."""

from __future__ import annotations

import importlib.util
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equicalc.errors import ModelFileError
from equicalc.nn.radial_network import SMOOTH_ACTIVATIONS

# name -> file of the sevenn package, below pretrained_potentials
SHIPPED = {
    "7net-0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "7net-0_11jul2024": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "7net-0_11july2024": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "7net-0_22may2024": "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
    "7net-l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
    "7net-mf-0": "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
}
# The same for those that the package downloads when they are first used.
DOWNLOADED = {
    "7net-mf-ompa": "SevenNet_MF_ompa/checkpoint_sevennet_mf_ompa.pth",
    "7net-omat": "SevenNet_omat/checkpoint_sevennet_omat.pth",
    "7net-omni": "SevenNet_omni/checkpoint_sevennet_omni.pth",
    "7net-omni-i8": "SevenNet_omni_i8/checkpoint_sevennet_omni_i8.pth",
    "7net-omni-i12": "SevenNet_omni_i12/checkpoint_sevennet_omni_i12.pth",
}

# What SevenNet takes for settings that a checkpoint does not list.
DEFAULTS: dict[str, Any] = {
    "irreps_manual": False,
    "lmax_edge": -1,
    "lmax_node": -1,
    "is_parity": True,
    "interaction_type": "nequip",
    "self_connection_type": "nequip",
    "act_radial": "silu",
    "act_scalar": {"e": "silu", "o": "tanh"},
    "act_gate": {"e": "silu", "o": "tanh"},
    "weight_nn_hidden_neurons": [64, 64],
    "use_bias_in_linear": False,
    "readout_as_fcn": False,
    "readout_fcn_hidden_neurons": [30, 30],
    "readout_fcn_activation": "relu",
    "use_modality": False,
    "use_modal_node_embedding": False,
    "use_modal_self_inter_intro": False,
    "use_modal_self_inter_outro": False,
    "use_modal_output_block": False,
}

INSTALL = "pip install sevenn (its wheel has the weights), or give the path of a checkpoint (.pth)"


@dataclass
class Checkpoint:
    """What a checkpoint says: settings with defaults filled in, and weights by present names.

    `modal` is the mode that is imported of a network with several, number `mode` of `n_modes`;
    without modes it is None and `n_modes` is 0.
    """

    path: Path
    name: str
    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    version: tuple[int, ...]
    epoch: int | None
    modal: str | None
    mode: int
    n_modes: int


def find_checkpoint(source: str | Path) -> Path:
    """Return the file of a checkpoint given by path or by a name such as ``7net-0``.

    Raises
    ------
    ModelFileError
        No such file, an unknown name, or a name whose package is not installed.
    """
    path = Path(source)
    if path.is_file():
        return path
    name = str(source).lower().replace("sevennet", "7net")
    files = SHIPPED | DOWNLOADED
    if name not in files:
        raise ModelFileError(
            f"'{source}' is neither a file nor the name of a SevenNet network. Names: "
            f"{', '.join(files)}"
        )
    # found, not imported: reading weights needs nothing of the package
    package = importlib.util.find_spec("sevenn")
    folders = (package.submodule_search_locations or []) if package else []
    for folder in (*[Path(f) / "pretrained_potentials" for f in folders], _downloads()):
        path = folder / files[name]
        if path.is_file():
            return path
    if name in DOWNLOADED:
        raise ModelFileError(
            f"the weights of '{source}' are not on this machine: the package sevenn downloads them "
            f"when they are first used. Type: sevenn cp {name} (after pip install sevenn), then "
            "import again; or give the path of the checkpoint (.pth)"
        )
    raise ModelFileError(
        f"the weights of '{source}' are in the package sevenn, which is not installed here or does "
        f"not have them. Type: {INSTALL}"
    )


def _downloads() -> Path:
    """Where sevenn keeps what it downloads, unless its own folder can be written."""
    return Path.home() / ".cache" / "sevennet"


def read_checkpoint(source: str | Path, modal: str | None = None) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Parameters
    ----------
    source : str or Path
        See `find_checkpoint`.
    modal : str, optional
        Which mode of a network with several.

    Raises
    ------
    ModelFileError
        The file is not a SevenNet checkpoint, or holds objects other than numbers and text; its
        network has modes and none of them is chosen, or it has none and one is.
    """
    path = find_checkpoint(source)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle fails in any way
        raise ModelFileError(
            f"'{path}' cannot be read as a checkpoint of SevenNet ({_first_sentence(error)}); "
            "expected a .pth file of sevenn. Files of other codes: 'equicalc import mace FILE', "
            "'equicalc import nequip FILE'"
        ) from None
    if not isinstance(content, dict) or not {"config", "model_state_dict"} <= set(content):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content)
        raise ModelFileError(
            f"'{path}' is not a checkpoint of SevenNet: expected 'config' and 'model_state_dict' "
            f"in it, found {found}"
        )
    config = {**DEFAULTS, **{k: v for k, v in content["config"].items() if v is not None}}
    version = _version(path, config)
    weights = {
        _present_name(name): value.to(torch.float64)
        for name, value in content["model_state_dict"].items()
    }
    mode, n_modes = _choose_mode(str(source), config, modal)
    checkpoint = Checkpoint(
        path, str(source), config, weights, version, content.get("epoch"), modal, mode, n_modes
    )
    _check_supported(checkpoint)
    return checkpoint


def _choose_mode(source: str, config: dict[str, Any], modal: str | None) -> tuple[int, int]:
    """Return the number of the chosen mode and how many there are; 0 and 0 without modes."""
    modes = {str(name): int(index) for name, index in config.get("_modal_map", {}).items()}
    if not config["use_modality"]:
        if modal is not None:
            raise ModelFileError(f"'{source}' has no modes, found --modal {modal}; leave it out")
        return 0, 0
    if modal not in modes:
        found = "no mode was chosen" if modal is None else f"found mode '{modal}'"
        example = shlex.quote(next(iter(modes), "MODE"))
        raise ModelFileError(
            f"'{source}' has the modes {', '.join(modes)}; {found}. Type: equicalc import sevennet "
            f"{shlex.quote(source)} --modal {example}"
        )
    return modes[modal], int(config.get("_number_of_modalities", len(modes)))


def _numpy_globals() -> list[Any]:
    """NumPy's own reconstruction of arrays, by the names that NumPy 1 and 2 give it."""
    from numpy._core import multiarray

    functions = [
        (function, f"{package}.multiarray.{name}")
        for package in ("numpy.core", "numpy._core")
        for name, function in (
            ("_reconstruct", multiarray._reconstruct),  # type: ignore[attr-defined]
            ("scalar", multiarray.scalar),  # type: ignore[attr-defined]
        )
    ]
    kinds = [type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8", "?")]
    return [*functions, np.ndarray, np.dtype, *kinds]


def _first_sentence(error: Exception) -> str:
    """Torch goes on with advice that does not fit here."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].split('. ')[0]}" if lines else type(error).__name__


def _version(path: Path, config: dict[str, Any]) -> tuple[int, ...]:
    text = str(config.get("version", ""))
    parts = text.split(".")[:3]
    if len(parts) < 2 or not all(part.isdigit() for part in parts):
        raise ModelFileError(
            f"'{path}' says SevenNet version {text!r}, expected numbers such as 0.11.0"
        )
    # development versions of 0.11.0 still had the order of weights of those before
    development = len(text.split(".")) > 3
    numbers = tuple(map(int, parts))
    return (0, 10, 99) if development and numbers == (0, 11, 0) else numbers


def _present_name(name: str) -> str:
    """Names of weights as SevenNet has them since April 2024."""
    renamed = {
        "EdgeEmbedding": "edge_embedding",
        "reducing nn input to hidden": "reduce_input_to_hidden",
        "reducing nn hidden to energy": "reduce_hidden_to_energy",
    }
    module, _, rest = name.partition(".")
    module = renamed.get(module, module).replace(" ", "_")
    return f"{module}.{rest.replace('denumerator', 'denominator')}"


def _check_supported(checkpoint: Checkpoint) -> None:
    """Raise for variants of the architecture that the importer does not know."""
    config = checkpoint.config

    def require(holds: bool, found: str, expected: str) -> None:
        if not holds:
            raise ModelFileError(
                f"'{checkpoint.path}' has {found}, which equicalc cannot import; expected "
                f"{expected}"
            )

    require(
        config["interaction_type"] == "nequip",
        f"interaction_type {config['interaction_type']!r}",
        "'nequip'",
    )
    # SevenNet takes a missing word in files of 0.9 and before for False
    normalised = config.get("_normalize_sph", checkpoint.version >= (0, 10))
    require(normalised, "harmonics of vectors that are not normalised", "normalised ones")
    basis, cutoff = config["radial_basis"], config["cutoff_function"]
    require(
        basis["radial_basis_name"] == "bessel",
        f"the radial basis {basis['radial_basis_name']!r}",
        "'bessel'",
    )
    require(
        cutoff["cutoff_function_name"] in ("poly_cut", "XPLOR"),
        f"the cutoff function {cutoff['cutoff_function_name']!r}",
        "'poly_cut' or 'XPLOR'",
    )
    require(
        config["act_radial"] in SMOOTH_ACTIVATIONS,
        f"the radial activation {config['act_radial']!r}",
        f"one without kinks: {', '.join(SMOOTH_ACTIVATIONS)}",
    )
    require(
        config["act_scalar"]["o"] != "abs",
        "the activation 'abs' on odd scalars, which makes them even",
        "'tanh'",
    )
