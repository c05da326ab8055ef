"""Data sets in memory: three splits as uint8 arrays, batches as a pure function of (seed, step).

`load` reads a set by name; `batch_indices` says which examples a step sees; `normalise` runs on the device, inside the
jitted step. The readers are in `readers` and `tfds`, pictures in `image_files`, augmentation in `augment`.
"""

from cnn.data.dataset import Dataset, batch_indices, load, normalise, subset
from cnn.data.image_files import DataError, load_images
from cnn.data.readers import Split

__all__ = ["DataError", "Dataset", "Split", "batch_indices", "load", "load_images", "normalise", "subset"]
