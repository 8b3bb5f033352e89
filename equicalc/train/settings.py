"""The settings of a training run: one dataclass per section of the YAML file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from equicalc.errors import ConfigError
from equicalc.nn import NetworkConfig
from equicalc.nn.architectures import Settings
from equicalc.train.adoption import adopted_settings
from equicalc.train.loss import TERMS, LossShape, LossWeights


@dataclass
class ModelSection(NetworkConfig):
    """Section ``model``: every field of `equicalc.nn.NetworkConfig`, and where it starts from.

    Parameters
    ----------
    elements : list of str
        Chemical symbols; default: those in the data.
    initial_charges : dict of str to float, optional
        Charge of each element to start from (for ``fixed``: to stay at), e; default: those that
        explain the forces best together with pair springs, see `equicalc.data.charge_fit`.
    epsilon_inf : float, optional
        Electronic dielectric constant; default: mean of the data, 1 where they have none.
    reference_energies : dict of str to float, optional
        Energy of each element, eV; default: fitted to the training energies (with ``init``: those
        of the earlier model).
    refit_reference_energies : bool
        With ``init``: fit the reference energies again, for data of another level of theory. Always
        done when charges are added to a network that has none.
    init : str, optional
        Where weights come from: ``best.pt`` of an earlier run, a model file, or the name of a
        shipped model, with the same network. A network that was imported from another code brings
        its shape with it; charges can be added to it (``none``, ``fixed``, ``predicted``).
    """

    initial_charges: dict[str, float] | None = None
    epsilon_inf: float | None = None
    reference_energies: dict[str, float] | None = None
    refit_reference_energies: bool = False
    init: str | None = None

    def __post_init__(self) -> None:
        # Elements may still be missing; `network` checks everything.
        pass

    def network(self, elements: list[str]) -> Settings:
        """Return the network's own configuration; ConfigError for impossible values."""
        adopted = adopted_settings(self, elements)
        if adopted is not None:
            return adopted
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(NetworkConfig)}
        values["elements"] = list(elements)
        try:
            return NetworkConfig(**values)
        except ValueError as error:
            raise ConfigError(str(error)) from None


@dataclass
class DataSection:
    """Section ``data``.

    Parameters
    ----------
    train : str or list of str
        Extended-XYZ files, relative to the configuration file.
    validation : str or list of str, optional
        Files to validate on; default: a part of the training files.
    validation_fraction : float
        That part.
    split_seed : int
        Decides which structures go to validation.
    max_energy_above_min : float, optional
        Leave out structures this far (eV/atom) above the lowest one of the same composition.
    max_force : float, optional
        Leave out structures with a larger force on an atom, eV/angstrom.
    keys : dict of str to str
        Names in the files of ``energy``, ``forces``, ``stress``, ``charges``, ``dipole``,
        ``polarization`` and ``born_effective_charges`` when they are not these: ``{energy:
        REF_energy}``.
    """

    train: list[str] = field(default_factory=list)
    validation: list[str] | None = None
    validation_fraction: float = 0.1
    split_seed: int = 0
    max_energy_above_min: float | None = None
    max_force: float | None = None
    keys: dict[str, str] = field(default_factory=dict)


@dataclass
class LossSection:
    """Section ``loss``: weighted mean squared errors.

    Parameters
    ----------
    energy : float
        Weight of the energy error per atom, (eV/atom)^-2.
    forces : float
        Weight of force components, (eV/angstrom)^-2.
    stress : float
        Weight of the components of the virial error per atom (stress x volume / atoms), eV^-2;
        structures without stress are left out.
    charges, dipole, polarization, born : float
        Weights of charges (e^-2), dipole per atom of clusters ((e angstrom)^-2), polarisation times
        volume per atom of crystals (the same), and Born charges (e^-2).
    huber_energy : float, optional
        Energy errors per atom beyond this (eV) count linearly.
    huber_forces : float, optional
        Force errors on an atom beyond this (eV/angstrom) count linearly.
    force_scale : float, optional
        A structure with rms force component F has weight 1 / (1 + (F / force_scale)^2).
    final : dict of str to float, optional
        Other weights at the end of the training, for example ``{energy: 100}``.
    final_from : float
        Part of the epochs after which the weights move towards ``final``.
    final_ramp : float
        Part of the epochs that this takes.
    """

    energy: float = 10.0
    forces: float = 1.0
    stress: float = 1.0
    charges: float = 0.0
    dipole: float = 0.0
    polarization: float = 0.0
    born: float = 0.0
    huber_energy: float | None = None
    huber_forces: float | None = None
    force_scale: float | None = None
    final: dict[str, float] | None = None
    final_from: float = 0.7
    final_ramp: float = 0.1

    def initial_weights(self) -> LossWeights:
        """Weights at the start."""
        return LossWeights(**{term: getattr(self, term) for term in TERMS})

    def final_weights(self) -> LossWeights:
        """Weights at the end; validation uses them throughout, so that epochs compare."""
        return dataclasses.replace(self.initial_weights(), **(self.final or {}))

    def weights(self, progress: float) -> LossWeights:
        """Weights when `progress` (0 to 1) of the epochs is over."""
        part = (progress - self.final_from) / max(self.final_ramp, 1e-12)
        return self.initial_weights().blend(self.final_weights(), min(max(part, 0.0), 1.0))

    def shape(self) -> LossShape:
        """How errors become numbers."""
        return LossShape(self.huber_energy, self.huber_forces, self.force_scale)


