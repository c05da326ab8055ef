"""RandAugment: a few operations of one strength on each training image, drawn at random and done by Pillow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

FIELD = "randaugment"  # of the config's group `augment`
LARGEST = 30  # the magnitude at which operations have their full strength


class Operation(NamedTuple):
    """One kind of change.

    Attributes:
      apply: (image, amount) -> image of the same size and mode; the amount is in the operation's own unit.
      amount: (magnitude, from 0 to 1, length of a side in pixels) -> the amount.
      signed: whether the amount is turned round for half of the images.
    """

    apply: Callable[[Image, float], Image]
    amount: Callable[[float, int], float] = lambda strength, side: 0.0
    signed: bool = False


def _moved(image: Image, *, shear: tuple[float, float] = (0, 0), shift: tuple[float, float] = (0, 0)) -> Image:
    """Sheared about its centre and shifted (x, y); black moves in."""
    from PIL import Image as pillow

    (across, down), (x, y) = shear, shift
    middle_x, middle_y = image.width / 2, image.height / 2
    # Pillow asks where each pixel of the result comes from.
    inverse = (1, across, -x - across * middle_y, down, 1, -y - down * middle_x)
    return image.transform(image.size, pillow.Transform.AFFINE, inverse, pillow.Resampling.BILINEAR)


def _rotated(image: Image, degrees: float) -> Image:
    from PIL import Image as pillow

    return image.rotate(degrees, pillow.Resampling.BILINEAR)


def _enhanced(kind: str) -> Callable[[Image, float], Image]:
    """One of Pillow's enhancers; an amount of 0 leaves the image as it is, -1 takes away all of what it is for."""

    def apply(image: Image, amount: float) -> Image:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, kind)(image).enhance(1 + amount)

    return apply


def _tones(kind: str, *, whole: bool = False) -> Callable[[Image, float], Image]:
    """One of Pillow's operations on tones: of the image alone, or of the image and a whole number."""

    def apply(image: Image, amount: float) -> Image:
        from PIL import ImageOps

        return getattr(ImageOps, kind)(image, *((round(amount),) if whole else ()))

    return apply


# What torchvision's RandAugment draws from, with its largest amounts.
OPERATIONS: Mapping[str, Operation] = {
    "identity": Operation(lambda image, _: image),
    "shear_x": Operation(lambda image, a: _moved(image, shear=(a, 0)), lambda strength, _: 0.3 * strength, True),
    "shear_y": Operation(lambda image, a: _moved(image, shear=(0, a)), lambda strength, _: 0.3 * strength, True),
    "translate_x": Operation(
        lambda image, a: _moved(image, shift=(round(a), 0)), lambda strength, side: 150 / 331 * side * strength, True
    ),
    "translate_y": Operation(
        lambda image, a: _moved(image, shift=(0, round(a))), lambda strength, side: 150 / 331 * side * strength, True
    ),
    "rotate": Operation(_rotated, lambda strength, _: 30 * strength, True),  # degrees
    "brightness": Operation(_enhanced("Brightness"), lambda strength, _: 0.9 * strength, True),
    "colour": Operation(_enhanced("Color"), lambda strength, _: 0.9 * strength, True),
    "contrast": Operation(_enhanced("Contrast"), lambda strength, _: 0.9 * strength, True),
    "sharpness": Operation(_enhanced("Sharpness"), lambda strength, _: 0.9 * strength, True),
    "posterize": Operation(_tones("posterize", whole=True), lambda strength, _: 8 - 4 * strength),  # bits that are kept
    "solarize": Operation(_tones("solarize", whole=True), lambda strength, _: 255 - 255 * strength),  # the threshold
    "autocontrast": Operation(_tones("autocontrast")),
    "equalize": Operation(_tones("equalize")),
}


class RandAugment(NamedTuple):
    """How many operations are done one after the other, and how strong they are.

    Attributes:
      operations: their number; each is any of `OPERATIONS`, all equally likely. 0: images stay as they are.
      magnitude: their strength, from 0 to 30.

    Source: Cubuk, Zoph, Shlens, Le, "RandAugment: Practical automated data augmentation with a reduced search space"
    (2020), with the amounts of torchvision's form; operations that move pixels keep the centre and are bilinear.
    """

    operations: int = 0
    magnitude: float = 9.0

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changes one image.

        Args:
          pixels: uint8 [H, W, C], grey (C = 1) or RGB (C = 3).
          rng: where random numbers are drawn from.

        Returns:
          uint8 [H, W, C].
        """
        if not self.operations:
            return pixels
        from PIL import Image as pillow

        names, image = tuple(OPERATIONS), pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        for _ in range(self.operations):
            name, turned = names[rng.integers(len(names))], rng.integers(2)
            operation = OPERATIONS[name]
            side = image.width if name.endswith("_x") else image.height
            amount = operation.amount(self.magnitude / LARGEST, side)
            image = operation.apply(image, -amount if operation.signed and turned else amount)
        return np.asarray(image).reshape(pixels.shape)


def of_config(augment: Mapping[str, Any]) -> RandAugment:
    """What a config asks for.

    Args:
      augment: its group `augment`; older ones lack the field.

    Returns:
      The operations; none where the field is ().
    """
    asked: Sequence[float] = tuple(augment.get(FIELD, ()))
    return RandAugment(int(asked[0]), float(asked[1])) if asked else RandAugment()
