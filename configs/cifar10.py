"""CIFAR-10 with `full_cnn`, the net of the course's exercise, with 545,098 parameters; flips and shifts.

    python main.py --config=configs/cifar10.py --workdir=runs/cifar10

It takes 7 to 8 minutes on two cores. Expect test accuracy 77.3 % (mean of seeds 0-2, standard deviation 0.4 %) on
images that were compressed as JPEG once (experiments/results). Prepare the data first: see docs/training.md.
"""

from typing import Any

from configs import default


def get_config() -> Any:
    """`full_cnn` on 32x32x3."""
    config = default.get_config()
    config.data.name = "cifar10"
    config.net.name = "full_cnn"
    config.net.options.dropout = 0.1
    config.augment.flip = True
    config.augment.pad = 3
    config.augment.pad_mode = "reflect"
    config.train.epochs = 15.0
    config.train.batch_size = 128
    config.train.learning_rate = 0.05
    config.train.weight_decay = 5e-4
    config.train.warmup = 0.05
    return config
