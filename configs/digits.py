"""The default run: 1,797 real handwritten digits at 32x32, and a dense run over larger scenes made of the test digits.

    python main.py --config=configs/digits.py --workdir=runs/digits

Half a minute on two cores, 10 seconds of it training. Expect test accuracy 99.3 % (mean of seeds 0-2;
experiments/results). The net is not padded, so its score map equals its crops; a part of its training examples miss
their digit (train.background), as most windows of a scene do.
"""

from typing import Any

from configs import default


def get_config() -> Any:
    """`qa_net` on 32x32x1."""
    config = default.get_config()
    config.data.name = "digits"
    config.net.name = "qa_net"
    config.augment.pad = 3
    config.augment.scale = (0.8, 1.2)
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.train.epochs = 100.0
    config.train.batch_size = 64
    config.train.learning_rate = 0.05
    config.train.weight_decay = 5e-4
    config.train.background = 0.3
    config.eval.every_epochs = 10.0
    config.eval.batch_size = 360
    config.eval.scenes = 200
    return config
