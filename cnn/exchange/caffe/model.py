"""Reads a net of Caffe: the text of its structure and the file of its weights."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn import geometry
from cnn.exchange import preprocessing
from cnn.exchange.assembly import Step, classifier
from cnn.exchange.caffe.layers import DATA, DROPPED, Blobs, blob_array, steps_of
from cnn.exchange.caffe.schema import V1_NAMES, message
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.files import kind_of
from cnn.exchange.preprocessing import Preprocessing
from cnn.layers import Activation, BatchNorm, Dense, Flatten, Scale
from cnn.windows import GeometryError

TEXT_LIMIT_BYTES = 2**22
LAYER_LIMIT = 4000


def read(
    path: str | os.PathLike[str],
    structure: str | os.PathLike[str] | None = None,
    *,
    mean_file: str | os.PathLike[str] | None = None,
    given: Preprocessing | None = None,
) -> Classifier:
    """Reads a classifier that Caffe trained.

    Both generations of layers (`layers`, `layer`) and of weights are read. Scale and mean come from transform_param of
    the structure, or else of the weights' own data layer; images of three channels are taken to be blue, green, red,
    as Caffe reads them, unless `given` says otherwise.

    Args:
      path: the .caffemodel.
      structure: the .prototxt, with or without data layers; None: the structure that stands in the weights' file.
      mean_file: a mean image (.binaryproto); its mean over all pixels is taken for each channel, and said.
      given: what the caller knows better of the images.

    Returns:
      The classifier.

    Raises:
      ExchangeError: if a file cannot be read, a layer has no counterpart here, weights are missing, misshapen or
        more than a layer takes (all are listed), or the net is no chain.
    """
    path = os.fspath(path)
    _expect(path, "caffemodel")
    weights = _parse(path, "NetParameter")
    if any(
        not blob.data and not blob.double_data for layer in (*weights.layer, *weights.layers) for blob in layer.blobs
    ):
        weights = _parse(path, "NetParameter", unpacked=True)
    net = weights if structure is None else _parse_text(os.fspath(structure))
    where = path if structure is None else os.fspath(structure)
    if any(layer.HasField("layer") for layer in net.layers):
        raise ExchangeError(f"{where}: is of Caffe's first generation; convert it: upgrade_net_proto_text OLD NEW")
    reading = _Reading(where, path, net, weights)
    known, notes = reading.preprocessing(mean_file, given)
    return reading.classifier(known, notes)


def _expect(path: str, kind: str) -> None:
    found = kind_of(path)
    if found != kind:
        raise ExchangeError(f"{path} is of the kind {found!r}, where {kind!r} was expected")


def _parse(path: str, name: str, unpacked: bool = False) -> Any:
    """A binary message."""
    made = message(name, unpacked)
    from google.protobuf.message import DecodeError

    try:
        with open(os.path.expanduser(path), "rb") as file:
            return made.FromString(file.read())
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ExchangeError(f"{path} is damaged or truncated: {' '.join(str(error).split())}; fetch it again") from None


def _parse_text(path: str) -> Any:
    """The text of a structure; fields that are not needed here are passed over."""
    _expect(path, "prototxt")
    made = message("NetParameter")()
    from google.protobuf import text_format

    try:
        with open(os.path.expanduser(path), "rb") as file:
            text = file.read(TEXT_LIMIT_BYTES + 1)
        if len(text) > TEXT_LIMIT_BYTES:
            raise ExchangeError(f"{path} is longer than {TEXT_LIMIT_BYTES:,} bytes, which no structure is")
        text_format.Parse(text.decode("utf-8-sig"), made, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise ExchangeError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    return made


def _kind(layer: Any) -> str:
    """The type of a layer, as the later generation names it."""
    if isinstance(layer.type, str):
        return layer.type
    name = layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name
    return V1_NAMES.get(name, "".join(part.capitalize() for part in name.split("_")))


def _is_used(layer: Any) -> bool:
    """Whether a trained net has the layer: Caffe's rules of phase, level (0) and stage (none)."""

    def meets(rule: Any) -> bool:
        phase = not rule.HasField("phase") or rule.phase == 1
        level = rule.min_level <= 0 and (not rule.HasField("max_level") or rule.max_level >= 0)
        return phase and level and not rule.stage

    return any(map(meets, layer.include)) if layer.include else not any(map(meets, layer.exclude))


