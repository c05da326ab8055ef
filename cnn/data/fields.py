"""Which values the fields of a data set may have: `cnn.data.load` and the config's group `data` go by these."""

from collections.abc import Mapping
from typing import Any

from cnn.images.errors import DataError
from cnn.runtime.ranges import MOST, Range, each, number, one_of, text, whole

ON_ERROR = ("stop", "skip")
IN_MEMORY = ("auto", "yes", "no")

RANGES = (
    Range("data.name", text(1), "the name of a set"),
    Range("data.dir", text(), "the path of a folder, or empty"),
    Range(
        "data.validation_fraction",
        number(lambda value: 0 <= value < 1),
        "at least 0 and below 1: the part of the training examples that is held out; 0.1 is usual",
    ),
    Range(
        "data.train_examples", whole(1), f"a whole number from 1 to {MOST:,}, fewer than there are", may_be_absent=True
    ),
    Range("data.on_error", one_of(ON_ERROR), f"one of {', '.join(ON_ERROR)}"),
    Range("data.in_memory", one_of(IN_MEMORY), f"one of {', '.join(IN_MEMORY)}"),
    Range("data.image_size", whole(1), f"a whole number of pixels from 1 to {MOST:,}", may_be_absent=True),
    Range(
        "data.value_range",
        lambda value: (
            each(number(lambda one: True))(value) and (len(value) == 0 or len(value) == 2 and value[0] < value[1])
        ),
        "two numbers (low, high), the lower first, such as (0, 4095), or () for the range of the pixels' dtype",
        may_be_absent=True,
    ),
    Range(
        "data.channels",
        each(lambda one: text(1)(one) or whole(0)(one)),
        "numbers from 0 or names of channels, such as (2, 1, 0), or () for all",
        may_be_absent=True,
    ),
)


def check(values: Mapping[str, Any], group: str = "data.") -> None:
    """Checks the fields of a data set, each by itself.

    Args:
      values: value by field, without the group's name.
      group: what stands before the names in the message.

    Raises:
      DataError: if some are out of range; one line that names them all, with their values and what they may be.
    """
    wrong = []
    for one in RANGES:
        name = one.field.removeprefix("data.")
        if name in values:
            wrong += one._replace(field=group + name).wrong(values[name])
    if wrong:
        raise DataError("; ".join(wrong))
