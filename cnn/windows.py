"""Arithmetic of windows that slide over an image: output sizes, padding amounts, and the errors that explain them.

One place for the formula (W - F + 2P) / S + 1, so that a layer, the geometry table and the dense evaluator can
never disagree about a size.

A size may be symbolic, a name instead of a number, where `jax.export` makes a program for images of many sizes. What
cannot be known of it while the program is made is a `Condition`, which the program checks when it is called.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jax.core import max_dim, min_dim
from jax.errors import InconclusiveDimensionOperation
from jax.export import is_symbolic_dim

Pair = tuple[int, int]
Padding = str | int | Sequence[int] | Sequence[Sequence[int]]


class GeometryError(ValueError):
    """A size, stride, padding or group count that does not fit; the message names the layer and the numbers."""


class Window(NamedTuple):
    """A sliding window, each field as (vertical, horizontal), in pixels of the layer's input.

    Attributes:
      kernel: height and width of the window, before dilation.
      stride: step between neighbouring windows.
      padding: ((top, bottom), (left, right)) pixels added around the input.
      dilation: distance between neighbouring taps of the window.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Height and width that the dilated window covers."""
        kernel, dilation = self.kernel, self.dilation
        return ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)


class Condition(NamedTuple):
    """What must hold of sizes that are not known while a program is made.

    Attributes:
      slack: a symbolic size, which must not be below 0.
      message: what is wrong if it is; names the layer.
    """

    slack: Any
    message: str


def is_sure(question: Callable[[], bool]) -> bool:
    """Whether the answer to a question about sizes is yes; not if it depends on a size that is not known."""
    try:
        return bool(question())
    except InconclusiveDimensionOperation:
        return False


def whole(value: Any) -> int:
    """A whole number as int, and a symbolic size as it is.

    Args:
      value: anything.

    Returns:
      The number.

    Raises:
      TypeError: if it is neither.
    """
    number: Any = value  # a symbolic size is no int, and does all that is asked of one
    return number if is_symbolic_dim(value) else operator.index(value)


def shape_text(shape: Sequence[int]) -> str:
    """Writes a shape as people do: (55, 55, 96) -> "55x55x96"."""
    return "x".join(str(size) for size in shape)


def as_pair(value: int | Sequence[int], what: str, layer: str, minimum: int = 1) -> Pair:
    """Turns 3 or (3, 5) into (vertical, horizontal).

    Args:
      value: one number for both axes, or two.
      what: name of the field, for the error.
      layer: name of the layer, for the error.
      minimum: the smallest value allowed.

    Returns:
      Two ints.

    Raises:
      GeometryError: if it is not one or two whole numbers >= minimum.
    """
    try:
        values = tuple(whole(v) for v in _two(value))
    except TypeError:
        values = ()
    if len(values) != 2:
        raise GeometryError(f"{layer}: {what} (={value!r}) must be one whole number or two (vertical, horizontal)")
    if any(is_sure(lambda v=v: v < minimum) for v in values):
        raise GeometryError(f"{layer}: {what} (={value!r}) must be at least {minimum}")
    return values[0], values[1]


def check_flag(value: Any, what: str, layer: str) -> None:
    """Checks a field that is either on or off: a word such as "false" would be on.

    Args:
      value: its value.
      what: name of the field, for the error.
      layer: name of the layer, for the error.

    Raises:
      GeometryError: if it is neither True nor False (nor 1 or 0).
    """
    try:
        known = operator.index(value) in (0, 1)
    except TypeError:
        known = isinstance(getattr(value, "item", lambda: None)(), bool)  # NumPy's
    if not known:
        raise GeometryError(f"{layer}: {what} (={value!r}) must be True or False")


def as_image_shape(value: Sequence[int], what: str = "input_shape") -> tuple[int, int, int]:
    """Checks the shape of one image.

    Args:
      value: (height, width, channels), pixels; sizes may be symbolic.
      what: name of the argument, for the error.

    Returns:
      Three ints.

    Raises:
      GeometryError: if it is not three whole numbers of at least 1.
    """
    try:
        shape = tuple(whole(size) for size in value)
    except TypeError:
        shape = ()
    if len(shape) != 3 or any(is_sure(lambda size=size: size < 1) for size in shape):
        shown = shape_text(shape) if shape else repr(value)
        raise GeometryError(f"{what} (={shown}) must be (height, width, channels), whole numbers, none below 1")
    return shape[0], shape[1], shape[2]


def _two(value: Any) -> tuple[Any, ...]:
    """The entries of a sequence or array; any other value twice, for both axes (or both sides)."""
    ordered = hasattr(value, "__getitem__") and not isinstance(value, str | bytes | Mapping)
    # An array without axes is one number: it can be indexed, and has no length.
    return tuple(value) if ordered and getattr(value, "shape", None) != () else (value, value)


def resolve_padding(
    padding: Padding, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, layer: str
) -> tuple[Pair, Pair]:
    """Turns a padding as written in a net into pixels on each side.

    Args:
      padding: "valid" (none), "same" (output = ceil(input / stride), an odd pixel at the bottom and right; a window
        smaller than its stride gets none and may leave pixels unseen, which needs rounding "floor" in `output_size`),
        one number for all sides, two (vertical, horizontal), or ((top, bottom), (left, right)); pixels.
      size: height and width of the input, pixels.
      kernel: height and width of the window.
      stride: vertical and horizontal step.
      dilation: vertical and horizontal distance between taps.
      layer: name of the layer, for the error.

    Returns:
      ((top, bottom), (left, right)), pixels.

    Raises:
      GeometryError: if the padding is none of these, or negative.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        extent = Window(kernel, stride, dilation=dilation).extent
        total = [max_dim(0, (-(-n // s) - 1) * s + e - n) for n, s, e in zip(size, stride, extent, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    message = f"{layer}: padding (={padding!r}) must be 'valid', 'same', a number, (vertical, horizontal) or "
    message += "((top, bottom), (left, right)), with no number below 0"
    try:
        amounts = [tuple(operator.index(v) for v in _two(side)) for side in _two(padding)]
    except TypeError:
        raise GeometryError(message) from None
    if [len(side) for side in amounts] != [2, 2] or min(map(min, amounts)) < 0:
        raise GeometryError(message)
    (top, bottom), (left, right) = amounts
    return (top, bottom), (left, right)


def output_size(size: Pair, window: Window, rounding: str, layer: str) -> Pair:
    """Number of windows along each axis: (W - F + P) / S + 1.

    Args:
      size: height and width of the input, pixels.
      window: the window that slides over it.
      rounding: "exact" (a remainder is an error), "floor" (pixels left over are not seen), or "ceil" (a last window
        may hang over the edge if it starts inside the input or the padding before it; PyTorch's rule).
      layer: name of the layer, for the error.

    Returns:
      Height and width of the output.

    Raises:
      GeometryError: if a window is larger than the padded input, or, with "exact", a size does not divide; also if it
        is not known of a symbolic size that the window fits.
    """
    if rounding not in ("exact", "floor", "ceil"):
        raise GeometryError(f"{layer}: rounding (={rounding!r}) must be 'exact', 'floor' or 'ceil'")
    _check_fits(size, window, layer)
    for condition in _divides(size, window, layer) if rounding == "exact" else ():
        if is_sure(lambda slack=condition.slack: slack < 0):
            raise GeometryError(condition.message)
    sizes = []
    for n, extent, stride, padding in zip(size, window.extent, window.stride, window.padding, strict=True):
        span = n + sum(padding) - extent
        steps = span // stride
        if rounding == "ceil":  # the last window that starts inside, unless one before it ends at the edge or beyond
            steps = max_dim(steps, min_dim(-(-span // stride), (n + padding[0] - 1) // stride))
        sizes.append(steps + 1)
    return sizes[0], sizes[1]


def conditions(size: Pair, window: Window, rounding: str, layer: str) -> list[Condition]:
    """What `output_size` cannot know of symbolic sizes, which it takes to divide.

    Args:
      size: height and width of the input, pixels.
      window: the window that slides over it.
      rounding: "exact", "floor" or "ceil".
      layer: name of the layer, for the message.

    Returns:
      The conditions under which the sizes divide; none for sizes that are numbers, nor where none needs to divide.
    """
    found = _divides(size, window, layer) if rounding == "exact" else []
    return [one for one in found if not is_sure(lambda slack=one.slack: slack >= 0)]


def _check_fits(size: Pair, window: Window, layer: str) -> None:
    """Refuses a window that is larger than the padded input, or of which that is not known."""
    for axis, name in enumerate(("height", "width")):
        extent, (low, high) = window.extent[axis], window.padding[axis]
        span = size[axis] + low + high - extent
        if is_sure(lambda span=span: span >= 0):
            continue
        dilated = f" ({extent} with dilation {window.dilation[axis]})" if window.dilation[axis] > 1 else ""
        kernel, given = f"kernel {window.kernel[axis]}{dilated}", f"{name} {size[axis]} + padding {low}+{high}"
        if is_sure(lambda span=span: span < 0):
            raise GeometryError(f"{layer}: {kernel} is larger than its input: {given}")
        raise GeometryError(
            f"{layer}: whether {kernel} is larger than its input is not known: {given}; say how small images may be, "
            f"as in jax.export.symbolic_shape('b, h, w, 3', constraints=('h >= 32', 'w >= 32'))"
        )


def _divides(size: Pair, window: Window, layer: str) -> list[Condition]:
    """The conditions under which no pixel is left over behind the last window."""
    found = []
    for axis, name in enumerate(("height", "width")):
        extent, stride, (low, high) = window.extent[axis], window.stride[axis], window.padding[axis]
        span = size[axis] + low + high - extent
        number = "" if is_symbolic_dim(span) else f" = {span / stride + 1:g}"
        formula = f"({size[axis]} - {extent} + {low}+{high}) / {stride} + 1{number}"
        found.append(Condition(-(span % stride), f"{layer}: {name} does not divide: {formula} is not whole"))
    return found


def count(size: int, extent: int, stride: int) -> int:
    """Number of windows along one axis that fit into an unpadded input: (W - F) // S + 1.

    Args:
      size: length of the input, pixels.
      extent: length that a window covers, pixels.
      stride: distance between neighbouring windows, pixels.

    Returns:
      How many fit; 0 if the window is larger than the input. Pixels beyond the last window are not seen.
    """
    return max_dim(0, size - extent + stride) // stride


def counts(size: Sequence[int], extent: Sequence[int], stride: Sequence[int]) -> Pair:
    """`count` along both axes.

    Args:
      size: height and width of the input, pixels; further entries are ignored.
      extent: height and width that a window covers, pixels.
      stride: vertical and horizontal distance between neighbouring windows, pixels.

    Returns:
      Windows along each axis, (vertical, horizontal).
    """
    return count(size[0], extent[0], stride[0]), count(size[1], extent[1], stride[1])


def overlap(first: int, length: int, size: int) -> tuple[slice, slice]:
    """The part of an array that a range of indices covers; the range may begin before the array and end behind it.

    Args:
      first: first index of the range; may be negative.
      length: number of indices in the range.
      size: length of the array.

    Returns:
      The part as a slice of the array, and as a slice of the range; both are empty if the two do not overlap.
    """
    start = min(max(first, 0), size)
    stop = max(start, min(first + length, size))
    return slice(start, stop), slice(start - first, stop - first)