class _Reading:
    """One net that is being read."""

    def __init__(self, where: str, path: str, net: Any, weights: Any) -> None:
        self.where, self.path, self.net = where, path, net
        self.layers = [*net.layers, *net.layer]
        self.is_written = net is weights  # as the net that was trained: rules of phase were applied when it was made
        if not self.layers:
            raise ExchangeError(f"{where}: has no layers")
        if len(self.layers) > LAYER_LIMIT:
            raise ExchangeError(f"{where}: has {len(self.layers):,} layers; at most {LAYER_LIMIT:,} are read")
        for layer in (*self.layers, *weights.layers, *weights.layer):
            texts = (layer.name, layer.type, *layer.bottom, *layer.top)
            if any(isinstance(text, bytes) for text in texts):  # how damaged texts are read
                raise ExchangeError(f"{path}: a layer's name is no text; the file is damaged: fetch it again")
        trained = [*weights.layers, *weights.layer]
        self.blobs: Mapping[str, Sequence[Any]] = {layer.name: layer.blobs for layer in trained if layer.blobs}
        self.trained = trained
        self.notes: list[str] = []
        self.activation = "softmax"
        self.problems: list[str] = []

    def preprocessing(self, mean_file: Any, given: Preprocessing | None) -> tuple[Preprocessing, list[str]]:
        """Size, scale, mean and order of channels."""
        shape = self._declared()
        transforms = [found for layers in (self.layers, self.trained) if (found := _transform(layers))]
        scale, means, mean_source, crop = transforms[0] if transforms else (1.0, [], "", 0)
        notes = []
        known = Preprocessing() if given is None else given
        if scale <= 0 or not np.isfinite(scale):
            raise ExchangeError(f"{self.where}: transform_param: scale (={scale}) must be above 0")
        if mean_file is not None:
            means, note = _mean_of(os.fspath(mean_file))
            notes.append(note)
        elif mean_source and known.mean is None:
            raise ExchangeError(
                f"{self.where}: subtracts the mean image {mean_source[:200]!r}, which is another file; name it "
                "(mean_file), or give mean"
            )
        if not transforms and not means and known.mean is None and known.std is None:
            notes.append("no scale and no mean is given: the net is taken to see pixels from 0 to 255 as they are")
        own = preprocessing.of(
            self.where,
            image_size=shape[1:] if shape else (crop or None),
            mean=[value / 255 for value in means] or 0.0,
            std=1 / (255 * scale),
        )
        self.channels = shape[0] if shape else None
        return known.over(own), notes

    def _declared(self) -> tuple[int, int, int] | None:
        """Channels, height and width that the structure declares."""
        shapes = [list(shape.dim) for shape in self.net.input_shape[:1]]
        if not shapes and self.net.input_dim:
            shapes = [list(self.net.input_dim[:4])]
        for layer in self.layers:
            if _kind(layer) == "Input" and _is_used(layer):
                shapes += [list(shape.dim) for shape in layer.input_param.shape[:1]]
            if _kind(layer) == "MemoryData" and _is_used(layer):
                param = layer.memory_data_param
                shapes.append([1, param.channels, param.height, param.width])
        if not shapes:
            return None
        if len(shapes[0]) != 4 or min(shapes[0]) < 1:
            raise ExchangeError(f"{self.where}: its input is {shapes[0]}; images are [images, channels, height, width]")
        return shapes[0][1], shapes[0][2], shapes[0][3]

    def classifier(self, known: Preprocessing, notes: list[str]) -> Classifier:
        """The layers in their order, and what is made of them."""
        self.notes += notes
        steps, used = self._steps(known)
        unused = sorted(set(self.blobs) - used)
        if unused:
            self.notes.append(f"weights that the structure does not use: {', '.join(unused[:20])}")
        if self.problems:
            raise ExchangeError(f"{self.path}: {'; '.join(self.problems[:50])}")
        if self.channels == 3 and known.channels is None:
            self.notes.append("images are taken to be blue, green, red, as Caffe reads them; say channels=rgb if not")
            known = known.over(Preprocessing(channels="bgr"))
        return classifier(
            steps, self.channels or 1, known, self.path, output_activation=self.activation, notes=self.notes
        )

    def _steps(self, known: Preprocessing) -> tuple[list[Step], set[str]]:
        """Follows the chain from the data to the scores."""
        steps: list[Step] = []
        used: set[str] = set()
        flat, current = False, {*self.net.input}
        ended = ""
        for layer in self.layers:
            kind, label = _kind(layer), f"{self.where}: {layer.name} ({_kind(layer)})"
            if kind in DATA and not layer.bottom:
                current = {*layer.top[:1]} or current
                continue
            if not self.is_written and not _is_used(layer):
                continue
            if kind in DROPPED:
                self.notes.append(f"{layer.name} ({kind}) was dropped")
                self.activation = "sigmoid" if kind == "SigmoidCrossEntropyLoss" else self.activation
                continue
            if not current & set(layer.bottom[:1]):
                takes, at = ", ".join(layer.bottom[:3]) or "nothing", ", ".join(sorted(current)[:3]) or "no value"
                raise ExchangeError(
                    f"{label}: takes {takes}, where the chain is at {at}: nets here are chains; cut off branches and "
                    "further heads"
                )
            if ended:
                raise ExchangeError(f"{label}: stands behind {ended}, which must be the last layer")
            current = current | {*layer.top} if kind == "Split" else {*layer.top}
            if kind == "Split":
                continue
            if kind == "Softmax":
                ended = f"{layer.name} (Softmax)"
                self.notes.append(f"{layer.name} (Softmax) was dropped: scores are logits")
                continue
            if (kind == "InnerProduct" and not flat) or kind == "Flatten":
                if not flat:  # map by map, as Caffe lays images out
                    steps.append(Step(Flatten("chw", name=layer.name if kind == "Flatten" else None)))
                flat = True
            try:
                if kind == "Power":
                    steps.append(self._power(layer, steps, known))
                elif kind != "Flatten":
                    found = steps_of(kind, layer, Blobs(layer.name, self.blobs.get(layer.name, ()), self.problems))
                    steps = _folded(steps, found, self.notes)
            except ExchangeError as error:
                raise ExchangeError(f"{self.where}: {error}") from None
            used.add(layer.name)
            if self.channels is None and "kernel" in (steps[-1].params if steps else ()):
                first = steps[-1].layer
                if not isinstance(first, Dense):
                    self.channels = steps[-1].params["kernel"].shape[2] * first.groups
        if steps and isinstance(steps[-1].layer, Activation) and steps[-1].layer.function == "sigmoid":
            name = steps[-1].layer.name
            self.notes.append(f"{name} (Sigmoid) was dropped: scores are logits, each of a class of its own")
            self.activation, steps = "sigmoid", steps[:-1]
        return steps, used

    def _power(self, layer: Any, steps: Sequence[Step], known: Preprocessing) -> Step:
        """A factor and an offset for all values, which is what Power is without its power."""
        param = layer.power_param
        if param.power != 1:
            raise ExchangeError(f"{layer.name} (Power): power (={param.power:g}) must be 1")
        if known.image_size is None or self.channels is None:
            raise ExchangeError(
                f"{layer.name} (Power): stands before anything that tells the number of channels; declare "
                "the input (input_param)"
            )
        try:
            table = geometry.table([step.layer for step in steps], (*known.image_size, self.channels))
        except GeometryError as error:
            raise ExchangeError(" ".join(str(error).split())) from None
        count = table[-1].output_shape[-1] if steps else self.channels
        values = {"scale": np.full(count, param.scale, np.float32), "bias": np.full(count, param.shift, np.float32)}
        return Step(Scale(name=layer.name), values)


