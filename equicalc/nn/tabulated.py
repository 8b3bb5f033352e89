"""What networks of other codes share: tables of radial functions, and charges beside them."""

from dataclasses import dataclass
from typing import Any, Dict, Optional

import torch

from equicalc.nn.charged_network import ChargedNetwork, logarithms_of_widths
from equicalc.nn.charges import CHARGE_WEIGHTS, ElementCharges, NoCharges, n_extra_outputs
from equicalc.nn.radial_table import RadialTable

# The charge models that a network of another code can be given.
ADDED_CHARGES = ("none", "fixed", "predicted")


@dataclass
class AddedCharges:
    """Charges that a network of another code is given; see `equicalc.nn.NetworkConfig`.

    Parameters
    ----------
    charge_model : str
        ``none``, ``fixed`` or ``predicted``.
    charge_weights : str
        ``uniform``, ``element`` or ``environment``.
    sigma : float
        Width of the Gaussian charges, angstrom.
    sigmas : dict of str to float, optional
        Widths of single elements that differ from `sigma`.
    learn_sigma : bool
        Train the width of every element, starting from these.
    """

    charge_model: str = "none"
    charge_weights: str = "uniform"
    sigma: float = 1.0
    sigmas: Optional[Dict[str, float]] = None
    learn_sigma: bool = False

    # Of all networks without these, for what deploys networks of any kind.
    dispersion = None
    formal_charges = None

    def check_charges(self) -> None:
        """Raise ValueError for settings that no network of another code can have."""
        if self.charge_model not in ADDED_CHARGES:
            raise ValueError(
                f"charge_model is {self.charge_model!r}; networks of other codes can have one of "
                f"{', '.join(ADDED_CHARGES)}"
            )
        if self.charge_weights not in CHARGE_WEIGHTS:
            raise ValueError(
                f"charge_weights is {self.charge_weights!r}; it must be one of "
                f"{', '.join(CHARGE_WEIGHTS)}"
            )
        for width in (self.sigma, *(self.sigmas or {}).values()):
            if not width > 0:
                raise ValueError(f"widths of charges must be positive, found {width}")

    @property
    def has_charges(self) -> bool:
        """Whether the network has charges and a Coulomb energy."""
        return self.charge_model != "none"

    def width(self, element: str) -> float:
        """Gaussian width of an element (the first one, when widths are trained), angstrom."""
        return (self.sigmas or {}).get(element, self.sigma)


class TabulatedNetwork(ChargedNetwork):
    """A network of another code, whose radial functions come from tables.

    It may have charges of its own from scalars of each atom: the energies of its layers are then
    those without the Coulomb energy. Subclasses have `prepare`, which fills the tables from the
    weights they stand for.

    Parameters
    ----------
    config : AddedCharges
        With the elements.
    n_scales : int
        Scales of what layers add to the energy: 1, or one for each element.
    n_scalars : int
        Scalars of an atom that charges depend on.
    """

    energy_scale: torch.Tensor

    def __init__(self, config: Any, n_scales: int, n_scalars: int):
        super().__init__(config)
        n_species = len(config.elements)
        self.register_buffer("energy_scale", torch.ones(n_scales))
        n_outputs = n_extra_outputs(config.charge_model, config.charge_weights)
        # zero: charges begin as nominal ones
        self.charge_outputs = torch.nn.Parameter(
            torch.zeros(n_scalars, n_outputs), requires_grad=n_outputs > 0
        )
        self.charge_head: torch.nn.Module = NoCharges(n_species)
        if config.has_charges:
            self.charge_head = ElementCharges(
                n_species, config.charge_model == "predicted", config.charge_weights
            )
        self.log_sigma = logarithms_of_widths(config)

    def charge_variables(self, scalars: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """Return the variables of the charge model ``[n_local, K]``.

        Parameters
        ----------
        scalars : Tensor [n_local, C]
            Invariants of each atom.
        local : Tensor [n_local] int64
            Species.
        """
        outputs = torch.matmul(scalars, self.charge_outputs)
        return self.charge_head.of_atoms(outputs, local)  # type: ignore[operator]

    @torch.jit.unused
    def set_reference(self, energies: torch.Tensor, scale: torch.Tensor) -> None:
        """Set the energy of every element and the scale of what layers add, eV."""
        self.set_reference_energies(dict(zip(self.config.elements, energies.tolist(), strict=True)))
        self.energy_scale.copy_(scale)

    @torch.jit.unused
    def empty_tables(self) -> None:
        """Drop the tables, for small files; `prepare` fills them again."""
        for module in self.modules():
            if isinstance(module, RadialTable):
                module.coefficients = torch.zeros(0, dtype=torch.float64)
