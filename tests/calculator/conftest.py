"""The calculator of a small network, and structures with every kind of boundary."""

import pytest
import torch

from equicalc import EquiCalculator
from tests.calculator.structures import STRUCTURES, TIGHT


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def calculator(tiny_model):
    return EquiCalculator(tiny_model, kspace_accuracy=TIGHT)


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return STRUCTURES[request.param]()
