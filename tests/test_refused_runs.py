"""What is refused before a run writes anything: the same directory is free for the corrected run."""

import functools
import operator

import numpy as np
import pytest

from cnn import data
from cnn.train import train_and_evaluate
from configs import smoke
from tests.helpers import PROGRAMS

ODD = f"{PROGRAMS}/odd_nets.py"
LAYER = r"^net 'odd_nets.py:{}': layer layer1 \(layer\), class {}: "


def config_with(**changes):
    """A tiny run with some fields changed: train__momentum=2.0."""
    config = smoke.get_config()
    config.net.options.update({"features": 4, "width": 8})
    config.train.steps = 2
    for field, value in changes.items():
        *path, last = field.split("__")
        with config.ignore_type():
            functools.reduce(operator.getitem, path, config)[last] = value
    if "net__name" in changes:
        config.net.options = type(config.net.options)()
    return config


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(seed=-1), r"seed \(=-1\) must be a whole number from 0"),
        (dict(train__momentum=2.0), r"train.momentum \(=2.0\) must be"),
        (dict(train__optimizer="lion"), r"train.optimizer \(='lion'\) must be one of"),
        (
            dict(train__nesterov=True, train__optimizer="adam"),
            r"nesterov=True is for sgd with momentum, and has no effect",
        ),
        (dict(train__nesterov=True, train__momentum=0.0), r"no effect with train.optimizer=sgd, train.momentum=0.0"),
        (
            dict(train__whitened="conv1", train__initial_run="x"),
            r"whitened \(='conv1'\) and train.initial_run both say",
        ),
        (
            dict(augment__flip_in_turn=True, augment__area=(0.1, 1.0), augment__randaugment=(2, 9)),
            r"knows an image by its pixels, which augment.area and augment.randaugment change each time",
        ),
        (
            dict(augment__flip_in_turn=True, train__batch_size=30_000_000),
            r"train.batch_size \(=30000000\) times the number of training examples \(=\d+\) must be known and at most",
        ),
        (dict(augment__flip=True, augment__flip_in_turn=True), r"images are mirrored at random or in turn; choose one"),
        (dict(data__name="shards", data__dir="/", data__on_error="skip"), r"data.on_error=skip is for folders"),
        (dict(data__name="shards", data__dir="/no"), r"data.dir \(='/no'\) is not a directory; it must hold the tar"),
        (dict(train__milestones=("(0.5",)), r"train.milestones \(=\('\(0.5',\)\) must be fractions of the run"),
        (dict(train__epochs=1.0), r"give train.epochs \(=1.0\) or train.steps \(=2\): one of them"),
        (dict(train__epochs=1e12, train__steps=None), r"train.epochs \(=1000000000000.0\) are 1.8e\+13 steps; there"),
        (dict(train__frozen=("conv9",)), r"train.frozen \(=\('conv9',\)\) names 'conv9'"),
        (dict(train__batch_size=10**7), r"train.batch_size \(=10000000\).* GiB as float32.*; [\d,]+ fit"),
        (dict(train__steps_per_dispatch=10**9), r"train.steps_per_dispatch \(=1000000000\): the int32 indices .* GiB"),
        (dict(augment__scale=(1.0,)), r"augment.scale \(=\(1.0,\)\) must be two numbers \(low, high\)"),
        (dict(augment__pad=17), r"augment.pad \(=17\) must be at most 16 pixels"),
        (dict(augment__pad=16, augment__pad_mode="reflect"), r"augment.pad \(=16\) must be at most 15 pixels"),
        (dict(eval__batch_size=0), r"eval.batch_size \(=0\)"),
        (dict(eval__batch_size=10**7), r"eval.batch_size \(=10000000\)"),
        (dict(eval__scenes=-1), r"eval.scenes \(=-1\)"),
        (dict(eval__scenes=3, eval__scene_size=15), r"eval.scene_size \(=15\) must be at least data.image_size"),
        (dict(eval__scenes=10**8), r"eval.scenes \(=100000000\): so many scenes of 80x80 .* fit"),
        (dict(checkpoint__keep=0), r"checkpoint.keep \(=0\)"),
        (dict(data__validation_fraction=1.0), r"data.validation_fraction \(=1.0\)"),
        (dict(data__train_examples=10**6), r"data.train_examples \(=1000000\)"),
        (dict(net__num_classes=3), r"net.num_classes \(=3\) is below the 10 classes"),
        (dict(net__options__dropout="nan"), r"^dropout \(='nan'\) must be a number, at least 0 and below 1"),
        (dict(net__options__depth=3), "net 'layer_pattern' has no option depth"),
        (dict(net__options__blocks="2"), r"^layer_pattern: blocks \(='2'\) must be a whole number"),
        (dict(net__name=f"{ODD}:empty"), r"^net 'odd_nets.py:empty': it has no layers"),
        (
            dict(net__name=f"{ODD}:few_outputs"),
            r"^net 'odd_nets.py:few_outputs' ends in fc1 \(dense\) with 3 outputs, fewer than the 10 classes of data",
        ),
        (
            dict(net__name=f"{ODD}:only_convolutions"),
            r"ends in relu1 \(activation\), which gives 14x14x10 for an image of 16x16x3; training needs one score",
        ),
        (dict(net__name=f"{ODD}:too_large_a_kernel"), r"^net 'odd_nets.py:too_large_a_kernel': conv1 .*kernel 99"),
        (
            dict(net__name=f"{ODD}:double"),
            LAYER.format("double", "Double") + r"gives an array \[2, 14, 14, 8\] for two inputs of 14x14x4, where its "
            r"output_shape says \[2, 14, 14, 4\]",
        ),
        (
            dict(net__name=f"{ODD}:without_train"),
            LAYER.format("without_train", "WithoutTrain") + "its __call__ must take train, as in def __call__",
        ),
        (dict(net__name=f"{ODD}:without_call"), LAYER.format("without_call", "WithoutCall") + "has no method __call__"),
        (
            dict(net__name=f"{ODD}:failing"),
            LAYER.format("failing", "Failing") + r"fails on an input of 14x14x4: odd_nets.py, line \d+: NameError: ",
        ),
        (
            dict(net__name=f"{ODD}:failing_in_training"),
            r"layer mine \(layer\), class FailingInTraining: fails on .*odd_nets.py, line \d+: TypeError",
        ),
        (
            dict(net__name=f"{ODD}:failing_shape"),
            LAYER.format("failing_shape", "FailingShape") + r"output_shape\(\(14, 14, 4\)\) fails: .*IndexError",
        ),
        (
            dict(net__name=f"{ODD}:shape_of_one_number"),
            LAYER.format("shape_of_one_number", "ShapeOfOneNumber") + r"output_shape\(\(14, 14, 4\)\) is 3; it must be",
        ),
    ],
)
def test_what_is_refused_leaves_the_directory_as_it_was(changes, message, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match=message) as error:
        train_and_evaluate(config_with(**changes), str(workdir))
    assert "\n" not in str(error.value)
    assert not workdir.exists()


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_directory_that_cannot_be_made(place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^--workdir=.*: .*/file is no folder; name a folder"):
        train_and_evaluate(config_with(), str(tmp_path / place))


@pytest.mark.slow
def test_a_net_with_more_outputs_than_classes_trains(tmp_path):
    """Also: evaluation at every step, where an epoch is less than one step; batches larger than the set."""
    config = config_with(net__name=f"{ODD}:more_outputs", train__batch_size=1000, data__train_examples=1)
    result = train_and_evaluate(config, str(tmp_path))
    assert result["parameters"] == 16 * 16 * 3 * 12 + 12 and result["train_examples"] == 1


def test_one_class_is_refused(tmp_path):
    given = data.from_arrays((np.zeros((40, 16, 16, 3), np.uint8), np.zeros(40, int)))
    message = "data 'arrays in memory' has 1 class: there is nothing to tell apart; where classes are folders, do they"
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(config_with(), str(tmp_path / "run"), given)
    assert not (tmp_path / "run").exists()


def test_a_data_set_that_is_given_is_checked_with_the_net(tmp_path):
    images = np.zeros((40, 16, 16, 3), np.uint8)
    given = data.from_arrays((images, np.arange(40) % 20))
    config = config_with(net__name=f"{ODD}:few_outputs")
    with pytest.raises(ValueError, match="3 outputs, fewer than the 20 classes of data 'arrays in memory'"):
        train_and_evaluate(config, str(tmp_path / "run"), given)
    assert not (tmp_path / "run").exists()
