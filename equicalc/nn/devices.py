"""Where the operators of csrc run."""

import torch

from equicalc.core import load_library

load_library()  # torch.ops.equicalc.*


def has_operators(x: torch.Tensor) -> bool:
    """Return whether the operators run where this tensor is: on the CPU always, on CUDA if built.

    Elsewhere modules go through torch expressions, the oracle of the operators.
    """
    return not x.is_cuda or torch.ops.equicalc.has_cuda_kernels()
