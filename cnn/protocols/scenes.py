"""Larger scenes made from a split: one object somewhere on a black canvas, among distractor strokes.

A classifier is trained on pictures that their object fills. In a scene the object has the same label, but its place and
size are unknown. Scenes serve to compare crop and dense protocols (`cnn.protocols.on_scenes`); nothing is trained on
them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn.images.resizing import resize

PEN_WIDTH = (0.10, 0.20)  # fraction of the example's height: 3 to 6 pixels of 32, as in handwriting
STROKE_LENGTH = (0.25, 0.60)  # from end to end, fraction of the example's height: too short to look like a "1"
STROKE_BEND = 0.5  # largest distance of the middle control point from the straight line, fraction of the length
SCALE = (0.8, 1.25)  # smallest and largest factor on the example's size
STROKE_TRIES = 100  # number of places tried for a stroke before it is left out
CURVE_POINTS = 32  # number of discs that a stroke is made of


class Scenes(NamedTuple):
    """Scenes, with the box and the class of each object.

    Attributes:
      images: uint8 [count, size, size, C].
      labels: classes of the objects, int32 [count].
      boxes: pixel boxes of the objects (y0, x0, y1, x1), y1 and x1 exclusive, int32 [count, 4].
      sources: index of each object's example in the split, int32 [count].
      strokes: number of distractor strokes drawn, int32 [count].
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    sources: np.ndarray
    strokes: np.ndarray


def build(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    count: int,
    seed: int,
    size: int,
    scale: tuple[float, float] = SCALE,
    strokes: tuple[int, int] = (3, 6),
) -> Scenes:
    """Builds scenes: each a black canvas with one example of a split and a few distractor strokes.

    Examples are used in rounds, each a new random order of all of them, so that the numbers of times that two examples
    are used differ by one at most. Scene i depends only on (examples, seed, size, scale, strokes, i): the first hundred
    of a thousand scenes are the hundred scenes of a shorter call. A scene is made in four steps:

    1. The example is resized by exp(u), u uniform between the logarithms of the two scales (bicubic, antialiased).
    2. It is placed uniformly at random among all places where it lies wholly inside the canvas.
    3. The number of strokes is uniform from `strokes`, both ends included. A stroke is a quadratic Bezier curve: length
       from end to end, pen width and bend uniform in the ranges of this module's constants, direction and place
       uniform. Its ink lies wholly inside the canvas and wholly outside the object's box; strokes may cross each
       other. A stroke that finds no such place in `STROKE_TRIES` draws is left out (`Scenes.strokes` counts the drawn).
       Its colour is that of the brightest pixel of an example drawn at random.
    4. Each pixel of the scene is the maximum of canvas, object and strokes.

    Pictures that are bright on black, such as digits, blend into the canvas. Others appear as rectangular patches with
    their own background: no stroke meets the object's box.

    Args:
      images: pixels of the examples, uint8 [N, H, W, C].
      labels: class of each example, integer [N].
      count: number of scenes.
      seed: seed of all random numbers, 0 to 2**32 - 1.
      size: height and width of the canvas, pixels.
      scale: smallest and largest factor on the example's size.
      strokes: smallest and largest number of distractor strokes.

    Returns:
      The scenes.

    Raises:
      ValueError: if arrays, ranges or sizes do not fit; names the argument and, if the canvas is smaller than the
        largest object, the least size.
    """
    _check(images, labels, count=count, seed=seed, size=size, scale=scale, strokes=strokes)
    _, height, width, channels = images.shape
    sources = _rounds(len(images), count, seed)
    canvases = np.zeros((count, size, size, channels), np.uint8)
    boxes = np.zeros((count, 4), np.int32)
    drawn = np.zeros(count, np.int32)
    for i, source in enumerate(sources):
        # RandomState, because NumPy promises not to change its stream (NEP 19): later versions make the same scenes.
        rng = np.random.RandomState([seed, 1, i])
        factor = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
        item = resize(images[source], _scaled(height, width, factor))
        y, x = rng.randint(size - item.shape[0] + 1), rng.randint(size - item.shape[1] + 1)
        boxes[i] = y, x, y + item.shape[0], x + item.shape[1]
        canvases[i, y : boxes[i, 2], x : boxes[i, 3]] = item
        for _ in range(rng.randint(strokes[0], strokes[1] + 1)):
            other = images[rng.randint(len(images))].reshape(-1, channels)
            drawn[i] += _draw_stroke(rng, canvases[i], boxes[i], height, other[other.sum(axis=1).argmax()])
    return Scenes(canvases, labels[sources].astype(np.int32), boxes, sources, drawn)


