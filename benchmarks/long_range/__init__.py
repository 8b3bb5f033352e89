"""What the long-range part and the symmetry of the network are good for: one proof per module."""
