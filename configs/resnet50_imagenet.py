"""ImageNet with ResNet-50, after its paper. Not run here: no machine of this project has the set or the time.

    python main.py --config=configs/resnet50_imagenet.py --workdir=runs/resnet50_imagenet
    python -m benchmarks.accelerators --net=resnet50 --topology=v5e:2x4 --batch_per_chip=32

The batch of 256, rate, momentum, weight decay and the falls of the rate after 30, 60 and 80 of 90 epochs are those
that reproduce the paper, as are cuts of 8 to 100 % of a picture's area. For a larger batch raise train.learning_rate
in proportion; the warm-up of 5 epochs is for that (Goyal et al., "Accurate, Large Minibatch SGD", 2017). Expect
accuracy of about 76 % (top-1, centre crop), as torchvision's weights of that recipe have (76.13 %).

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2016).
"""

from typing import Any

from configs import default


def get_config() -> Any:
    """`resnet50` on 224x224x3."""
    config = default.get_config()
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.validation_fraction = 0.01
    config.data.in_memory = "no"
    config.net.name = "resnet50"
    config.augment.area = (0.08, 1.0)
    config.augment.flip = True
    config.train.epochs = 90.0
    config.train.batch_size = 256
    config.train.learning_rate = 0.1
    config.train.momentum = 0.9
    config.train.weight_decay = 1e-4
    config.train.schedule = "step"
    config.train.milestones = (1 / 3, 2 / 3, 8 / 9)
    config.train.decay_factor = 0.1
    config.train.warmup = 5 / 90
    config.eval.batch_size = 250
    config.checkpoint.every_steps = 5000
    return config
