"""Command lines with something wrong in them: all of it in one line, before anything is imported that takes time."""

import os
import re

import pytest
from absl import flags

from cnn.commands import flags as shared


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config.train.batch_size=x"], "--config.train.batch_size=x: it must be a whole number"),
        (["--config.train.batch_size=1.5"], "it must be a whole number"),
        (["--config.train.batch_size="], "--config.train.batch_size=: it must be a whole number"),
        (["--config.train.steps=1e3"], "--config.train.steps=1e3: it must be a whole number"),
        (["--config.train.epochs=abc"], "--config.train.epochs=abc: it must be a number"),
        (["--config.augment.flip=maybe"], "--config.augment.flip=maybe: it must be True or False"),
        (["--config.augment.scale=(nan,1)"], "--config.augment.scale=(nan,1): it must be values in brackets"),
        (["--config.train.milestones=(0.5,"], "it must be values in brackets, with commas between them"),
        (["--config.trian.epochs=1"], "--config.trian.epochs: there is no such field; did you mean train.epochs"),
        (["--config.train=3"], "--config.train is a group of fields; set one of them: train.epochs, "),
        (["--config.a\nb=3"], "--config.a b: there is no such field"),
        (["--config."], "there is no such field|a config"),
        (["--config"], "--config needs a name"),
        (["--config="], "--config=: there is no such config"),
        (["--config=mnis"], "--config=mnis: there is no such config; did you mean mnist?"),
        (
            ["--config.seed=x", "--config.trian.epochs=1", "--config.train.epochs=y"],
            "--config.seed=x: it must be a whole number; --config.trian.epochs: there",
        ),
    ],
)
def test_what_is_wrong_with_fields(arguments, words):
    with pytest.raises((ValueError, OSError)) as error:
        shared.ConfigFlag(None, "").take(["main.py", *arguments])
    message = " ".join(str(error.value).split())
    assert words in message or re.search(words, message)


def test_flags_of_nan_are_listed():
    """absl takes NaN, whatever the bounds of a flag are."""
    defined = [flags.DEFINE_float(f"test_{name}", 0.5, "Of a test.", 0, 1) for name in ("one", "other", "third")]
    try:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS(["test"])
        for one, value in zip(defined, ("nan", "nan", "0.25"), strict=True):
            flags.FLAGS[one.name].parse(value)
        with pytest.raises(ValueError, match=r"^--test_one=nan: it must be a finite number; --test_other=nan: it"):
            shared.check_finite()
        shared.check_finite("test_one", "test_other")
    finally:
        for one in defined:
            delattr(flags.FLAGS, one.name)


def test_a_workdir_without_a_name():
    try:
        workdir = shared.define_workdir("Of a test.")
        with pytest.raises(flags.IllegalFlagValueError, match="it is empty; name a folder, or leave the flag out"):
            flags.FLAGS[workdir.name].parse(" ")
        flags.FLAGS[workdir.name].parse("~/runs")
        assert flags.FLAGS[workdir.name].value == os.path.expanduser("~/runs")
    finally:
        if "workdir" in flags.FLAGS:
            delattr(flags.FLAGS, "workdir")
