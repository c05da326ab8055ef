"""The test protocol of the VGG paper as one grid: scales x (crops, dense, both) x flip x averaging, each cell a row.

What is averaged. At one scale, and of one orientation, a method gives a picture one or more windows' scores; they
become one vector by `cnn.dense.average` over the windows that lie inside the picture. The vectors of the upright and
the mirrored picture, of all scales, and of dense and multi-crop are then combined, each with the same weight however
many windows it had: the mean for "probabilities" and "logits", the largest for "max".

What is computed. Pictures are resized on the host (Pillow's bicubic, antialiased, as for training); crops are cut there
too, so that they need one compilation whatever the pictures' sizes. The dense run of a net without padding sees
pictures of similar shape on one canvas with zeros at the far sides, and only the windows inside a picture count: the
same scores, few compilations. In a padded net a window sees what lies beyond it, so its pictures are grouped by their
exact size (`cnn.protocols.labelled_images.groups`), with a limit on the number of sizes.

Source: Simonyan, Zisserman (2014), sections 3.2 and 4, tables 3 to 5.
"""

import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from cnn import dense, geometry
from cnn.data import image_files
from cnn.protocols import crops, labelled_images, methods, on_scenes
from cnn.protocols.labelled_images import Pictures
from cnn.protocols.methods import Method
from cnn.protocols.on_scenes import Agreement
from cnn.protocols.vgg_options import Options, checked
from cnn.runs.checkpoint import Run
from cnn.training.evaluate import rank
from cnn.windows import Pair, as_pair

FIVE = 5  # of top-5; trivial for as many classes or fewer


class Row(NamedTuple):
    """One cell of the grid.

    Attributes:
      scales: shortest sides Q averaged over, pixels.
      method: how each scale is looked at.
      flip: whether mirrored pictures are averaged in.
      averaging: as `cnn.dense.average` has it.
      context: what a window sees beyond its own border: "crop", "image", "both" (the net has no padding, these are the
        same), or "crop+image" for dense and multi-crop of a padded net together.
      top1, top1_low, top1_high: fraction of the pictures whose largest score is another class's, and its 95 % interval.
      top5, top5_low, top5_high: the same of the five largest; None with five classes or fewer, where it is 0.
      images_per_second: from resized uint8 pixels to scores, compiled, without decoding, resizing and averaging.
      multiply_adds: per picture, the mean over pictures.
      windows: scores averaged, the mean over pictures.
      predicted_saving: multiply-adds of the same windows as crops, cut out one by one, over `multiply_adds`.
      measured_saving: the same of their times.
      examples: pictures classified.
    """

    scales: tuple[int, ...]
    method: str
    flip: bool
    averaging: str
    context: str
    top1: float
    top1_low: float
    top1_high: float
    top5: float | None
    top5_low: float | None
    top5_high: float | None
    images_per_second: float
    multiply_adds: float
    windows: float
    predicted_saving: float
    measured_saving: float
    examples: int


class Evaluation(NamedTuple):
    """What `evaluate` found.

    Attributes:
      rows: the grid, scale by scale, all scales together last.
      right: for each row, which pictures' largest score is the label's, bool [N].
      agreement: of the dense maps at the net's own stride and the same windows as crops, over the timed pictures.
      sizes: number of distinct sizes of the pictures.
      canvases: number of distinct sizes of what the dense run saw, over all scales.
      enlarged: for each scale, how many pictures were smaller.
      unseen: for each scale, the most pixels (vertical, horizontal) beyond the last window of the dense run at the
        net's own stride.
      timing_images: pictures timed, as one batch.
      timing_sizes: their canvas at each scale, pixels.
    """

    rows: list[Row]
    right: list[np.ndarray]
    agreement: Agreement
    sizes: int
    canvases: int
    enlarged: tuple[int, ...]
    unseen: tuple[Pair, ...]
    timing_images: int
    timing_sizes: tuple[Pair, ...]


class _Cell(NamedTuple):
    """A row to be: what its scores are combined from."""

    scales: tuple[int, ...]
    methods: tuple[Method, ...]
    flip: bool
    averaging: str

    @property
    def parts(self) -> list[tuple[int, str, bool]]:
        """(scale, method, flipped), all of equal weight."""
        return [
            (scale, method.name, flipped)
            for scale, method in itertools.product(self.scales, self.methods)
            # The ten crops are mirrored themselves.
            for flipped in ((False, True) if self.flip and method.name != methods.TEN else (False,))
        ]


