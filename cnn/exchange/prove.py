"""Proves that a net that was read computes what its file does: both run on the same random images."""

import importlib.util
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.onnx_in.file import OnnxFile
from cnn.exchange.onnx_in.read import Reading, decode
from cnn.nets.outputs import log_probabilities
from cnn.windows import GeometryError, as_pair, shape_text

LARGEST_INPUT = 2**27  # values that a file of a fixed number of images is fed at once
TOLERANCE = 1e-4  # of the largest score
_HEADS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda scores: scores,
    "Softmax": lambda scores: np.exp(log_probabilities(scores)),
    "LogSoftmax": log_probabilities,
    "Sigmoid": lambda scores: np.exp(-np.logaddexp(0, -scores)),
}
Foreign = Callable[[np.ndarray], np.ndarray]


def prove(
    classifier: Classifier, foreign: Foreign, sizes: Sequence[Sequence[int]] = (), count: int = 8, seed: int = 0
) -> dict[str, Any]:
    """Compares a net with another program on random images.

    Args:
      classifier: the net.
      foreign: the other program: a function of float32 [N, H, W, C], images after `cnn.data.normalise`, that gives
        scores [N, K] or [N, h, w, K].
      sizes: (height, width) of the images, pixels; none: the size that the net was trained on.
      count: number of images of each size.
      seed: of the random images, which are drawn from a normal distribution of mean 0 and variance 1.

    Returns:
      "difference": the largest difference of two scores, as a part of the largest score; "sizes", "images": what was
      compared, "seed": of which numbers.

    Raises:
      ExchangeError: if a difference is above 1e-4 of the largest score, or the scores are of another number.
    """
    sizes = [as_pair(size, "prove: sizes", classifier.source) for size in sizes] or [classifier.image_shape[:2]]
    generator = np.random.default_rng(seed)
    worst = 0.0
    for size in sizes:
        images = generator.standard_normal((count, *size, classifier.image_shape[2]), np.float32)
        worst = max(worst, compare(classifier, images, foreign(images), f"{shape_text(size)} pixels"))
    return {"difference": worst, "sizes": [list(size) for size in sizes], "images": count * len(sizes), "seed": seed}


def compare(classifier: Classifier, images: np.ndarray, wanted: np.ndarray, what: str, head: str = "") -> float:
    """The largest difference between the net's scores and those of another program.

    Args:
      classifier: the net.
      images: float32 [N, H, W, C], after `cnn.data.normalise`.
      wanted: the other scores, [N, K] or [N, h, w, K].
      what: what is compared, for the error.
      head: what the other program does to scores at its end: "Softmax", "LogSoftmax", "Sigmoid" or "" (nothing).

    Returns:
      The difference, as a part of the largest score.

    Raises:
      ExchangeError: if it is above 1e-4, or the scores are of another number.
    """
    try:
        scores = np.asarray(_scores(classifier.net, classifier.variables, images), np.float64)
    except GeometryError as error:
        raise ExchangeError(f"{classifier.source}: the net does not take images of {what}: {error}") from None
    scores, wanted = _HEADS[head](scores), np.asarray(wanted, np.float64)
    if scores.size != wanted.size or scores.shape[-1] != wanted.shape[-1]:
        raise ExchangeError(
            f"{classifier.source}: for images of {what} the net gives {shape_text(scores.shape)} scores, the file "
            f"{shape_text(wanted.shape)}; it was read wrongly: please report the file"
        )
    wanted = wanted.reshape(scores.shape)
    same = (scores == wanted) | (np.isnan(scores) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0, np.abs(scores - wanted)).max(initial=0)
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    difference = float(gap / largest) if largest else float(gap)
    if not difference <= TOLERANCE:
        raise ExchangeError(
            f"{classifier.source}: for images of {what} the net's scores differ from the file's by {difference:.1e} "
            f"of the largest, {largest:.3g}; {TOLERANCE:g} is allowed: it was read wrongly: please report the file"
        )
    return difference


def _scores(net: Any, variables: Any, images: np.ndarray) -> jax.Array:
    return jax.jit(lambda variables, images: net.apply(variables, images, train=False))(variables, images)


def has_onnxruntime() -> bool:
    """Whether onnxruntime is installed, without which nothing but a file's own vectors proves a net."""
    return importlib.util.find_spec("onnxruntime") is not None


