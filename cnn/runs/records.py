"""Which values the files of a run may hold: one record for each file, checked wherever it is read.

Those of config.json are in `cnn.runs.ranges`. A field that a file may lack, as those of older runs do, is checked where
it is there.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cnn.runtime.ranges import MOST, Range, each, number, one_of, text, whole

SPLITS = ("train", "validation", "test")

_NUMBERS = each(number(lambda value: True))
_FRACTION = number(lambda value: 0 <= value <= 1)
_COUNT = f"a whole number from 0 to {MOST:,}"


def _is_shape(value: Any) -> bool:
    return each(whole(1))(value) and len(value) == 3 and math.prod(value) <= MOST


def _is_by_split(test: Any) -> Any:
    return lambda value: isinstance(value, dict) and set(value) <= set(SPLITS) and all(map(test, value.values()))


def _are_processes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and whole(0)(one.get("step")) for one in value)


DATA = (
    Range("mean", lambda value: _NUMBERS(value) and len(value) > 0, "numbers, one for each channel"),
    Range(
        "std",
        lambda value: each(number(lambda one: one > 0))(value) and len(value) > 0,
        "numbers above 0, one for each channel",
    ),
    Range("class_names", lambda value: each(text())(value) and len(value) > 0, "texts, one for each class"),
    Range("image_shape", _is_shape, f"three whole numbers [H, W, C] from 1 on, of at most {MOST:,} values in all"),
    Range("name", text(), "a text"),
    Range("examples", _is_by_split(whole(0)), "numbers of examples by split"),
    Range("digest", _is_by_split(text(1)), "texts by split"),
    Range("border_brightness", lambda value: _NUMBERS(value) and len(value) == 2, "two numbers"),
    Range("channel_order", text(), "a text"),
    Range("notes", each(text()), "texts"),
)
RESULT = (
    Range("steps", whole(0), _COUNT),
    Range("examples", whole(0), _COUNT),
    Range("train_examples", whole(0), _COUNT),
    Range("test_accuracy", _FRACTION, "a number from 0 to 1"),
    Range("test_loss", number(lambda value: True), "a number", may_be_absent=True),
    Range("validation_accuracy", _FRACTION, "a number from 0 to 1", may_be_absent=True),
    Range("seconds", number(lambda value: value >= 0), "a number, at least 0"),
    Range("best", lambda value: isinstance(value, dict) and whole(0)(value.get("step")), "a step and its numbers"),
)
METRICS = (
    Range("step", whole(0), _COUNT),
    Range("split", one_of(SPLITS), f"one of {', '.join(SPLITS)}"),
    Range("seconds", number(lambda value: value >= 0), "a number, at least 0", may_be_absent=True),
    Range("accuracy", _FRACTION, "a number from 0 to 1", may_be_absent=True),
)
PROVENANCE = (Range("processes", _are_processes, "a list of processes, each with its first step"),)


def wrong(values: Mapping[str, Any], ranges: Iterable[Range], needed: Iterable[str] = ()) -> list[str]:
    """What is wrong with what a file holds.

    Args:
      values: value by name.
      ranges: the file's record.
      needed: names that must be there.

    Returns:
      A text for each name that is missing or has a value that it cannot have.
    """
    missing = [name for name in needed if name not in values]
    found = [f"has no {', '.join(missing)}"] if missing else []
    return found + [text for one in ranges if one.field in values for text in one.wrong(values[one.field])]