class _Cost(NamedTuple):
    """Of one method at one scale, for one picture, upright; `crop_...`: of the same windows as crops."""

    windows: float
    multiply_adds: float
    crop_multiply_adds: float
    seconds: float
    crop_seconds: float


def evaluate(run: Run, tested: Pictures, options: Options) -> Evaluation:
    """Classifies pictures by every cell of the grid, and measures what each costs.

    At each scale, and averaged over all: the centre crop; ten crops; a regular grid of crops; dense, at the net's own
    stride and at each asked for; dense at the net's own stride and the regular crops together. A row's cost is the sum
    of its parts', each measured by itself, upright; a mirrored part costs the same again.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`); its image shape is the window.
      tested: the pictures.
      options: the grid.

    Returns:
      An `Evaluation`.

    Raises:
      ValueError: if an option does not fit; names its flag, the numbers and what would do.
      GeometryError: if the net cannot slide.
    """
    options = checked(run, options)
    exact = dense.has_padding(run.net, run.image_shape[:2], run.image_shape[2])
    batches = labelled_images.groups(tested.sizes, options.scales, exact)
    canvases = {canvas for group in batches for canvas in group.canvases}
    if exact and len(canvases) > options.max_sizes:
        raise ValueError(
            f"--max_sizes={options.max_sizes}: the net is padded, so its dense run is compiled for each size, and the "
            f"pictures have {len(canvases)} sizes at --scales={','.join(map(str, options.scales))}; "
            f"--max_sizes={len(canvases)} would do, at some seconds each, or fewer --images"
        )
    looks = _looks(run, options)
    cells = _cells(options, looks)
    ranks = np.zeros((len(cells), len(tested.labels)), np.int64)
    spent = np.zeros((len(options.scales), len(looks), 2))  # windows and multiply-adds of all pictures, upright
    for group in batches:
        size = min(options.batch_size, len(group.indices))
        for start in range(0, len(group.indices), size):
            indices = group.indices[start : start + size]
            vectors, cost = _look(tested, indices, group.canvases, looks, options, size)
            spent += cost * len(indices)
            for row, cell in enumerate(cells):
                combined = combine([vectors[(*part, cell.averaging)] for part in cell.parts], cell.averaging)
                ranks[row, indices] = rank(combined, tested.labels[indices])
    timed = batches[0].indices[: options.timing_images]
    shown = {scale: _resized(tested, timed, scale) for scale in options.scales}
    measured = methods.measure(looks, shown, batches[0].canvases)
    table = geometry.table(run.net, run.image_shape)
    costs = {}
    for (i, scale), (j, look) in itertools.product(enumerate(options.scales), enumerate(looks)):
        windows, macs = (spent[i, j] / len(tested.labels)).tolist()
        key = (scale, look.name)
        costs[key] = _Cost(windows, macs, windows * table.macs, measured.seconds[key], measured.crop_seconds[key])
    return Evaluation(
        [_row(cell, found, costs, table[-1].output_shape[-1]) for cell, found in zip(cells, ranks, strict=True)],
        list(ranks == 0),
        on_scenes.agreement([measured.compared[scale, methods.DENSE] for scale in options.scales], not exact),
        len(set(tested.sizes)),
        len(canvases),
        tuple(sum(min(size) < scale for size in tested.sizes) for scale in options.scales),
        tuple(_unseen(run, tested, scale) for scale in options.scales),
        len(timed),
        batches[0].canvases,
    )


def combine(parts: Sequence[np.ndarray], over: str) -> np.ndarray:
    """Scores of several looks at the same pictures as one, all of the same weight.

    Args:
      parts: [N, K] each, as `cnn.protocols.methods.pooled` gives them.
      over: "probabilities" or "logits" (mean), or "max".

    Returns:
      float64 [N, K].
    """
    stacked = np.asarray(parts, np.float64)
    return stacked.max(axis=0) if over == "max" else stacked.mean(axis=0)


