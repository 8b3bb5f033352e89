"""Networks to start from and to come back to: random weights with the statistics of the data."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch

from equicalc.data.batch import Batch
from equicalc.data.charge_fit import fit_charges
from equicalc.data.statistics import (
    check_per_element,
    fit_reference_energies,
    guess_charges,
    mean_born_charges,
    mean_epsilon_inf,
    rms_force,
)
from equicalc.data.structures import Structure
from equicalc.deploy import is_model_file, read_network
from equicalc.electrostatics import solve
from equicalc.errors import ConfigError, DataError
from equicalc.nn import EquiNetwork
from equicalc.nn.architectures import build, settings_of
from equicalc.nn.charged_network import ChargedNetwork
from equicalc.nn.charges import Electronegativities
from equicalc.train import checkpoint
from equicalc.train.adoption import CHARGES
from equicalc.train.potential import Potential
from equicalc.train.settings import Config


def make_network(
    config: Config,
    training: list[Structure],
    graphs: list[Batch],
    device: torch.device,
    fresh: bool = True,
) -> ChargedNetwork:
    """Network with random (or earlier) weights and the statistics of the training data.

    With `fresh` False a checkpoint will overwrite everything: only the shape is made.
    """
    model = config.model
    elements = model.elements
    torch.manual_seed(config.training.seed)
    # float64 at birth, so that both precisions start from the same numbers.
    network = build(model.network(elements))
    # operators of imported networks have no second derivatives
    network.set_fused(network.architecture == "equicalc")
    dtype = getattr(torch, config.run.dtype)
    if not fresh:
        return network.to(device=device, dtype=dtype)
    complete = model.init is not None and load_weights(network, model.init)
    if not complete:
        epsilon_inf = model.epsilon_inf or mean_epsilon_inf(training)
        charges = starting_charges(config, training, network, epsilon_inf)
        mean_neighbours = sum(g.edge_index.shape[1] for g in graphs) / sum(map(len, training))
        if isinstance(network, EquiNetwork):
            network.set_statistics(
                dict.fromkeys(elements, 0.0),
                rms_force(training),
                mean_neighbours,
                charges,
                epsilon_inf,
            )
        else:
            network.set_nominal_charges(charges)
            network.epsilon_inf.fill_(epsilon_inf)
        if model.charge_model == "equilibrated":
            set_electronegativities(network, training[0])
    network = network.to(device=device)
    if not complete or model.reference_energies is not None or model.refit_reference_energies:
        set_reference_energies(network, config, training, graphs)
    return network.to(dtype)


def starting_charges(
    config: Config, training: list[Structure], network: ChargedNetwork, epsilon_inf: float
) -> dict[str, float]:
    """Charge of each element to start from, e: given, or from Born charges, forces, or a guess."""
    model, elements = config.model, config.model.elements
    if model.initial_charges is not None:
        _check_elements_of(model.initial_charges, elements, "model.initial_charges")
        return model.initial_charges
    if not model.has_charges:
        return dict.fromkeys(elements, 0.0)
    charges = mean_born_charges(training, elements)
    source = "mean Born charges / sqrt(eps_inf)"
    if charges is not None:
        charges = {e: q / math.sqrt(epsilon_inf) for e, q in charges.items()}
    else:
        sigmas = dict(zip(elements, network.sigmas().tolist(), strict=True))
        fit = fit_charges(training, elements, sigmas)
        if fit is not None:
            charges = fit.charges
            source = (
                f"fit to forces: error {1000 * fit.error:.1f} meV/angstrom with charges and "
                f"springs up to {fit.reach:.2f} angstrom, {1000 * fit.error_without:.1f} without"
            )
        elif model.charge_model == "fixed":
            raise ConfigError(
                "model.charge_model: fixed needs charges, and the forces of the data give none; "
                "type model.initial_charges, for example {K: 0.7, Cl: -0.7}"
            )
        else:
            charges = guess_charges(training, elements)
            source = "guess from electronegativities; the forces of the data give no charges"
    if config.run.progress:
        text = ", ".join(f"{e} {q:+.3f}" for e, q in charges.items())
        print(f"charges to start from: {text} e ({source})", file=sys.stderr)
    return charges


def set_electronegativities(network: ChargedNetwork, structure: Structure) -> None:
    """Give equilibrated charges electronegativities at which a structure has its nominal charges.

    At the minimum chi_i + eta_i q_i + phi_i is the same for all atoms; chi is set to the mean of
    -(eta q + phi) of each element.
    """
    elements = network.config.elements
    head = network.charge_head
    assert isinstance(head, Electronegativities)
    species = torch.tensor([elements.index(s) for s in structure.symbols])
    with torch.no_grad():
        charges = head.nominal_charges[species].double().numpy()
        least = head.self_interaction * torch.exp(-head.logarithm_of_sigma)
        hardness = least + head.hardness_scale * torch.nn.functional.softplus(head.hardness)
        potentials = solve(
            charges,
            structure.positions,
            structure.cell,
            structure.pbc,
            network.sigmas()[species].numpy(),
        ).potentials
        values = -(hardness[species].double().numpy() * charges + potentials)
        for index in range(len(elements)):
            of_element = values[(species == index).numpy()]
            if len(of_element):
                head.electronegativity[index] = float(of_element.mean())


def set_reference_energies(
    network: ChargedNetwork, config: Config, training: list[Structure], graphs: list[Batch]
) -> None:
    """Give the network its reference energies: those of the configuration, or a fit.

    The fit is to what the untrained network leaves over: Coulomb and repulsive energies are several
    eV per atom from the first step on, and would otherwise be learned slowly as an offset.
    """
    model, elements = config.model, config.model.elements
    if model.reference_energies is not None:
        _check_elements_of(model.reference_energies, elements, "model.reference_energies")
        values = model.reference_energies
    else:
        network.set_reference_energies(dict.fromkeys(elements, 0.0))
        potential = Potential(network)
        energies = [float(potential(g, need_stress=False).energy[0].detach()) for g in graphs]
        values = fit_reference_energies(training, elements, np.array(energies))
    network.set_reference_energies(values)


def _check_elements_of(values: dict[str, float], elements: list[str], key: str) -> None:
    try:
        check_per_element(values, elements, key)
    except DataError as error:
        raise ConfigError(str(error)) from None


def load_weights(network: ChargedNetwork, path: str | Path) -> bool:
    """Give a network the weights of an earlier run or a model file.

    Returns
    -------
    bool
        Whether these are all weights; False when the earlier network lacks the charges.

    Raises
    ------
    ConfigError
        The shapes differ.
    DataError, ModelFileError
        The file is missing, damaged or something else.
    """
    if is_model_file(path):
        earlier = read_network(path)
        stored, state = earlier.config.to_dict(), earlier.state_dict()
    else:
        content = checkpoint.load(path, checkpoint.WEIGHTS_KIND)
        stored, state = content["network"], content["state"]
    complete = stored.get("charge_model") == network.config.charge_model
    given = () if network.architecture == "equicalc" else CHARGES
    for key, value in network.config.to_dict().items():
        if key not in given and stored.get(key) != value:
            raise ConfigError(
                f"model.init: '{path}' has model.{key} = {stored.get(key)!r}, the configuration "
                f"says {value!r}; a run can only start from a network of the same shape"
            )
    if not complete:
        state = {k: v for k, v in state.items() if not k.startswith(("charge_", "log_sigma"))}
    network.load_state_dict(state, strict=complete)
    return complete


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
    network = build(settings_of(content.get("architecture", "equicalc"), content["network"]))
    network.set_fused(network.architecture == "equicalc")
    network.load_state_dict(content["state"])
    return Potential(network.to(dtype))
