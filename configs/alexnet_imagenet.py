"""ImageNet with AlexNet, after its paper. Not run here: no machine of this project has the set or the time.

    python main.py --config=configs/alexnet_imagenet.py --workdir=runs/alexnet_imagenet
    python -m benchmarks.accelerators --net=alexnet --topology=v5e:2x4 --batch_per_chip=128

Batch, schedule, weight decay, dropout, cuts, flips and colour noise are the paper's (section 5), but for the rate,
which falls three times at fixed parts of 90 epochs where the authors judged by eye, and for kernels that start by
He's rule and biases at 0. They took six days on two GPUs of 2012; one GPU of today takes hours. Expect accuracy of
about 57 % (top-1, centre crop), which is what others get from such a run. Images are cut out of pictures whose
shortest side is 256 pixels.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012)."""

from typing import Any

from configs import default


def get_config() -> Any:
    """`alexnet` on 227x227x3."""
    config = default.get_config()
    config.data.name = "imagenet2012"
    config.data.image_size = 227
    config.data.validation_fraction = 0.01
    config.data.in_memory = "no"
    config.net.name = "alexnet"
    config.augment.shortest_side = (256, 256)
    config.augment.flip = True
    config.augment.colour_noise = 0.1
    config.train.epochs = 90.0
    config.train.batch_size = 128
    config.train.learning_rate = 0.01
    config.train.momentum = 0.9
    config.train.weight_decay = 5e-4
    config.train.schedule = "step"
    config.train.milestones = (0.33, 0.66, 0.88)
    config.train.decay_factor = 0.1
    config.eval.batch_size = 250
    config.checkpoint.every_steps = 5000
    return config
