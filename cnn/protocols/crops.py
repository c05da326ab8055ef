"""Views of an image for a net with a fixed window: the whole image resized, and crops, upright or mirrored.

A place is (y, x, mirrored): the upper left corner of a window in pixels of the image, and 1 if the view is mirrored
left to right, otherwise 0. Places are numbers only, so that they can be computed, counted and tested without any image.

Source: Krizhevsky et al. (2012), section 4.1 (ten crops); Simonyan, Zisserman (2014), section 3.2 (multi-crop).
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from cnn.windows import GeometryError, Pair, shape_text

Array = TypeVar("Array", jax.Array, np.ndarray)


def resize(images: jax.Array, window: Sequence[int]) -> jax.Array:
    """The whole image resized to the window, bicubic and antialiased; it takes on the window's aspect ratio.

    Args:
      images: floating [N, H, W, C], pixel values in [0, 1].
      window: (height, width) of the window, pixels.

    Returns:
      floating [N, 1, height, width, C], clipped to [0, 1], because 8-bit pictures cannot hold the kernel's overshoots.
    """
    shape = (images.shape[0], *window, images.shape[3])
    return jnp.clip(jax.image.resize(images, shape, "cubic", antialias=True), 0, 1)[:, None]


def centre_crop(images: jax.Array, window: Sequence[int]) -> jax.Array:
    """The centre of an image; where two places are equally central, the upper left one.

    Args:
      images: pixels of any dtype, [N, H, W, C].
      window: (height, width) of the window, pixels.

    Returns:
      [N, 1, height, width, C].

    Raises:
      GeometryError: if the window is larger than the image.
    """
    return cut(images, centre_place(images.shape[1:3], window), window)


def ten_crops(images: jax.Array, window: Sequence[int]) -> jax.Array:
    """The four corners and the centre of an image, and these five mirrored left to right.

    For digits mirroring makes no sense, as a mirrored digit is another or none; the protocol is used as published.

    Args:
      images: pixels of any dtype, [N, H, W, C].
      window: (height, width) of the window, pixels.

    Returns:
      [N, 10, height, width, C]: top left, top right, bottom left, bottom right, centre, and their mirror images.

    Raises:
      GeometryError: if the window is larger than the image.

    Source: Krizhevsky, Sutskever, Hinton (2012), section 4.1.
    """
    return cut(images, ten_places(images.shape[1:3], window), window)


def multi_crop(images: jax.Array, window: Sequence[int], count: int, flip: bool = False) -> jax.Array:
    """Crops on a regular grid from corner to corner, and optionally the mirror image of each.

    Args:
      images: pixels of any dtype, [N, H, W, C].
      window: (height, width) of the window, pixels.
      count: number of places along each axis; 5 with `flip` gives the VGG paper's 50 crops for each scale.
      flip: whether to add the mirror images.

    Returns:
      [N, V, height, width, C]: the V crops of `regular_places`, followed with `flip` by their mirror images.

    Raises:
      GeometryError: if the window is larger than the image.
      ValueError: if the count is below 1.
    """
    places = regular_places(images.shape[1:3], window, count)
    return cut(images, np.concatenate([places, mirrored(places)]) if flip else places, window)


def centre_place(size: Sequence[int], window: Sequence[int]) -> np.ndarray:
    """The place of the centre crop.

    Args:
      size: (H, W) of the image, pixels.
      window: (height, width) of the window, pixels.

    Returns:
      int64 [1, 3], (y, x, mirrored).

    Raises:
      GeometryError: if the window is larger than the image.
    """
    bottom, right = _room(size, window)
    return np.array([[bottom // 2, right // 2, 0]])


def ten_places(size: Sequence[int], window: Sequence[int]) -> np.ndarray:
    """The places of the ten crops.

    Args:
      size: (H, W) of the image, pixels.
      window: (height, width) of the window, pixels.

    Returns:
      int64 [10, 3], (y, x, mirrored), in the order of `ten_crops`.

    Raises:
      GeometryError: if the window is larger than the image.
    """
    bottom, right = _room(size, window)
    corners = np.array([[0, 0, 0], [0, right, 0], [bottom, 0, 0], [bottom, right, 0]])
    five = np.concatenate([corners, centre_place(size, window)])
    return np.concatenate([five, mirrored(five)])


def regular_places(size: Sequence[int], window: Sequence[int], count: int) -> np.ndarray:
    """Places on a regular grid from corner to corner; the centre where `count` is 1.

    Along an axis they are `count` numbers evenly spaced from 0 to the last place, rounded down. Where the window can
    move by fewer than `count - 1` pixels some would coincide; each place is listed once.

    Args:
      size: (H, W) of the image, pixels.
      window: (height, width) of the window, pixels.
      count: number of places along each axis, at least 1.

    Returns:
      int64 [V, 3], (y, x, mirrored), row by row; V is count * count, or fewer in an image hardly larger than
      the window.

    Raises:
      GeometryError: if the window is larger than the image.
      ValueError: if the count is below 1.
    """
    if count < 1:
        raise ValueError(f"multi-crop: count (={count}) must be at least 1 place along each axis; the VGG paper has 5")
    axes = [
        np.unique(np.arange(count) * room // (count - 1)) if count > 1 else np.array([room // 2])
        for room in _room(size, window)
    ]
    y, x = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    return np.stack([y, x, np.zeros_like(y)], axis=1)


def mirrored(places: np.ndarray) -> np.ndarray:
    """The same windows, mirrored left to right.

    Args:
      places: int [V, 3], (y, x, mirrored).

    Returns:
      int [V, 3]: upright views become mirrored ones, and mirrored ones upright.
    """
    return np.stack([places[:, 0], places[:, 1], 1 - places[:, 2]], axis=1)


def cut(images: Array, places: np.ndarray, window: Sequence[int]) -> Array:
    """Cuts the same views out of every image.

    Args:
      images: pixels of any dtype, [N, H, W, C].
      places: int [V, 3], (y, x, mirrored); all windows lie inside the images.
      window: (height, width), pixels.

    Returns:
      [N, V, height, width, C]; a NumPy array if `images` is one, otherwise a JAX array on the same device.
    """
    crops = []
    for y, x, is_mirrored in places.tolist():
        crop = images[:, y : y + window[0], x : x + window[1]]
        crops.append(crop[:, :, ::-1] if is_mirrored else crop)
    stack: Any = np.stack if isinstance(images, np.ndarray) else jnp.stack
    return stack(crops, axis=1)


def scaled_size(size: Sequence[int], shortest: int) -> Pair:
    """The size of an image resized to a test scale, its aspect ratio kept to within half a pixel.

    Args:
      size: (H, W), pixels.
      shortest: the test scale Q: the length that the shortest side gets, pixels.

    Returns:
      (height, width), pixels.

    Source: Simonyan, Zisserman (2014), section 3.2, "rescaled to a pre-defined smallest image side, denoted as Q".
    """
    least = min(size)
    # Computed in integers, so that halves are rounded up on every machine.
    height, width = ((2 * side * shortest + least) // (2 * least) for side in size)
    return height, width


def _room(size: Sequence[int], window: Sequence[int]) -> Pair:
    """How far a window can move down and right in an image, pixels."""
    room = (size[0] - window[0], size[1] - window[1])
    if min(room) < 0:
        raise GeometryError(f"crop: the window {shape_text(window)} is larger than the image {shape_text(size)}")
    return room
