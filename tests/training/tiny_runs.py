"""Runs of seconds: a tiny net on 24 made-up pictures of three classes, without drawings."""

import contextlib

import jax
import numpy as np
import pytest

from cnn.reports import mistakes, net_pictures, run_pictures
from cnn.runs import checkpoint
from tests.made import small_config
from tests.programs import data_in_place

DATA = data_in_place.made("as it was")
DRAWN = (
    (run_pictures, ("confusion_picture", "curves_picture")),
    (net_pictures, ("kernels_picture", "feature_maps_picture")),
    (mistakes, ("find", "mistakes_picture")),
)


@contextlib.contextmanager
def without_pictures():
    """Training in this block draws nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for module, names in DRAWN:
            for name in names:
                patch.setattr(module, name, lambda *arguments, **options: None)
        yield


def tiny_config(width=4, **train):
    """A net conv1, bn1, fc1, fc2 of few channels, `width` in fc1, for two steps; arguments are fields of `train`."""
    config = small_config(**{"steps": 2, "batch_size": 4, "steps_per_dispatch": 2, **train})
    config.augment.pad, config.eval.scenes = 0, 0
    config.net.options.update({"blocks": 1, "convs": 1, "features": 2, "width": width, "norm": True})
    return config


def leaves_of(workdir, **options):
    """The arrays of a run's net."""
    return [np.asarray(x) for x in jax.tree.leaves(checkpoint.load_run(str(workdir), **options).variables)]
