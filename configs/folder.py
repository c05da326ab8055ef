"""Your own pictures, one directory for each class: root/{train,val}/<class>/*.jpg or png, of any sizes.

    python main.py --config=configs/folder.py --config.data.dir=ROOT --workdir=runs/folder

It takes 3 minutes on two cores for 1,000 training pictures of 10 ImageNet classes. Expect test accuracy 54 % on 500
others (one seed): the pictures are few, and the net is trained from scratch.
"""

from typing import Any

from configs import default


def get_config() -> Any:
    """A batch-normalised layer pattern on pictures resized to 64x64."""
    config = default.get_config()
    config.data.name = "folder"
    config.data.image_size = 64
    config.net.name = "layer_pattern"
    config.net.options.update({"convs": 1, "blocks": 4, "features": 32, "width": 256, "norm": True, "dropout": 0.5})
    config.augment.flip = True
    config.augment.pad = 6
    config.augment.pad_mode = "reflect"
    config.augment.scale = (0.9, 1.3)
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.train.epochs = 40.0
    config.train.batch_size = 50
    config.train.optimizer = "adamw"
    config.train.learning_rate = 1e-3
    config.train.weight_decay = 0.05
    config.train.warmup = 0.05
    config.eval.batch_size = 250
    config.eval.every_epochs = 5.0
    return config
