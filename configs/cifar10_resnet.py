"""CIFAR-10 with a residual net in minutes on two cores."""

from typing import Any

from configs import default


def get_config() -> Any:
    """A residual net whose first convolution whitens, at a large learning rate."""
    config = default.get_config()
    config.data.name = "cifar10"
    config.data.validation_fraction = 0.0
    config.augment.flip = True
    config.augment.pad = 2
    config.augment.pad_mode = "reflect"
    config.net.name = "whitened_resnet"
    config.net.options.features = (48, 96, 192)
    config.train.whitened = "conv1"
    config.train.frozen = ("conv1",)
    config.train.epochs = 10.0
    config.train.batch_size = 512
    config.train.learning_rate = 2.0
    config.train.momentum = 0.85
    config.train.nesterov = True
    config.train.head_rate = 1 / 81
    config.train.warmup = 0.2
    config.train.weight_decay = 1.3e-3
    config.train.label_smoothing = 0.2
    config.checkpoint.every_steps = 200
    return config
