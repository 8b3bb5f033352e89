"""From a model file back to its network."""

import pytest
import torch

from equicalc.deploy import export_network, is_model_file, read_network
from equicalc.errors import ModelFileError
from equicalc.models import DIRECTORY, shipped
from tests.conftest import tiny_network


@pytest.mark.parametrize("charge_model", ["none", "fixed", "predicted", "equilibrated"])
def test_the_network_of_a_file_has_all_weights_of_the_one_written(tmp_path, charge_model):
    network = tiny_network(charge_model=charge_model)
    found = read_network(export_network(network, tmp_path / "model.pt"))
    assert found.config == network.config
    expected = network.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, value in found.state_dict().items():
        assert torch.equal(value, expected[name].to(value.dtype)), name
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, p in found.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize("name", shipped())
def test_shipped_models_can_be_trained_further(name):
    network = read_network(DIRECTORY / f"{name}.pt")
    assert any(parameter.requires_grad for parameter in network.parameters())


def test_a_checkpoint_is_no_model_file(tmp_path):
    torch.save({"kind": "weights"}, tmp_path / "best.pt")
    assert not is_model_file(tmp_path / "best.pt")
    assert not is_model_file(tmp_path / "missing.pt")
    with pytest.raises(ModelFileError, match="perhaps a checkpoint"):
        read_network(tmp_path / "best.pt")
