"""What networks of every architecture share: reference energies, charges, and how to be called."""

import math
from typing import Any, Dict, Optional, Tuple

import torch

from equicalc.nn.charges import neutralised

REFERENCE_UNIT = 2.0**-40  # eV


class ChargedNetwork(torch.nn.Module):
    """A network with a reference energy and the width of a Gaussian charge for each element.

    Subclasses have `raw_outputs`, a `charge_head` of `equicalc.nn.charges`, `log_sigma` from
    `logarithms_of_widths`, and set `architecture`, the word for them in model files.

    Parameters
    ----------
    config : object
        Settings with elements, charge_model, has_charges, learn_sigma and width(element).
    """

    architecture = ""
    charge_head: torch.nn.Module
    log_sigma: torch.nn.Parameter
    reference_fixed: torch.Tensor
    epsilon_inf: torch.Tensor

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.charge_model = config.charge_model
        # fixed point in units of REFERENCE_UNIT: module.to(float32) leaves integers alone and so
        # does not round reference energies, which can be thousands of eV
        n_species = len(config.elements)
        self.register_buffer("reference_fixed", torch.zeros(n_species, dtype=torch.int64))
        self.reference_unit = REFERENCE_UNIT
        self.register_buffer("epsilon_inf", torch.ones(()))

    @torch.jit.unused
    def nominal_charges(self) -> torch.Tensor:
        """Return the charge of every element before its environment acts, ``[n_species]``, e."""
        nominal = self.charge_head.nominal_charges
        assert isinstance(nominal, torch.Tensor)
        return nominal.detach()

    @torch.jit.unused
    def set_nominal_charges(self, charges: Dict[str, float]) -> None:
        """Set the charge of every element before its environment acts, e."""
        values = torch.tensor([charges[e] for e in self.config.elements], dtype=torch.float64)
        with torch.no_grad():
            self.nominal_charges().copy_(values)

    @torch.jit.unused
    def sigmas(self) -> torch.Tensor:
        """Return the Gaussian width of every element, float64 ``[n_species]``, angstrom."""
        if self.config.learn_sigma:
            return torch.exp(self.log_sigma.double())
        widths = [self.config.width(e) for e in self.config.elements]
        return torch.tensor(widths, dtype=torch.float64, device=self.log_sigma.device)

    @torch.jit.unused
    def reference_energies(self) -> torch.Tensor:
        """Return the reference energy of every element, float64 ``[n_species]``, eV."""
        return self.reference_fixed.to(torch.float64) * REFERENCE_UNIT

    @torch.jit.unused
    def set_reference_energies(self, energies: Dict[str, float]) -> None:
        """Set the reference energy of every element, eV."""
        values = torch.tensor([energies[e] for e in self.config.elements], dtype=torch.float64)
        self.reference_fixed.copy_(torch.round(values / REFERENCE_UNIT))

    @torch.jit.unused
    def set_fused(self, fused: bool) -> None:
        """Go through the operators of csrc, or through torch expressions, their oracle."""
        for part in self.modules():
            if hasattr(part, "fused"):
                setattr(part, "fused", fused)  # noqa: B010 (mypy takes attributes for submodules)

    @torch.jit.unused
    def constrain(self) -> None:
        """Put weights back into what symmetry allows, after a step of training.

        Modules whose weights have more numbers than symmetry allows have a method ``constrain``.
        """
        with torch.no_grad():
            part: Any
            for part in self.modules():
                if part is not self and hasattr(part, "constrain"):
                    part.constrain()

    def raw_outputs(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies ``[n_local]`` (float64, eV) and charge variables ``[n_local, K]``.

        The variables of each charge model are listed in `equicalc.nn.charges`.

        Parameters
        ----------
        species : Tensor [n_total] int64
            Species index of local atoms, then of halo atoms.
        edge_vectors : Tensor [E, 3]
            From receiver to sender, angstrom.
        edge_index : Tensor [2, E] int64
            Receiver (sorted, < n_local) and sender.
        n_local : int
            Atoms with energies.
        """
        raise NotImplementedError

    def forward(
        self,
        species: torch.Tensor,
        edge_vectors: torch.Tensor,
        edge_index: torch.Tensor,
        n_local: int,
        total_charge: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return node energies and charges; see `raw_outputs` for the arrays.

        With a total charge Q the charges are neutralised, ``q = q~ + w (Q - sum q~) / sum w``;
        without, they are the raw ones, for callers that sum over several ranks or structures.
        Charges of the ``equilibrated`` model need a Coulomb solver: use `raw_outputs`.
        """
        energy, variables = self.raw_outputs(species, edge_vectors, edge_index, n_local)
        if self.charge_model == "none":
            return energy, torch.zeros_like(energy)
        if self.charge_model == "equilibrated":
            raise RuntimeError(
                "equilibrated charges come from a Coulomb solver; call raw_outputs for "
                "electronegativities and hardnesses"
            )
        return energy, neutralised(variables, total_charge)


def logarithms_of_widths(config: Any) -> torch.nn.Parameter:
    """Return logarithms of Gaussian widths, which stay positive widths in training."""
    return torch.nn.Parameter(
        torch.tensor([math.log(config.width(e)) for e in config.elements], dtype=torch.float64),
        requires_grad=config.learn_sigma and config.has_charges,
    )
