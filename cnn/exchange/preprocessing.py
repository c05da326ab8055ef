"""What is done to an image before a net sees it, from the configs that are published beside weights."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.files import read_json

INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # of Pillow
CHANNELS = ("rgb", "bgr", "grey")
LARGEST_SIDE = 4096  # pixels of an image that a file may declare


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is known of a net's images; None: not known.

    Attributes:
      image_size: (H, W), pixels.
      mean, std: one number for each channel, or one for all, in units of the full range, as for `cnn.data.normalise`;
        in the order of channels that the net takes.
      channels: "rgb", "bgr" or "grey": the order that the net takes.
      class_names: one for each class.
      output_activation: "softmax" or "sigmoid".
      notes: what else was said, a sentence each.
    """

    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None
    class_names: tuple[str, ...] | None = None
    output_activation: str | None = None
    notes: tuple[str, ...] = ()

    def over(self, other: "Preprocessing | None") -> "Preprocessing":
        """This one, completed by another where it knows nothing; notes of both."""
        if other is None:
            return self
        names = [field.name for field in dataclasses.fields(self) if field.name != "notes"]
        chosen = {
            name: getattr(self, name) if getattr(self, name) is not None else getattr(other, name) for name in names
        }
        return Preprocessing(**chosen, notes=(*self.notes, *other.notes))


def of(
    what: str,
    *,
    image_size: Any = None,
    mean: Any = None,
    std: Any = None,
    channels: Any = None,
    class_names: Any = None,
    output_activation: Any = None,
    notes: Sequence[str] = (),
) -> Preprocessing:
    """Makes a `Preprocessing` of values from outside, checked.

    Args:
      what: where they come from, for the error.
      image_size: one number or (H, W), pixels.
      mean, std: one number or one for each channel, in units of the full range.
      channels: one of `CHANNELS`.
      class_names: texts.
      output_activation: "softmax" or "sigmoid".
      notes: sentences.

    Returns:
      A `Preprocessing`.

    Raises:
      ExchangeError: naming the field, if a value is none that images can have.
    """
    if channels not in (None, *CHANNELS):
        raise ExchangeError(f"{what}: channels (={channels!r}) must be one of {', '.join(CHANNELS)}")
    if output_activation not in (None, "softmax", "sigmoid"):
        raise ExchangeError(f"{what}: output_activation (={output_activation!r}) must be softmax or sigmoid")
    names = None if class_names is None else tuple(class_names)
    if names is not None and not (names and all(isinstance(name, str) for name in names)):
        raise ExchangeError(f"{what}: class names must be texts, one for each class")
    spread = _numbers(std, "std", what)
    if spread is not None and min(spread) <= 0:
        raise ExchangeError(f"{what}: std (={list(spread)}) must be above 0, as images are divided by it")
    return Preprocessing(
        _size(image_size, what), _numbers(mean, "mean", what), spread, channels, names, output_activation, tuple(notes)
    )


def _size(value: Any, what: str) -> tuple[int, int] | None:
    if value is None:
        return None
    given: list[Any] = list(value) if isinstance(value, list | tuple) else [value, value]
    whole = [side for side in given if isinstance(side, int) and not isinstance(side, bool)]
    if len(given) != 2 or len(whole) != 2 or not 1 <= min(whole) <= max(whole) <= LARGEST_SIDE:
        shown = f"image size (={str(value)[:80]})"
        raise ExchangeError(f"{what}: {shown} must be one or two numbers from 1 to {LARGEST_SIDE} pixels")
    return whole[0], whole[1]