def smallest_size(example: Sequence[int], scale: tuple[float, float] = SCALE) -> int:
    """The smallest canvas that holds an example however it is scaled.

    Args:
      example: (height, width) of the examples, pixels.
      scale: smallest and largest factor on the example's size.

    Returns:
      Height and width of the canvas, pixels.
    """
    return max(_scaled(example[0], example[1], scale[1]))


def _check(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    count: int,
    seed: int,
    size: int,
    scale: tuple[float, float],
    strokes: tuple[int, int],
) -> None:
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) == 0:
        raise ValueError(
            f"scenes: images are {images.dtype} {list(images.shape)}; they must be uint8 [N, H, W, C], N at least 1"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(f"scenes: labels have shape {list(labels.shape)}, there are {len(images)} images")
    if count < 1:
        raise ValueError(f"scenes: count (={count}) must be at least 1")
    if not 0 <= seed < 2**32:
        raise ValueError(f"scenes: seed (={seed}) must be 0 to {2**32 - 1}")
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scenes: scale (={scale}) must be (smallest, largest), above 0")
    if not 0 <= strokes[0] <= strokes[1]:
        raise ValueError(f"scenes: strokes (={strokes}) must be (fewest, most), at least 0")
    largest = smallest_size(images.shape[1:3], scale)
    if size < largest:
        raise ValueError(
            f"scenes: size (={size}) must be at least {largest} pixels: examples are {images.shape[1]}x"
            f"{images.shape[2]} and are enlarged up to {scale[1]:g} times"
        )


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(1, round(height * factor)), max(1, round(width * factor))


def _rounds(examples: int, count: int, seed: int) -> np.ndarray:
    """Index of each scene's example, int32 [count]; the numbers of uses of two examples differ by one at most."""
    rounds = -(-count // examples)
    orders = [np.random.RandomState([seed, 0, number]).permutation(examples) for number in range(rounds)]
    return np.concatenate(orders)[:count].astype(np.int32)


def _draw_stroke(
    rng: np.random.RandomState, canvas: np.ndarray, box: np.ndarray, height: int, colour: np.ndarray
) -> bool:
    """Draws one stroke on a canvas, uint8 [size, size, C], in place and outside a box; False if it found no room.

    `height` is the height of the examples, pixels, of which the stroke's length and width are fractions.
    """
    size = len(canvas)
    for _ in range(STROKE_TRIES):
        points, radius = _curve(rng, height)
        low = np.floor(points.min(axis=0) - radius - 0.5).astype(int)  # the soft edge adds half a pixel
        high = np.ceil(points.max(axis=0) + radius + 0.5).astype(int)
        room = size - (high - low)
        if room.min() < 0:
            continue
        y0, x0 = rng.randint(room[0] + 1), rng.randint(room[1] + 1)
        y1, x1 = y0 + high[0] - low[0], x0 + high[1] - low[1]
        if y0 < box[2] and y1 > box[0] and x0 < box[3] and x1 > box[1]:
            continue
        ink = ink_of_pen(points - low, radius, y1 - y0, x1 - x0)
        layer = np.round(ink[:, :, None] * colour).astype(np.uint8)
        canvas[y0:y1, x0:x1] = np.maximum(canvas[y0:y1, x0:x1], layer)
        return True
    return False


def _curve(rng: np.random.RandomState, height: int) -> tuple[np.ndarray, float]:
    """Points (y, x) along a quadratic Bezier curve from the origin, float64 [CURVE_POINTS, 2], and the pen's radius."""
    length = rng.uniform(*STROKE_LENGTH) * height
    radius = rng.uniform(*PEN_WIDTH) * height / 2
    angle = rng.uniform(0, 2 * math.pi)
    bend = rng.uniform(-STROKE_BEND, STROKE_BEND) * length
    along = np.array([math.sin(angle), math.cos(angle)])
    across = np.array([along[1], -along[0]])
    middle, end = along * length / 2 + across * bend, along * length
    t = np.linspace(0, 1, CURVE_POINTS)[:, None]
    return 2 * t * (1 - t) * middle + t**2 * end, radius


def ink_of_pen(points: np.ndarray, radius: float, height: int, width: int) -> np.ndarray:
    """The fraction of each pixel that a pen covers: discs with an edge one pixel wide.

    Args:
      points: float64 [n, 2], (y, x) of the discs' centres, pixels; the first pixel's centre is at 0.5.
      radius: radius of each disc, pixels.
      height: rows of the image.
      width: columns of the image.

    Returns:
      float64 [height, width], in [0, 1].
    """
    pixels = np.moveaxis(np.indices((height, width)), 0, -1) + 0.5  # centres
    distance = np.sqrt(((pixels[:, :, None] - points) ** 2).sum(axis=-1)).min(axis=-1)
    return np.clip(radius + 0.5 - distance, 0, 1)
