"""The protocol grid of a run, written down: numbers, table, and which differences the pictures bear out."""

import os
import time
from typing import Any, NamedTuple

import numpy as np

from cnn.protocols import labelled_images, measuring, vgg
from cnn.protocols.labelled_images import Pictures
from cnn.protocols.vgg import TOP, GridResult, GridRow
from cnn.protocols.vgg_options import Options, checked
from cnn.reports import markdown, run_report
from cnn.runs import logs
from cnn.runs.checkpoint import Run
from cnn.windows import shape_text

HEADERS = ("Q", "method", "flip", "averaging", "context", "top-1 error", "95 % interval")
TOP5_HEADERS = ("top-5 error", "95 % interval")
COST_HEADERS = ("images/s", "multiply-adds", "windows", "crops cost, multiply-adds", "crops cost, time")
PAIR_HEADERS = ("first", "second", "only first right", "only second right", "p")


class Pair(NamedTuple):
    """Two rows on the same pictures.

    Attributes:
      first, second: what they are.
      only_first, only_second: pictures that one alone has right.
      p: probability of a difference as large or larger if both were equally good, two-sided.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    p: float


def run_grid(
    run: Run, tested: Pictures, output_dir: str, options: Options, *, limit: int | None = None
) -> dict[str, Any]:
    """Evaluates the grid, prints the table and writes everything.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      tested: the pictures (`cnn.protocols.labelled_images.load`).
      output_dir: receives result.json, table.md and report.html; made if missing.
      options: the grid.
      limit: most pictures to test on (`cnn.protocols.labelled_images.take`); None: all.

    Returns:
      What result.json holds: rows, pairs, agreement, what was run, versions, device and commit.

    Raises:
      ValueError: if an option does not fit; names its flag, the numbers and what would do.
      GeometryError: if the net cannot slide over the pictures.
    """
    start = time.monotonic()
    tested = tested if limit is None else labelled_images.take(tested, limit)
    options = checked(run, options)
    found = vgg.evaluate_grid(run, tested, options)
    config: Any = run.config
    result = {
        "net": config.net.name,
        "trained_on": config.data.name,
        "steps": run.step,
        "data": tested.name,
        "examples": len(tested.labels),
        "classes": len(run.class_names),
        "window": list(run.image_shape[:2]),
        "resize": "Pillow bicubic, antialiased, 8 bits",
        **options._asdict(),
        "rows": [row._asdict() for row in found.rows],
        "pairs": [pair._asdict() for pair in pairs(found)],
        "agreement": found.agreement._asdict(),
        **{
            field: getattr(found, field)
            for field in ("sizes", "canvases", "enlarged", "unseen", "timing_images", "timing_sizes")
        },
        "seconds": round(time.monotonic() - start, 1),
        **logs.environment(),
    }
    os.makedirs(output_dir, exist_ok=True)
    logs.write_json(os.path.join(output_dir, "result.json"), result)
    text = _text(found, result)
    with open(os.path.join(output_dir, "table.md"), "w") as file:
        file.write(text)
    print(text, flush=True)
    run_report.write_dense_page(output_dir)
    return result


def pairs(found: GridResult) -> list[Pair]:
    """The comparisons of the VGG paper, each on the same pictures: intervals of single rows say little about them.

    All are of the first averaging, mirrored where the grid is, and over all scales but where the scale is the question:
    dense, multi-crop and both against each other; each against the centre crop at the smallest scale; dense at all
    scales against each one; dense mirrored against not.

    Args:
      found: of `cnn.protocols.vgg.evaluate`.

    Returns:
      A `Pair` for each.
    """
    rows = {(row.scales, row.method, row.flip): i for i, row in reversed(list(enumerate(found.rows)))}
    every = found.rows[-1].scales
    flip = any(row.flip for row in found.rows if row.method == vgg.DENSE)
    both = f"{vgg.DENSE} + {vgg.MULTI}"
    centre = (every[:1], vgg.CENTRE, False)
    wanted = [((every, method, flip), centre) for method in (vgg.DENSE, vgg.MULTI, both)]
    wanted += [((every, vgg.MULTI, flip), (every, vgg.DENSE, flip))]
    wanted += [((every, both, flip), (every, method, flip)) for method in (vgg.DENSE, vgg.MULTI)]
    if len(every) > 1:
        wanted += [((every, vgg.DENSE, flip), ((scale,), vgg.DENSE, flip)) for scale in every]
    if flip:
        wanted += [((every, vgg.DENSE, True), (every, vgg.DENSE, False))]
    return [
        pair(_name(found.rows[rows[a]]), _name(found.rows[rows[b]]), found.correct[rows[a]], found.correct[rows[b]])
        for a, b in wanted
    ]


def pair(first: str, second: str, first_right: np.ndarray, second_right: np.ndarray) -> Pair:
    """Compares two ways to classify the same pictures by those that one alone has right.

    Args:
      first: what the first is.
      second: what the second is.
      first_right: which pictures the first has right, bool [N].
      second_right: the same of the second.

    Returns:
      The `Pair`.

    Source: McNemar (1947), in its exact form: a two-sided binomial test.
    """
    from scipy.stats import binomtest  # half a second to import

    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    total = only_first + only_second
    p = float(binomtest(only_first, total).pvalue) if total else 1.0
    return Pair(first, second, only_first, only_second, p)


def _name(row: GridRow) -> str:
    return f"{row.method}, Q {_scales(row)}{', flip' if row.flip else ''}"


def _scales(row: GridRow) -> str:
    return str(row.scales[0]) if len(row.scales) == 1 else "all"


def _interval(low: float | None, high: float | None) -> str:
    return f"{low:.2%} to {high:.2%}"


def _cells(row: GridRow) -> list[str]:
    top5 = [] if row.top5 is None else [f"{row.top5:.2%}", _interval(row.top5_low, row.top5_high)]
    return [
        _scales(row),
        row.method,
        "yes" if row.flip else "no",
        row.averaging,
        row.context,
        f"{row.top1:.2%}",
        _interval(row.top1_low, row.top1_high),
        *top5,
        f"{row.images_per_second:,.1f}",
        f"{row.multiply_adds:,.0f}",
        f"{row.windows:,.4g}",
        f"{row.predicted_saving:.2f}",
        f"{row.measured_saving:.2f}",
    ]


def _text(found: GridResult, result: dict[str, Any]) -> str:
    """The report as Markdown."""
    scales = ", ".join(map(str, result["scales"]))
    trivial = found.rows[0].top5 is None
    headers = [*HEADERS, *([] if trivial else TOP5_HEADERS), *COST_HEADERS]
    pair_cells = [[*row[:4], f"{row.p:.2g}"] for row in pairs(found)]
    lines = [
        f"# {result['net']} on {result['examples']:,} pictures at Q = {scales}",
        "",
        f"Pictures: {result['data']}. Trained on {result['trained_on']}, window {shape_text(result['window'])}, "
        f"{result['classes']} classes. Each picture's shortest side is resized to Q pixels ({result['resize']}), its "
        f"aspect ratio kept; Q all: averaged over {scales}. {result['device']}; times: median of "
        f"{measuring.TIMING_ROUNDS} rounds on a batch of {found.timing_images} pictures, resized before; a row's time "
        f"and multiply-adds are the sum of its parts'.",
        "",
        markdown.markdown(headers, [_cells(row) for row in found.rows]),
        "Crops cost: multiply-adds and time of the same windows as crops, one by one, over those of the row.",
        "",
        "The same pictures, two rows at a time (exact McNemar test; not corrected for their number):",
        "",
        markdown.markdown(PAIR_HEADERS, pair_cells),
        *(f"- {note}" for note in _notes(found, result)),
    ]
    return "\n".join(lines) + "\n"


def _notes(found: GridResult, result: dict[str, Any]) -> list[str]:
    """What a reader must know of the numbers."""
    agreement = found.agreement
    meaning = (
        "the net has no padding, so the two must be equal"
        if agreement.expected
        else "the net is padded, so a crop sees padding where the dense run sees the image: two different measurements"
    )
    grouping = (
        "pictures of similar shape share one, with zeros at the far sides, and only windows inside a picture count"
        if agreement.expected
        else "each its pictures' exact size"
    )
    notes = [
        f"Dense maps against the same windows as crops, at the net's own stride, over the timed pictures: largest "
        f"difference {agreement.difference:.1e} of the largest score, {agreement.argmax_differs:,} of "
        f"{agreement.windows:,} windows with another best class ({meaning}).",
        f"Distinct sizes of the pictures: {found.sizes:,}; of the canvases that the dense run was compiled for, over "
        f"all scales: {found.canvases:,} ({grouping}).",
    ]
    if found.rows[0].top5 is None:
        notes.append(f"No top-5 error: with {result['classes']} classes ({TOP} or fewer) it is 0 for every method.")
    notes += [
        f"At Q = {scale}, {count:,} pictures were smaller and have been enlarged."
        for scale, count in zip(result["scales"], found.enlarged, strict=True)
        if count
    ]
    notes += [
        f"At Q = {scale}, the last window of the dense run at the net's own stride ends up to {down} rows and {right} "
        f"columns before the last pixel."
        for scale, (down, right) in zip(result["scales"], found.unseen, strict=True)
        if down or right
    ]
    return notes