def _looks(run: Run, options: Options) -> list[Method]:
    """The methods; dense at the net's own stride is the one that is named just so."""
    window = run.image_shape[:2]
    own = dense.native_stride(run.net, window, run.image_shape[2])
    regular = functools.partial(crops.regular_places, window=window, count=options.multicrop)
    found = [
        methods.crops(run, methods.CENTRE, functools.partial(crops.centre_place, window=window)),
        methods.crops(run, methods.TEN, functools.partial(crops.ten_places, window=window)),
        methods.crops(run, methods.MULTI, regular),
        methods.dense_run(run, own),
    ]
    for value in options.strides:
        stride = as_pair(value, "stride", "protocol")
        if stride != own:
            found.append(methods.dense_run(run, stride, f"{methods.DENSE}, stride {on_scenes.stride_text(stride)}"))
    return found


def _cells(options: Options, looks: Sequence[Method]) -> list[_Cell]:
    """The rows to be, in their order."""
    both = tuple(look for look in looks if look.name in (methods.DENSE, methods.MULTI))[::-1]
    ways = [*((look,) for look in looks), both]
    spans = [(scale,) for scale in options.scales] + ([options.scales] if len(options.scales) > 1 else [])
    cells = []
    for span, way in itertools.product(spans, ways):
        flips = (True,) if way[0].name == methods.TEN else (False, True) if options.flip else (False,)
        cells += [_Cell(span, way, *rest) for rest in itertools.product(flips, options.averages)]
    return cells


def _resized(tested: Pictures, indices: np.ndarray, scale: int) -> list[np.ndarray]:
    """Pictures with their shortest side at a scale."""

    def one(index: int) -> np.ndarray:
        return image_files.resize(tested.read(index), crops.scaled_size(tested.sizes[index], scale))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the GIL
        return list(pool.map(one, indices.tolist()))


def _look(
    tested: Pictures,
    indices: np.ndarray,
    canvases: Sequence[Pair],
    looks: Sequence[Method],
    options: Options,
    size: int,
) -> tuple[dict[tuple[int, str, bool, str], np.ndarray], np.ndarray]:
    """Scores (scale, method, flipped, averaging) -> [n, K] of a batch; and windows and multiply-adds of one picture,
    upright, [scales, methods, 2]."""
    vectors = {}
    cost = np.zeros((len(options.scales), len(looks), 2))
    for i, (scale, canvas) in enumerate(zip(options.scales, canvases, strict=True)):
        shown = _resized(tested, indices, scale)
        for j, look in enumerate(looks):
            for flipped in (False, True) if options.flip and look.name != methods.TEN else (False,):
                scored = look.scores(shown, canvas, flipped, size)
                cost[i, j] = scored.windows, scored.multiply_adds
                for over in options.averages:
                    vectors[scale, look.name, flipped, over] = methods.pooled(scored, over)
    return vectors, cost


def _row(cell: _Cell, ranks: np.ndarray, costs: Mapping[tuple[int, str], _Cost], classes: int) -> Row:
    """A row from the ranks of the labels [N] and what its parts cost."""
    examples = len(ranks)
    total = np.sum([costs[scale, name] for scale, name, _ in cell.parts], axis=0)
    windows, macs, crop_macs, seconds, crop_seconds = total.tolist()
    contexts = list(dict.fromkeys(method.context for method in cell.methods))[::-1]

    def error(limit: int) -> tuple[float, float, float]:
        wrong = int((ranks >= limit).sum())
        return wrong / examples, *on_scenes.wilson(wrong, examples)

    return Row(
        cell.scales,
        " + ".join(method.name for method in cell.methods),
        cell.flip,
        cell.averaging,
        "+".join(contexts),
        *error(1),
        *(error(FIVE) if classes > FIVE else (None, None, None)),
        1 / seconds,
        macs,
        windows,
        crop_macs / macs,
        crop_seconds / seconds,
        examples,
    )


def _unseen(run: Run, tested: Pictures, scale: int) -> Pair:
    """The most pixels beyond the last window of the dense run at the net's own stride."""
    window, stride = run.image_shape[:2], dense.native_stride(run.net, run.image_shape[:2], run.image_shape[2])
    scaled = {crops.scaled_size(size, scale) for size in set(tested.sizes)}
    down, right = (max((size[axis] - window[axis]) % stride[axis] for size in scaled) for axis in (0, 1))
    return down, right
