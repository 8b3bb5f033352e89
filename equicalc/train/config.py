"""The training configuration, read strictly: a mistake is named with its place and a remedy."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

import yaml

from equicalc.data.structures import LABELS
from equicalc.dispersion import check as check_dispersion
from equicalc.errors import ConfigError
from equicalc.models import resolve, shipped
from equicalc.train.loss import TERMS
from equicalc.train.settings import SECTIONS, Config


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a training configuration.

    Parameters
    ----------
    path : str or Path
        YAML file.
    overrides : mapping, optional
        Values that replace those of the file, by dotted name: ``{"training.max_epochs": 10}``.

    Returns
    -------
    Config
        File names in it are absolute or relative to the current directory.

    Raises
    ------
    ConfigError
        The file is missing or no YAML, or a key is unknown, of a wrong type or impossible.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no configuration file '{path}'")
    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(
            f"'{path}' must hold the sections {', '.join(SECTIONS)}; found {type(raw).__name__}"
        )
    raw = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        if not key:
            raise ConfigError(f"'{dotted}' must be SECTION.KEY, for example training.max_epochs")
        entries = raw.get(section)
        raw[section] = {**(entries if isinstance(entries, dict) else {}), key: value}
    config = parse_config(raw, str(path))
    base = path.parent
    config.data.train = [_beside(base, name) for name in config.data.train]
    if config.data.validation is not None:
        config.data.validation = [_beside(base, name) for name in config.data.validation]
    if config.model.init is not None:
        config.model.init = _start(base, config.model.init)
    config.about.name = config.about.name or path.stem
    config.run.directory = config.run.directory or str(Path("runs") / path.stem)
    return config


def parse_config(raw: Mapping[str, Any], source: str = "configuration") -> Config:
    """Check plain data (section -> key -> value) and return it typed; ConfigError otherwise."""
    for key in raw:
        if key not in SECTIONS:
            hint = closest(str(key), SECTIONS)
            for section, kind in SECTIONS.items():
                if not hint and key in {f.name for f in dataclasses.fields(kind)}:
                    hint = f". The key belongs into section '{section}'"
            raise ConfigError(
                f"{source}: unknown section '{key}'{hint} (sections: {', '.join(SECTIONS)})"
            )
    sections = {
        name: _section(kind, name, raw.get(name), source) for name, kind in SECTIONS.items()
    }
    config = Config(**sections)
    _check_values(config, source)
    return config


def closest(name: str, known: typing.Iterable[str]) -> str:
    """Return '. Did you mean ...?' with the most similar known name, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f". Did you mean '{matches[0]}'?" if matches else ""


def _start(base: Path, name: str) -> str:
    """File of ``model.init``: one beside the configuration, or a shipped model."""
    path = _beside(base, name)
    return str(resolve(name)) if not Path(path).is_file() and name in shipped() else path


def _beside(base: Path, name: str) -> str:
    return name if Path(name).is_absolute() else str(base / name)


def _section(kind: type, name: str, values: Any, source: str) -> Any:
    """One section from plain data."""
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source}: section '{name}' must hold 'key: value' lines; found "
            f"{type(values).__name__} {values!r}"
        )
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    converted = {}
    for key, value in values.items():
        if key not in names:
            hint = closest(str(key), names)
            if not hint:
                others = [s for s, k in SECTIONS.items() if key in typing.get_type_hints(k)]
                hint = f". The key belongs into section '{others[0]}'" if others else ""
            raise ConfigError(
                f"{source}: unknown key '{key}' in section '{name}'{hint} (keys: "
                f"{', '.join(names)})"
            )
        converted[key] = _convert(value, hints[key], f"{source}: {name}.{key}")
    return kind(**converted)


