"""Reads a classifier from an ONNX file of any exporter, as far as it is made of layers and blocks of them."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn import geometry, nets
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.onnx_in.budget import Budget
from cnn.exchange.onnx_in.chain import Step, chain
from cnn.exchange.onnx_in.file import OnnxFile, one_line
from cnn.exchange.onnx_in.graph import Images, walk
from cnn.exchange.onnx_in.growth import Chain
from cnn.exchange.onnx_in.layers import LAYOUT, build
from cnn.exchange.onnx_in.node import short
from cnn.layers import Scale
from cnn.nets.outputs import ACTIVATIONS, class_count
from cnn.runs.checkpoint import usual_order
from cnn.windows import GeometryError, as_pair

LARGEST_FRACTION = 1.5  # of the full range: a constant above it counts pixels from 0 to 255


class Reading(NamedTuple):
    """What a file holds, beside the net itself.

    Attributes:
      file: the file.
      images: its input.
      chain: its layers, and how its input and output are laid out.
      scores: name of the value that holds the scores, before a softmax or sigmoid.
      mean, std: what the file does to its images first, in units of the full range.
    """

    file: OnnxFile
    images: Images
    chain: Chain
    scores: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read(
    path: str | pathlib.Path,
    *,
    output: str | None = None,
    image_size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """Reads a classifier; nothing but numbers is taken from the file, and no code is run.

    Args:
      path: an ONNX file. Its tensors may lie in files beside it, but not outside of its folder.
      output: name of the output, value or node that holds the scores, where the file has several outputs.
      image_size: (height, width) of the images that the net was trained on, pixels, where the file leaves them open.
      mean, std: of the images before the graph sees them, in units of the full range, one number or one for each
        channel; in place of those in the file's metadata.

    Returns:
      The net with its variables. Constants that the file subtracts from images and divides them by are its mean and
      standard deviation; without any they are 0 and 1. A softmax or sigmoid at the end is its output activation.

    Raises:
      ExchangeError: if the file is damaged or no ONNX file, or holds an operator without a layer here; names the node.
    """
    reading = decode(path, output, image_size, mean, std)
    file, made = reading.file, reading.chain
    said = file.json_of("cnn.output_activation")
    if said is not None and said not in ACTIVATIONS:
        raise file.error(
            f"its metadata cnn.output_activation (={one_line(said)}) must be one of {', '.join(ACTIVATIONS)}"
        )
    activation = "sigmoid" if made.head == "Sigmoid" else "softmax" if made.head or said is None else said
    net = nets.net(made.layers, output_activation=activation)
    variables = _variables(net, made)
    try:
        last = geometry.table(net, reading.images.shape, variables)[-1]
    except GeometryError as error:
        raise file.error(str(error)) from None
    names = _class_names(file, class_count(last.output_shape[-1]))
    channels = reading.images.shape[2]
    order = usual_order(channels)
    if made.head:
        made.notes.append(f"{made.head} at the end was taken off: scores are logits, their activation is {activation}.")
    elif said is None:
        made.notes.append("The file ends without a softmax or sigmoid: scores were taken for logits of a softmax.")
    if channels == 3:
        made.notes.append("Channels were taken to be red, green, blue; the file does not say.")
    return Classifier(
        net,
        variables,
        reading.images.shape,
        reading.mean,
        reading.std,
        names,
        order,
        notes=tuple(made.notes),
        source=str(path),
    )


def decode(
    path: str | pathlib.Path,
    output: str | None = None,
    image_size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Reading:
    """The layers of a file, and how its input and output are laid out; arguments and errors as for `read`."""
    if image_size is not None:
        try:
            image_size = as_pair(image_size, "image_size", str(path))
        except GeometryError as error:
            raise ExchangeError(str(error)) from None
    if output is not None and not isinstance(output, str):
        raise ExchangeError(f"{path}: output (={output!r}) must be the name of an output")
    try:
        file = OnnxFile(path)
        if file.json_of("cnn.stride") is not None:
            raise file.error(
                "is the dense form of a net, written for other runtimes; read the plain form (without --dense)"
            )
        images, value = walk(file, output, image_size)
        made = Chain(images, Budget(file.size))
        steps = chain(file, images, value)
        build(made, steps)
    except UnicodeDecodeError:
        raise ExchangeError(f"{path}: holds a name that is no text; it is damaged") from None
    return Reading(file, images, made, _scores(steps, made, value.name), *_preprocessing(file, made, mean, std))


def _scores(steps: Sequence[Step], made: Chain, name: str) -> str:
    """The name of the value before a softmax or sigmoid at the end."""
    if not made.head:
        return name
    return next(step for step in reversed(steps) if step.node.op not in LAYOUT).source.name


def _preprocessing(
    file: OnnxFile, made: Chain, given_mean: Sequence[float] | None, given_std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, in units of the full range, of what the file does to its images first."""
    scale, offset = made.scale, made.offset
    channels = len(scale)
    declared = given_mean is not None or given_std is not None or "cnn.mean" in file.metadata
    mean = _numbers(file, "cnn.mean", channels, 0.0, given_mean)
    std = _numbers(file, "cnn.std", channels, 1.0, given_std)
    if (std <= 0).any():
        raise file.error(f"its metadata cnn.std (={std.tolist()}) must be above 0")
    if (scale == 1).all() and (offset == 0).all():
        if not declared:
            made.notes.append(
                "The file does not say how pixels are scaled: mean 0 and standard deviation 1 of pixels from 0 to 1 "
                "were assumed; give mean and std if it was trained otherwise."
            )
        return tuple(mean.tolist()), tuple(std.tolist())
    with np.errstate(all="ignore"):
        own_mean, own_std = -offset / scale, 1 / scale
    unit = 1.0
    if not declared and np.maximum(np.abs(own_mean), np.abs(own_std)).max() > LARGEST_FRACTION:
        unit = 255.0
    total_mean, total_std = mean + std * own_mean / unit, std * own_std / unit
    fits = np.isfinite([total_mean, total_std]).all() and (total_std > 1e-6).all()
    if not (fits and (total_mean >= 0).all() and (total_mean <= 1).all() and (total_std <= 1e6).all()):
        made.layers.insert(0, Scale())
        made.variables.insert(0, {"params": {"scale": scale.astype(np.float32), "bias": offset.astype(np.float32)}})
        made.scale, made.offset = np.ones(channels), np.zeros(channels)
        made.notes.append(
            "What the file does to its images first is no mean and standard deviation: it became a layer."
        )
        return tuple(mean.tolist()), tuple(std.tolist())
    made.notes.append(
        f"Constants before the first layer became the mean and standard deviation, for pixels from 0 to {unit:g}."
    )
    return _plain(total_mean), _plain(total_std)


