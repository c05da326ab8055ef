"""Random cuts of whole pictures for training, each a pure function of a picture and a generator of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn.images.resizing import fit

Box = tuple[float, float, float, float]
Picture = Callable[[Callable[[int, int], int]], np.ndarray]
FINER = 2  # a picture is decoded at least so many times finer than the image that is cut out of it, as thumbnails are
TRIES = 10  # draws of an area and a ratio that may lie outside of a picture; then the centre is cut out
FIELDS = ("area", "aspect", "shortest_side")  # of the config's group `augment`


class Cuts(NamedTuple):
    """How a training image is cut out of a picture.

    Attributes:
      area: (low, high): the cut's part of the picture's area, drawn uniformly; () for `shortest_side`.
      aspect: (low, high): the cut's width by its height, drawn uniformly on the logarithm.
      shortest_side: (low, high): what the picture's shortest side is resized to, drawn uniformly, pixels; then the
        image is cut out at a random place. () for `area`.

    Sources: Szegedy et al., "Going Deeper with Convolutions" (2015), section 6 (areas and ratios); Simonyan and
    Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015), section 3.1 (sides).
    """

    area: Sequence[float] = ()
    aspect: Sequence[float] = (0.75, 4 / 3)
    shortest_side: Sequence[int] = ()

    @property
    def asked(self) -> bool:
        """Whether pictures are cut at random at all."""
        return bool(len(self.area) or len(self.shortest_side))

    def box(self, shape: Sequence[int], size: tuple[int, int], rng: np.random.Generator) -> Box | None:
        """Draws the part of a picture that becomes a training image.

        Args:
          shape: (height, width, ...) of the picture, pixels.
          size: (height, width) of the image, pixels.
          rng: where random numbers are drawn from.

        Returns:
          (left, top, right, bottom) in pixels of the picture; None: no draw lay within it.
        """
        height, width = shape[:2]
        if len(self.shortest_side):
            low, high = self.shortest_side
            side = int(rng.integers(low, high, endpoint=True))
            # Long and narrow images may be larger than a picture of that side; they are covered just.
            scale = max(side / min(height, width), size[0] / height, size[1] / width)
            rows, columns = max(size[0], round(height * scale)), max(size[1], round(width * scale))
            top, left = (int(rng.integers(0, n - m, endpoint=True)) for n, m in zip((rows, columns), size, strict=True))
            down, across = height / rows, width / columns
            return left * across, top * down, (left + size[1]) * across, (top + size[0]) * down
        for _ in range(TRIES):
            area = height * width * rng.uniform(self.area[0], self.area[1])
            ratio = np.exp(rng.uniform(np.log(self.aspect[0]), np.log(self.aspect[1])))
            rows, columns = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
                return left, top, left + columns, top + rows
        return None

    def cut(self, picture: Picture | np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Cuts a training image out of a picture.

        Args:
          picture: its pixels, uint8 [H, W, C]; or what decodes them, given by what height and width may be divided
            (`cnn.images.pictures.decode`), so that a large JPEG is not decoded finer than the image needs.
          size: (height, width) of the image, pixels.
          rng: where random numbers are drawn from.

        Returns:
          uint8 [height, width, C], resized bicubically with antialiasing.
        """
        drawn: list[tuple[int, int, Box | None]] = []

        def reduced(height: int, width: int) -> int:
            drawn.append((height, width, self.box((height, width), size, rng)))
            left, top, right, bottom = drawn[0][2] or (0, 0, width, height)
            ratio = min((bottom - top) / size[0], (right - left) / size[1])
            return next((factor for factor in (8, 4, 2) if ratio >= FINER * factor), 1)

        pixels = picture if isinstance(picture, np.ndarray) else picture(reduced)
        if not drawn:  # what is no JPEG is not asked how much it may be reduced by
            reduced(pixels.shape[0], pixels.shape[1])
        height, width, box = drawn[0]
        if box is None:
            return fit(pixels, *size)
        down, across = pixels.shape[0] / height, pixels.shape[1] / width
        left, top, right, bottom = (edge * by for edge, by in zip(box, (across, down) * 2, strict=True))
        if not len(self.area):
            return _resized(pixels, size, (left, top, min(right, pixels.shape[1]), min(bottom, pixels.shape[0])))
        left, top, right, bottom = map(round, (left, top, right, bottom))
        return _resized(pixels[top:bottom, left:right], size, None)


def _resized(pixels: np.ndarray, size: tuple[int, int], box: Box | None) -> np.ndarray:
    """What a picture, resized so that a box gets a size, has within the box; pixels beside it count at its border."""
    from PIL import Image

    def one(plane: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(plane))
        return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))

    if pixels.shape[2] == 3:
        return one(pixels)
    return np.stack([one(plane) for plane in np.moveaxis(pixels, -1, 0)], axis=-1)


def of_config(augment: Mapping[str, Any]) -> Cuts:
    """The cuts that a config asks for.

    Args:
      augment: its group `augment`; older ones lack the fields.

    Returns:
      The cuts.
    """
    return Cuts(**{name: tuple(augment[name]) for name in FIELDS if name in augment})
