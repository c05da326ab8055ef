"""ImageNet with VGG-16, after its paper. Not run here: no machine of this project has the set or the time.

    python main.py --config=configs/vgg16_imagenet.py --workdir=runs/vgg16_imagenet
    python -m benchmarks.accelerators --net=vgg16 --topology=v5e:2x4 --batch_per_chip=32

Batch, schedule, weight decay, dropout and the jitter of scales are the paper's (section 3.1); so is the noise of
colours, which is AlexNet's. The authors began with the layers of net A; kernels that start by He's rule do not need
that, and --config.train.initial_run=runs/vgg11_imagenet does it (a run of this config with --config.net.name=vgg11).
Theirs took two to three weeks on four GPUs of 2014. Expect accuracy of about 72 to 74 % (top-1); with a dense pass at
several scales the paper has 75.2 % (table 4). A smaller batch needs a rate that is smaller in proportion: with four
images the one of 256 diverges at once.

Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015).
"""

from typing import Any

from configs import default


def get_config() -> Any:
    """`vgg16` on 224x224x3, the shortest side of its pictures drawn from 256 to 512 pixels."""
    config = default.get_config()
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.validation_fraction = 0.01
    config.data.in_memory = "no"
    config.net.name = "vgg16"
    config.augment.shortest_side = (256, 512)
    config.augment.flip = True
    config.augment.colour_noise = 0.1
    config.train.epochs = 74.0
    config.train.batch_size = 256
    config.train.learning_rate = 0.01
    config.train.momentum = 0.9
    config.train.weight_decay = 5e-4
    config.train.schedule = "step"
    config.train.milestones = (0.4, 0.65, 0.85)
    config.train.decay_factor = 0.1
    config.eval.batch_size = 250
    config.checkpoint.every_steps = 5000
    return config
