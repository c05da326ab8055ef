"""What all writers share: which run they take, metadata, files that appear whole, and the check of what was written."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from cnn import geometry
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.dense_form import Form
from cnn.nets import Net, outputs
from cnn.runtime import locks, whole
from cnn.windows import shape_text

TOLERANCE = 1e-5  # largest difference from this library's own scores, as a fraction of the largest score
SEED = 20  # of the images that an artefact is checked with


class Trained(Protocol):
    """A `cnn.exchange.classifier.Classifier`, a `cnn.runs.checkpoint.Run`, or anything else with these attributes."""

    @property
    def net(self) -> Net: ...
    @property
    def variables(self) -> Mapping[str, Any]: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    @property
    def mean(self) -> Sequence[float]: ...
    @property
    def std(self) -> Sequence[float]: ...
    @property
    def class_names(self) -> Sequence[str]: ...


class Written(NamedTuple):
    """An artefact that was written, and how far its scores are from those of this library.

    Attributes:
      path: the file.
      metadata: what the file says of itself, by key.
      runtime: name and version of the runtime that it was checked with; "" where there is none.
      sizes: (N, H, W, C) of the images that it was checked with; none where there is no runtime.
      difference: the largest difference of a score, as a fraction of the largest score; None where there is no runtime.
    """

    path: str
    metadata: dict[str, Any]
    runtime: str
    sizes: tuple[tuple[int, ...], ...]
    difference: float | None


def check_run(run: Trained, what: str) -> None:
    """Refuses a run that would make a file that lies.

    Args:
      run: the classifier.
      what: the file, for errors.

    Raises:
      ExchangeError: if a weight is no finite number, or mean, standard deviation or class names do not fit the net.
      GeometryError: if the variables are not those of the net at its image size.
    """
    table = geometry.table(run.net, run.image_shape, run.variables)
    if not table:
        raise ExchangeError(f"{what}: the net has no layers; give one with at least one")
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.variables):
        array = np.asarray(leaf)
        bad = array.size - int(np.isfinite(array.astype(np.float32)).sum())
        if bad:
            name = ".".join(str(getattr(key, "key", key)) for key in path)
            raise ExchangeError(f"{what}: {name} holds {bad} values of {array.size} that are no finite float32 numbers")
    channels = run.image_shape[2]
    for field in ("mean", "std"):
        values = [float(value) for value in np.ravel(np.asarray(getattr(run, field), np.float64))]
        if len(values) != channels or not all(math.isfinite(value) for value in values):
            raise ExchangeError(f"{what}: {field} (={values}) must be {channels} finite numbers, one for each channel")
        if field == "std" and min(values) <= 0:
            raise ExchangeError(f"{what}: std (={values}) must be above 0")
    classes = outputs.class_count(table[-1].output_shape[-1])
    names = list(run.class_names)
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        raise ExchangeError(f"{what}: class_names are {len(names)}, the net has {classes} classes; name each")


def metadata(run: Trained, form: Form) -> dict[str, Any]:
    """What a file says of itself.

    Args:
      run: the classifier.
      form: the form that is written.

    Returns:
      Values as JSON has them, by key.
    """
    return {
        "cnn.class_names": list(run.class_names),
        "cnn.mean": [float(value) for value in np.ravel(np.asarray(run.mean, np.float64))],
        "cnn.std": [float(value) for value in np.ravel(np.asarray(run.std, np.float64))],
        "cnn.image_shape": list(map(int, run.image_shape)),
        "cnn.window": list(map(int, run.image_shape[:2])),
        "cnn.stride": None if form.stride is None else list(form.stride),
        "cnn.offset": [0, 0],
        "cnn.output_activation": run.net.output_activation,
        "cnn.context": form.context,
        "cnn.sizes": form.sizes_text(),
    }


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """A file that appears under its name only when the block is done without an error.

    Args:
      path: where the file shall lie.

    Yields:
      The name of the unfinished file, in the same folder.

    Raises:
      ExchangeError: if the path is a folder, or its folder does not exist.
      OSError: if it cannot be written, or another process is writing it; what was there stays.
    """
    path = os.fspath(path)
    if os.path.isdir(path) or not os.path.basename(path):
        raise ExchangeError(f"{path!r} is a folder; name the file to write")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ExchangeError(f"{path}: there is no folder {folder}; make it, or name another")
    with locks.alone(f"{path}.lock", path), whole.written(path) as part:
        yield part


def check(
    what: str,
    run: Trained,
    form: Form,
    call: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
) -> tuple[tuple[tuple[int, ...], ...], float]:
    """Compares an artefact with this library, on images of sizes that nothing was compiled for.

    Args:
      what: the file, for errors.
      run: the classifier.
      form: the form that was written.
      call: runs the artefact, images [N, H, W, C] -> scores [N, K] or [N, h, w, K].
      tolerance: largest difference, as a fraction of the largest score.

    Returns:
      The shapes of the images, and the largest difference as a fraction of the largest score.

    Raises:
      ExchangeError: if the artefact gives scores of another shape, or others.
    """
    shapes, worst = form.check_shapes(), 0.0
    for seed, shape in enumerate(shapes):
        images = np.random.default_rng(SEED + seed).normal(size=shape).astype(np.float32)
        try:
            found = np.asarray(call(images))
        except Exception as error:  # each runtime has its own
            reason = " ".join(str(error).split())
            raise ExchangeError(
                f"{what}: its runtime does not run it for images {shape_text(shape)}: {type(error).__name__}: "
                f"{reason}; the file is not kept"
            ) from error
        expected = np.asarray(form.expected(run.net, run.variables, images))
        if found.shape != expected.shape:
            raise ExchangeError(
                f"{what}: gives scores {list(found.shape)} for images {shape_text(shape)}, where the net gives "
                f"{list(expected.shape)}; the file is not kept"
            )
        largest = float(np.abs(expected).max(initial=0.0))
        difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0)) / max(largest, 1e-30)
        if not difference <= tolerance:
            raise ExchangeError(
                f"{what}: its scores differ from the net's by {difference:.1e} of the largest for images "
                f"{shape_text(shape)}, more than {tolerance:g}; the file is not kept"
            )
        worst = max(worst, difference)
    return shapes, worst


def check_tolerance(tolerance: Any, what: str) -> float:
    """Returns the tolerance; raises `ExchangeError` unless it is a number above 0."""
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 < tolerance < 1:
        raise ExchangeError(f"{what}: tolerance (={tolerance!r}) must be a number above 0 and below 1")
    return float(tolerance)


def as_json(values: Mapping[str, Any]) -> dict[str, str]:
    """Each value of metadata as JSON."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
