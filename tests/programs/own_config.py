"""A user's own config, without the checkout's `configs`."""

from cnn.runs.defaults import get_config as defaults


def get_config():
    """A tiny net on fake images."""
    config = defaults()
    config.data.name = "fake"
    config.data.image_size = 8
    config.net.name = "layer_pattern"
    config.net.options.update({"features": 4, "width": 8, "blocks": 1})
    config.train.steps = 4
    config.train.batch_size = 16
    return config
