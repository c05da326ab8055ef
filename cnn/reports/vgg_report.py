"""Runs the VGG protocol's grid and writes its report: numbers, tables, and which differences are significant."""

import os
import time
from typing import Any, NamedTuple

import numpy as np

from cnn.protocols import labelled_images, vgg
from cnn.protocols.labelled_images import Pictures
from cnn.protocols.progress import Progress
from cnn.protocols.vgg import GridResult, GridRow
from cnn.protocols.vgg_options import Options, checked
from cnn.reports import run_report, tables, vgg_tables
from cnn.runs import logs
from cnn.runs.checkpoint import Run
from cnn.runtime import own_code, whole


class PairedRows(NamedTuple):
    """Two rows of the grid, compared on the same pictures.

    Attributes:
      first, second: names of the two rows.
      only_first, only_second: number of pictures that one row alone classifies correctly.
      p: probability of a difference this large or larger if both were equally good, two-sided.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    p: float


def run_grid(
    run: Run,
    tested: Pictures,
    output_dir: str,
    options: Options,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluates the grid, prints the table and writes everything.

    Args:
      run: a trained net (`cnn.runs.checkpoint.load_run`).
      tested: the pictures (`cnn.protocols.labelled_images.load`).
      output_dir: receives result.json, table.md and report.html; made if missing.
      options: options of the grid.
      limit: the largest number of pictures to test on (`cnn.protocols.labelled_images.take`); None: all.
      progress: says what is being done; None: one that prints to standard error.

    Returns:
      The contents of result.json: rows, pairs, agreement, what was run, versions, device and commit.

    Raises:
      ValueError: if an option does not fit; names its flag, the numbers and what would do.
      GeometryError: if the net cannot slide over the pictures.
    """
    start = time.monotonic()
    tested = tested if limit is None else labelled_images.take(tested, limit)
    options = checked(run, options)
    found = vgg.evaluate_grid(run, tested, options, progress or Progress())
    config: Any = run.config
    result = {
        "net": own_code.short(config.net.name),
        "trained_on": own_code.short(config.data.name),
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
    document = vgg_tables.document(result)
    with whole.written(os.path.join(output_dir, "table.md")) as part, open(part, "w") as file:
        file.write(tables.document_markdown(document))
    print(tables.document_text(document), flush=True)
    print(f"wrote {run_report.write_dense_page(output_dir)}", flush=True)
    return result


def pairs(grid: GridResult) -> list[PairedRows]:
    """The comparisons of the VGG paper, each on the same pictures: intervals of single rows say little about them.

    All use the first averaging, mirrored pictures if the grid has them, and all scales unless the scale is the
    question. Compared are dense, multi-crop and both with each other; each of them with the centre crop at the smallest
    scale; dense at all scales with each one; and dense with and without mirrored pictures.

    Args:
      grid: result of `cnn.protocols.vgg.evaluate_grid`.

    Returns:
      One `PairedRows` for each comparison.
    """
    rows = {(row.scales, row.method, row.flip): i for i, row in reversed(list(enumerate(grid.rows)))}
    every = grid.rows[-1].scales
    flip = any(row.flip for row in grid.rows if row.method == vgg.DENSE)
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
        pair(_name(grid.rows[rows[a]]), _name(grid.rows[rows[b]]), grid.correct[rows[a]], grid.correct[rows[b]])
        for a, b in wanted
    ]


def pair(first: str, second: str, first_right: np.ndarray, second_right: np.ndarray) -> PairedRows:
    """Compares two ways to classify the same pictures by those that one of them alone classifies correctly.

    Args:
      first: name of the first.
      second: name of the second.
      first_right: which pictures the first classifies correctly, bool [N].
      second_right: which pictures the second classifies correctly, bool [N].

    Returns:
      The `PairedRows`.

    Source: McNemar (1947), in its exact form: a two-sided binomial test.
    """
    from scipy.stats import binomtest  # half a second to import

    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    total = only_first + only_second
    p = float(binomtest(only_first, total).pvalue) if total else 1.0
    return PairedRows(first, second, only_first, only_second, p)


def _name(row: GridRow) -> str:
    return f"{row.method}, Q {vgg_tables.scale_text(row.scales)}{', flip' if row.flip else ''}"
