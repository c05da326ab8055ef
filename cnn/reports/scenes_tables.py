"""What a result of the scenes protocol says, as a document: its table and its notes, from result.json alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnn.protocols import measuring
from cnn.reports.html_cells import Cell
from cnn.reports.tables import Column, Document, Notes, Table
from cnn.windows import shape_text

AVERAGING = Column(
    "averaging",
    "how the scores of an image's windows become one for each class: the mean of their probabilities, the mean of "
    "their logits, or the largest logit (max); none: there is a single window.",
)
CONTEXT = Column(
    "context",
    "what a window sees beyond its own border: the net's padding (crop) or the pixels around it (image); both: the net "
    "has no padding, so the two are the same.",
    rank=3,
)
COLUMNS = (
    Column("method"),
    Column("accuracy"),
    AVERAGING,
    Column("95 % interval"),
    Column("ms/image"),
    Column("windows", rank=1),
    Column("multiply-adds", "per image.", rank=2),
    CONTEXT,
)


def document(result: Mapping[str, Any]) -> Document:
    """The report of scenes.

    Args:
      result: what result.json holds (`cnn.reports.scenes_report.run_scenes`), also of a run made by an older version.

    Returns:
      The report.

    Raises:
      KeyError: if the result lacks what the report says.
    """
    introduction = (
        f"Objects from the {result['split']} split of {result['data']} ({result['examples_in_split']:,} examples), "
        f"seed {result['seed']}; window {shape_text(result['window'])}; {result['device']}; times: median of "
        f"{measuring.TIMING_ROUNDS} rounds on a batch of {result['timing_images']}."
    )
    return Document(
        f"{result['net']} on {result['scenes']:,} scenes of {result['size']}x{result['size']} pixels",
        [introduction, table(result["rows"]), Notes(_notes(result))],
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
    best = result["best_dense"]
    return {
        f"most accurate: {best['method']}, {best['averaging']}": f"{best['accuracy']:.2%}",
        "window around the object, with its place given": f"{result['at_object']['accuracy']:.2%}",
        "all crops' time over the dense run's": f"{result['measured_saving']:.1f}x",
        "their multiply-adds": f"{result['predicted_saving']:.1f}x",
    }


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Every way to classify a scene, and what it costs.

    Args:
      rows: `cnn.protocols.on_scenes.SceneRow`s as mappings.

    Returns:
      The table, a line for each row.
    """
    lines = [
        (
            row["method"],
            Cell(f"{row['accuracy']:.2%}", row["accuracy"]),
            row["averaging"],
            interval(row["low"], row["high"]),
            f"{row['milliseconds']:.3f}",
            f"{row['windows']:,}",
            f"{row['multiply_adds']:,}",
            row["context"],
        )
        for row in rows
    ]
    return Table(COLUMNS, lines, "Every way to classify a scene, and what it costs.", lead=2)


def interval(low: float, high: float) -> Cell:
    """A 95 % interval of a fraction; sorts by its lower end."""
    return Cell(f"{low:.2%} to {high:.2%}", low)


def agreement_meaning(expected: bool) -> str:
    """Why dense maps and crops must agree, or need not."""
    if expected:
        return "the net has no padding, so the two must be equal"
    return "the net is padded, so a crop sees padding where the dense run sees the image: two different measurements"


def _notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the numbers."""
    best, at_object, agreement = result["best_dense"], result["at_object"], result["agreement"]
    above = [name for name, yes in best["interval_above"].items() if yes]
    below = [name for name, yes in best["interval_above"].items() if not yes]
    clear = f"Its 95 % interval lies above that of: {', '.join(above) or 'none'}"
    clear += f"; not above that of: {', '.join(below)}." if below else "."
    untrained = ": the net was trained without such windows, and gives each of them to some class"
    dense_rows = sum(row["method"].startswith("dense") for row in result["rows"])
    return [
        f"Dense map against all crops, at the native stride: largest difference {agreement['difference']:.1e} of the "
        f"largest score; {agreement['argmax_differs']:,} of {agreement['windows']:,} windows have another best class "
        f"({agreement_meaning(agreement['expected'])}).",
        f"All crops cost {result['predicted_saving']:.2f} times the multiply-adds of the dense run at the same stride, "
        f"and {result['measured_saving']:.2f} times its time. Their layers write {result['values_saving']:.2f} times "
        f"as many values: in a small net memory counts as much as arithmetic.",
        f"The one window around the object, with its place given: {at_object['accuracy']:.2%} "
        f"({at_object['low']:.2%} to {at_object['high']:.2%}). The methods that do not know the place fall short of "
        f"this by the windows without the object{'' if result['background'] else untrained}.",
        f"Most accurate dense row: {best['method']}, {best['averaging']}, {best['accuracy']:.2%} ({best['low']:.2%} to "
        f"{best['high']:.2%}); chosen among {dense_rows} on these very scenes. {clear}",
    ]
