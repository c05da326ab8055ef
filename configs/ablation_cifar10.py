"""The base of the ablation studies on colour photographs: a small net on 10,000 pictures of CIFAR-10.

    python main.py --config=configs/ablation_cifar10.py --workdir=runs/ablation_cifar10

It takes a minute on two cores. Expect test accuracy 59.4 % (mean of seeds 0-5; the cell "zero" of
experiments/results/padding) on images that were compressed as JPEG once. Studies change some of its fields, see
`python -m experiments.ablate --list`. Prepare the data first: see docs/training.md.
"""

from typing import Any

from configs import ablation


def get_config() -> Any:
    """[CONV 3x3 -> RELU -> POOL]*2 with 16 and 32 maps, FC 64, FC classes; flips."""
    config = ablation.get_config()
    config.data.name = "cifar10"
    config.augment.flip = True
    config.train.epochs = 6.0
    return config
