"""Reads a classifier from whatever file holds it, and proves it where something else can run the file."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn.exchange import assembly, files, preprocessing
from cnn.exchange.assembly import Step
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.preprocessing import Preprocessing
from cnn.layers import BatchNorm, Branches, Layer
from cnn.nets import Net

Path = str | os.PathLike[str]
# What each kind of file takes beside what is known of its images.
TAKES = {
    "onnx": ("output",),
    "safetensors": ("net",),
    "keras": (),
    "hdf5": ("structure",),
    "caffemodel": ("structure", "mean_file"),
}
# Kinds that hold no weights, with the file to name instead.
COMPANIONS = {
    "prototxt": "the structure of a net of Caffe; name the .caffemodel, and this file as its structure",
    "json": "a description without weights; name the file of the weights, and this one as structure or preprocess",
    "caffe mean": "a mean image of Caffe; name the .caffemodel, and this file as its mean_file",
}


class Found(NamedTuple):
    """A classifier that was read.

    Attributes:
      classifier: the classifier.
      origin: what is known of the file: "file", "kind", "bytes", "sha256", and "check": what it was compared with.
    """

    classifier: Classifier
    origin: dict[str, Any]


def read(
    path: Path,
    *,
    net: Net | str | None = None,
    structure: Path | None = None,
    output: str | None = None,
    preprocess: Path | Sequence[Path] = (),
    mean_file: Path | None = None,
    given: Preprocessing | None = None,
    check: bool = True,
) -> Found:
    """Reads a classifier; nothing in the file is executed.

    Args:
      path: the file: .onnx, .safetensors, .keras, .h5 or .caffemodel. What it is, its first bytes say.
      net: safetensors: the net whose weights these are, by name or as a `Net`; not needed for files written here.
      structure: Keras and Caffe: the file that describes the layers, where the weights' own does not.
      output: ONNX: the output that holds the scores, where there are several.
      preprocess: config.json, preprocessor_config.json or another such file, or several.
      mean_file: Caffe: the file of the mean image.
      given: what the caller knows of the images; it counts before what any file says.
      check: whether the net is compared with another program that runs the file, where there is one: onnxruntime, or
        the inputs and outputs that lie beside an ONNX file.

    Returns:
      What was `Found`.

    Raises:
      ExchangeError: if the file cannot be read wholly, or is read to other numbers than the other program's.
    """
    path = os.path.expanduser(os.fspath(path))
    kind = files.kind_of(path)
    if kind in COMPANIONS:
        raise ExchangeError(f"{path}: is {COMPANIONS[kind]}")
    asked = {"net": net, "structure": structure, "output": output, "mean_file": mean_file}
    unused = [name for name, value in asked.items() if value is not None and name not in TAKES[kind]]
    if unused:
        raise ExchangeError(
            f"{path}: {', '.join(unused)} is for other files than one of the kind {kind!r}; leave it out"
        )
    configs = [preprocess] if isinstance(preprocess, str | os.PathLike) else list(preprocess)
    _check_units(given or Preprocessing())
    known = (given or Preprocessing()).over(preprocessing.read(*configs))
    checks: dict[str, Any] = {"by": None}
    if kind == "onnx":
        found, checks = _onnx(path, output, known, check)
    elif kind == "safetensors":
        from cnn.exchange.torch_weights import state_dict

        found = state_dict.read(path, net, given=known)
    elif kind == "caffemodel":
        from cnn.exchange.caffe import model as caffe_model

        found = caffe_model.read(path, structure, mean_file=mean_file, given=known)
    else:
        from cnn.exchange.keras import model as keras_model

        found = keras_model.read(path, structure, given=known)
    _check_finite(found)
    size, digest = _identity(path)
    origin = {"file": os.path.basename(path), "kind": kind, "bytes": size, "sha256": digest, "check": checks}
    return Found(found, origin)


def _check_units(given: Preprocessing) -> None:
    """Refuses means and deviations that count pixels from 0 to 255."""
    for name in ("mean", "std"):
        values = getattr(given, name) or ()
        if any(not 0 <= value <= 1 for value in values):
            listed = ", ".join(f"{value:g}" for value in values)
            raise ExchangeError(
                f"{name} (={listed}) must be between 0 and 1, in units of the full range; divide pixel values by 255"
            )


def _check_finite(found: Classifier) -> None:
    """Refuses weights that are infinite or none: all scores would be NaN, and equal to those of another program."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(found.variables):
        if not np.isfinite(leaf).all():
            name = ".".join(str(getattr(key, "key", key)) for key in path[1:])
            raise ExchangeError(
                f"{found.source}: {name} holds values that are infinite or no numbers; the file is damaged, or the "
                "net's training diverged"
            )


def _identity(path: str) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    with open(path, "rb") as file:
        return os.path.getsize(path), hashlib.file_digest(file, "sha256").hexdigest()


def _onnx(path: str, output: str | None, known: Preprocessing, check: bool) -> tuple[Classifier, dict[str, Any]]:
    """A classifier from ONNX, compared with onnxruntime and with the file's own vectors, where they are there."""
    from cnn.exchange import prove
    from cnn.exchange.onnx_in import read as onnx_read

    found = onnx_read.read(path, output=output, image_size=known.image_size, mean=known.mean, std=known.std)
    checks: dict[str, Any] = {"by": None}
    if check:
        size = found.image_shape[:2]
        foreign = prove.onnx_session(path, output, size)
        vectors = prove.own_vectors(found, path, output, size)
        if foreign:
            checks = {"by": "onnxruntime", **prove.prove(found, foreign)}
        elif vectors:
            checks = {"by": "the file's own inputs and outputs", **vectors}
        if foreign and vectors:
            checks["own_vectors"] = vectors["difference"]
    return _with_known(found, known), checks


def _with_known(found: Classifier, known: Preprocessing) -> Classifier:
    """A classifier with what its file could not say of channels, classes and scores."""
    if known.channels is None and known.class_names is None and known.output_activation is None and not known.notes:
        return found
    own = preprocessing.of(
        found.source,
        image_size=found.image_shape[:2],
        mean=found.mean,
        std=found.std,
        class_names=found.class_names,
    )
    over = Preprocessing(None, None, None, known.channels, known.class_names, known.output_activation, known.notes)
    steps = [_step(layer, found.variables) for layer in found.net.layers]
    return assembly.classifier(
        steps,
        found.image_shape[2],
        over.over(own),
        found.source,
        output_activation=found.net.output_activation,
        notes=found.notes,
    )


def _step(layer: Layer, variables: Mapping[str, Any]) -> Step:
    """A layer of a net with its arrays."""
    own = {part: tree[layer.name] for part, tree in variables.items() if layer.name in tree}
    if isinstance(layer, Branches):
        return Step(layer, paths=tuple(tuple(_step(one, own) for one in path) for path in layer.checked()))
    params, stats = (own.get(part, {}) for part in ("params", "batch_stats"))
    if isinstance(layer, BatchNorm):
        params, stats = params["norm"], stats["norm"]
    params, stats = ({name: np.asarray(value) for name, value in part.items()} for part in (params, stats))
    return Step(layer, params, stats)
