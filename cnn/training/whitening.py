"""A first convolution whose kernels whiten the patches of the training images: what it gives is uncorrelated."""

from __future__ import annotations

import math

import numpy as np

from cnn import geometry
from cnn.data import Dataset
from cnn.layers import Conv
from cnn.nets import Net
from cnn.runtime import processes
from cnn.training.steps import State
from cnn.windows import as_pair, shape_text

IMAGES = 5000  # training images that patches are taken of, the first ones
EPSILON = 5e-4  # added to variances of normalised pixels, so that what hardly varies is not blown up
_BLOCK = 500  # images at a time


def check(net: Net, name: str, image_shape: tuple[int, int, int]) -> None:
    """Checks that a layer can begin as a whitening.

    Args:
      net: the classifier.
      name: `train.whitened`, the layer's name; "" for none.
      image_shape: (H, W, C) of one image.

    Raises:
      ValueError: if it is no convolution of the images themselves, or has another number of kernels.
    """
    if not name:
        return
    names, field = geometry.layer_names(net.layers), f"train.whitened (={name!r})"
    if names[0] != name or not isinstance(net.layers[0], Conv):
        first = f"{names[0]} ({net.layers[0].kind})"
        raise ValueError(f"{field} must be a convolution of the images themselves; the net begins with {first}")
    layer = net.layers[0]
    if as_pair(layer.dilation, "dilation", layer.label) != (1, 1):
        raise ValueError(f"{field}: its kernels are dilated (by {layer.dilation}), and whitened patches have no gaps")
    if layer.groups != 1:
        raise ValueError(f"{field}: its {layer.groups} groups see different channels; a whitening needs all of them")
    *patch, features = layer.kernel_shape(image_shape)
    size = math.prod(patch)
    if features not in (size, 2 * size):
        raise ValueError(
            f"{field} has {features} features; a whitening of patches of {shape_text(patch)} gives {size}, or "
            f"{2 * size} with both signs of each"
        )


def begin(state: State, dataset: Dataset, name: str) -> State:
    """The state before the first step, with the kernels of a layer replaced.

    Args:
      state: the state as initialised.
      dataset: the data; of several processes this one's share.
      name: the layer's name, one that `check` allows; "" for none.

    Returns:
      The state.
    """
    if not name:
        return state
    own = state.params[name]
    height, width, channels, features = own["kernel"].shape
    whitening = kernels(second_moment(dataset, (height, width)), (height, width, channels))
    both = np.concatenate([whitening, -whitening], axis=-1)[..., :features]
    return state._replace(params={**state.params, name: {**own, "kernel": both.astype(np.float32)}})


def second_moment(dataset: Dataset, kernel: tuple[int, int]) -> np.ndarray:
    """The mean of z zT over the patches z of the first training images, whose pixels are normalised.

    Sums are of whole numbers and so the same for any number of processes.

    Args:
      dataset: the data; of several processes this one's share.
      kernel: height and width of a patch, pixels.

    Returns:
      float64 [D, D]; the D values of a patch in the order height, width, channel.
    """
    images, channels, count = dataset.train.images, dataset.image_shape[2], len(dataset.train.labels)
    rows = slice(0, count) if len(images) == count else processes.share().rows(count)
    here = max(0, min(rows.stop, IMAGES) - rows.start)
    size = kernel[0] * kernel[1] * channels + 1
    sums = np.zeros((size, size), np.int64)
    for start in range(0, here, _BLOCK):
        some = images[start : min(start + _BLOCK, here)]
        views = np.lib.stride_tricks.sliding_window_view(some, kernel, axis=(1, 2))  # (N, H', W', C, kh, kw)
        patches = np.moveaxis(views, 3, -1).reshape(-1, size - 1).astype(np.float64)
        patches = np.concatenate([patches, np.ones((len(patches), 1))], axis=1)  # the last row then has the sums
        sums += (patches.T @ patches).astype(np.int64)  # whole numbers far below 2^53
    sums = processes.total(sums).astype(np.float64)
    # z = scale x - shift of the pixel values x.
    scale = np.tile(1 / (255 * np.asarray(dataset.std, np.float64)), kernel[0] * kernel[1])
    shift = np.tile(np.asarray(dataset.mean, np.float64) / dataset.std, kernel[0] * kernel[1])
    number, mean = sums[-1, -1], scale * sums[-1, :-1] / sums[-1, -1]
    products = scale[:, None] * scale * sums[:-1, :-1] / number
    return products - np.outer(shift, mean) - np.outer(mean, shift) + np.outer(shift, shift)


def kernels(moment: np.ndarray, patch: tuple[int, int, int]) -> np.ndarray:
    """Kernels along the principal axes of patches, each of which gives values of variance one.

    Args:
      moment: the patches' second moment, float64 [D, D].
      patch: (height, width, channels) of a patch; D is their product.

    Returns:
      float64 [height, width, channels, D], the axis of the smallest variance first.

    Source: Page, "How to Train Your ResNet 8: Bag of Tricks" (2019); Jordan, "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU" (2024), section 3.2, whose constant is added here.
    """
    variances, axes = np.linalg.eigh(moment)
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))] < 0, -1, 1)  # signs are arbitrary
    return (axes / np.sqrt(variances + EPSILON)).reshape(*patch, -1)
