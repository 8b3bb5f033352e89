"""Training: configuration, loss, loop, checkpoints."""

from equicalc.train.potential import Potential, Prediction
from equicalc.train.run import run

__all__ = ["Potential", "Prediction", "run"]
