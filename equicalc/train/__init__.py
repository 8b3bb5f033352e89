"""Training: configuration, loss, loop, checkpoints."""

from equicalc.train.pipeline import run
from equicalc.train.potential import Potential, Prediction
from equicalc.train.start import load_best

__all__ = ["Potential", "Prediction", "load_best", "run"]
