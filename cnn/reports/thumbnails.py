"""Small pictures of images of any size, from pixels that are kept while the image is read for its map.

An image that is streamed is read once, and its file may be slow to decode; so its thumbnail is made of what the stream
read, and only parts that the stream left out are read for it.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn.images import Source
from cnn.reports.figure import drawable

LONGEST = 1400  # pixels of a thumbnail's longer side
SAMPLES = 2  # pixels of the image that are averaged along each axis of a thumbnail's pixel
BORDER = 2  # samples at the border that a stride may leave out
BAND_BYTES = 2**25  # of an image that is read for its thumbnail alone, in bands of rows


class Shown(NamedTuple):
    """How values are shown as 8-bit brightness.

    Attributes:
      low: the value that is black.
      high: the value that is white.
      remark: what a caption says of it; "" for 8-bit images, which are shown as they are.
    """

    low: float
    high: float
    remark: str = ""

    def pixels(self, values: np.ndarray) -> np.ndarray:
        """Values [h, w, C] as a picture, uint8 [h, w] or [h, w, 3]."""
        if values.dtype != np.uint8:
            scaled = (values.astype(np.float32) - self.low) * np.float32(255 / (self.high - self.low))
            values = np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)
        picture = drawable(values)
        return picture[..., 0] if picture.shape[-1] == 1 and picture.ndim == 3 else picture


class Watched(Source):
    """A source that keeps some of the pixels that are read of it, evenly spread, for a thumbnail."""

    def __init__(self, source: Source, longest: int = LONGEST) -> None:
        """Watches a source.

        Args:
          source: the image.
          longest: pixels of the thumbnail's longer side; of a smaller image, its own.
        """
        self.__dict__.update(source.__dict__)
        self._source = source
        height, width, channels = source.shape
        self.small = fitted(source.shape, longest)
        counts = [min(n, SAMPLES * small) for n, small in zip((height, width), self.small, strict=True)]
        self._at = [(2 * np.arange(n) + 1) * size // (2 * n) for n, size in zip(counts, source.shape, strict=False)]
        self._values = np.zeros((*counts, channels), source.dtype)
        self._seen = np.zeros(counts, bool)

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Reads a region, as `Source.read` does."""
        region = self._source.read(y0, y1, x0, x1)
        self._keep(region, y0, x0)
        return region

    def samples(self) -> np.ndarray:
        """The pixels that were kept [n, m, C]; parts that were not read yet are read now."""
        for axis in range(2):
            self._repeat_border(axis)
        for rows, columns in self._missing():
            left, right = (int(self._at[1][j]) for j in columns)
            band = max(1, BAND_BYTES // ((right + 1 - left) * self.shape[2] * self.dtype.itemsize))
            at = self._at[0][rows[0] : rows[1] + 1]
            while len(at):
                inside = at[at < at[0] + band]
                self._keep(
                    self._source.read(int(inside[0]), int(inside[-1]) + 1, left, right + 1), int(inside[0]), left
                )
                at = at[len(inside) :]
        return self._values

    def _repeat_border(self, axis: int) -> None:
        """Repeats the samples beside the last ones, where a stride left these out: no file is read for them."""
        seen = self._seen.swapaxes(0, axis)
        values = self._values.swapaxes(0, axis)
        for i in range(max(1, len(seen) - BORDER), len(seen)):
            if not seen[i].any():
                values[i], seen[i] = values[i - 1], seen[i - 1]

    def _missing(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Parts that were not read: first and last row, and first and last column, of the samples."""
        found: list[tuple[tuple[int, int], tuple[int, int]]] = []
        for i in np.flatnonzero(~self._seen.all(axis=1)).tolist():
            absent = np.flatnonzero(~self._seen[i])
            columns = int(absent[0]), int(absent[-1])
            if found and found[-1][0][1] == i - 1 and found[-1][1] == columns:
                found[-1] = ((found[-1][0][0], i), columns)
            else:
                found.append(((i, i), columns))
        return found

    def _keep(self, region: np.ndarray, y0: int, x0: int) -> None:
        spans = [
            at.searchsorted([first, first + n]) for at, first, n in zip(self._at, (y0, x0), region.shape, strict=False)
        ]
        (i0, i1), (j0, j1) = spans
        rows, columns = self._at[0][i0:i1] - y0, self._at[1][j0:j1] - x0
        if len(rows) and len(columns):
            self._values[i0:i1, j0:j1] = region[rows[:, None], columns]
            self._seen[i0:i1, j0:j1] = True

    def brightness(self) -> Shown:
        """How the image's values are shown: those of 8 bits as they are, others from the darkest to the brightest."""
        values = self.samples()
        if self.dtype == np.uint8:
            return Shown(0, 255)
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high = (float(x) for x in np.percentile(finite, (0.5, 99.8))) if finite.size else (0.0, 1.0)
        high = high if high > low else low + 1
        return Shown(low, high, f"shown from {low:.6g} (black) to {high:.6g} (white)")

    def thumbnail(self, shown: Shown) -> np.ndarray:
        """The picture, uint8 [h, w] or [h, w, 3] of the size `small`."""
        from PIL import Image

        picture = Image.fromarray(shown.pixels(self.samples()))
        return np.asarray(picture.resize((self.small[1], self.small[0]), Image.Resampling.BOX))

    def mean(self) -> float:
        """Mean brightness of an 8-bit image, as a fraction of the full range, of the pixels that are kept."""
        return float(self.samples().mean() / 255)


def fitted(shape: Sequence[int], longest: int) -> tuple[int, int]:
    """The size of a small picture of an image, which is never enlarged.

    Args:
      shape: (height, width, ...) of the image, pixels.
      longest: pixels of the longer side.

    Returns:
      (height, width), pixels.
    """
    shrunk = min(1.0, longest / max(shape[:2]))
    return max(1, round(shape[0] * shrunk)), max(1, round(shape[1] * shrunk))


def cut_out(source: Source, box: Sequence[int], shown: Shown) -> np.ndarray:
    """A window of an image as a picture.

    Args:
      source: the image.
      box: (y0, x0, y1, x1), pixels.
      shown: how its values are shown.

    Returns:
      uint8 [h, w] or [h, w, 3].
    """
    y0, x0, y1, x1 = box
    return shown.pixels(source.read(y0, y1, x0, x1))


def data_uri(picture: np.ndarray, palette: np.ndarray | None = None) -> str:
    """A picture as text that a page holds.

    Args:
      picture: uint8 [h, w] or [h, w, 3]; with a palette [h, w].
      palette: uint8 [n, 4]: red, green, blue and opacity of each value of the picture; None: it is grey or RGB.

    Returns:
      "data:image/...": PNG, or of large pictures JPEG.
    """
    from PIL import Image

    image = Image.fromarray(picture)
    written = io.BytesIO()
    if palette is not None:
        image.putpalette(palette[:, :3].tobytes())  # turns the grey picture into one of a palette
        image.save(written, "PNG", transparency=palette[:, 3].tobytes(), optimize=False, compress_level=6)
        kind = "png"
    elif picture.shape[0] * picture.shape[1] <= 2**16:
        image.save(written, "PNG")
        kind = "png"
    else:
        image.save(written, "JPEG", quality=88, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"