def _convert(value: Any, expected: Any, where: str) -> Any:
    """Check one value against a type; only int -> float and one value -> list are converted."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = next(a for a in arguments if a is not type(None))
        return _convert(value, inner, where)
    if origin is list:
        items = value if isinstance(value, list) else [value]
        return [_convert(item, arguments[0], where) for item in items]
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(
                f"{where} must be a mapping such as {{K: 0.7, Cl: -0.7}}; found {value!r}"
            )
        return {
            _convert(k, arguments[0], where): _convert(v, arguments[1], where)
            for k, v in value.items()
        }
    if expected is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 (without a dot) as text.
        try:
            return float(value)
        except ValueError:
            pass
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, expected) and not (isinstance(value, bool) and expected is not bool):
        return value
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    hint = ""
    if expected is str and isinstance(value, bool):
        hint = ' (quote names that YAML takes for yes or no, such as "No" or "Y")'
    raise ConfigError(
        f"{where} must be {names.get(expected, str(expected))}; found {value!r} "
        f"({type(value).__name__}){hint}"
    )


def _check_values(config: Config, source: str) -> None:
    """Raise ConfigError for values which have the right type and make no sense."""

    def require(condition: bool, key: str, expected: str) -> None:
        if not condition:
            section, name = key.split(".")
            value = getattr(getattr(config, section), name)
            raise ConfigError(f"{source}: {key} is {value!r}; it must be {expected}")

    training, data, loss, run = config.training, config.data, config.loss, config.run
    require(bool(data.train), "data.train", "one extended-XYZ file or a list of them")
    require(0.0 < data.validation_fraction < 1.0, "data.validation_fraction", "between 0 and 1")
    for key in data.keys:
        if key not in LABELS:
            raise ConfigError(
                f"{source}: data.keys has '{key}'{closest(key, LABELS)}; expected names of "
                f"{', '.join(LABELS)}"
            )
    for key in ("max_energy_above_min", "max_force"):
        value = getattr(data, key)
        require(value is None or value > 0.0, f"data.{key}", "positive")
    for key in ("max_epochs", "batch_size", "validate_every", "checkpoint_every"):
        require(getattr(training, key) >= 1, f"training.{key}", "at least 1")
    require(training.learning_rate > 0.0, "training.learning_rate", "positive")
    require(
        0.0 <= training.final_learning_rate <= 1.0,
        "training.final_learning_rate",
        "between 0 and 1 (part of learning_rate)",
    )
    require(training.warmup_epochs >= 0.0, "training.warmup_epochs", "0 or more")
    require(training.weight_decay >= 0.0, "training.weight_decay", "0 or more")
    require(0.0 <= training.ema_decay < 1.0, "training.ema_decay", "at least 0 and below 1")
    require(
        len(training.betas) == 2 and all(0.0 <= b < 1.0 for b in training.betas),
        "training.betas",
        "two numbers from 0 to below 1",
    )
    for key in ("gradient_clip", "max_time_minutes", "patience"):
        value = getattr(training, key)
        require(value is None or value > 0, f"training.{key}", "positive")
    for term in TERMS:
        require(getattr(loss, term) >= 0.0, f"loss.{term}", "0 or more")
    for key in ("huber_energy", "huber_forces", "force_scale"):
        value = getattr(loss, key)
        require(value is None or value > 0.0, f"loss.{key}", "positive")
    for key, value in (loss.final or {}).items():
        if key not in TERMS or value < 0.0:
            raise ConfigError(
                f"{source}: loss.final has '{key}: {value}'{closest(key, TERMS)}; expected weights "
                f"of {', '.join(TERMS)}, 0 or more"
            )
    require(
        any(getattr(loss.initial_weights(), t) > 0.0 for t in TERMS),
        "loss.forces",
        "positive when all other weights are 0",
    )
    require(run.dtype in ("float32", "float64"), "run.dtype", "float32 or float64")
    require(run.devices >= 1, "run.devices", "at least 1")
    require(run.threads is None or run.threads >= 1, "run.threads", "at least 1")
    require(run.device == "cpu" or run.device.startswith("cuda"), "run.device", "cpu or cuda")
    _check_response(config, source)


def _check_response(config: Config, source: str) -> None:
    """Raise ConfigError for labels that the charge model has nothing to compare with."""
    model, weights = config.model.charge_model, config.loss.final_weights()
    for term in ("charges", "dipole"):
        if model == "none" and getattr(weights, term) > 0.0:
            raise ConfigError(
                f"{source}: loss.{term} is set for a model without charges; leave it out, or set "
                "model.charge_model: predicted"
            )
    for term in ("polarization", "born"):
        if model not in ("fixed", "transferred") and getattr(weights, term) > 0.0:
            raise ConfigError(
                f"{source}: loss.{term} needs charges that have a polarisation in a crystal; "
                f"found model.charge_model: {model}, set model.charge_model: transferred"
            )
    if config.model.dispersion is not None:
        check_dispersion(config.model.dispersion)
    epsilon = config.model.epsilon_inf
    if epsilon is not None and not epsilon >= 1.0:
        raise ConfigError(f"{source}: model.epsilon_inf is {epsilon}; it must be 1 or more")
