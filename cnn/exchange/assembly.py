"""From layers with their weights, as a reader found them, to a `Classifier`: all that the readers do alike."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn import geometry
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.preprocessing import LARGEST_SIDE, Preprocessing
from cnn.layers import (
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    Layer,
    LocallyConnected,
    PReLU,
    Scale,
    flatten_permutation,
)
from cnn.nets import Net
from cnn.nets.outputs import class_count
from cnn.runs.checkpoint import usual_order
from cnn.windows import GeometryError

MOST_LAYERS = 2000


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer and its arrays.

    Attributes:
      layer: the layer; its name is that of the file, where it has one.
      params: its parameters, float32 NumPy arrays by name.
      stats: its running statistics, "mean" and "var" of a `BatchNorm`.
      paths: of `Branches` the steps of each path, of the same layers as those of the layer itself.
    """

    layer: Layer
    params: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    stats: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    paths: tuple[tuple["Step", ...], ...] = ()

    def with_paths(self, paths: Sequence[Sequence["Step"]]) -> "Step":
        """The same block with other steps on its paths."""
        steps = tuple(tuple(path) for path in paths)
        layer = self.layer.clone(paths=tuple(tuple(one.layer for one in path) for path in steps))
        return dataclasses.replace(self, layer=layer, paths=steps)


