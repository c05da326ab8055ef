"""What a result of the VGG protocol says, as a document: its two tables and its notes, from result.json alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnn.protocols import measuring
from cnn.protocols.vgg import TOP
from cnn.reports.html_cells import Cell
from cnn.reports.scenes_tables import AVERAGING, CONTEXT, agreement_meaning, interval
from cnn.reports.tables import Column, Document, Notes, Table
from cnn.windows import shape_text

PAIR_COLUMNS = (
    Column("first"),
    Column("second"),
    Column("p", "probability of a difference this large or larger if both were equally good (exact McNemar test)."),
    Column("only first right", "pictures that the first alone classifies correctly.", short="1st"),
    Column("only second right", "pictures that the second alone classifies correctly.", short="2nd"),
)
FIRST_COLUMNS = (
    Column("Q", "length of a picture's shortest side, pixels; all: averaged over all scales."),
    Column("method"),
    Column("top-1 error", short="top-1"),
    Column("flip", "whether the scores of the mirrored picture are averaged in."),
    AVERAGING,
    Column("95 % interval", rank=1),
)
TOP5_COLUMNS = (Column("top-5 error", short="top-5", rank=2), Column("95 % interval, top-5", rank=7))
COST_COLUMNS = (
    Column("images/s"),
    Column("windows", rank=3),
    Column("multiply-adds", "per picture.", rank=5),
    Column(
        "crops' multiply-adds", "of the same windows cut out one by one, divided by the row's.", short="x madds", rank=6
    ),
    Column("crops' time", "of the same windows cut out one by one, divided by the row's.", short="x time", rank=4),
    CONTEXT._replace(rank=8),
)


def document(result: Mapping[str, Any]) -> Document:
    """The report of a grid.

    Args:
      result: what result.json holds (`cnn.reports.vgg_report.run_grid`), also of a run made by an older version.

    Returns:
      The report.

    Raises:
      KeyError: if the result lacks what the report says.
    """
    scales = ", ".join(map(str, result["scales"]))
    introduction = (
        f"Pictures: {result['data']}. Trained on {result['trained_on']}, window {shape_text(result['window'])}, "
        f"{result['classes']} classes. Each picture's shortest side is resized to Q pixels ({result['resize']}), its "
        f"aspect ratio kept; Q all: averaged over {scales}. {result['device']}; times: median of "
        f"{measuring.TIMING_ROUNDS} rounds on a batch of {result['timing_images']} pictures, resized before; a row's "
        f"time and multiply-adds are the sum of its parts'."
    )
    return Document(
        f"{result['net']} on {result['examples']:,} pictures at Q = {scales}",
        [
            introduction,
            table(result["rows"]),
            "The same pictures, two rows at a time (exact McNemar test; not corrected for their number):",
            pair_table(result["pairs"]),
            Notes(_notes(result)),
        ],
    )


def headline(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a result that a reader came for, by what they are.

    Args:
      result: what result.json holds (`document`).

    Returns:
      Texts by name, the most important first.

    Raises:
      KeyError: if the result lacks one.
    """
    best = min(result["rows"], key=lambda row: row["top1"])
    centre = result["rows"][0]
    return {
        f"lowest top-1 error of {len(result['rows'])} rows: {best['method']}": f"{best['top1']:.2%}",
        f"{centre['method']}, smallest scale": f"{centre['top1']:.2%}",
        "pictures": f"{result['examples']:,}",
    }


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Every way to look at the pictures, and what it costs.

    Args:
      rows: `cnn.protocols.vgg.GridRow`s as mappings.

    Returns:
      The table, a line for each row; without top-5 errors where there are so few classes that they are 0.
    """
    with_top5 = rows[0]["top5"] is not None
    columns = [*FIRST_COLUMNS, *(TOP5_COLUMNS if with_top5 else ()), *COST_COLUMNS]
    caption = "Every way to look at the pictures, and what it costs."
    return Table(columns, [_cells(row, with_top5) for row in rows], caption, lead=3)


def pair_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Two ways on the same pictures.

    Args:
      pairs: `cnn.reports.vgg_report.PairedRows` as mappings.

    Returns:
      The table, a line for each pair.
    """
    lines = [
        (pair["first"], pair["second"], Cell(f"{pair['p']:.2g}", pair["p"]), pair["only_first"], pair["only_second"])
        for pair in pairs
    ]
    return Table(PAIR_COLUMNS, lines, "Two ways on the same pictures.", lead=3)


def scale_text(scales: Sequence[int]) -> str:
    """The scales of a row: its number, or "all"."""
    return str(scales[0]) if len(scales) == 1 else "all"


def _cells(row: Mapping[str, Any], with_top5: bool) -> list[str | Cell]:
    def percent(value: float) -> Cell:
        return Cell(f"{value:.2%}", value)

    top5 = [percent(row["top5"]), interval(row["top5_low"], row["top5_high"])] if with_top5 else []
    return [
        scale_text(row["scales"]),
        row["method"],
        percent(row["top1"]),
        "yes" if row["flip"] else "no",
        row["averaging"],
        interval(row["top1_low"], row["top1_high"]),
        *top5,
        f"{row['images_per_second']:,.1f}",
        f"{row['windows']:,.4g}",
        f"{row['multiply_adds']:,.0f}",
        f"{row['predicted_saving']:.2f}",
        f"{row['measured_saving']:.2f}",
        row["context"],
    ]


def _notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the numbers."""
    agreement = result["agreement"]
    grouping = (
        "pictures of similar shape share one, with zeros at the far sides, and only windows inside a picture count"
        if agreement["expected"]
        else "each its pictures' exact size"
    )
    notes = [
        f"Dense maps against the same windows as crops, at the native stride, over the timed pictures: largest "
        f"difference {agreement['difference']:.1e} of the largest score; {agreement['argmax_differs']:,} of "
        f"{agreement['windows']:,} windows have another best class ({agreement_meaning(agreement['expected'])}).",
        f"The pictures have {result['sizes']:,} distinct sizes; the dense run was compiled for {result['canvases']:,} "
        f"canvases, over all scales ({grouping}).",
    ]
    if result["rows"][0]["top5"] is None:
        notes.append(f"No top-5 error: with {result['classes']} classes ({TOP} or fewer) it is 0 for every method.")
    notes += [
        f"At Q = {scale}, {count:,} pictures were smaller and have been enlarged."
        for scale, count in zip(result["scales"], result["enlarged"], strict=True)
        if count
    ]
    notes += [
        f"At Q = {scale}, the last window of the dense run at the native stride ends up to {down} rows and {right} "
        f"columns before the last pixel."
        for scale, (down, right) in zip(result["scales"], result["unseen"], strict=True)
        if down or right
    ]
    return notes
