"""Fashion-MNIST with the FullCNN of the course note, dropout and light augmentation."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """`full_cnn` on 28x28x1."""
    config = default.get_config()
    config.data.name = "fashion_mnist"
    config.net.name = "full_cnn"
    config.net.options.dropout = 0.2
    config.augment.flip = True
    config.augment.pad = 1
    config.train.epochs = 18.0
    config.train.batch_size = 128
    config.train.learning_rate = 0.1
    config.train.label_smoothing = 0.05
    config.train.weight_decay = 5e-4
    config.train.warmup = 0.05
    return config
