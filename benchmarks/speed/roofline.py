"""What the arithmetic of equicalc's own networks takes at the peak of a core: the floor of speed.

Counted are the multiply-adds of direct evaluation (csrc/direct), forward and backward, for two
layers and eight radial functions; what it takes to make edges, harmonics and radial functions and
to move numbers is not.
"""

from __future__ import annotations

from equicalc.nn import EquiNetwork


def multiply_adds(network: EquiNetwork, edges_per_atom: float) -> float:
    """Return the multiply-adds of one atom for energy and gradients.

    Parameters
    ----------
    network : EquiNetwork
        Of two layers.
    edges_per_atom : float
    """
    config = network.config
    if config.n_layers != 2:
        raise ValueError(f"counted are networks of two layers, found {config.n_layers}")
    channels, n_radial, degrees = config.channels, config.n_radial, config.l_max + 1
    components, hidden, order = degrees**2, config.readout_hidden, config.correlation
    sums = n_radial * len(config.elements)  # radial functions are summed for each species

    to_features = components * sums * channels
    # what is linear in the messages is made of the sums where these are fewer than channels
    powers = (order - 1) * channels + (min(sums, channels) if order > 1 else channels)
    to_messages = components * powers * channels
    to_scalars = powers * channels
    readout = (degrees + 1) * channels * hidden + hidden**2
    # gradients take as much again, and the first features are made a second time
    matrices = 3 * to_features + 2 * (to_messages + to_scalars + readout)

    products = network.first.product.couplings
    terms = [len(coupling.coefficients) for coupling in products]
    rows = [coupling.rows.shape[1] - 1 for coupling in products]
    # Backward there are two terms for each, and all products but the last are made a second time.
    # A term is a product and a multiply-add; by constant tables most are a multiply-add alone, and
    # rows take their weights by one more.
    if config.l_max == 2 and config.parity:
        couplings = channels * (3 * sum(terms) + sum(terms[:-1]) + 2 * sum(rows) + sum(rows[:-1]))
    else:
        couplings = 1.5 * channels * (3 * sum(terms) + sum(terms[:-1]))

    weights = degrees * n_radial
    forward = weights + components + degrees
    backward = 2 * weights + 3 * components + 3 * degrees
    convolution = edges_per_atom * channels * (forward + backward)
    species_sums = edges_per_atom * components * n_radial * 4
    return matrices + couplings + convolution + species_sums
