"""The default run: 1,797 real handwritten digits at 32x32, and a dense run over larger scenes made of the test digits.

    python main.py --config=configs/digits.py --workdir=runs/digits

It takes half a minute on two cores, 10 seconds of it for training. Expect test accuracy 99.3 % (mean of seeds 0-2;
experiments/results). The net has no padding, so that its score map equals the scores of crops. In some training
examples the digit is moved out of the window (train.background), because most windows of a scene have no whole digit.
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
