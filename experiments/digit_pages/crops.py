"""Crops of pages of digits, for a net with a class for what is no digit; `load` is the `data.name` of configs/pages.py.

All crops are windows of MNIST's size, cut out of crowded pages (`experiments.digit_pages.pages`) of the training,
validation or test digits. A window at most `HIT` pixels from a digit along each axis is that digit. One at least `MISS`
pixels from every digit along one of the axes is background: a part of a digit, or of two, a stroke, or bare paper.
Windows around strokes are many, since a short straight one is nearly a "1". What lies between the two is left out.
"""

import numpy as np

from cnn import data
from experiments.digit_pages import pages

HIT = 3  # pixels; with a stride of 4 pixels, a window lies within 2 of every digit, along each axis
MISS = 8
BACKGROUND = "background"
SIZE, DIGITS, STROKES = 512, 60, 80  # of a page that crops are cut from
PER_DIGIT, PER_STROKE, PER_PAGE = 2, 2, 60  # windows of each mark, and near digits and anywhere on a page


def load(dir: str, validation_fraction: float):
    """Crops of three splits, made of MNIST's digits.

    Args:
      dir: folder of the TFDS sets; "": $TFDS_DATA_DIR.
      validation_fraction: fraction of MNIST's training digits that are held out, for validation.

    Returns:
      {"train": (uint8 [N, 28, 28, 1], int32 [N]), "validation", "test", "class_names": the ten digits and background}.
    """
    digits = data.load("mnist", dir=dir, validation_fraction=validation_fraction)
    splits = {}
    for seed, name in enumerate(("train", "validation", "test"), 1):
        split = getattr(digits, name)
        splits[name] = cut(split.images, split.labels, seed=seed, count=max(1, len(split.labels) // DIGITS))
    return {**splits, "class_names": (*digits.class_names, BACKGROUND)}


def cut(images: np.ndarray, labels: np.ndarray, *, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of several pages.

    Args:
      images: digits, uint8 [N, H, W, 1].
      labels: class of each, integer [N].
      seed: seed of the pages and the crops.
      count: number of pages.

    Returns:
      Crops, uint8 [M, H, W, 1], and their classes, int32 [M]; background is the class after the largest of `labels`.
    """
    rng, window, background = np.random.RandomState(seed), np.array(images.shape[1:3]), int(labels.max()) + 1
    crops, classes = [], []
    for number in range(count):
        page = pages.make(images, labels, seed=seed, number=number, size=SIZE, digits=DIGITS, strokes=STROKES)
        corners = page.boxes[:, :2]
        hits = np.repeat(corners, PER_DIGIT, axis=0) + rng.randint(-HIT, HIT + 1, (PER_DIGIT * DIGITS, 2))
        marks = np.repeat(page.strokes, PER_STROKE, axis=0)
        around = (marks[:, :2] + marks[:, 2:] - window) // 2 + rng.randint(-MISS, MISS + 1, (len(marks), 2))
        near = corners[rng.randint(DIGITS, size=PER_PAGE)] + rng.randint(-window[0], window[0] + 1, (PER_PAGE, 2))
        others = np.concatenate([around, near, rng.randint(SIZE - window + 1, size=(PER_PAGE // 2, 2))])
        away = np.abs(others[:, None] - corners).max(axis=-1).min(axis=-1)
        for places, known in ((hits, np.repeat(page.labels, PER_DIGIT)), (others[away >= MISS], None)):
            inside = ((places >= 0) & (places <= SIZE - window)).all(axis=-1)
            for y, x in places[inside]:
                crops.append(page.image[y : y + window[0], x : x + window[1]])
            classes.append(np.full(inside.sum(), background) if known is None else known[inside])
    return np.stack(crops), np.concatenate(classes).astype(np.int32)
