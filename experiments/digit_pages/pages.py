"""Pages of uneven, noisy paper with digits and distractor strokes in ink, at known places."""

import math
from typing import NamedTuple

import numpy as np

from cnn.protocols.scenes import CURVE_POINTS, PEN_WIDTH, STROKE_BEND, STROKE_LENGTH, ink_of_pen

PAPER = (190.0, 245.0)  # mean brightness of a page
SHADE = 15.0  # largest difference of the light from the mean, at 5x5 points of the page
NOISE = (2.0, 9.0)  # standard deviation of a page's noise, values
INK = (0.55, 0.95)  # how dark a mark is, as a fraction of the paper's light
TRIES = 1000  # places that are tried for a mark before the page counts as full


class Page(NamedTuple):
    """One page.

    Attributes:
      image: uint8 [size, size, 1]: dark ink on light paper.
      labels: the class of each digit, int32 [D].
      boxes: pixel box of each digit (y0, x0, y1, x1), ends exclusive, int32 [D, 4].
      strokes: those of the distractor strokes, int32 [S, 4]; no two boxes of a page overlap.
    """

    image: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    strokes: np.ndarray


def make(
    images: np.ndarray, labels: np.ndarray, *, seed: int, number: int, size: int, digits: int, strokes: int
) -> Page:
    """Makes a page; it depends only on the arguments, page by page.

    Args:
      images: digits, bright on black, uint8 [N, H, W, 1].
      labels: class of each, integer [N].
      seed: seed of all pages.
      number: which page.
      size: height and width of the page, pixels.
      digits: number of digits on it, drawn at random with replacement, at their own size.
      strokes: number of distractor strokes, too short for a "1" (`cnn.protocols.scenes`); they touch no digit's box and
        no other stroke's.

    Returns:
      The `Page`.

    Raises:
      ValueError: if the marks do not fit on the page.
    """
    rng = np.random.RandomState([seed, number])  # NumPy promises not to change its stream (NEP 19)
    height, width = images.shape[1:3]
    ink = np.zeros((size, size), np.float32)
    chosen = rng.randint(len(images), size=digits)
    boxes = np.zeros((digits + strokes, 4), np.int32)
    for i in range(digits + strokes):
        mark = images[chosen[i], :, :, 0] / np.float32(255) if i < digits else _stroke(rng, height)
        boxes[i] = _place(rng, mark.shape, boxes[:i], size)
        y0, x0, y1, x1 = boxes[i]
        ink[y0:y1, x0:x1] = mark * rng.uniform(*INK)
    light = rng.uniform(*PAPER) + _shade(rng, size)
    noisy = light * (1 - ink) + rng.normal(0, rng.uniform(*NOISE), (size, size)).astype(np.float32)
    image = np.clip(np.round(noisy), 0, 255).astype(np.uint8)[:, :, None]
    return Page(image, labels[chosen].astype(np.int32), boxes[:digits], boxes[digits:])


def _place(rng: np.random.RandomState, shape: tuple[int, ...], taken: np.ndarray, size: int) -> tuple[int, ...]:
    """A place where a mark overlaps none of the boxes that are taken."""
    for _ in range(TRIES):
        y, x = rng.randint(size - shape[0] + 1), rng.randint(size - shape[1] + 1)
        y1, x1 = y + shape[0], x + shape[1]
        apart = (taken[:, 0] >= y1) | (taken[:, 2] <= y) | (taken[:, 1] >= x1) | (taken[:, 3] <= x)
        if apart.all():
            return y, x, y1, x1
    raise ValueError(f"pages: {len(taken) + 1} marks do not fit on a page of {size}x{size} pixels; make it larger")


def _stroke(rng: np.random.RandomState, height: int) -> np.ndarray:
    """The ink of a curved stroke, float32 [h, w], as `cnn.protocols.scenes` draws distractors."""
    length, radius = rng.uniform(*STROKE_LENGTH) * height, rng.uniform(*PEN_WIDTH) * height / 2
    angle, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-STROKE_BEND, STROKE_BEND) * length
    along = np.array([math.sin(angle), math.cos(angle)])
    t = np.linspace(0, 1, CURVE_POINTS)[:, None]
    middle, end = along * length / 2 + np.array([along[1], -along[0]]) * bend, along * length
    points = 2 * t * (1 - t) * middle + t**2 * end
    points += radius + 1 - points.min(axis=0)
    rows, columns = np.ceil(points.max(axis=0) + radius + 1).astype(int)
    return ink_of_pen(points, radius, rows, columns).astype(np.float32)


def _shade(rng: np.random.RandomState, size: int) -> np.ndarray:
    """Light that changes slowly over the page, float32 [size, size]: bilinear between 5x5 random points."""
    points = rng.uniform(-SHADE, SHADE, (5, 5)).astype(np.float32)
    at = np.linspace(0, 4, size, dtype=np.float32)
    low = np.minimum(at.astype(int), 3)
    part = at - low
    rows = points[low] * (1 - part)[:, None] + points[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part
