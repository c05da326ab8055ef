"""Fields set over those of a config: what excludes each other, what belongs to a net, what a trained run takes."""

import pytest

from cnn.runs import config as config_lib
from cnn.runs import overrides
from configs import digits, smoke
from tests.helpers import PROGRAMS


def overridden(config, **values):
    overrides.override(config, {field.replace("__", "."): value for field, value in values.items()})
    return config_lib.fields(config)


def test_one_of_two_exclusive_fields_takes_the_other_away():
    fields = overridden(digits.get_config(), train__steps=10)
    assert (fields["train.steps"], fields["train.epochs"]) == (10, None)
    fields = overridden(smoke.get_config(), train__epochs=2.0)
    assert (fields["train.steps"], fields["train.epochs"]) == (None, 2.0)
    fields = overridden(smoke.get_config(), train__epochs=2.0, train__steps=3)  # both: the run refuses them
    assert (fields["train.steps"], fields["train.epochs"]) == (3, 2.0)


def test_another_net_drops_the_options_of_the_net_before_it():
    def options(**values):
        config = smoke.get_config()
        overridden(config, **values)
        return config.net.options.to_dict()

    before = smoke.get_config().net.options.to_dict()
    assert options(net__options__dropout=0.5) == {**before, "dropout": 0.5}
    assert options(net__name="layer_pattern") == before
    assert options(net__name="qa_net") == {}
    assert options(net__options__dropout=0.5, net__name="qa_net") == {"dropout": 0.5}
    assert options(net__name="qa_net", net__options={"dropout": 0.25}) == {"dropout": 0.25}
    assert options(net__options={}, net__options__width=5) == {"width": 5}


def test_a_field_that_does_not_exist_is_refused_with_the_nearest():
    for field, near in (("train.epoch", "train.epochs"), ("trian.steps", "train.steps"), ("seeds", "seed")):
        with pytest.raises(ValueError, match=rf"{field}: a config has no such field; did you mean .*{near}"):
            overrides.override(smoke.get_config(), {field: 1})


def test_a_trained_run_takes_where_its_data_are_and_how_it_is_scored_alone():
    config = smoke.get_config()
    values = {
        "data.dir": "elsewhere",
        "eval.batch_size": 7,
        "eval.mirror": True,
        "train.steps": 60,
        "augment.scale": (1.0, 1.0),
    }
    overrides.override_in_use(config, values, "runs/mine")
    assert (config.data.dir, config.eval.batch_size, config.eval.mirror) == ("elsewhere", 7, True)
    wrong = {"data.name": "digits", "eval.scenes": 1, "train.steps": 5, "net.options.dropout": 0.5}
    with pytest.raises(ValueError, match=r"^'runs/mine' holds a trained run, of which --config.data.dir and ") as error:
        overrides.override_in_use(smoke.get_config(), wrong, "runs/mine")
    for part in (
        "data.name is 'fake' there and 'digits' here",
        "train.steps is 60 there and 5 here",
        "net.options.dropout is None there and 0.5 here",
    ):
        assert part in str(error.value)
    assert "scenes" not in str(error.value)
    with pytest.raises(ValueError, match=r"eval.batch_size \(=0\) must be"):
        overrides.override_in_use(smoke.get_config(), {"eval.batch_size": 0}, "runs/mine")


def test_code_and_archives_of_a_trained_run_may_lie_elsewhere():
    config = smoke.get_config()
    config.net.name, config.data.name = f"/old/own_nets.py:small@{'0' * 64}", "/old/mine.npz"
    moved = {"net.name": f"{PROGRAMS}/own_nets.py:small", "data.name": "/new/mine.npz"}
    overrides.override_in_use(config, moved, "run")
    assert (config.net.name, config.data.name) == tuple(moved.values())
    with pytest.raises(ValueError, match="net.name is .*small' there and 'qa_net' here"):
        overrides.override_in_use(config, {"net.name": "qa_net"}, "run")
