"""The tables of a study's report: accuracies and costs, all outcomes, comparisons, tuning."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnn.reports.html_cells import DASH
from cnn.reports.html_cells import Cell as TableCell
from cnn.reports.tables import Column, Table
from experiments.ablation import analysis, statistics
from experiments.ablation.analysis import Cell, Comparison
from experiments.ablation.study import TEST, Outcome, Study

TOO_FEW = "n too small"  # instead of an interval that covers all that is possible


def main_table(study: Study, found: Sequence[Cell], compared: Sequence[Comparison]) -> Table:
    """Test accuracy of each cell, its difference to the baseline, and its costs.

    Args:
      study: its declaration.
      found: the cells that have results.
      compared: all comparisons of the study.

    Returns:
      The table, a row for each cell.
    """
    columns: list[Column | str] = [
        "cell",
        Column(TEST, "mean over the seeds; measured once, on the net that training ended with."),
        Column("n", "number of seeds."),
        Column("sd", "standard deviation over the seeds, percent points."),
        Column(
            "95 % interval",
            f't-interval of the mean over the seeds, cut at 0 and 100 % ("{TOO_FEW}": one that covers all between): of '
            f"training again, not of drawing other pictures.",
        ),
        Column(f"less {study.baseline}, points", "difference paired by seed, percent points, with its 95 % interval."),
        _holm(compared),
        "parameters",
        Column("multiply-adds", "of the net, for one image."),
        Column("s / epoch", "an epoch's wall time over the number of seeds that were trained at once."),
        Column("step, MB", "memory of a compiled training step of one seed, without the data set."),
    ]
    field = next(iter(study.tune), None)
    if field:
        columns.append(Column(field.split(".")[-1], f"the {field} that was tuned to."))
    to_baseline = [c for c in compared if c.contrast.second == (study.baseline, TEST)]
    by_cell = {c.contrast.first[0]: c for c in to_baseline if c.contrast.first[1] == TEST}
    rows = []
    for cell in found:
        summary, comparison = cell.summaries[TEST], by_cell.get(cell.name)
        no_difference = TableCell("baseline", 0.0) if cell.name == study.baseline else TableCell(DASH)
        row: list[Any] = [
            cell.name,
            TableCell(f"{summary.mean:.2%}", summary.mean),
            summary.n,
            DASH if summary.n < 2 else TableCell(f"{100 * summary.std:.2f}", summary.std),
            DASH if summary.n < 2 else TableCell(_accuracy_interval(summary), summary.low),
            difference_cell(comparison) if comparison else no_difference,
            _p(comparison.difference.p_holm) if comparison else TableCell(DASH),
            cell.parameters,
            cell.multiply_adds,
            TableCell(f"{cell.epoch_seconds:.2f}", cell.epoch_seconds),
            TableCell(f"{cell.step_bytes / 1e6:.1f}", cell.step_bytes),
        ]
        rows.append(row + ([str(study.tune[field][cell.chosen])] if field else []))
    return Table(columns, rows, "Test accuracy of each cell, its difference to the baseline, and its costs.", lead=2)


def outcomes_table(study: Study, found: Sequence[Cell]) -> Table | None:
    """Mean and standard deviation of every outcome.

    Args:
      study: its declaration.
      found: the cells that have results.

    Returns:
      The table, a row for each outcome and a column for each cell; None if there is only test accuracy.
    """
    if len(study.outcomes) == 1:
        return None
    rows = []
    for outcome in study.outcomes:
        row: list[Any] = [outcome.name]
        for cell in found:
            summary = cell.summaries.get(outcome.name)
            if summary is None:
                row.append(TableCell(DASH))
                continue
            spread = f" ± {_value(summary.std, outcome).removesuffix('%')}" if summary.n > 1 else ""
            row.append(TableCell(_value(summary.mean, outcome) + spread, summary.mean))
        rows.append(row)
    headers = ["outcome, mean ± sd", *(cell.name for cell in found)]
    return Table(headers, rows, "Every outcome of every cell: mean and standard deviation over the seeds.")


def comparisons_table(study: Study, compared: Sequence[Comparison]) -> Table:
    """Every comparison of a study.

    Args:
      study: its declaration.
      compared: its comparisons.

    Returns:
      The table, a row for each comparison.
    """
    rows = []
    for comparison in compared:
        found = comparison.difference
        first, second = analysis.sides(comparison.contrast, study)
        scale, digits = (100, ".2f") if comparison.outcome.unit == "points" else (1, ".3g")
        least = TableCell(DASH if found.n < 2 else f"{scale * found.detectable:{digits}}", found.detectable)
        rows.append([first, second, difference_cell(comparison), found.n, _p(found.p), _p(found.p_holm), least])
    columns = [
        "first",
        "second",
        Column(
            "difference (95 % interval)",
            "first less second, paired by seed; percent points for accuracies, else in the unit of the outcome.",
        ),
        Column("n", "number of seeds that both sides have."),
        Column("p", "p-value of the paired t-test."),
        _holm(compared),
        Column(
            "found with 80 %",
            "how large a true difference would have to be to be found with a probability of 80 %, with as many seeds.",
        ),
    ]
    return Table(columns, rows, "Every comparison of the study.", lead=3)


def tuning_table(study: Study, records: Sequence[Mapping[str, Any]]) -> Table | None:
    """Mean validation accuracy of each cell with each value of the tuned field.

    Args:
      study: its declaration.
      records: lines of results.jsonl.

    Returns:
      The table, a row for each cell; None if nothing is tuned.
    """
    if not study.tune:
        return None
    ((field, values),) = study.tune.items()
    lines = {(r["cell"], r["chosen"], r["seed"]): r["validation_accuracy"] for r in records if r["kind"] == "tuning"}
    rows = []
    for cell in study.cells:
        row = [cell]
        for number in range(len(values)):
            each = [value for (name, chosen, _), value in lines.items() if (name, chosen) == (cell, number)]
            row.append(f"{sum(each) / len(each):.2%}" if each else DASH)
        rows.append(row)
    caption = "Validation accuracy by value of the tuned field, mean over seeds that do not count otherwise."
    return Table([f"validation accuracy, {field} =", *map(str, values)], rows, caption)


def seeds_table(found: Sequence[Cell]) -> Table:
    """Accuracy on test and on validation of each seed, at the end of its training.

    Args:
      found: the cells that have results.

    Returns:
      The table, a row for each cell and a column for each seed.
    """
    seeds = sorted({seed for cell in found for seed in cell.values[TEST]})

    def both(cell: Cell, seed: int) -> str:
        test = cell.values[TEST].get(seed)
        curve = cell.curves.get(seed, [])
        validation = curve[-1].get("validation_accuracy") if curve else None
        return " / ".join(DASH if value is None else f"{100 * value:.2f}" for value in (test, validation))

    rows = [[cell.name, *(both(cell, seed) for seed in seeds)] for cell in found]
    caption = "Accuracy of each seed on test and on validation, at the end of its training, percent."
    return Table(["test / validation, %", *(f"seed {seed}" for seed in seeds)], rows, caption)


def difference_cell(comparison: Comparison) -> TableCell:
    """A comparison's mean difference with its interval, as a cell.

    Args:
      comparison: the comparison.

    Returns:
      The cell, "-0.75 (-1.03 to -0.47)"; it sorts by the mean.
    """
    found, unit = comparison.difference, comparison.outcome.unit
    scale, digits = (100, ".2f") if unit == "points" else (1, ".3g")
    if found.n < 2:
        return TableCell(f"{scale * found.mean:+{digits}}", found.mean)
    interval = f"{scale * found.low:+{digits}} to {scale * found.high:+{digits}}"
    if unit == "points" and statistics.says_nothing(found, -1, 1):
        interval = TOO_FEW
    return TableCell(f"{scale * found.mean:+{digits}} ({interval})", found.mean)


def _holm(compared: Sequence[Comparison]) -> Column:
    """The column of corrected p-values."""
    return Column("p (Holm)", f"corrected p-value of the paired t-test, Holm's over all {len(compared)} comparisons.")


def _value(value: float, outcome: Outcome) -> str:
    if value != value:
        return DASH
    return f"{value:.2%}" if outcome.unit == "points" else f"{value:.3g}{f' {outcome.unit}' if outcome.unit else ''}"


def _accuracy_interval(summary: statistics.Summary) -> str:
    """The interval of an accuracy, or that there are too few seeds for one."""
    if statistics.says_nothing(summary, 0, 1):
        return TOO_FEW
    return f"{summary.low:.2%} to {summary.high:.2%}"


def _p(value: float) -> TableCell:
    text = DASH if value != value else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
    return TableCell(text, value)
