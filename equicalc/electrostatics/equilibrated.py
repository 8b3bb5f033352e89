"""Charges at the minimum of the energy, differentiable: the definition used in training."""

from __future__ import annotations

import math

import numpy as np
import torch

from equicalc.electrostatics import differentiable, lattice, wave_sum
from equicalc.electrostatics.constants import COULOMB_CONSTANT
from equicalc.electrostatics.lattice import Boundary
from equicalc.errors import DataError


def equilibrated_charges(
    chi: torch.Tensor,
    eta: torch.Tensor,
    positions: torch.Tensor,
    cells: torch.Tensor,
    pbc: torch.Tensor,
    structure: torch.Tensor,
    sigma: float | torch.Tensor,
    total_charge: torch.Tensor,
    accuracy: float = 1e-10,
    derivatives: int = 2,
) -> torch.Tensor:
    r"""Charges which minimise the energy of each structure at its total charge.

    .. math:: E(q) = \sum_i \chi_i q_i + \frac12 \sum_i \eta_i q_i^2 + E_C(q), \qquad
              \sum_i q_i = Q

    (Rappe and Goddard, J. Phys. Chem. 95, 3358 (1991)) with the Coulomb energy of Gaussian charges
    of `coulomb_energies`. The minimum comes from a Cholesky factorisation per structure, without a
    graph. The graph is that of Newton steps :math:`q \leftarrow q - K \nabla E(q)` with the inverse
    K of the quadratic form kept constant: they start at the minimum, so they change nothing, and
    each of them makes one more order of derivatives right.

    Parameters
    ----------
    chi, eta
        [N], electronegativity in V and hardness in V/e. The form is positive definite for
        eta_i > k_e / (sigma_i sqrt(pi)).
    positions, cells, pbc, structure, sigma, accuracy
        As in `coulomb_energies`.
    total_charge
        [S], e.
    derivatives
        Up to which order derivatives of the charges are right. Those of the energy at the minimum
        are right to order 2 n + 1: training on energies, forces and stresses needs 1, training on
        derivatives of charges (Born charges) 2.

    Returns
    -------
    torch.Tensor
        [N], e, in the type of `positions`, differentiable in all tensors.

    Raises
    ------
    ValueError
        As `coulomb_energies`; `DataError` where the energy has no minimum.
    """
    n_atoms, n_structures = positions.shape[0], cells.shape[0]
    expected = {
        "chi": (chi, (n_atoms,)),
        "eta": (eta, (n_atoms,)),
        "total_charge": (total_charge, (n_structures,)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}; found {tuple(tensor.shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds NaN or infinity")
    differentiable.check_inputs(torch.zeros_like(chi), positions, cells, pbc, structure)

    def slope(q: torch.Tensor, work: torch.dtype, keep: bool) -> torch.Tensor:
        """dE/dq; with a graph when `keep`."""
        with torch.enable_grad():
            if not q.requires_grad:
                q = q.detach().requires_grad_()
            tensors = [chi, eta, positions, cells, torch.as_tensor(sigma, device=cells.device)]
            if not keep:
                tensors = [tensor.detach() for tensor in tensors]
            x, h, r, c = (tensor.to(work) for tensor in tensors[:4])
            energies = differentiable.coulomb_energies(
                q, r, c, pbc, structure, tensors[4].double(), accuracy
            )
            (potentials,) = torch.autograd.grad(energies.sum(), q, create_graph=keep)
            return x + h * q + potentials

    counts = torch.bincount(structure, minlength=n_structures)
    inverse = _Inverse(eta, positions, cells, pbc, structure, sigma, accuracy)
    share = (total_charge.double() / counts)[structure]
    exact = share.detach()
    # The second step removes what the first one leaves through rounding.
    for _ in range(2):
        exact = exact - inverse(slope(exact, torch.float64, False)).detach()
    tensors = [chi, eta, positions, cells, total_charge, torch.as_tensor(sigma)]
    work = positions.dtype
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
        return exact.to(work)
    charges = (exact + (share - share.detach())).to(work)
    for _ in range(derivatives):
        residual = slope(charges, work, True)
        charges = charges - inverse((residual - residual.detach()).double()).to(work)
    return charges


class _Inverse:
    """Inverse of the second derivative of the energy within the charges that sum to zero."""

    def __init__(
        self,
        eta: torch.Tensor,
        positions: torch.Tensor,
        cells: torch.Tensor,
        pbc: torch.Tensor,
        structure: torch.Tensor,
        sigma: float | torch.Tensor,
        accuracy: float,
    ) -> None:
        n_structures = cells.shape[0]
        counts = torch.bincount(structure, minlength=n_structures).tolist()
        self.shape = n_structures, max(counts, default=0)
        widths = differentiable.widths_of(sigma, positions).detach()
        order = torch.argsort(structure, stable=True)
        self.matrix = torch.zeros(
            *self.shape, self.shape[1], dtype=torch.float64, device=positions.device
        )
        rank = torch.empty_like(structure)
        host_pbc = pbc.detach().cpu().numpy()
        hardness, places = eta.detach().double(), positions.detach().double()
        for s, own in enumerate(order.split(counts)):
            n = len(own)
            rank[own] = torch.arange(n, device=own.device)
            if n < 2:
                continue
            cell = cells[s].detach().double()
            form = coulomb_matrix(places[own], widths[own], cell, host_pbc[s], accuracy)
            form = form + torch.diag(hardness[own])
            where = f" of structure {s}" if n_structures > 1 else ""
            self.matrix[s, :n, :n] = _plane_inverse(form, where)
        self.place = structure, rank

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Apply to [N]."""
        padded = values.new_zeros(self.shape).index_put(self.place, values)
        return (self.matrix @ padded[..., None])[..., 0][self.place]


def _plane_inverse(form: torch.Tensor, where: str) -> torch.Tensor:
    """Inverse of a quadratic form [n, n] on the plane of vectors that sum to zero."""
    centred = form - form.mean(0) - form.mean(1, keepdim=True) + form.mean()
    scale = form.diagonal().mean().abs()
    # The direction out of the plane gets a curvature, which leaves the inverse again.
    factor, info = torch.linalg.cholesky_ex(centred + scale / len(form))
    if int(info) or not bool(torch.isfinite(factor).all()):
        raise DataError(
            f"the energy{where} has no minimum in the charges: the hardness eta is too small. It "
            "must be more than k_e / (sigma sqrt(pi)) for the Gaussians, which have no energy of "
            "their own here"
        )
    inverse = torch.cholesky_inverse(factor)
    return inverse - 1.0 / (scale * len(form))


def coulomb_matrix(
    positions: torch.Tensor,
    widths: torch.Tensor,
    cell: torch.Tensor,
    pbc: np.ndarray,
    accuracy: float,
) -> torch.Tensor:
    """Second derivatives of the Coulomb energy of one structure in its charges, without a graph.

    Terms that do not act on changes which keep the total charge are left out: those with the
    background.

    Parameters
    ----------
    positions, widths
        [N, 3] and [N], angstrom, float64.
    cell, pbc
        [3, 3] in angstrom, float64, and three flags.

    Returns
    -------
    torch.Tensor
        [N, N], V/e.
    """
    kind = lattice.boundary(pbc)
    self_energy = torch.diag(1.0 / (math.sqrt(math.pi) * widths))
    if kind is Boundary.OPEN:
        distance_sq = (positions[:, None] - positions[None]).square().sum(-1)
        common = (0.5 * (widths[:, None].square() + widths[None].square())).sqrt()
        pairs = differentiable.smeared_inverse_distance(distance_sq, common)
        return COULOMB_CONSTANT * (pairs - self_energy)
    correction = torch.zeros_like(self_energy)
    if kind is Boundary.SLAB:
        first, second = cell[np.flatnonzero(pbc).tolist()]
        cell, _ = differentiable.slab(widths, positions, widths, cell, pbc, accuracy)
        heights = positions @ (cell[2] / cell[2].norm())
        heights = heights - heights.mean()
        area = torch.linalg.cross(first, second).norm()
        correction = 4.0 * math.pi / (area * cell[2].norm()) * torch.outer(heights, heights)
    cell = differentiable.reduced(cell)
    narrow = widths.min()[None].cpu().numpy()
    extent = lattice.wave_extent(cell[None].cpu().numpy(), narrow, accuracy)[0]
    ranges = [torch.arange(-int(n), int(n) + 1) for n in extent]
    waves = torch.cartesian_prod(*ranges).to(positions)
    waves = waves[len(waves) // 2 + 1 :]  # of k and -k only one
    inverse = torch.linalg.inv(cell)
    k_sq = (2.0 * math.pi * waves @ inverse.T).square().sum(-1)
    weights = wave_sum.wave_weights(k_sq[None], widths.min()[None], accuracy)[0]
    inside = weights > 0
    waves, k_sq, weights = waves[inside], k_sq[inside], weights[inside]
    scale = (8.0 * math.pi / torch.linalg.det(cell).abs() * weights).sqrt()
    amplitude = scale * (-0.5 * widths.square()[:, None] * k_sq).exp()
    turns = (positions @ inverse) @ waves.T
    angle = 2.0 * math.pi * (turns - turns.round())
    factors = torch.cat([amplitude * angle.cos(), amplitude * angle.sin()], 1)
    return COULOMB_CONSTANT * (factors @ factors.T - self_energy + correction)
