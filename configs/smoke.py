"""Seconds: a tiny net on small made-up images, to see that everything runs end to end.

    python main.py --config=configs/smoke.py --workdir=runs/smoke

Half a minute on two cores, most of it compiling and drawing. Expect test accuracy 1.0: the images are easy.
"""

from typing import Any

from configs import default


def get_config() -> Any:
    """A small layer pattern on fake data."""
    config = default.get_config()
    config.data.name = "fake"
    config.data.image_size = 16
    config.net.name = "layer_pattern"
    config.net.options.update({"features": 8, "width": 32, "padding": "valid"})
    config.augment.pad = 1
    config.train.steps = 60
    config.train.batch_size = 32
    config.train.learning_rate = 0.02
    config.train.steps_per_dispatch = 20
    config.eval.batch_size = 64
    config.checkpoint.every_steps = 20
    return config
