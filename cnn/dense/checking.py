"""Whether dense evaluation of a net is right: every backend against crops, on random images, in one call.

Dense evaluation relies on what the layers of a net declare: the window that they slide, or that they do not mix pixels.
A user-defined layer with a wrong declaration gives wrong maps without an error. `check` detects this by comparing
values.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry
from cnn.dense.arguments import COUNT_OR_NONE, named
from cnn.dense.backends import BACKENDS
from cnn.dense.cost import layer_costs
from cnn.dense.grid import Grid, lay_grid
from cnn.dense.maps import score_map
from cnn.dense.prepared import PreparedNet, input_channels, prepare_trained
from cnn.layers import Layer, changed
from cnn.nets import Net
from cnn.windows import GeometryError, Pair, shape_text

# As a fraction of the largest logit: ten times what `score_map` promises, which very deep nets may exceed by rounding.
TOLERANCE = 1e-4
MOST_MACS = 2 * 10**11  # most multiply-adds of one backend's map; strides that need more are left out
FINEST = 8  # pixels; nets with a native stride up to this are tried at stride 1, others at half their native stride
CHANGE = 3.0  # standard deviations of a layer's input; added to a pixel to see which outputs change


class Agreement(NamedTuple):
    """How well one backend agrees with its reference on one image.

    Attributes:
      backend: name of the backend, one of `cnn.dense.backends.BACKENDS`.
      context: what windows see beyond their border, "crop", "image" or "both" (`cnn.dense.ScoreMap`).
      image_size: (height, width) of the image, pixels.
      stride: distance between windows, (vertical, horizontal), pixels.
      scores: number of scores that were compared.
      difference: largest difference, as a fraction of the largest logit.
    """

    backend: str
    context: str
    image_size: Pair
    stride: Pair
    scores: int
    difference: float


class CheckReport(tuple[Agreement, ...]):
    """One `Agreement` for each comparison; prints as a table.

    Attributes:
      left_out: comparisons that were not made, each with its reason.
    """

    left_out: tuple[str, ...]

    def __new__(cls, agreements: Sequence[Agreement], left_out: Sequence[str]) -> "CheckReport":
        report = super().__new__(cls, agreements)
        report.left_out = tuple(left_out)
        return report

    @property
    def difference(self) -> float:
        """The largest difference of all, as a fraction of the largest logit."""
        return max(one.difference for one in self)

    def __str__(self) -> str:
        lines = [("backend", "context", "image", "stride", "scores", "difference")]
        for one in self:
            sizes = (shape_text(one.image_size), shape_text(one.stride), str(one.scores))
            lines.append((one.backend, one.context, *sizes, f"{one.difference:.0e}"))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*(text.rstrip() for text in texts), *(f"left out: {text}" for text in self.left_out)])


class _Case(NamedTuple):
    """One image and stride, and the scores that a map of it must have.

    Attributes:
      context: context of the map, "crop", "image" or "both".
      backends: the backends that compute this context.
      images: random values, float32 [1, H, W, C].
      grid: where the windows of the map lie.
      truth: reference scores, float32 [h, w, K].
      known: which of the reference scores are known, bool [h, w]; the others are compared among the backends.
    """

    context: str
    backends: Sequence[str]
    images: jax.Array
    grid: Grid
    truth: np.ndarray
    known: np.ndarray


@named(channels=COUNT_OR_NONE)
def check(
    net: Net,
    variables: Mapping[str, Any],
    window: Sequence[int],
    *,
    channels: int | None = None,
    strides: Sequence[int | Sequence[int]] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> CheckReport:
    """Compares every backend of `score_map` with crops, on random images of several sizes, at several strides.

    Context "crop" (and "both") is compared with windows that are cut out and classified one by one. Context "image" is
    compared with passes of the converted net over the whole image, and over parts of it that hold everything that one
    window sees. User-defined layers (from outside `cnn.layers`) are tested first: one pixel is changed, and only
    outputs whose declared window covers it may change.

    Args:
      net: a classifier.
      variables: its variables.
      window: (height, width) that it was trained on, pixels.
      channels: number of channels of its images; None: as many as the kernel of its first layer takes.
      strides: distances between windows to try, pixels; None: the native stride, a finer one, and one that neither
        divides nor is divided by it.
      seed: seed of the random images.
      tolerance: the largest difference allowed, as a fraction of the largest logit.

    Returns:
      A `CheckReport`.

    Raises:
      GeometryError: if the window does not fit, a layer cannot slide, or an output changes with a pixel that the
        layer's declared window does not cover; names the layer.
      ValueError: if a backend differs by more than the tolerance; names it, the stride, the position, the difference.
    """
    if strides is not None and len(strides) == 0:
        raise ValueError("dense.check: strides (=()) names none; give some, or None for three of its own choice")
    channels = input_channels(net, variables) if channels is None else channels
    if channels is None:
        raise ValueError("dense.check: the net's first layer does not tell how many channels it takes; give channels=")
    prepared = prepare_trained(net, variables, window, channels)
    _ = prepared.converted.net  # raises if a layer cannot slide
    rng = np.random.default_rng(seed)
    _check_layers(prepared, variables, rng)
    agreements: list[Agreement] = []
    left_out: list[str] = []
    for stride in _strides(prepared.native_stride) if strides is None else strides:
        for case in _cases(prepared, variables, stride, rng, left_out):
            agreements += _compare(prepared, variables, case, tolerance, left_out)
    if not agreements:
        raise ValueError("dense.check: nothing could be compared: " + "; ".join(left_out))
    return CheckReport(agreements, left_out)


def _strides(native: Pair) -> list[Pair]:
    """The native stride, a finer one, and a slightly larger one that usually does not divide; without repeats."""
    finer = (1, 1) if max(native) <= FINEST else (max(1, native[0] // 2), max(1, native[1] // 2))
    return list(dict.fromkeys([native, finer, (native[0] + 1, native[1] + 2)]))


def _cases(
    prepared: PreparedNet, variables: Mapping[str, Any], stride: Any, rng: np.random.Generator, left_out: list[str]
) -> Iterator[_Case]:
    """The cases at one stride: windows cut out of the image and, for a padded net, windows within the image."""
    window, channels = prepared.window, prepared.channels
    pair = lay_grid(prepared, window, stride).stride
    size = (window[0] + 2 * pair[0] + 1, window[1] + pair[1])  # 3 x 2 windows, and a row of pixels left over
    grid = lay_grid(prepared, size, pair)
    images = _random(rng, size, channels)
    everywhere = np.ones(grid.size, bool)
    alone = ("crop", ("crops",)) if prepared.padded else ("both", BACKENDS)
    yield _Case(*alone, images, grid, _crops(prepared, variables, images, grid), everywhere)
    if not prepared.padded:
        return
    part, before = _surroundings(prepared)
    size = tuple(p + n * -(-s // n) for p, n, s in zip(part, grid.native, pair, strict=True))
    grid = lay_grid(prepared, size, pair)
    most = max(sum(x.macs for x in layer_costs(prepared, (*size, channels), grid, name)) for name in BACKENDS[1:])
    if most > MOST_MACS:
        left_out.append(f"context 'image', stride {shape_text(pair)}: {most / 1e9:,.0f} G multiply-adds")
        return
    images = _random(rng, size, channels)
    yield _Case("image", BACKENDS[1:], images, grid, *_in_image(prepared, variables, images, grid, part, before))


def _random(rng: np.random.Generator, size: Sequence[int], channels: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=(1, *size, channels)), jnp.float32)


def _crops(prepared: PreparedNet, variables: Mapping[str, Any], images: jax.Array, grid: Grid) -> np.ndarray:
    """The net on every window, cut by NumPy: [h, w, K]."""
    pixels, (height, width) = np.asarray(images)[0], grid.window
    corners = [(i * grid.stride[0], j * grid.stride[1]) for i in range(grid.size[0]) for j in range(grid.size[1])]
    cuts = np.stack([pixels[y : y + height, x : x + width] for y, x in corners])
    scores = jax.jit(lambda own, x: prepared.net.apply(own, x, train=False))(variables, cuts)
    return np.asarray(scores).reshape(*grid.size, -1)


def _surroundings(prepared: PreparedNet) -> tuple[Pair, Pair]:
    """Size of a part of an image that holds everything that one window sees, and the window's position in it, pixels.

    The position is a multiple of the native stride, so that one pass over the part has a score there.
    """
    last = prepared.converted_table[-1]  # where a gate's mean is that of the values around each place
    sizes, starts = [], []
    for axis in range(2):
        native, window = prepared.native_stride[axis], prepared.window[axis]
        start = -(-max(0, -last.offset[axis]) // native) * native
        after = max(0, last.offset[axis] + last.receptive_field[axis] - window)
        # One row of pixels more than the pass needs, if the stride allows it, to test sizes that do not divide.
        sizes.append(start + window + -(-after // native) * native + (axis == 0 and native > 1))
        starts.append(start)
    return (sizes[0], sizes[1]), (starts[0], starts[1])


def _in_image(
    prepared: PreparedNet, variables: Mapping[str, Any], images: jax.Array, grid: Grid, part: Pair, before: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """Reference scores [h, w, K] of windows within their image, and which of them are known, bool [h, w].

    One pass over the whole image gives the scores at multiples of the native stride. A pass over a part gives the score
    of a window of which everything that it sees lies within the image.
    """
    conv_net, conv_variables = prepared.converted.net, prepared.converted.variables(variables)
    floored = Net(
        changed(conv_net.layers, lambda x: x.clone(rounding="floor") if getattr(x, "rounding", "") == "exact" else x)
    )
    run = functools.partial(jax.jit(lambda own, x: floored.apply(own, x, train=False)), conv_variables)
    whole = np.asarray(run(images))[0]
    truth = np.zeros((*grid.size, whole.shape[-1]), whole.dtype)
    known = np.zeros(grid.size, bool)
    pixels, cuts, places = np.asarray(images)[0], [], []
    for i, j in np.ndindex(*grid.size):
        y, x = i * grid.stride[0], j * grid.stride[1]
        if y % grid.native[0] == 0 and x % grid.native[1] == 0:
            truth[i, j], known[i, j] = whole[y // grid.native[0], x // grid.native[1]], True
            continue
        top, left = y - before[0], x - before[1]
        if min(top, left) >= 0 and top + part[0] <= pixels.shape[0] and left + part[1] <= pixels.shape[1]:
            cuts.append(pixels[top : top + part[0], left : left + part[1]])
            places.append((i, j))
    # A few are enough: `_compare` compares the others among the backends.
    for place, cut in zip(places[:4], cuts[:4], strict=True):
        scores = np.asarray(run(cut[None]))[0]
        truth[place], known[place] = scores[before[0] // grid.native[0], before[1] // grid.native[1]], True
    return truth, known


def _compare(
    prepared: PreparedNet, variables: Mapping[str, Any], case: _Case, tolerance: float, left_out: list[str]
) -> Iterator[Agreement]:
    """Compares every backend with the known scores, and with the first backend where the score is not known."""
    truth, known, reference = (
        case.truth.copy(),
        case.known.copy(),
        "crops" if case.context != "image" else "plain passes",
    )
    size = (case.images.shape[1], case.images.shape[2])
    for backend in case.backends:
        about = f"backend {backend!r}, context {case.context!r}, stride {shape_text(case.grid.stride)}"
        try:
            found = score_map(
                prepared.net, variables, case.images, prepared.window, case.grid.stride, backend, context=_asked(case)
            )
        except GeometryError as error:
            left_out.append(f"{about}: {error}")
            continue
        scores = np.asarray(found.scores)[0]
        largest = np.abs(truth[known]).max()
        differences = np.where(known, np.abs(scores - truth).max(axis=-1), 0) / largest
        i, j = np.unravel_index(differences.argmax(), differences.shape)
        if not differences[i, j] <= tolerance:
            raise ValueError(
                f"dense.check: {about}, image {shape_text(size)}: score ({i}, {j}), of the window at pixel "
                f"({i * case.grid.stride[0]}, {j * case.grid.stride[1]}), differs from {reference} by "
                f"{differences[i, j]:.2g} of the largest logit (allowed: {tolerance:g}). A layer does something else "
                f"than it declares: look at window() and mixes_pixels of the layers that are not from cnn.layers"
            )
        yield Agreement(backend, found.context, size, case.grid.stride, int(known.sum()), float(differences[i, j]))
        truth, known = np.where(known[..., None], truth, scores), np.ones_like(known)


def _asked(case: _Case) -> str | None:
    return None if case.context == "both" else case.context


def _check_layers(prepared: PreparedNet, variables: Mapping[str, Any], rng: np.random.Generator) -> None:
    """Changes a pixel of each user-defined layer's input: outputs whose window does not cover it must not change.

    Raises:
      GeometryError: naming the layer, the pixel and the output.
    """
    for layer, shape in geometry.leaves(prepared.net.layers, prepared.image_shape):
        own = not type(layer).__module__.startswith("cnn.layers")
        if own and len(shape) == 3 and len(layer.output_shape(shape)) == 3:
            weights = {name: _part(tree, (layer.name or "").split("/")) for name, tree in variables.items()}
            weights = {name: tree for name, tree in weights.items() if tree is not None}
            _check_layer(layer, weights, (shape[0], shape[1], shape[2]), rng)


def _part(tree: Any, names: Sequence[str]) -> Any:
    """The part of a tree of variables under names, one within the other; None: there is none."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _check_layer(
    layer: Layer, weights: Mapping[str, Any], shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    pixels = [(shape[0] // 2, shape[1] // 2), (0, 0), (shape[0] - 1, shape[1] - 1)]
    images = np.repeat(rng.normal(size=(1, *shape)).astype(np.float32), 2 * len(pixels) + 1, axis=0)
    for n, (y, x) in enumerate(pixels):
        images[2 * n + 1, y, x] += CHANGE
        images[2 * n + 2, y, x] -= CHANGE  # a maximum changes with only one of the two
    outputs = np.asarray(layer.apply(weights, jnp.asarray(images), train=False))
    changed = np.abs(outputs[1:] - outputs[:1]).max(axis=-1) > 1e-6 * np.abs(outputs).max()
    window = layer.window(shape)
    for n, pixel in enumerate(pixels):
        covers = [
            _covers(at, count, stride, extent, low)
            for at, count, stride, extent, (low, _) in zip(
                pixel, outputs.shape[1:3], window.stride, window.extent, window.padding, strict=True
            )
        ]
        stray = (changed[2 * n] | changed[2 * n + 1]) & ~(covers[0][:, None] & covers[1])
        if stray.any():
            i, j = np.argwhere(stray)[0]
            raise GeometryError(
                f"{layer.label}: output ({i}, {j}) changes with input pixel {pixel}, which its declared window "
                f"{shape_text(window.kernel)} (stride {shape_text(window.stride)}) does not cover. A layer that mixes "
                f"pixels derives from cnn.layers.WindowLayer and returns its window from window()"
            )


def _covers(pixel: int, count: int, stride: int, extent: int, low: int) -> np.ndarray:
    """Which of `count` windows along an axis cover a pixel, bool [count]."""
    first = np.arange(count) * stride - low
    return (first <= pixel) & (pixel < first + extent)
