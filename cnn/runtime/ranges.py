"""Ranges of values: what a field may be, in a test and in words, said in one form wherever a field is checked."""

import math
import reprlib
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

MOST = 2**31 - 1  # of what is counted in int32: steps, examples, pixels

Test = Callable[[Any], bool]

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong, _SHORT.maxtuple, _SHORT.maxlist = 120, 120, 60, 12, 12


def short(value: Any) -> str:
    """A value as a message shows it: one line, cut where it is long."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # a whole number of more digits than Python prints, or a class of the user's own
        return f"a {type(value).__name__}"
    return " ".join(text.split())


class Range(NamedTuple):
    """The values that a field may have.

    Attributes:
      field: full name of the field, "train.momentum".
      holds: whether a value is one of them.
      words: what follows "must be" in the message about another value.
      may_be_absent: whether the field may be None.
    """

    field: str
    holds: Test
    words: str
    may_be_absent: bool = False

    def wrong(self, value: Any) -> list[str]:
        """What is wrong with a value: a message, or none."""
        if self.holds(value) or (self.may_be_absent and value is None):
            return []
        otherwise = ", or None" if self.may_be_absent else ""
        return [f"{self.field} (={short(value)}) must be {self.words}{otherwise}"]


def number(test: Test) -> Test:
    """Finite numbers for which a test holds; True and False are none."""

    def holds(value: Any) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value) and bool(test(value))

    return holds


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def whole(low: int, high: int = MOST) -> Test:
    """Whole numbers from `low` to `high`."""
    return number(lambda value: isinstance(value, Integral) and low <= int(value) <= high)


def each(test: Test) -> Test:
    """Lists and tuples of values for which a test holds."""
    return lambda value: isinstance(value, Sequence) and not isinstance(value, str) and all(test(one) for one in value)


def one_of(names: Sequence[str]) -> Test:
    """Some names."""
    return lambda value: isinstance(value, str) and value in names


def text(least: int = 0) -> Test:
    """Text of at least so many letters."""
    return lambda value: isinstance(value, str) and len(value) >= least
