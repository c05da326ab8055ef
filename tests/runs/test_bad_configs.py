"""Configs with something wrong in them: said in one line, all at once, before data are read or anything is written."""

import functools
import math
import operator

import hypothesis
import pytest
from hypothesis import strategies as st

from cnn.data import dataset as dataset_lib
from cnn.runs import defaults
from cnn.training import early
from configs import smoke

NAN = math.nan


def config_with(changes):
    config = smoke.get_config()
    config.net.options.update({"features": 4, "width": 8})
    if "net.name" in changes:
        config.net.options = type(config.net.options)()
    for field, value in changes.items():
        *path, last = field.split(".")
        with config.unlocked(), config.ignore_type():
            functools.reduce(operator.getitem, path, config)[last] = value
    return config


STEP = {"train.schedule": "step"}
FOLDER = {"data.name": "folder", "data.image_size": None}
# What is wrong -> the words that say so.
KINDS = {
    "both lengths": ({"train.epochs": 1.0, "train.steps": 5}, r"give train.epochs \(=1.0\) or train.steps \(=5\): one"),
    "no length": ({"train.epochs": None, "train.steps": None}, r"give train.epochs \(=None\) or train.steps \(=None\)"),
    "falling milestones": (STEP | {"train.milestones": (0.75, 0.5)}, r"milestones \(=\(0.75, 0.5\)\) must rise"),
    "equal milestones": (STEP | {"train.milestones": (0.5, 0.5)}, "must rise, each above the one before"),
    "milestones in the warm-up": (
        STEP | {"train.milestones": (0.1, 0.5), "train.warmup": 0.2},
        "begin in the warm-up, .* would never reach its peak",
    ),
    "a pad as large as the image": ({"augment.pad": 1000}, r"augment.pad \(=1000\) must be at most 16 pixels"),
    "a reflection as deep": ({"augment.pad": 16, "augment.pad_mode": "reflect"}, "must be at most 15 pixels"),
    "a scene below its window": ({"eval.scenes": 2, "eval.scene_size": 9}, r"scene_size \(=9\) must be at least"),
    "a folder without a name": (FOLDER, r"data.name='folder' needs data.dir"),
    "a folder that is not there": (FOLDER | {"data.dir": "/no/where"}, r"data.dir \(='/no/where'\) is not a directory"),
    "a folder without a size": (FOLDER | {"data.dir": "/"}, "needs data.image_size"),
    "an archive that is not there": ({"data.name": "no.npz"}, r"data.name \(='no.npz'\): there is no such file"),
    "code that is not there": ({"data.name": "no.py:load"}, "data.name: no.py:load: there is no file"),
    "a module that is not there": ({"data.name": ".no:load"}, "there is no module .no"),
    "a net's file that is not there": ({"net.name": "no.py:net"}, "no.py:net: there is no file"),
    "a net that is not there": ({"net.name": "vgg"}, "unknown net 'vgg'; did you mean vgg"),
    "a net by a relative module": ({"net.name": "..no:net"}, "there is no module ..no"),
    "no records": ({"net.name": "layers"}, "needs layers="),
    "text for maps": ({"net.options.features": "x"}, r"features \(='x'\) must be a whole number"),
    "text among maps": ({"net.options.features": [4, "x"]}, r"features \(='x'\) must be a whole number"),
    "text for maps of another net": (
        {"net.name": "full_cnn", "net.options.features": "x"},
        r"conv1 \(conv\): features \(='x'\) must be a whole number",
    ),
    "a width below 0": ({"net.name": "vgg16", "net.options.width": -3}, r"fc1 \(dense\): features \(=-3\) must be"),
    "groups of 0": ({"net.name": "alexnet", "net.options.groups": 0}, r"conv2 \(conv\): groups \(=0\) must be"),
    "a huge width": ({"net.options.width": 10**12}, r"width \(=1000000000000\) must be .* at most 100,000,000"),
    "huge maps": ({"net.options.features": 10**400}, r"features \(=10000.*\.\.\.0*\) must be at most 512"),
    "maps that would be cut": ({"net.options.features": 1000}, r"features \(=1000\) must be at most 512"),
    "a net of a billion layers": ({"net.options.convs": 10**7}, "make more than 1,000 layers"),
    "a kernel of text": ({"net.options.kernel": "x"}, r"kernel \(='x'\) must be one whole number or two"),
    "no kernels": ({"net.options.kernel": []}, r"kernel \(=\[\]\) must be one number or one for each"),
    "an odd padding": ({"net.options.padding": (1, 2, 3)}, r"conv1 \(conv\): padding \(=.*\) must be"),
    "a norm that is a group": ({"net.options.norm": {}}, r"unknown norm {}; norms: batch, lrn, or None$"),
    "an activation of NaN": ({"net.options.activation": NAN}, r"activation \(=nan\) must be a text"),
    "an activation with a typo": ({"net.options.activation": "rleu"}, r"function \(='rleu'\) must be one of relu"),
    "a pool of a number": ({"net.options.pool": 7}, "unknown pool 7; pools: max"),
    "dropout of everything": ({"net.options.dropout": 1.0}, r"dropout \(=1.0\) must be a number, at least 0 and below"),
    "an option with a typo": ({"net.options.featurs": 4}, "has no option featurs; it takes"),
    "a group of one number": ({"train": 3}, r"train \(=3\) must be a group of fields"),
    "a field with a typo": ({"train.epoch": 1}, r"train.epoch: a config has no such field; did you mean train.epochs"),
    "a group with a typo": ({"trian": {"epochs": 1}}, "trian: a config has no such field"),
    "brightness of NaN": ({"augment.brightness": NAN}, r"augment.brightness \(=nan\) must be a number from 0 to 1"),
    "three scales": ({"augment.scale": (1, 2, 3)}, r"augment.scale \(=\(1, 2, 3\)\) must be two numbers"),
    "validation never": ({"eval.every_epochs": NAN}, r"eval.every_epochs \(=nan\) must be a number above 0"),
    "a long text": ({"data.on_error": "x" * 10_000}, r"data.on_error \(='x+\.\.\.x+'\) must be one of stop, skip"),
    "a text of two lines": ({"train.dtype": "float\n32"}, r"train.dtype \(='float\\n32'\) must be one of"),
    "all at once": (
        {"train.momentum": 2.0, "augment.pad": -1, "net.options.features": "x", "train.epochs": 1.0, "train.steps": 5},
        r"^augment.pad .*; train.momentum .*; give train.epochs .*; layer_pattern: features",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_is_said_in_a_line(kind, tmp_path, monkeypatch):
    def reads(*arguments, **options):
        raise AssertionError("data were read")

    monkeypatch.setattr(dataset_lib, "load", reads)
    changes, words = KINDS[kind]
    with pytest.raises(ValueError, match=words) as error:
        early.check(config_with(changes), str(tmp_path / "run"))
    message = str(error.value)
    assert "\n" not in message and len(message) < 1500
    assert not (tmp_path / "run").exists()


def test_the_workdir_is_among_what_is_wrong(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^train.momentum .*; --workdir=.*/file is no folder"):
        early.check(config_with({"train.momentum": 2.0}), str(tmp_path / "file"))


def test_every_committed_config_is_right():
    early.check(config_with({}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
NAMES = [field.name for field in defaults.FIELDS] + [f"net.options.{name}" for name in ("features", "pool", "kernel")]


@hypothesis.given(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=3))
@hypothesis.settings(max_examples=60)
def test_any_value_is_taken_or_refused_in_a_line(changes):
    try:
        config = config_with(changes)
    except (TypeError, ValueError, AttributeError):  # ConfigDict's own: what no config can hold
        hypothesis.reject()
    try:
        early.check(config, given=True)
    except ValueError as error:
        assert "\n" not in str(error)
