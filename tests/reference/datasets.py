"""What data sets are compared by."""

import numpy as np


def rows(split):
    """One bytes object per example, image and label, sorted: equal lists are equal multisets."""
    return sorted(x.tobytes() + bytes([y]) for x, y in zip(split.images, split.labels, strict=True))


def check_dataset(dataset):
    """What holds of every data set."""
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        assert split.images.shape == (len(split.labels), *dataset.image_shape)
    assert set(dataset.train.labels) <= set(range(dataset.num_classes))
    pixels = dataset.train.images.reshape(-1, dataset.image_shape[-1])
    if len(pixels) < 10**7:  # in float64, the plain way
        np.testing.assert_allclose(dataset.mean, (pixels / 255).mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(dataset.std, (pixels / 255).std(axis=0), rtol=1e-9)
