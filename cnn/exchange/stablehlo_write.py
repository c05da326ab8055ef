"""A classifier as a StableHLO program of `jax.export`, for CPU, CUDA, ROCm and TPU in one file.

The file is a serialised `jax.export.Exported` with the weights inside, and behind it a ZIP archive with the metadata.
Each reader finds its own part: `jax.export.deserialize` reads from the beginning, a reader of ZIP from the end. So the
program runs where only JAX is installed, without this library.
"""

import functools
import io
import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from cnn.exchange import dense_form, written
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.dense_form import Form
from cnn.exchange.written import TOLERANCE, Trained, Written

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
METADATA = "metadata.json"  # name of the archive's only entry


class Program(NamedTuple):
    """A program that was read from a file.

    Attributes:
      exported: the program (`jax.export.Exported`).
      metadata: what the file says of the classifier, by key.
    """

    exported: export.Exported
    metadata: dict[str, Any]

    def __call__(self, images: Any) -> jax.Array:
        """The scores of images.

        Args:
          images: float32 [N, H, W, C], normalised as in training.

        Returns:
          Scores [N, K], or [N, h, w, K] for a net without fully connected layers.

        Raises:
          ExchangeError: if the program does not take images of that shape or dtype; says which it takes.
        """
        images = jnp.asarray(images)
        try:
            return self.exported.call(images)
        except ValueError as error:
            takes = f"{self.exported.in_avals[0].str_short()}, images of {self.metadata['cnn.sizes']}"
            given = images.aval.str_short()
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ExchangeError(f"the program takes {takes}, not {given}: {reason}") from error


def write(
    path: str | os.PathLike[str],
    run: Trained,
    *,
    dense: bool = False,
    stride: int | tuple[int, int] | None = None,
    platforms: Sequence[str] = PLATFORMS,
    tolerance: float = TOLERANCE,
) -> Written:
    """Writes a classifier as a StableHLO program, and checks it on the devices of this process.

    Args:
      path: the file, such as "net.stablehlo"; one that is there is replaced.
      run: the classifier: `cnn.exchange.classifier.Classifier`, or what `cnn.checkpoint.load_run` returns.
      dense: whether the program takes images of any size, and gives a map of scores: fully connected layers become
        convolutions. Sizes that leave pixels over in a layer whose rounding is "exact" are refused by the program.
      stride: distance between the windows of neighbouring scores, one number or (vertical, horizontal), pixels: the
        program gives the map of `cnn.dense.score_map` at that stride, by dilated layers. None: the native stride.
      platforms: what the program is for, of "cpu", "cuda", "rocm" and "tpu".
      tolerance: largest difference from this library's scores, as a fraction of the largest score.

    Returns:
      `Written`, with the difference that was found.

    Raises:
      ExchangeError: if an option or a layer cannot be written, or the file gives other scores; there is no file then.
      GeometryError: if the variables are not those of the net, or a layer cannot be slid over a larger image.
      ModuleNotFoundError: if flatbuffers is not installed.
    """
    what = os.fspath(path)
    tolerance = written.check_tolerance(tolerance, what)
    platforms = tuple(platforms) if not isinstance(platforms, str) else (platforms,)
    if not platforms or set(platforms) - set(PLATFORMS) or len(set(platforms)) != len(platforms):
        raise ExchangeError(f"{what}: platforms (={platforms}) must be some of {', '.join(PLATFORMS)}")
    written.check_run(run, what)
    form = dense_form.of(run, dense, stride, what)
    metadata = written.metadata(run, form)
    content = _serialised(form, platforms, what) + _archive(metadata)
    with written.whole_file(path) as part:
        with open(part, "wb") as file:
            file.write(content)
        here = jax.default_backend()
        if here not in ("gpu", *platforms) or (here == "gpu" and not {"cuda", "rocm"} & set(platforms)):
            return Written(what, metadata, "", (), None)
        sizes, difference = written.check(what, run, form, lambda images: np.asarray(read(part)(images)), tolerance)
    return Written(what, metadata, f"jax {jax.__version__}", sizes, difference)


def read(path: str | os.PathLike[str]) -> Program:
    """Reads a program that `write` has written.

    Args:
      path: the file.

    Returns:
      The `Program`; call it with images.

    Raises:
      ExchangeError: if the file is no such program.
      FileNotFoundError: if there is no such file.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            metadata = json.loads(archive.read(METADATA))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise ExchangeError(f"{os.fspath(path)}: holds no metadata of a program that cnn.exchange wrote") from error
    try:
        return Program(export.deserialize(bytearray(content)), metadata)
    except Exception as error:  # whatever a damaged flatbuffer leads to
        raise ExchangeError(f"{os.fspath(path)}: no program of jax.export: {type(error).__name__}: {error}") from error


def _serialised(form: Form, platforms: tuple[str, ...], what: str) -> bytes:
    """The program, serialised; its weights are constants of it."""
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(form.variables))
    run = jax.jit(functools.partial(form.apply, variables))
    exported = export.export(run, platforms=platforms)(jax.ShapeDtypeStruct(_sizes(form), jnp.float32))
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{what}: writing StableHLO needs flatbuffers: python -m pip install -r requirements-exchange.txt"
        ) from error


def _sizes(form: Form) -> tuple[Any, ...]:
    """The images' shape, with names for what may be of any size.

    Where only sizes fit that are a multiple of something above those of a window, the shape says so, and JAX refuses
    all others by itself. Otherwise each layer's own check is part of the program.
    """
    height, width, channels = form.image_shape
    if form.stride is None:
        return (*export.symbolic_shape("n"), height, width, channels)
    names, least = [], []
    for name, size, step in zip("hw", (height, width), form.steps if form.regular else (1, 1), strict=True):
        most = max(size // step, 1)  # of the name, for an image as large as a window: no name may be below 1
        rest = size - most * step
        names.append((f"{step}*{name}" if step > 1 else name) + (f" {rest:+d}" if rest else ""))
        least += [f"{name} >= {most}"] if most > 1 else []
    return (*export.symbolic_shape(f"n, {names[0]}, {names[1]}", constraints=least), channels)


def _archive(metadata: dict[str, Any]) -> bytes:
    """A ZIP archive with the metadata, the same bytes for the same metadata."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo(METADATA), json.dumps(metadata, indent=1, ensure_ascii=False))
    return archive.getvalue()
