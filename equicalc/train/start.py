"""Networks to start from and to come back to: random weights with the statistics of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from equicalc.data.batch import Batch
from equicalc.data.statistics import (
    check_per_element,
    fit_reference_energies,
    guess_charges,
    rms_force,
)
from equicalc.data.structures import Structure
from equicalc.errors import ConfigError, DataError
from equicalc.nn import EquiNetwork, NetworkConfig
from equicalc.train import checkpoint
from equicalc.train.potential import Potential
from equicalc.train.settings import Config


def make_network(
    config: Config,
    training: list[Structure],
    graphs: list[Batch],
    device: torch.device,
    fresh: bool = True,
) -> EquiNetwork:
    """Network with random (or earlier) weights and the statistics of the training data.

    With `fresh` False a checkpoint will overwrite everything: only the shape is made.
    """
    model = config.model
    elements = model.elements
    torch.manual_seed(config.training.seed)
    # float64 at birth, so that both precisions start from the same numbers.
    network = EquiNetwork(model.network(elements)).to(torch.float64)
    dtype = getattr(torch, config.run.dtype)
    if not fresh:
        return network.to(device=device, dtype=dtype)
    if model.init is not None:
        load_weights(network, model.init)
    else:
        charges = model.initial_charges
        if charges is None:
            charges = guess_charges(training, elements)
        _check_elements_of(charges, elements, "model.initial_charges")
        mean_neighbours = sum(g.edge_index.shape[1] for g in graphs) / sum(map(len, training))
        network.set_statistics(
            dict.fromkeys(elements, 0.0), rms_force(training), mean_neighbours, charges
        )
    network = network.to(device=device)
    set_reference_energies(network, config, training, graphs)
    return network.to(dtype)


def set_reference_energies(
    network: EquiNetwork, config: Config, training: list[Structure], graphs: list[Batch]
) -> None:
    """Give the network its reference energies: those of the configuration, or a fit.

    The fit is to what the untrained network leaves over: Coulomb and repulsive energies are several
    eV per atom from the first step on, and would otherwise be learned slowly as an offset.
    """
    model, elements = config.model, config.model.elements
    if model.reference_energies is not None:
        _check_elements_of(model.reference_energies, elements, "model.reference_energies")
        values = model.reference_energies
    elif model.init is not None and not model.refit_reference_energies:
        return
    else:
        _write_reference(network, dict.fromkeys(elements, 0.0))
        potential = Potential(network)
        energies = [float(potential(g, need_stress=False).energy[0].detach()) for g in graphs]
        values = fit_reference_energies(training, elements, np.array(energies))
    _write_reference(network, values)


def _write_reference(network: EquiNetwork, values: dict[str, float]) -> None:
    """Set only the reference energies, through the network's own setter."""
    scale = float(network.energy_scale)
    mean_neighbours = float(network.message_scale) ** -2
    network.set_statistics(values, scale, mean_neighbours, None)


def _check_elements_of(values: dict[str, float], elements: list[str], key: str) -> None:
    try:
        check_per_element(values, elements, key)
    except DataError as error:
        raise ConfigError(str(error)) from None


def load_weights(network: EquiNetwork, path: str | Path) -> None:
    """Give a network the weights of an earlier run; ConfigError when the shapes differ."""
    content = checkpoint.load(path, checkpoint.WEIGHTS_KIND)
    stored = content["network"]
    for key, value in network.config.to_dict().items():
        if stored.get(key) != value:
            raise ConfigError(
                f"model.init: '{path}' has model.{key} = {stored.get(key)!r}, the configuration "
                f"says {value!r}; a run can only start from a network of the same shape"
            )
    network.load_state_dict(content["state"])


def load_best(directory: str | Path, dtype: torch.dtype = torch.float64) -> Potential:
    """Potential with the best weights of a run.

    Parameters
    ----------
    directory : str or Path
        A run directory.
    dtype : torch.dtype
        Precision of the network.

    Raises
    ------
    DataError
        When there is no ``best.pt`` or it is damaged.
    """
    content = checkpoint.load(Path(directory) / "best.pt", checkpoint.WEIGHTS_KIND)
    network = EquiNetwork(NetworkConfig.from_dict(content["network"])).to(torch.float64)
    network.load_state_dict(content["state"])
    return Potential(network.to(dtype))
