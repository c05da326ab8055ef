"""A tiny net on small generated images, to see within seconds that everything runs.

    python main.py --config=configs/smoke.py --workdir=runs/smoke

It takes half a minute on two cores, most of it for compiling and drawing. Expect test accuracy 100 %: the images are
easy.
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
