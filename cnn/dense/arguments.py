"""The arguments of public functions: what is of the wrong kind is refused by the names of function and argument.

Numbers, pairs, arrays and variables are checked where they are used, with their shapes; this is for what would end in
an error of Python's own: a net given by its name, a list of backends, a text where yes or no is meant.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import flax.linen as nn
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


class Kind(NamedTuple):
    """What an argument must be.

    Attributes:
      holds: whether a value is of that kind.
      text: the kind in words, and the way out.
    """

    holds: Callable[[Any], bool]
    text: str


def _is_net(value: Any) -> bool:
    return isinstance(value, nn.Module) and hasattr(value, "layers")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(value > 0)


NET = Kind(_is_net, "a net, such as cnn.nets.create(name, num_classes=10) makes, not its name")
VARIABLES = Kind(lambda value: isinstance(value, Mapping), "a net's variables, as cnn.nets.init or a run gives them")
GRID = Kind(
    lambda value: all(hasattr(value, name) for name in ("window", "stride", "native")),
    "a grid (ScoreMap.grid, or dense.plan_grid)",
)
TEXT = Kind(lambda value: isinstance(value, str), "a text, one name")
TEXT_OR_NONE = Kind(lambda value: value is None or isinstance(value, str), "a text, one name, or None")
YES_OR_NO = Kind(lambda value: isinstance(value, bool | np.bool_), "True or False")
SEED = Kind(lambda value: _is_whole(value) and 0 <= value < 2**32, f"a whole number from 0 to {2**32 - 1}")
COUNT = Kind(lambda value: _is_whole(value) and value >= 1, "a whole number, at least 1")
COUNT_OR_NONE = Kind(lambda value: value is None or COUNT.holds(value), "a whole number, at least 1, or None")
POSITIVE = Kind(_is_positive, "a number above 0")
SEVERAL_OR_NONE = Kind(
    lambda value: value is None or (isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)),
    "a list, or None",
)
SHAPE = Kind(
    lambda value: isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes) and len(value) >= 2,
    "(height, width, ...), pixels",
)
IMAGES = Kind(
    lambda value: hasattr(value, "__iter__") and not isinstance(value, str | bytes | Mapping),
    "several images [H, W, C]",
)
BACKEND = Kind(lambda value: value in ("crops", "shift", "atrous", "mpf"), "one of crops, shift, atrous, mpf")
PATH = Kind(lambda value: isinstance(value, str | os.PathLike), "the path of a file")
CONTEXT = Kind(lambda value: value in ("crop", "image", "both"), "one of crop, image, both")

# Arguments that have the same name in several functions are of the same kind in all of them.
KINDS = {
    "net": NET,
    "variables": VARIABLES,
    "grid": GRID,
    "backend": TEXT,
    "context": TEXT_OR_NONE,
    "method": TEXT,
    "over": TEXT,
    "output_activation": TEXT_OR_NONE,
    "position_invariant": YES_OR_NO,
    "cover": YES_OR_NO,
    "overwrite": YES_OR_NO,
    "progress": YES_OR_NO,
    "together": YES_OR_NO,
    "seed": SEED,
    "images": COUNT,
    "channels": COUNT,
    "tolerance": POSITIVE,
    "strides": SEVERAL_OR_NONE,
    "class_names": SEVERAL_OR_NONE,
    "devices": SEVERAL_OR_NONE,
    "image_shape": SHAPE,
}


def named(**own: Kind | None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that checks the arguments of a public function by their names (`KINDS`) before it is called.

    Args:
      **own: kinds of arguments that are others in this function; None: not checked here.

    Returns:
      The decorator. A wrong argument is a TypeError, or a ValueError where only its value is out of range, in one line.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = list(inspect.signature(function).parameters)
        kinds = {name: kind for name in names if (kind := own.get(name, None if name in own else KINDS.get(name)))}

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, value in (*zip(names, args, strict=False), *kwargs.items()):
                kind = kinds.get(name)
                if kind is not None and not kind.holds(value):
                    refuse(function.__name__, name, value, kind)
            return function(*args, **kwargs)

        return checked

    return decorate


def refuse(function: str, name: str, value: Any, kind: Kind) -> None:
    """Raises the error for an argument that is not of its kind.

    Args:
      function: name of the function.
      name: name of the argument.
      value: what was given.
      kind: what it must be.

    Raises:
      TypeError: always; a ValueError for a number out of range.
    """
    shown = " ".join(repr(value).split())
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    error = ValueError if number and kind in (SEED, COUNT, COUNT_OR_NONE, POSITIVE) else TypeError
    raise error(f"{function}: {name} (={shown}) must be {kind.text}")