def float32(array: np.ndarray, what: str) -> np.ndarray:
    """An array of weights as float32, checked.

    Args:
      array: floating.
      what: file and name, for the error.

    Returns:
      float32, a copy only where it must be.

    Raises:
      ExchangeError: if a value is infinite or none.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(array, np.float32)
        total = np.sum(values, dtype=np.float64)  # infinite or NaN as soon as one value is
    if not np.isfinite(total):
        raise ExchangeError(
            f"{what}: holds values that are infinite or no numbers; the file is damaged, or the net's training diverged"
        )
    return values


def classifier(
    steps: Sequence[Step],
    channels: int,
    known: Preprocessing,
    path: str | os.PathLike[str],
    *,
    output_activation: str = "softmax",
    notes: Sequence[str] = (),
    net: Net | None = None,
) -> Classifier:
    """Makes a `Classifier`: blue, green, red become red, green, blue in the first kernel, and the geometry must fit.

    Args:
      steps: the layers in order, with their arrays.
      channels: number of channels of an image.
      known: what is known of the images; `image_size` must be.
      path: the file, for errors and for `Classifier.source`.
      output_activation: what the scores mean, where `known` does not say.
      notes: what the reader did, a sentence each.
      net: the registered net whose layers these are; None: the net is made of them.

    Returns:
      The classifier.

    Raises:
      ExchangeError: naming the file and the layer, if sizes do not fit.
    """
    path = os.fspath(path)
    if known.image_size is None:
        raise ExchangeError(f"{path}: does not say how large its images are; give their height and width (image_size)")
    if not steps or len(steps) > MOST_LAYERS:
        raise ExchangeError(f"{path}: has {len(steps)} layers; a net has from 1 to {MOST_LAYERS}")
    image_shape = (*known.image_size, channels)
    mean, std, notes = _constants(known, channels, path, [*known.notes, *notes])
    order = known.channels or usual_order(channels)
    if order in CHANNEL_COUNTS and CHANNEL_COUNTS[order] != channels:
        raise ExchangeError(
            f"{path}: channels {order!r} needs {CHANNEL_COUNTS[order]} of them, the net takes {channels}"
        )
    try:
        steps = _named(steps)
        _check_windows(steps)
        geometry.table([step.layer for step in steps], image_shape)
        if order == "bgr":
            steps, order = _red_first(steps, image_shape, path), "rgb"
            mean, std = mean[::-1], std[::-1]
            notes.append("the net took blue, green, red: its first kernel was turned round, so that it takes RGB")
        steps, mean, std, notes = _in_range(steps, mean, std, notes)
        activation = known.output_activation or output_activation
        made = Net(tuple(step.layer for step in steps), activation)
        if net is not None and [layer.name for layer in net.layers] == [layer.name for layer in made.layers]:
            made = net.clone(output_activation=activation)
        variables = _variables(steps)
        table = geometry.table(made, image_shape, variables)
    except (GeometryError, ValueError) as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(f"{path}: {' '.join(str(error).split())}") from None
    shape = table[-1].output_shape
    if len(shape) == 3 and shape[:2] != (1, 1):
        notes.append(
            f"an image of {image_shape[0]}x{image_shape[1]} pixels gives a map of {shape[0]}x{shape[1]} scores"
        )
    count = class_count(shape[-1])
    names = known.class_names or tuple(f"class {index}" for index in range(count))
    if len(names) != count:
        raise ExchangeError(f"{path}: the net has {count} classes, and {len(names)} names were given")
    return Classifier(made, variables, image_shape, mean, std, names, order, tuple(dict.fromkeys(notes)), path)


CHANNEL_COUNTS = {"rgb": 3, "bgr": 3, "grey": 1}


def _constants(known: Preprocessing, channels: int, path: str, notes: list[str]) -> tuple[Any, Any, list[str]]:
    """Mean and standard deviation, one for each channel."""
    if known.mean is None and known.std is None:
        raise ExchangeError(f"{path}: how pixels are normalised is not known; give mean and std")
    found = []
    for field, value, default in (("mean", known.mean, 0.0), ("std", known.std, 1.0)):
        values = (default,) if value is None else value
        if len(values) not in (1, channels):
            raise ExchangeError(
                f"{path}: {field} has {len(values)} numbers, and images have {channels} channels; give "
                "one, or one for each channel"
            )
        found.append(tuple(values) * (channels if len(values) == 1 else 1))
    return found[0], found[1], notes


def _named(steps: Sequence[Step]) -> list[Step]:
    """Layers with names of their own, fit for a tree of parameters; those within a block have theirs apart."""
    taken: set[str] = set()
    result = []
    for step in steps:
        if step.paths:
            within = iter(_named([one for path in step.paths for one in path]))
            step = step.with_paths([[next(within) for _ in path] for path in step.paths])
        name = step.layer.name
        if name is not None:
            name = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name)[:100] or "layer"
            stem, number = name, 2
            while name in taken:
                name, number = f"{stem}_{number}", number + 1
            taken.add(name)
            step = dataclasses.replace(step, layer=step.layer.clone(name=name))
        result.append(step)
    free = [step.layer for step in result]
    counts: dict[str, int] = {}
    for index, layer in enumerate(free):
        if layer.name is None:
            stem = layer.stem()
            counts[stem] = counts.get(stem, 0) + 1
            while f"{stem}{counts[stem]}" in taken:
                counts[stem] += 1
            free[index] = layer.clone(name=f"{stem}{counts[stem]}")
    return [dataclasses.replace(step, layer=layer) for step, layer in zip(result, free, strict=True)]


def _check_windows(steps: Sequence[Step]) -> None:
    """Refuses windows beyond all images before anything is computed of them."""
    for step in steps:
        for path in step.paths:
            _check_windows(path)
        for field in ("kernel", "stride", "padding", "dilation"):
            numbers = np.asarray(_flat(getattr(step.layer, field, None)), np.float64)
            if (numbers > LARGEST_SIDE).any():
                raise GeometryError(
                    f"{step.layer.label}: {field} (={getattr(step.layer, field)}) is beyond all images, "
                    f"of at most {LARGEST_SIDE} pixels"
                )


def _flat(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [number for one in value for number in _flat(one)]
    return [value] if isinstance(value, int | float) else []


def _in_range(
    steps: list[Step], mean: tuple[float, ...], std: tuple[float, ...], notes: list[str]
) -> tuple[list[Step], tuple[float, ...], tuple[float, ...], list[str]]:
    """Constants beyond what pixels can have go into the net: `cnn.data.normalise` takes numbers between 0 and 1."""
    sees = next((index for index, step in enumerate(steps) if not isinstance(step.layer, Flatten)), 0)
    first = steps[sees]
    largest = max(std)
    if all(0 <= value <= 1 for value in mean):
        if largest <= 1:
            return steps, mean, std, notes
        if isinstance(first.layer, Conv | Dense):  # a factor of all its values, which zeros of padding do not change
            kernel = (first.params["kernel"] / largest).astype(np.float32)
            first = dataclasses.replace(first, params={**first.params, "kernel": kernel})
            notes = [*notes, f"images divided by {largest:g} became a division of the first kernel, so that std is 1"]
            return [*steps[:sees], first, *steps[sees + 1 :]], mean, tuple(v / largest for v in std), notes
    factor, offset = 1 / np.asarray(std, np.float64), -np.asarray(mean, np.float64) / np.asarray(std, np.float64)
    taken = {step.layer.name for step in steps}
    names = ("input_scale", *(f"input_scale_{number}" for number in range(len(steps) + 1)))
    name = next(name for name in names if name not in taken)
    layer = Step(Scale(name=name), {"scale": factor.astype(np.float32), "bias": offset.astype(np.float32)})
    notes = [*notes, f"the images' constants are beyond what pixels have: normalising is a layer, {name}"]
    return [layer, *steps], (0.0,) * len(mean), (1.0,) * len(std), notes


def _red_first(steps: Sequence[Step], image_shape: tuple[int, int, int], path: str) -> list[Step]:
    """The same net for images whose channels are in the opposite order."""
    return _turned(steps, image_shape, path)[0]


def _turned(steps: Sequence[Step], image_shape: tuple[int, ...], path: str) -> tuple[list[Step], bool]:
    """Steps that see the channels in the opposite order, and whether what they give is in the former one again."""
    result = list(steps)
    shapes = [image_shape, *(row.output_shape for row in geometry.table([step.layer for step in steps], image_shape))]
    flat: tuple[int, ...] | None = None  # positions of a flattened image's values in the opposite order
    for index, (step, shape) in enumerate(zip(steps, shapes, strict=False)):
        layer, params = step.layer, dict(step.params)
        if isinstance(layer, Branches):
            paths = [_turned(one, shape, path) for one in step.paths]
            if not all(done for _, done in paths):
                raise ExchangeError(
                    f"{path}: {layer.label}: a path gives the image's own channels on, so that blue, green, red cannot "
                    "be turned round in it; give RGB weights"
                )
            result[index] = step.with_paths([own for own, _ in paths])
            return result, True
        if isinstance(layer, Conv) and layer.groups == 1:
            result[index] = dataclasses.replace(step, params={**params, "kernel": params["kernel"][:, :, ::-1]})
            return result, True
        if isinstance(layer, Dense):
            result[index] = dataclasses.replace(step, params={**params, "kernel": params["kernel"][np.asarray(flat)]})
            return result, True
        if isinstance(layer, Conv | LocallyConnected):
            raise ExchangeError(
                f"{path}: {layer.label}: its kernels see the channels in groups, so that blue, green, "
                "red cannot be turned round in it; give RGB weights"
            )
        if isinstance(layer, Flatten):
            order = flatten_permutation(layer.order, shape)
            places = np.arange(np.prod(shape)) if order is None else order
            turned = np.arange(np.prod(shape)).reshape(shape)[:, :, ::-1].ravel()
            inverse = np.argsort(places)
            flat = tuple(inverse[turned[places]])
        elif isinstance(layer, BatchNorm | Scale | PReLU):
            turn: Any = slice(None, None, -1) if flat is None else np.asarray(flat)
            result[index] = dataclasses.replace(
                step,
                params={name: value[turn] if value.size > 1 else value for name, value in params.items()},
                stats={name: value[turn] for name, value in step.stats.items()},
            )
    return result, False


def _variables(steps: Sequence[Step]) -> dict[str, Any]:
    """The tree that `Net.apply` takes."""
    tree: dict[str, Any] = {"params": {}}
    for step in steps:
        name, own = step.layer.name, dict(step.params)
        if step.paths:
            for collection, part in _variables([one for path in step.paths for one in path]).items():
                if part:
                    tree.setdefault(collection, {})[name] = part
        elif isinstance(step.layer, BatchNorm):
            tree["params"][name] = {"norm": own}
            tree.setdefault("batch_stats", {})[name] = {"norm": dict(step.stats)}
        elif own:
            tree["params"][name] = {part: np.ascontiguousarray(value) for part, value in own.items()}
    return tree
