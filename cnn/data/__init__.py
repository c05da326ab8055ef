"""Data sets: three splits of uint8 images, batches as a pure function of (seed, step).

`load` reads a set by name, `from_arrays` makes one of NumPy arrays; `batch_indices` says which examples a step sees;
`normalise` runs on the device, inside the jitted step. Readers are in `readers`, `arrays` (the user's own) and `tfds`,
pictures in `image_files`, those that stay in their files in `streamed`, augmentation in `augment`.
"""

from cnn.data.class_order import in_order
from cnn.data.dataset import (
    IMPORTED,
    IN_MEMORY,
    Dataset,
    from_arrays,
    is_own,
    load,
    of_share,
    subset,
)
from cnn.data.image_files import load_image, load_images
from cnn.data.normalising import normalise
from cnn.data.order import batch_indices, batches
from cnn.data.readers import Split
from cnn.images.errors import DataError

__all__ = [
    "IMPORTED",
    "IN_MEMORY",
    "DataError",
    "Dataset",
    "Split",
    "batch_indices",
    "batches",
    "from_arrays",
    "in_order",
    "is_own",
    "load",
    "load_image",
    "load_images",
    "normalise",
    "of_share",
    "subset",
]
