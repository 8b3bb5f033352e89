"""Networks of other codes as the start of a training: their shape comes with the model file."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from equicalc.deploy import is_model_file, read_metadata
from equicalc.errors import ConfigError
from equicalc.nn import NetworkConfig
from equicalc.nn.architectures import Settings, settings_of
from equicalc.train import checkpoint

if TYPE_CHECKING:
    from equicalc.train.settings import ModelSection

# What the configuration says of a network whose shape is given.
CHARGES = ("charge_model", "charge_weights", "sigma", "sigmas", "learn_sigma")


def adopted_settings(model: ModelSection, elements: list[str]) -> Settings | None:
    """Return the settings of the network in ``model.init``, with the charges of the section.

    None when there is no such network or equicalc made its network, whose shape the section tells.

    Parameters
    ----------
    model : ModelSection
    elements : list of str
        Those of the data.

    Raises
    ------
    ConfigError
        The section describes another shape, impossible charges, or other elements.
    DataError, ModelFileError
        The file is missing or damaged.
    """
    if model.init is None:
        return None
    architecture, values = _described(model.init)
    if architecture == "equicalc":
        return None
    for field in dataclasses.fields(NetworkConfig):
        default = field.default_factory() if callable(field.default_factory) else field.default  # type: ignore[misc]
        if field.name not in (*CHARGES, "elements") and getattr(model, field.name) != default:
            raise ConfigError(
                f"model.{field.name} is {getattr(model, field.name)!r}, but model.init: "
                f"'{model.init}' brings a network of its own shape ({architecture}); leave "
                f"model.{field.name} out"
            )
    if set(values["elements"]) != set(elements):
        raise ConfigError(
            f"model.init: '{model.init}' has the elements {' '.join(values['elements'])}, the "
            f"data have {' '.join(elements)}; import the network again with the elements of the "
            f"data: equicalc import ... --elements {' '.join(elements)}"
        )
    try:
        return settings_of(architecture, {**values, **{k: getattr(model, k) for k in CHARGES}})
    except ValueError as error:
        raise ConfigError(f"model: {error}") from None


def _described(path: str) -> tuple[str, dict[str, Any]]:
    """Architecture and settings of the network in a model file or in the weights of a run."""
    if is_model_file(path):
        description = read_metadata(path)
    else:
        description = checkpoint.load(path, checkpoint.WEIGHTS_KIND)
    return description.get("architecture", "equicalc"), description["network"]
