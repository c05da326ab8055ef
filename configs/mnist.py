"""MNIST with `full_cnn`, dropout and label smoothing, without augmentation.

    python main.py --config=configs/mnist.py --workdir=runs/mnist

It takes 4 to 5 minutes on two cores. Expect test accuracy 99.3 % (mean of seeds 0-2; experiments/results). Prepare the
data first: see docs/training.md.
"""

from typing import Any

from configs import default


def get_config() -> Any:
    """`full_cnn` on 28x28x1."""
    config = default.get_config()
    config.data.name = "mnist"
    config.net.name = "full_cnn"
    config.net.options.dropout = 0.5
    config.train.epochs = 15.0
    config.train.batch_size = 128
    config.train.learning_rate = 0.1
    config.train.label_smoothing = 0.1
    config.train.warmup = 0.05
    config.train.weight_decay = 5e-4
    return config
