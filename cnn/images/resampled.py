"""Images at another resolution, computed region by region: antialiased, and alike however an image is cut into regions.

The kernel is Pillow's bicubic one (Keys 1981, a = -0.5), as wide as the reduction. Each pixel is the sum of its taps in
order, in float64, so that it is the same to the bit in whichever region it is computed. Bytes are computed as Pillow
does it, with weights that are multiples of 2**-22 and rounded after each direction, and equal its pixels. The width
changes before the height; Pillow 13 does it the other way round for some pictures that become much lower.
"""

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from cnn.images.computed import Computed
from cnn.images.errors import StorageError
from cnn.images.facts import Facts
from cnn.windows import shape_text

SUPPORT = 2.0  # pixels that the kernel reaches to each side where nothing is reduced
BITS = 22  # the weights of bytes are multiples of 2**-BITS; their sums have less than 32 bits
NOTHING = 1e-12  # what rounding leaves of the kernel where it is 0, a whole number of pixels away
LARGEST = 2**24  # pixels along a side
BLOCK_VALUES = 2**21  # values that are read and computed at once


class Taps:
    """Which pixels along an axis each resampled pixel is a sum of, and their weights.

    Attributes:
      first: int64 [n], the first pixel with a weight.
      end: int64 [n], behind the last pixel with a weight.
    """

    def __init__(self, size: int, wanted: int, whole: bool) -> None:
        """Computes them for a whole axis, as Pillow does it (`precompute_coeffs` in its Resample.c).

        Args:
          size: number of pixels along the axis.
          wanted: number of resampled pixels.
          whole: whether weights are rounded to multiples of 2**-`BITS`, and given in that unit.
        """
        ratio = size / wanted
        reach = max(ratio, 1.0)
        centre = (np.arange(wanted) + 0.5) * ratio
        self.first = np.maximum(np.floor(centre - SUPPORT * reach + 0.5), 0).astype(np.int64)
        self.end = np.minimum(np.floor(centre + SUPPORT * reach + 0.5), size).astype(np.int64)
        steps = np.arange(int((self.end - self.first).max()))
        weights = _bicubic((steps + self.first[:, None] - centre[:, None] + 0.5) * (1.0 / reach))
        weights[steps >= (self.end - self.first)[:, None]] = 0.0
        total = np.zeros(wanted)
        for column in weights.T:  # in order, as Pillow adds them
            total += column
        weights /= total[:, None]
        weights[np.abs(weights) < NOTHING] = 0.0
        self._weights = (weights * (1 << BITS) + np.copysign(0.5, weights)).astype(np.int32) if whole else weights
        self._trim(steps)

    def _trim(self, steps: np.ndarray) -> None:
        """Leaves out weights of 0 at both ends, whose pixels count for nothing, also if they are NaN."""
        counts = self._weights != 0
        before = counts.argmax(1)
        after = counts.shape[1] - counts[:, ::-1].argmax(1)
        self.first, self.end = self.first + before, self.first + after
        order = np.minimum(steps + before[:, None], counts.shape[1] - 1)
        self._weights = np.take_along_axis(self._weights, order, 1)

    def matrix(self, first: int, end: int, mask: bool = False) -> tuple[Any, int, int]:
        """The sums of some resampled pixels as a sparse matrix.

        Args:
          first: the first of them.
          end: behind the last.
          mask: whether each weight that is not 0 counts as 1.

        Returns:
          (int32 or float64 [end - first, b - a], a, b): it is multiplied with pixels a to b of the axis.
        """
        import scipy.sparse

        starts, counts = self.first[first:end], (self.end - self.first)[first:end]
        begin, stop = int(starts.min()), int((starts + counts).max())
        steps = np.arange(self._weights.shape[1])
        used = (steps < counts[:, None]) & (self._weights[first:end] != 0)
        weights = self._weights[first:end][used]
        places = (starts[:, None] - begin + steps)[used]
        rows = np.concatenate([[0], np.cumsum(used.sum(1))])
        values = np.ones_like(weights) if mask else weights
        return scipy.sparse.csr_array((values, places, rows), shape=(end - first, stop - begin)), begin, stop


def _bicubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