@dataclass
class TrainingSection:
    """Section ``training``.

    Parameters
    ----------
    max_epochs : int
        Passes over the training data; the learning rate follows this number.
    max_time_minutes : float, optional
        Stop after the epoch in which this time is over; ``--resume`` goes on.
    batch_size : int
        Structures per step, over all devices.
    learning_rate : float
        Highest learning rate.
    warmup_epochs : float
        Epochs of linear warm-up.
    final_learning_rate : float
        Last learning rate as a part of the highest (cosine in between).
    weight_decay : float
        AdamW's decay of weight matrices; biases, shifts and per-element numbers do not decay.
    betas : list of float
        AdamW's two decay rates.
    ema_decay : float
        Weights are averaged over about 1 / (1 - ema_decay) steps; validation, ``best.pt`` and the
        exported model use the average. 0: no averaging.
    gradient_clip : float, optional
        Largest norm of the gradient.
    patience : int, optional
        Stop when the validation loss has not improved for this many epochs.
    validate_every : int
        Epochs between validations.
    checkpoint_every : int
        Epochs between checkpoints.
    seed : int
        Initial weights and order of the data.
    """

    max_epochs: int = 500
    max_time_minutes: float | None = None
    batch_size: int = 4
    learning_rate: float = 5e-3
    warmup_epochs: float = 2.0
    final_learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    ema_decay: float = 0.99
    gradient_clip: float | None = 10.0
    patience: int | None = None
    validate_every: int = 1
    checkpoint_every: int = 1
    seed: int = 0


@dataclass
class RunSection:
    """Section ``run``.

    Parameters
    ----------
    directory : str
        Where results go, relative to the current directory; default ``runs/<name of the file>``.
    device : str
        ``cpu`` or ``cuda``.
    devices : int
        Processes, one per device.
    dtype : str
        ``float32`` or ``float64``: precision of the network.
    threads : int, optional
        CPU threads of all processes together; default: torch's.
    progress : bool
        Show a progress bar.
    plots : bool
        Draw pictures at the end.
    """

    directory: str | None = None
    device: str = "cpu"
    devices: int = 1
    dtype: str = "float32"
    threads: int | None = None
    progress: bool = True
    plots: bool = True


@dataclass
class AboutSection:
    """Section ``about``: what goes with the model into its file.

    Parameters
    ----------
    name : str, optional
        Name of the model; default: name of the configuration file.
    level_of_theory, data, licence, citation : str, optional
        Free text: the method behind the labels, where the data come from, ...
    authors : list of str
        Who made the model.
    """

    name: str | None = None
    level_of_theory: str | None = None
    data: str | None = None
    licence: str | None = None
    citation: str | None = None
    authors: list[str] = field(default_factory=list)


@dataclass
class Config:
    """All sections."""

    about: AboutSection
    model: ModelSection
    data: DataSection
    loss: LossSection
    training: TrainingSection
    run: RunSection

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, every default filled in."""
        return dataclasses.asdict(self)


SECTIONS: dict[str, type] = {
    "about": AboutSection,
    "model": ModelSection,
    "data": DataSection,
    "loss": LossSection,
    "training": TrainingSection,
    "run": RunSection,
}
