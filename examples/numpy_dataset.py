"""Trains on arrays: a data set in three lines, a run, and its accuracy. Run: python examples/numpy_dataset.py"""

import numpy as np

from cnn import data, train
from cnn.runs import defaults


def load() -> data.Dataset:
    """Pictures of noise, half of them brighter at the top."""
    labels = np.arange(600) % 2
    images = np.random.default_rng(0).integers(0, 200, (600, 16, 16)).astype(np.uint8)
    images[labels == 1, :8] += 55
    return data.from_arrays((images, labels), class_names=["even", "bright above"])


if __name__ == "__main__":
    config = defaults.get_config()
    config.data.name = f"{__file__}:load"
    config.net.name, config.train.steps, config.train.learning_rate = "full_cnn", 60, 0.01
    result = train.train_and_evaluate(config, "runs/numpy")
    print(f"test accuracy {result['test_accuracy']:.1%} on {result['examples']} pictures")
