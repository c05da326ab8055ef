"""Runs whose net is made of records: config.json carries the net, and all commands work on it."""

import json

import numpy as np
import pytest

from cnn import dense, nets
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten, MaxPool, PReLU, Scale
from cnn.runs import checkpoint, overrides
from cnn.runs import config as config_lib
from cnn.train import train_and_evaluate
from cnn.training.evaluate import evaluate_run
from tests.made import small_config

NET = nets.net(
    [Conv(4, 3, padding=1, padding_mode="constant", padding_value=-0.5), PReLU()],
    [AvgPool(3, 2, padding=1, rounding="ceil", count_padding=True), Conv(5, 3), Scale(), Activation("elu", slope=0.5)],
    [MaxPool(2, rounding="floor"), Flatten("chw"), Dense(10)],
)


def config_of(layers, **values):
    config = small_config(steps=4)
    overrides.override(config, {"net.name": "layers", "net.options.layers": layers, **values})
    return config


def test_the_config_carries_the_net(tmp_path):
    config = config_of(nets.to_config(NET), **{"net.output_activation": "sigmoid"})
    config_lib.save(config, str(tmp_path / "run"))
    loaded = config_lib.load(str(tmp_path / "run"))
    assert checkpoint.make_net(loaded, 10) == NET.clone(output_activation="sigmoid")
    assert config_lib.differences(config, str(tmp_path / "run")) == {}
    # Records of a run, or of a file, are named by their path, and the config holds them.
    (tmp_path / "net.json").write_text(json.dumps(nets.to_config(NET)))
    for path in (tmp_path / "run", tmp_path / "net.json"):
        again = config_of(str(path))
        assert json.loads(again.to_json())["net"]["options"] == json.loads(loaded.to_json())["net"]["options"]
    assert again.net.output_activation is None  # a file holds layers alone
    assert config_of(str(tmp_path / "run")).net.output_activation == "sigmoid"
    # A run whose net has a name of its own has records too.
    config_lib.save(small_config(), str(tmp_path / "named"))
    kept = {"class_names": ["a", "b"], "image_shape": [16, 16, 1], "mean": [0.5], "std": [0.5]}
    (tmp_path / "named" / "data.json").write_text(json.dumps(kept))
    assert checkpoint.make_net(config_of(str(tmp_path / "named")), 2) == checkpoint.make_net(small_config(), 2)
    # Another net takes the records away, and what differs is named by its record.
    overrides.override(again, {"net.name": "qa_net"})
    assert dict(again.net.options) == {}
    changed = [*nets.to_config(NET)]
    changed[2] = {"kind": "max_pool", "name": "pool1"}
    found = config_lib.differences(config_of(changed), str(tmp_path / "run"))
    assert list(found) == ["net.output_activation", "net.options.layers"]
    assert found["net.options.layers"].startswith("net.options.layers[2] is {'kind': 'average_pool', 'name': 'pool1'")
    fewer = config_lib.differences(config_of(changed[:2]), str(tmp_path / "run"))["net.options.layers"]
    assert fewer.startswith("net.options.layers[2] is {") and fewer.endswith(" there and None here")


def test_what_holds_no_records_is_refused(tmp_path):
    (tmp_path / "object.json").write_text('{"layers": []}')
    (tmp_path / "deep.json").write_text("[" * 10**5)
    (tmp_path / "no.json").write_text("import os")
    config_lib.save(small_config(), str(tmp_path / "run"))
    for path, message in (
        ("object.json", "holds a dict, not a list of records"),
        ("deep.json", "no file of JSON"),
        ("no.json", "no file of JSON: Expecting value"),
        ("missing.json", "no file of JSON: .*No such file"),
        ("run", "data.json is missing: a run writes it"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            config_of(str(tmp_path / path))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"fc1 \(dense\) gives 10 scores, and num_classes \(=12\)"):
        checkpoint.make_net(config_of(nets.to_config(NET), **{"net.num_classes": 12}), 10)
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": ' + "[" * 10**5 + "]" * 10**5))
    with pytest.raises(ValueError, match=r"config.json is damaged, it is nested too deep"):
        config_lib.load(str(tmp_path / "run"))


@pytest.mark.slow
def test_a_run_of_records_is_trained_evaluated_slid_and_trained_on(tmp_path):
    workdir = str(tmp_path / "run")
    config = config_of(nets.to_config(NET), **{"train.schedule": "constant", "train.warmup": 0.0})
    result = train_and_evaluate(config, workdir)
    run = checkpoint.load_run(workdir)
    assert run.net == NET and run.step == 4
    used = overrides.load_for_use(workdir, {"eval.batch_size": 7})
    assert evaluate_run(used)["test"]["accuracy"] == result["test_accuracy"]
    x = np.random.default_rng(0).normal(size=(1, 21, 19, run.image_shape[2])).astype(np.float32)
    window = run.image_shape[:2]
    maps = [dense.score_map(run.net, run.variables, x, window, 2, name).scores for name in ("atrous", "mpf")]
    np.testing.assert_allclose(*maps, rtol=0, atol=1e-5 * np.abs(maps[0]).max())
    longer = config_lib.load(workdir)
    longer.train.steps = 6
    assert train_and_evaluate(longer, workdir, longer=True)["steps"] == 6
