"""Charges that sum to the total charge by construction."""

from __future__ import annotations

import torch


def neutralise(
    raw: torch.Tensor,
    weights: torch.Tensor,
    total_charge: torch.Tensor | float = 0.0,
    structure: torch.Tensor | None = None,
) -> torch.Tensor:
    """Shift raw charges so that each structure carries exactly its total charge.

    q_i = q~_i + w_i (Q - sum_j q~_j) / sum_j w_j, sums over the atoms of the structure.

    Parameters
    ----------
    raw
        [N], e, what the network predicts.
    weights
        [N], positive, how readily an atom takes a share of the excess.
    total_charge
        e; a number (or 0-dim tensor), or with `structure` a tensor [S].
    structure
        [N] int64, index of the structure of each atom; None: all atoms belong to one.

    Returns
    -------
    torch.Tensor
        [N], e, differentiable in `raw`, `weights` and `total_charge`.

    Raises
    ------
    ValueError
        When shapes do not match.
    """
    if raw.dim() != 1 or raw.shape != weights.shape:
        raise ValueError(
            f"raw charges and weights must both have the shape [N]; found {tuple(raw.shape)} and "
            f"{tuple(weights.shape)}"
        )
    total = torch.as_tensor(total_charge, dtype=raw.dtype, device=raw.device)
    if structure is None:
        if total.dim() != 0:
            raise ValueError(
                f"total_charge must be one number; found shape {tuple(total.shape)}. For several "
                "structures give `structure` [N] as well"
            )
        if raw.numel() == 0:
            return raw
        return raw + weights * ((total - raw.sum()) / weights.sum())
    if structure.shape != raw.shape:
        raise ValueError(
            f"structure must have the shape {tuple(raw.shape)}; found {tuple(structure.shape)}"
        )
    if total.dim() != 1:
        raise ValueError(
            "total_charge must have the shape [S] when structure is given; found "
            f"{tuple(total.shape)}"
        )
    charge_sum = torch.zeros_like(total).index_add(0, structure, raw)
    weight_sum = torch.zeros_like(total).index_add(0, structure, weights)
    # A structure without atoms has no weight; its share is never used, only kept finite.
    weight_sum = torch.where(weight_sum > 0, weight_sum, torch.ones_like(weight_sum))
    return raw + weights * ((total - charge_sum) / weight_sum)[structure]