def _folded(steps: list[Step], found: list[Step], notes: list[str]) -> list[Step]:
    """A Scale behind a BatchNorm is what that layer's own parameters are."""
    before = steps[-1] if steps else None
    if before is None or not isinstance(before.layer, BatchNorm) or not isinstance(found[0].layer, Scale):
        return [*steps, *found]
    scale, bias = found[0].params.get("scale"), found[0].params.get("bias")
    fits = [one is None or one.shape == before.params["scale"].shape for one in (scale, bias)] if before.params else []
    if not fits or not all(fits) or scale is None or not np.array_equal(before.params["scale"], np.ones_like(scale)):
        return [*steps, *found]
    notes.append(f"{found[0].layer.name} (Scale) was folded into {before.layer.name} (BatchNorm)")
    params = {"scale": scale, "bias": np.zeros_like(scale) if bias is None else bias}
    return [*steps[:-1], Step(before.layer, params, before.stats)]


def _transform(layers: Sequence[Any]) -> tuple[float, list[float], str, int] | None:
    """Scale, means, mean file and crop of the first data layer that says any; that of the trained net before others."""
    for layer in sorted(layers, key=lambda layer: not _is_used(layer)):
        if _kind(layer) not in DATA:
            continue
        param = layer.transform_param
        if layer.HasField("transform_param"):
            return param.scale, list(param.mean_value), param.mean_file, param.crop_size
        for old in ("data_param", "image_data_param"):
            param = getattr(layer, old)
            if layer.HasField(old) and (param.HasField("scale") or param.mean_file or param.crop_size):
                return param.scale, [], param.mean_file, param.crop_size
    return None


def _mean_of(path: str) -> tuple[list[float], str]:
    """The mean of each channel of a mean image."""
    _expect(path, "caffe mean")
    blob = _parse(path, "BlobProto")
    if not blob.data and not blob.double_data:
        blob = _parse(path, "BlobProto", unpacked=True)
    try:
        image = blob_array(blob)
    except ValueError as error:
        raise ExchangeError(f"{path}: the mean image {error}") from None
    image = image.reshape(image.shape[-3:]) if image.ndim == 4 and image.shape[0] == 1 else image
    if image.ndim != 3 or not image.size or not np.isfinite(image).all():
        raise ExchangeError(f"{path}: a mean image is [channels, height, width] of finite numbers, not {image.shape}")
    means = image.mean(axis=(1, 2), dtype=np.float64)
    largest = np.abs(image - means[:, None, None]).max()
    note = (
        f"of the mean image {path} the mean of each channel is subtracted, which is the same at every place; pixels of "
        f"the image differ from it by up to {largest:.1f} of 255"
    )
    return means.tolist(), note
