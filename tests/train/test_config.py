"""Training configurations: what is wrong is named, with the closest thing that is right."""

import pytest

from equicalc.errors import ConfigError
from equicalc.train.config import load_config, parse_config
from equicalc.train.loss import LossWeights
from equicalc.train.settings import SECTIONS

MINIMAL = {"data": {"train": "a.xyz"}}


def parse(**sections):
    return parse_config({**MINIMAL, **sections}, "c.yaml")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"trainin": {}}, "unknown section 'trainin'. Did you mean 'training'"),
        (
            {"batch_size": 3},
            "unknown section 'batch_size'. The key belongs into section 'training'",
        ),
        ({"model": {"cutof": 5}}, "unknown key 'cutof' in section 'model'. Did you mean 'cutoff'"),
        ({"loss": {"force": 1}}, "unknown key 'force' in section 'loss'. Did you mean 'forces'"),
        (
            {"model": {"batch_size": 1}},
            "unknown key 'batch_size' in section 'model'. The key belongs into section 'training'",
        ),
        ({"training": {"max_epochs": "many"}}, "training.max_epochs must be a whole number"),
        ({"training": {"max_epochs": 1.5}}, "training.max_epochs must be a whole number"),
        ({"training": {"max_epochs": True}}, "training.max_epochs must be a whole number"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate must be a number"),
        ({"run": {"progress": 1}}, "run.progress must be true or false"),
        ({"model": {"elements": [True]}}, "quote names that YAML takes for yes or no"),
        ({"model": {"initial_charges": 0.7}}, "model.initial_charges must be a mapping"),
        ({"training": 3}, "section 'training' must hold 'key: value' lines; found int 3"),
        ({"training": {"max_epochs": 0}}, "training.max_epochs is 0; it must be at least 1"),
        ({"training": {"ema_decay": 1.0}}, "training.ema_decay is 1.0; it must be"),
        ({"loss": {"forces": -1}}, "loss.forces is -1.0; it must be 0 or more"),
        ({"loss": {"final": {"enrgy": 1}}}, "loss.final has 'enrgy: 1.0'. Did you mean 'energy'"),
        (
            {"loss": {"energy": 0, "forces": 0, "stress": 0}},
            "positive when all other weights are 0",
        ),
        ({"run": {"dtype": "float16"}}, "run.dtype is 'float16'; it must be float32 or float64"),
        (
            {"model": {"charge_model": "none"}, "loss": {"charges": 1}},
            "without charges; leave it out",
        ),
        ({"loss": {"born": 1}}, "set model.charge_model: transferred"),
        (
            {"data": {"train": "a.xyz", "keys": {"enrgy": "E"}}},
            "data.keys has 'enrgy'. Did you mean 'energy'",
        ),
        ({"data": {}}, r"data.train is \[\]; it must be one extended-XYZ file"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_remedy(sections, words):
    with pytest.raises(ConfigError, match=f"^c.yaml: .*{words}"):
        parse(**sections)


def test_impossible_shapes_of_the_network_are_configuration_errors():
    with pytest.raises(ConfigError, match=r"model.l_max is 9; it must lie between"):
        parse(model={"l_max": 9}).model.network(["K"])


def test_numbers_without_a_point_are_numbers():
    config = parse(training={"learning_rate": "1e-3"}, model={"cutoff": 5}, loss={"energy": 2})
    assert config.training.learning_rate == 1e-3
    assert (config.model.cutoff, config.loss.energy) == (5.0, 2.0)


def test_one_file_may_stand_for_a_list():
    assert parse().data.train == ["a.xyz"]


def test_files_are_beside_the_configuration(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("data: {train: [a.xyz, /data/b.xyz], validation: v.xyz}\n")
    config = load_config(path)
    assert config.data.train == [str(tmp_path / "a.xyz"), "/data/b.xyz"]
    assert config.data.validation == [str(tmp_path / "v.xyz")]
    assert config.about.name == "my"
    assert config.run.directory == "runs/my"


def test_overrides_replace_values_and_are_checked_alike(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("data: {train: a.xyz}\n")
    assert load_config(path, {"training.max_epochs": 7}).training.max_epochs == 7
    with pytest.raises(ConfigError, match="Did you mean 'max_epochs'"):
        load_config(path, {"training.max_epoch": 7})


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "just words"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad.yaml' (must hold the sections|is not YAML)"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration file '.*none.yaml'"):
        load_config(tmp_path / "none.yaml")


def test_every_key_is_described_where_it_is_defined():
    import dataclasses

    from equicalc.nn import NetworkConfig

    for section, kind in SECTIONS.items():
        text = (kind.__doc__ or "") + ((NetworkConfig.__doc__ or "") if section == "model" else "")
        for field in dataclasses.fields(kind):
            assert field.name in text, f"{section}.{field.name}"


def test_loss_weights_move_from_the_first_to_the_final_ones():
    loss = parse(
        loss={
            "energy": 1,
            "forces": 2,
            "final": {"energy": 11},
            "final_from": 0.5,
            "final_ramp": 0.2,
        }
    ).loss
    assert loss.weights(0.0) == loss.weights(0.5) == LossWeights(energy=1, forces=2, stress=1)
    assert loss.weights(0.6).energy == pytest.approx(6.0)
    assert loss.weights(0.9) == loss.final_weights() == LossWeights(energy=11, forces=2, stress=1)