def onnx_session(
    path: str | pathlib.Path, output: str | None = None, image_size: Sequence[int] | None = None
) -> Foreign | None:
    """A file as onnxruntime runs it, up to the scores: a softmax or sigmoid at its end is left out.

    Args:
      path: the ONNX file.
      output: as for `onnx_read.read`.
      image_size: likewise.

    Returns:
      A function for `prove`; None where onnxruntime is not installed.

    Raises:
      ExchangeError: if the file is one that `onnx_read.read` refuses, or onnxruntime refuses it.
    """
    if not has_onnxruntime():
        return None
    import onnxruntime

    reading = decode(path, output, image_size)
    file = reading.file
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its warnings are of no use here, and refusals are raised
    try:
        session = onnxruntime.InferenceSession(_ending_at(file, reading.scores), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each status, below Exception alone
        raise file.error(f"onnxruntime refuses the file: {_first_line(error)}") from None

    def run(images: np.ndarray) -> np.ndarray:
        fed = as_input(reading, images)
        batch = len(fed) if reading.images.open_batch else reading.images.value.shape[0]
        if batch * fed[0].size > LARGEST_INPUT:
            raise file.error(f"is made for {batch:,} images at once, too many to run it; export it for any number")
        made = []
        for start in range(0, len(fed), batch):
            part = fed[start : start + batch]
            full = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            try:
                found = session.run(None, {reading.images.value.name: full})[0]
            except Exception as error:
                raise file.error(f"onnxruntime stops: {_first_line(error)}") from None
            made.append(as_scores(reading, np.asarray(found))[: len(part)])
        return np.concatenate(made)

    return run


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _ending_at(file: OnnxFile, name: str) -> bytes:
    """The file's model, self-contained, with one value as its only output."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    for tensor, original in zip(model.graph.initializer, file.graph.initializer, strict=True):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = file.array(original).tobytes()
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    del model.graph.output[:]
    own = f"{name} read by cnn"  # the images themselves cannot be an output
    model.graph.node.append(onnx.helper.make_node("Identity", [name], [own]))
    model.graph.output.append(onnx.helper.make_tensor_value_info(own, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString()


def as_input(reading: Reading, images: np.ndarray) -> np.ndarray:
    """Images of the net as the file takes them.

    Args:
      reading: the file.
      images: float32 [N, H, W, C], after `cnn.data.normalise`.

    Returns:
      float32, in the file's layout, before what it does to images first.
    """
    made, axes = reading.chain, reading.images.axes
    raw = ((images - made.offset) / made.scale).astype(np.float32)
    kept = list(axes)
    order = [*("nhwc".index(name) for name in kept), *(i for i, name in enumerate("nhwc") if name not in kept)]
    return np.ascontiguousarray(raw.transpose(order).reshape([raw.shape["nhwc".index(name)] for name in kept]))


def as_images(reading: Reading, array: np.ndarray) -> np.ndarray:
    """The inverse of `as_input`.

    Args:
      reading: the file.
      array: an input of the file, in its layout.

    Returns:
      float32 [N, H, W, C], as the net takes them.
    """
    axes = reading.images.axes
    places = [axes.index(name) for name in "nhwc" if name in axes]
    shape = [array.shape[axes.index(name)] if name in axes else 1 for name in "nhwc"]
    images = array.transpose(places).reshape(shape)
    return (images * reading.chain.scale + reading.chain.offset).astype(np.float32)


def as_scores(reading: Reading, output: np.ndarray) -> np.ndarray:
    """An output of the file as the net gives it: [N, K] or [N, h, w, K]."""
    made = reading.chain
    if len(made.shape) == 1:
        return output.reshape(-1, *made.shape)
    return made.axes.scores(output)


def own_vectors(
    classifier: Classifier,
    path: str | pathlib.Path,
    output: str | None = None,
    image_size: Sequence[int] | None = None,
) -> dict[str, Any] | None:
    """Compares a net with the inputs and outputs that lie beside its file (test_data_set_0/input_0.pb, output_0.pb).

    Args:
      classifier: the net.
      path: the ONNX file that it was read from.
      output: as for `onnx_read.read`.
      image_size: likewise.

    Returns:
      As `prove`; None where there are no such files.

    Raises:
      ExchangeError: if a difference is above 1e-4 of the largest output, or a file is damaged.
    """
    folders = sorted(pathlib.Path(path).parent.glob("test_data_set_*"))
    reading = decode(path, output, image_size)
    names = [one.name for one in reading.file.graph.output]
    place = names.index(output) if output in names else 0 if output is None else -1
    worst, count, sizes = 0.0, 0, set()
    for folder in folders:
        given, wanted = folder / "input_0.pb", folder / f"output_{place}.pb"
        if place < 0 or not (given.is_file() and wanted.is_file()):
            continue
        images, outputs = (_tensor(reading.file, one) for one in (given, wanted))
        if images.ndim != len(reading.images.axes):
            raise reading.file.error(f"its test vector {given.name} has the shape {images.shape}, unlike its input")
        images = as_images(reading, images)
        wanted_scores, head = as_scores(reading, outputs), reading.chain.head
        worst = max(worst, compare(classifier, images, wanted_scores, f"its own vectors in {folder.name}", head))
        count, sizes = count + len(images), sizes | {images.shape[1:3]}
    if not count:
        return None
    return {"difference": worst, "sizes": [list(size) for size in sorted(sizes)], "images": count, "seed": None}


def _tensor(file: OnnxFile, path: pathlib.Path) -> np.ndarray:
    """The array of a file that holds one tensor."""
    import onnx
    from google.protobuf.message import DecodeError

    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
    except DecodeError:
        raise ExchangeError(f"{path}: is damaged, or holds no tensor") from None
    tensor.data_location = onnx.TensorProto.DEFAULT  # no other file is read
    return file.array(tensor)
