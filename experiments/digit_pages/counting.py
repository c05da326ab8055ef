"""Which detections are right, and how well a net does over many pages."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn.dense import Detection
from cnn.protocols.measuring import wilson
from experiments.digit_pages.pages import Page

TOLERANCE = 8.0  # pixels between the centres of a window and of the digit that it found
RESAMPLES = 2000  # of pages, for the intervals
RIGHT, OTHER_CLASS, TWICE, NOTHING = "right", "another digit's class", "found twice", "no digit there"


class Counts(NamedTuple):
    """The detections of a page, one entry for each.

    Attributes:
      probabilities: float64 [n].
      classes: int [n].
      kinds: RIGHT, OTHER_CLASS, TWICE or NOTHING, [n].
      distances: from the digit that was found, pixels, float64 [n]; NaN where none was.
      labels: the class of each digit of the page, int [D].
    """

    probabilities: np.ndarray
    classes: np.ndarray
    kinds: np.ndarray
    distances: np.ndarray
    labels: np.ndarray


def compare(found: Sequence[Detection], page: Page) -> Counts:
    """Compares the detections of a page with its digits, the most probable first.

    A detection is right if a digit of its class that no other has found lies within `TOLERANCE` of its centre (the
    nearest such digit counts as found).

    Args:
      found: the detections.
      page: the page.

    Returns:
      The `Counts`.
    """
    centres = (page.boxes[:, :2] + page.boxes[:, 2:]) / 2
    free = np.ones(len(centres), bool)
    kinds, distances = np.full(len(found), NOTHING, object), np.full(len(found), np.nan)
    for i in np.argsort([-each.probability for each in found], kind="stable"):
        each = found[i]
        away = np.hypot(*(np.array([(each.y0 + each.y1) / 2, (each.x0 + each.x1) / 2]) - centres).T)
        same = page.labels == each.class_index
        right = np.where(same & free & (away <= TOLERANCE), away, np.inf)
        if np.isfinite(right).any():
            nearest = right.argmin()
            free[nearest], kinds[i], distances[i] = False, RIGHT, away[nearest]
        elif (same & (away <= TOLERANCE)).any():
            kinds[i] = TWICE
        elif (away <= TOLERANCE).any():
            kinds[i] = OTHER_CLASS
    probabilities, classes = [each.probability for each in found], [each.class_index for each in found]
    return Counts(np.asarray(probabilities), np.asarray(classes, int), kinds, distances, page.labels)


def best_threshold(pages: Sequence[Counts]) -> float:
    """The threshold of the best F1, the harmonic mean of precision and recall, over pages that are not measured on.

    The detections over a threshold are those of a lower one that reach it: none suppresses a more probable one.

    Args:
      pages: counts at a low threshold.

    Returns:
      The threshold, in steps of 0.01.
    """
    probabilities = np.concatenate([page.probabilities for page in pages])
    right = np.concatenate([page.kinds for page in pages]) == RIGHT
    digits = sum(len(page.labels) for page in pages)
    steps = np.round(np.arange(0.3, 0.996, 0.01), 2)
    f1 = [2 * right[probabilities >= t].sum() / ((probabilities >= t).sum() + digits) for t in steps]
    return float(steps[int(np.argmax(f1))])


def at(page: Counts, threshold: float) -> Counts:
    """The counts of a page at a higher threshold."""
    over = page.probabilities >= threshold
    return Counts(page.probabilities[over], page.classes[over], page.kinds[over], page.distances[over], page.labels)


def results(pages: Sequence[Counts], class_names: Sequence[str]) -> dict[str, Any]:
    """Precision, recall and counts over pages.

    Args:
      pages: counts at the threshold that is measured.
      class_names: names of the digits.

    Returns:
      Precision and recall with 95 % intervals by the bootstrap over pages (which are independent of each other, the
      digits of a page less so), the numbers of right and wrong detections by kind, and for each class its numbers and
      both fractions with their Wilson intervals.
    """
    rows = np.array([[(page.kinds == RIGHT).sum(), len(page.kinds), len(page.labels)] for page in pages])
    draws = np.random.RandomState(0).randint(len(rows), size=(RESAMPLES, len(rows)))
    sums = rows[draws].sum(axis=1)
    kinds, distances = (np.concatenate([getattr(page, name) for page in pages]) for name in ("kinds", "distances"))
    found: dict[str, Any] = {
        "pages": len(pages),
        "digits": int(rows[:, 2].sum()),
        "detections": int(rows[:, 1].sum()),
        "right": int(rows[:, 0].sum()),
    }
    for name, column in (("precision", 1), ("recall", 2)):
        low, high = np.percentile(sums[:, 0] / np.maximum(sums[:, column], 1), [2.5, 97.5])
        value = rows[:, 0].sum() / max(rows[:, column].sum(), 1)
        found[name] = {"value": float(value), "low": float(low), "high": float(high)}
    found["wrong"] = {kind: int((kinds == kind).sum()) for kind in (OTHER_CLASS, NOTHING, TWICE)}
    found["pages_without_a_mistake"] = int(((rows[:, 0] == rows[:, 1]) & (rows[:, 0] == rows[:, 2])).sum())
    known = distances[kinds == RIGHT]
    found["centre_distance"] = {"mean": float(known.mean()), "largest": float(known.max())} if len(known) else None
    found["classes"] = [_class(pages, k, name) for k, name in enumerate(class_names)]
    return found


def _class(pages: Sequence[Counts], index: int, name: str) -> dict[str, Any]:
    """The numbers of one class."""
    right = sum(int(((page.classes == index) & (page.kinds == RIGHT)).sum()) for page in pages)
    detections = sum(int((page.classes == index).sum()) for page in pages)
    digits = sum(int((page.labels == index).sum()) for page in pages)
    fractions = {
        "precision": {"value": right / max(detections, 1), "interval": wilson(right, max(detections, 1))},
        "recall": {"value": right / max(digits, 1), "interval": wilson(right, max(digits, 1))},
    }
    return {"name": name, "digits": digits, "detections": detections, "right": right, **fractions}