def _numbers(value: Any, field: str, what: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        values = tuple(float(one) for one in (value if hasattr(value, "__len__") else [value]))
    except (TypeError, ValueError):
        values = ()
    if not values or len(values) > 64 or not all(map(math.isfinite, values)):
        raise ExchangeError(f"{what}: {field} (={str(value)[:80]}) must be one finite number, or one for each channel")
    return values


def read(*paths: str | os.PathLike[str]) -> Preprocessing:
    """Reads the configs that are published beside weights.

    Args:
      *paths: config.json of Hugging Face or timm, preprocessor_config.json; what an earlier one says counts.

    Returns:
      What they say.

    Raises:
      ExchangeError: if one is no JSON object, or a value is none that images can have.
    """
    found = Preprocessing()
    for path in paths:
        found = found.over(from_config(read_json(path), os.fspath(path)))
    return found


def from_config(config: Any, what: str) -> Preprocessing:
    """Reads one such config.

    Args:
      config: what its JSON holds.
      what: its path, for errors.

    Returns:
      What it says.

    Raises:
      ExchangeError: if it is no JSON object, or a value is none that images can have.
    """
    if not isinstance(config, Mapping):
        raise ExchangeError(f"{what}: a JSON object was expected, not {type(config).__name__}")
    if any(key in config for key in ("image_mean", "image_std", "do_normalize", "do_rescale", "image_processor_type")):
        return _processor(config, what)
    timm = config.get("pretrained_cfg", config if "input_size" in config else None)
    if isinstance(timm, Mapping):
        return _timm({**config, **timm}, what)
    size = config.get("image_size")
    labels, activation = _labels(config, what), None
    if config.get("problem_type") == "multi_label_classification":
        activation = "sigmoid"
    return of(what, image_size=size, class_names=labels, output_activation=activation)


def _labels(config: Mapping[str, Any], what: str) -> list[str] | None:
    """Class names from id2label or label_names."""
    table = config.get("id2label")
    if isinstance(table, Mapping) and table:
        try:
            by_id = {int(key): str(value) for key, value in table.items()}
        except ValueError:
            by_id = {}
        if sorted(by_id) != list(range(len(table))):
            raise ExchangeError(f"{what}: id2label must have one name for each id from 0 to {len(table) - 1}")
        return [by_id[index] for index in range(len(by_id))]
    names = config.get("label_names")
    return list(map(str, names)) if isinstance(names, list) and names else None


def _timm(config: Mapping[str, Any], what: str) -> Preprocessing:
    """Reads timm's pretrained_cfg: pixels from 0 to 1, then mean and standard deviation."""
    shape = config.get("input_size")
    if shape is not None and not (isinstance(shape, list | tuple) and len(shape) == 3):
        raise ExchangeError(f"{what}: input_size (={shape!r}) must be [channels, height, width]")
    notes = []
    if config.get("interpolation"):
        cut = f", of which the middle {config['crop_pct']:.1%} is taken" if _is_number(config.get("crop_pct")) else ""
        notes.append(f"images were resized by {str(config['interpolation'])[:20]} interpolation{cut}")
    return of(
        what,
        image_size=None if shape is None else list(shape[1:]),
        mean=config.get("mean"),
        std=config.get("std"),
        class_names=_labels(config, what),
        notes=notes,
    )


def _processor(config: Mapping[str, Any], what: str) -> Preprocessing:
    """Reads preprocessor_config.json: pixels times a factor, then mean and standard deviation."""
    factor = 1.0
    if config.get("do_rescale", True):
        factor = config.get("rescale_factor", 1 / 255)
        if not _is_number(factor) or factor <= 0:
            raise ExchangeError(f"{what}: rescale_factor (={factor!r}) must be a number above 0")
    full = 255 * factor  # what the brightest pixel becomes
    mean, std = (0.0,), (1.0,)
    if config.get("do_normalize", True):
        mean = _numbers(config.get("image_mean"), "image_mean", what) or mean
        std = _numbers(config.get("image_std"), "image_std", what) or std
    size = config.get("crop_size") if config.get("do_center_crop") else None
    size = config.get("size") if size is None else size
    notes = []
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge")
        if edge is not None:
            notes.append(f"{what} gives a shortest edge of {edge} pixels: the window is taken as a square of that size")
        size = edge if edge is not None else [size.get("height"), size.get("width")]
    resample = config.get("resample")
    if resample in INTERPOLATIONS:
        notes.append(f"images were resized by {INTERPOLATIONS[resample]} interpolation")
    return of(
        what,
        image_size=size,
        mean=[value / full for value in mean],
        std=[value / full for value in std],
        channels="bgr" if config.get("do_flip_channel_order") else None,
        class_names=_labels(config, what),
        notes=notes,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