class Resampled:
    """An image of another size; its regions are computed when they are read.

    A pixel is valid if all pixels that it weighs are. Where the image has a value for pixels without data, a pixel that
    weighs such a one has that value; what lies under a mask or is transparent is resampled like all else.

    Attributes:
      shape: (height, width, channels), pixels.
      dtype: dtype of the image; whole numbers are rounded, and kept in the dtype's range.
      valid: which pixels hold something: bool [H, W], can be sliced as [rows, columns]; None: all do.
      mask: the same by the caller's mask alone; None: there is none.
    """

    def __init__(self, source: Any, size: tuple[int, int], empty: float | None = None) -> None:
        """Wraps an image.

        Args:
          source: has .shape [H, W, C], .dtype and .read(y0, y1, x0, x1), as `cnn.images.Source`; and, if pixels may
            hold nothing, .valid(y0, y1, x0, x1), bool [h, w] or None.
          size: (height, width) that is wanted, pixels, each at least 1.
          empty: value of pixels without data, which `.valid` knows; None: there is none.
        """
        self._source, self._channels = source, source.shape[2]
        self.shape: tuple[int, int, int] = (*size, self._channels)
        self.dtype = np.dtype(source.dtype)
        self._bytes = self.dtype == np.uint8
        self._sums = np.dtype(np.int32 if self._bytes else np.float64)
        self._empty = empty
        self._rows, self._columns = (
            None if have == want else Taps(have, want, self._bytes)
            for have, want in zip(source.shape[:2], size, strict=True)
        )
        self.valid = Computed(size, np.bool_, self._valid) if self._may_lack() else None
        masked = getattr(source, "mask", None) is not None
        self.mask = Computed(size, np.bool_, functools.partial(self._valid, only_mask=True)) if masked else None

    def _may_lack(self) -> bool:
        """Whether there may be pixels that hold nothing."""
        facts = getattr(self._source, "facts", None)
        if not hasattr(self._source, "valid"):
            return False
        known = facts is not None and (facts.valid is not None or facts.nodata is not None)
        return known or self._source.valid(0, 1, 0, 1) is not None

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        """The pixels of a region [rows, columns]."""
        (y0, y1, _), (x0, x1, _) = (part.indices(n) for part, n in zip(region, self.shape, strict=False))
        out = np.empty((max(y1 - y0, 0), max(x1 - x0, 0), self._channels), self.dtype)
        for top, bottom, left, right in self._blocks(y0, y1, x0, x1):
            block = self._block(top, bottom, left, right)
            if self.valid is not None and self._empty is not None:
                lacks = ~self.valid[top:bottom, left:right]
                if self.mask is not None:
                    lacks &= self.mask[top:bottom, left:right]
                block[lacks] = self._empty
            out[top - y0 : bottom - y0, left - x0 : right - x0] = block
        return out

    def _blocks(self, y0: int, y1: int, x0: int, x1: int) -> Any:
        """Parts of a region whose pixels and sums take little memory."""
        ratio = math.prod(max(1.0, have / want) for have, want in zip(self._source.shape, self.shape, strict=False))
        side = max(16, int((BLOCK_VALUES / ratio / self._channels) ** 0.5))
        for top in range(y0, y1, side):
            for left in range(x0, x1, side):
                yield top, min(top + side, y1), left, min(left + side, x1)

    def _block(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        down, top, bottom = _sums(self._rows, y0, y1)
        across, left, right = _sums(self._columns, x0, x1)
        strip = max(1, BLOCK_VALUES // ((right - left) * self._channels))  # rows that are read at once
        parts = [self._strip(y, min(y + strip, bottom), left, right, across) for y in range(top, bottom, strip)]
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if down is not None:
            flat = np.ascontiguousarray(pixels, self._sums).reshape(bottom - top, -1)
            pixels = self._rounded(down @ flat).reshape(y1 - y0, x1 - x0, self._channels)
        return self._stored(pixels)

    def _strip(self, top: int, bottom: int, left: int, right: int, across: Any) -> np.ndarray:
        """Rows of the image at the width that is wanted."""
        pixels = np.asarray(self._source.read(top, bottom, left, right))
        if across is None:
            return pixels
        turned = np.empty((right - left, self._channels, bottom - top), self._sums)
        for channel in range(self._channels):  # one by one: several times faster than all channels of a pixel together
            turned[:, channel] = pixels[..., channel].T
        sums = self._rounded(across @ turned.reshape(right - left, -1))
        return sums.reshape(-1, self._channels, bottom - top).transpose(2, 0, 1)

    def _rounded(self, sums: np.ndarray) -> np.ndarray:
        """Sums along one direction; of bytes, bytes, rounded and clipped as Pillow does it."""
        if not self._bytes:
            return sums
        sums += 1 << (BITS - 1)
        sums >>= BITS
        return np.clip(sums, 0, 255, out=sums).astype(np.uint8)

    def _stored(self, pixels: np.ndarray) -> np.ndarray:
        """Values in the image's dtype, in an array of their own."""
        if self.dtype.kind in "ui" and not self._bytes and pixels.dtype != self.dtype:
            limits = np.iinfo(self.dtype)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        return np.array(pixels, self.dtype)

    def _valid(self, y0: int, y1: int, x0: int, x1: int, **options: bool) -> np.ndarray:
        """bool [h, w]: which pixels of a region weigh only pixels that hold something."""
        out = np.empty((y1 - y0, x1 - x0), np.bool_)
        for top, bottom, left, right in self._blocks(y0, y1, x0, x1):
            down, above, below = (
                (None, top, bottom) if self._rows is None else self._rows.matrix(top, bottom, mask=True)
            )
            across, before, behind = (
                (None, left, right) if self._columns is None else self._columns.matrix(left, right, mask=True)
            )
            found = self._source.valid(above, below, before, behind, **options)
            lacks = np.zeros((below - above, behind - before)) if found is None else np.array(~found, np.float64)
            lacks = lacks if across is None else (across @ lacks.T).T
            lacks = lacks if down is None else down @ lacks
            out[top - y0 : bottom - y0, left - x0 : right - x0] = lacks == 0
        return out


def _sums(taps: Taps | None, first: int, end: int, mask: bool = False) -> tuple[Any, int, int]:
    """`Taps.matrix`; None for its matrix along an axis that stays as it is."""
    return (None, first, end) if taps is None else taps.matrix(first, end, mask)


def at_resolution(
    open_level: Callable[[int | None], Any],
    level: int | None,
    scale: float | None,
    spacing: float | None,
    pyramid: bool,
) -> tuple[Any, Any, Facts]:
    """An image at another resolution, from the nearest level of its pyramid that is at least as fine.

    Args:
      open_level: opens the image at a level, None: at its own, as a `cnn.images.Source`.
      level: the level that `scale` counts from, and that is resampled; None: the largest, and any is.
      scale: resampled pixels for each pixel; None: `spacing` says it.
      spacing: size of a resampled pixel, in the unit of the file's own; None: `scale` says it.
      pyramid: whether other levels can be opened.

    Returns:
      (the source that was chosen; it resampled, or None where it has that very size; what is known of the result).

    Raises:
      StorageError: if scale or spacing are not such numbers, or the file does not say how large its pixels are.
    """
    source = open_level(level)
    whole = source.shape[:2]
    size = _size(source.name, whole, _scales(source, scale, spacing))
    levels = source.facts.levels if level is None and pyramid else ()
    finer = [i for i, one in enumerate(levels) if one[0] >= size[0] and one[1] >= size[1]]
    if finer and levels[finer[-1]] != whole:
        source = open_level(finer[-1])
    facts = source.facts
    chosen = {**facts.chosen, "scale": tuple(new / old for new, old in zip(size, whole, strict=True))}
    if source.shape[:2] == size:
        return source, None, facts._replace(chosen=chosen)
    array = Resampled(source, size, _without_data(source))
    return source, array, _scaled(facts, source.shape, size)._replace(valid=array.valid, chosen=chosen)


def _without_data(source: Any) -> float | None:
    """The value of pixels without data, where `read` gives it as it is stored and the dtype has it."""
    nodata, stored = source.facts.nodata, np.dtype(getattr(source, "stored", source.dtype))
    if nodata is None or getattr(source, "said", False) or stored.kind != source.dtype.kind:
        return None  # fractions of the range are read, which no value stands out of
    if source.dtype.kind in "ui" and not (np.iinfo(source.dtype).min <= nodata <= np.iinfo(source.dtype).max):
        return None
    return nodata if source.dtype.kind not in "ui" or float(nodata).is_integer() else None


def _scales(source: Any, scale: float | None, spacing: float | None) -> tuple[float, float]:
    """Resampled pixels for each pixel, (vertical, horizontal)."""
    name, own = source.name, source.facts.spacing
    if scale is not None and spacing is not None:
        raise StorageError(f"{name}: scale (={scale}) and spacing (={spacing}) say the same twice; give one of them")
    option, value = ("scale", scale) if spacing is None else ("spacing", spacing)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not (math.isfinite(value) and value > 0):
        raise StorageError(f"{name}: {option} (={value!r}) must be a number above 0")
    if spacing is None:
        return float(value), float(value)
    if own is None:
        raise StorageError(
            f"{name}: it does not say how large its pixels are, which spacing (={spacing}) needs; give scale= instead"
        )
    return own.y / value, own.x / value


def _size(name: str, whole: tuple[int, int], scales: tuple[float, float]) -> tuple[int, int]:
    size = (math.floor(whole[0] * scales[0] + 0.5), math.floor(whole[1] * scales[1] + 0.5))
    if max(size) > LARGEST:
        raise StorageError(
            f"{name}: {shape_text(whole)} at a scale of {scales[0]:g} x {scales[1]:g} is {shape_text(size)}; a side "
            f"has at most {LARGEST:,} pixels; take a smaller scale"
        )
    if not all(size):
        raise StorageError(
            f"{name}: {shape_text(whole)} at a scale of {scales[0]:g} x {scales[1]:g} has no pixel; take a larger scale"
        )
    return size


def _scaled(facts: Facts, have: tuple[int, ...], want: tuple[int, int]) -> Facts:
    """What is known of an image after resampling. What holds nothing is in `valid` then: a sum may equal `nodata`."""
    down, across = (old / new for old, new in zip(have, want, strict=False))
    place, spacing = facts.georeference, facts.spacing
    if place is not None:
        a, b, c, d, e, f = place.transform
        place = place._replace(transform=(a * across, b * down, c, d * across, e * down, f))
    if spacing is not None:
        spacing = spacing._replace(y=spacing.y * down, x=spacing.x * across)
    return facts._replace(spacing=spacing, georeference=place, nodata=None, levels=facts.levels or (tuple(have[:2]),))