def _plain(numbers: np.ndarray) -> tuple[float, ...]:
    """Numbers that were rounded to float32 as they were meant: 0.485, not 0.4850000143."""
    return tuple(short(v) if np.float32(v) == np.float32(short(v)) else float(v) for v in numbers)


def _numbers(file: OnnxFile, key: str, channels: int, default: float, given: Sequence[float] | None) -> np.ndarray:
    """One number for each channel, as given or from the metadata."""
    if given is not None:
        if len(given) not in (1, channels):
            raise file.error(
                f"{key[4:]} has {len(given)} numbers, and images have {channels} channels; give one or each"
            )
        return np.broadcast_to(np.array(given, np.float64), (channels,))
    found = file.json_of(key)
    if found is None:
        return np.full(channels, default)
    numbers = isinstance(found, list) and all(isinstance(v, int | float) and abs(v) < 1e9 for v in found)
    if not numbers or len(found) not in (1, channels):
        raise file.error(
            f"its metadata {key} (={one_line(found)}) must be one finite number for each of {channels} channels"
        )
    return np.broadcast_to(np.array(found, np.float64), (channels,))


def _class_names(file: OnnxFile, count: int) -> tuple[str, ...]:
    found = file.json_of("cnn.class_names")
    if found is None:
        return tuple(f"class {i}" for i in range(count))
    if not isinstance(found, list) or len(found) != count or not all(isinstance(one, str) for one in found):
        raise file.error(f"its metadata cnn.class_names (={one_line(found)}) must be {count} names, one for each class")
    return tuple(found)


def _variables(net: nets.Net, made: Chain) -> dict[str, Any]:
    """The variables of all layers under the names that they have in the net."""
    variables: dict[str, Any] = {"params": {}}
    for layer, own in zip(net.layers, made.variables, strict=True):
        for collection, values in own.items():
            variables.setdefault(collection, {})[layer.name] = values
    return variables
