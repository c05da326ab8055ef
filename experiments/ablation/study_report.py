"""A study's report: report.md, plots, and one page, report.html, that holds all of it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn.reports import html, markdown
from experiments.ablation import analysis, plots, statistics
from experiments.ablation.analysis import Cell, Comparison
from experiments.ablation.store import Store
from experiments.ablation.study import TEST, Outcome, Study

TOO_FEW = "n too small"  # instead of an interval that covers all that is possible


class Asked(NamedTuple):
    """What the user asked for.

    Attributes:
      name: of the study.
      seeds: 0 to this less one count.
      base: config file that the cells start from.
      overrides: field -> value, for all cells.
      command: that makes the results anew.
    """

    name: str
    seeds: int
    base: str
    overrides: Mapping[str, Any]
    command: str


def write(store: Store, study: Study, asked: Asked, failed: Mapping[str, str]) -> str:
    """Writes the report of what results there are.

    Args:
      store: of the study.
      study: its declaration.
      asked: what the user asked for.
      failed: cell -> why it has no results.

    Returns:
      Path of report.md.
    """
    found = analysis.cells(study, store.records, asked.seeds)
    compared = analysis.comparisons(study, found)
    lines = [r for r in store.records if r["kind"] == "seed" and r["seed"] < asked.seeds]
    plotted = _plots(store.workdir, study, found, compared)
    conclusions = [*(_sentence(study, comparison) for comparison in compared), *_left_out(study, compared, found)]
    facts = _facts(lines, asked)
    tuned = _tuned(study, store.records)
    legend = _legend(lines, len(compared), asked.seeds)

    headers, rows = _table(study, found, compared)
    more_headers, more_rows = _outcomes(study, found)
    compare_headers, compare_rows = _comparisons(study, compared)
    differing = _differences(study, asked, found)
    notes = [text for text in (study.notes, _warnings(found, failed), _edges(study, found)) if text]

    parts = [f"# {asked.name}: {study.question}", "", *(line for text in notes for line in (text, ""))]
    parts += [markdown.markdown(headers, _texts(rows)), legend, ""]
    if more_rows:
        parts += ["## All outcomes", "", markdown.markdown(more_headers, _texts(more_rows))]
    parts += ["## What can be concluded", "", *(f"- {text}" for text in conclusions), ""]
    parts += ["## Comparisons", "", markdown.markdown(compare_headers, _texts(compare_rows))]
    parts += [f"![{caption}]({os.path.basename(path)})\n" for path, caption in plotted]
    if tuned:
        parts += ["## Tuning, on validation", "", markdown.markdown(*tuned)]
    parts += ["## Cells", "", "```", *differing, "```", ""]
    parts += ["## How", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    path = os.path.join(store.workdir, "report.md")
    with open(path + ".part", "w") as file:
        file.write("\n".join(parts))
    os.replace(path + ".part", path)

    pictures = [html.Picture(path, caption) for path, caption in plotted]
    sections = [
        html.Section("Result", [*(html.Text(text) for text in notes), html.Table(headers, rows, TEST), *pictures[:1]]),
        html.Section("What can be concluded", [html.Text("\n\n".join(conclusions))]),
        html.Section("Comparisons", [html.Table(compare_headers, compare_rows), html.Text(legend)]),
        html.Section("All outcomes", [html.Table(more_headers, more_rows)] if more_rows else []),
        html.Section("Curves", pictures[1:]),
        html.Section("Tuning, on validation", [html.Table(*tuned)] if tuned else []),
        html.Section("First-layer kernels and feature maps", _nets(store, found)),
        html.Section("Cells", [html.Listing("\n".join(differing))]),
        html.Section("How", [html.Facts(facts)]),
    ]
    html.write(
        os.path.join(store.workdir, "report.html"),
        f"Study: {asked.name}",
        [section for section in sections if section.items],
        study.question,
    )
    return path


def _left_out(study: Study, compared: Sequence[Comparison], found: Sequence[Cell]) -> list[str]:
    """A sentence for each comparison that could not be made."""
    made = [comparison.contrast for comparison in compared]
    values = {cell.name: cell.values for cell in found}
    sentences = []
    for contrast in study.comparisons:
        if contrast in made:
            continue
        reasons = []
        for cell, name in dict.fromkeys(contrast):
            if cell not in values:
                reasons.append(f"{cell} has no results")
            elif None in values[cell][name].values():
                reasons.append(f"{cell} has seeds without a finite {name}")
        first, second = analysis.sides(contrast, study)
        sentences.append(f"{first} and {second} were not compared: {', '.join(reasons) or 'no seed has both'}.")
    return sentences


def _texts(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [[cell.text if isinstance(cell, html.Cell) else str(cell) for cell in row] for row in rows]


def _value(value: float, outcome: Outcome) -> str:
    if value != value:
        return "–"
    return f"{value:.2%}" if outcome.unit == "points" else f"{value:.3g}{f' {outcome.unit}' if outcome.unit else ''}"


def _difference(comparison: Comparison) -> html.Cell:
    found, unit = comparison.difference, comparison.outcome.unit
    scale, digits = (100, ".2f") if unit == "points" else (1, ".3g")
    if found.n < 2:
        return html.Cell(f"{scale * found.mean:+{digits}}", found.mean)
    interval = f"{scale * found.low:+{digits}} to {scale * found.high:+{digits}}"
    if unit == "points" and statistics.says_nothing(found, -1, 1):
        interval = TOO_FEW
    text = f"{scale * found.mean:+{digits}} ({interval})"
    return html.Cell(text, found.mean)


def _accuracy_interval(summary: statistics.Summary) -> str:
    """The interval of an accuracy, or that there are too few seeds for one."""
    if statistics.says_nothing(summary, 0, 1):
        return TOO_FEW
    return f"{summary.low:.2%} to {summary.high:.2%}"


def _p(value: float) -> html.Cell:
    text = "–" if value != value else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
    return html.Cell(text, value)


def _table(study: Study, found: Sequence[Cell], compared: Sequence[Comparison]) -> tuple[list[str], list[list[Any]]]:
    """The main table: test accuracy, difference, costs."""
    headers = ["cell", "n", TEST, "sd", "95 % interval", f"less {study.baseline}, points", "p (Holm)"]
    headers += ["parameters", "multiply-adds", "s / epoch", "step, MB"]
    field = next(iter(study.tune), None)
    headers += [field.split(".")[-1]] if field else []
    to_baseline = [c for c in compared if c.contrast.second == (study.baseline, TEST)]
    by_cell = {c.contrast.first[0]: c for c in to_baseline if c.contrast.first[1] == TEST}
    rows = []
    for cell in found:
        summary, comparison = cell.summaries[TEST], by_cell.get(cell.name)
        no_difference = html.Cell("baseline", 0.0) if cell.name == study.baseline else html.Cell("–")
        row: list[Any] = [
            cell.name,
            summary.n,
            html.Cell(f"{summary.mean:.2%}", summary.mean),
            "–" if summary.n < 2 else html.Cell(f"{100 * summary.std:.2f}", summary.std),
            "–" if summary.n < 2 else html.Cell(_accuracy_interval(summary), summary.low),
            _difference(comparison) if comparison else no_difference,
            _p(comparison.difference.p_holm) if comparison else html.Cell("–"),
            html.Cell(f"{cell.parameters:,}", cell.parameters),
            html.Cell(f"{cell.multiply_adds:,}", cell.multiply_adds),
            html.Cell(f"{cell.epoch_seconds:.2f}", cell.epoch_seconds),
            html.Cell(f"{cell.step_bytes / 1e6:.1f}", cell.step_bytes),
        ]
        rows.append(row + ([str(study.tune[field][cell.chosen])] if field else []))
    return headers, rows


def _outcomes(study: Study, found: Sequence[Cell]) -> tuple[list[str], list[list[Any]]]:
    """Mean and standard deviation of every outcome, one row for each; nothing if there is only test accuracy."""
    if len(study.outcomes) == 1:
        return [], []
    rows = []
    for outcome in study.outcomes:
        row: list[Any] = [outcome.name]
        for cell in found:
            summary = cell.summaries.get(outcome.name)
            if summary is None:
                row.append(html.Cell("–"))
                continue
            spread = f" ± {_value(summary.std, outcome).removesuffix('%')}" if summary.n > 1 else ""
            row.append(html.Cell(_value(summary.mean, outcome) + spread, summary.mean))
        rows.append(row)
    return ["outcome, mean ± sd", *(cell.name for cell in found)], rows


def _comparisons(study: Study, compared: Sequence[Comparison]) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for comparison in compared:
        found = comparison.difference
        first, second = analysis.sides(comparison.contrast, study)
        scale, digits = (100, ".2f") if comparison.outcome.unit == "points" else (1, ".3g")
        least = html.Cell("–" if found.n < 2 else f"{scale * found.detectable:{digits}}", found.detectable)
        rows.append([first, second, found.n, _difference(comparison), _p(found.p), _p(found.p_holm), least])
    headers = ["first", "second", "n", "difference (95 % interval)", "p", "p (Holm)", "found with 80 %"]
    return headers, rows


def _sentence(study: Study, comparison: Comparison) -> str:
    first, second = analysis.sides(comparison.contrast, study)
    outcome = comparison.outcome
    return statistics.conclusion(first, second, comparison.difference, outcome.unit, outcome.higher_is_better)


def _legend(lines: Sequence[Mapping[str, Any]], comparisons: int, seeds: int) -> str:
    """What the numbers of the tables mean."""
    one_size = len({line["train_examples"] for line in lines}) < 2
    shared = "the same order of examples" if one_size else "initial weights from one key, but other examples"
    tested = " or ".join(f"{count:,}" for count in sorted({line["test_examples"] for line in lines}))
    return (
        f'Intervals are 95 % t-intervals over seeds, each by itself, cut at 0 and 100 % ("{TOO_FEW}": one that covers '
        f"all between): of training again, not of drawing other pictures; "
        f"the {tested} test pictures and the training pictures are the same for all seeds. Differences are paired: the "
        f"same seed gives both sides {shared}; p is the paired t-test's, and Holm's over all {comparisons} "
        f"comparisons. Test accuracy was measured once, on the net that training ended with; with n = {seeds} the last "
        f"column of the comparisons says how large a true difference would have to be to be found with 80 % "
        f"probability. Seconds are those of one seed's epoch (an epoch's wall time over the seeds that were trained at "
        f"once); memory is a compiled training step's, without the data set."
    )


def _warnings(found: Sequence[Cell], failed: Mapping[str, str]) -> str:
    lost = [f"{cell.name} (seeds {', '.join(map(str, cell.diverged))})" for cell in found if cell.diverged]
    told = [f"No results: {'; '.join(f'{cell} ({reason})' for cell, reason in failed.items())}."] if failed else []
    if lost:
        told.append(
            f"Diverged, and counted as they ended (a score that is no number is never right): {'; '.join(lost)}."
        )
    return " ".join(told)


def _edges(study: Study, found: Sequence[Cell]) -> str:
    """Which cells were tuned to the largest or the smallest value that was tried, where a better one may lie beyond."""
    for field, values in study.tune.items():
        edges = [cell.name for cell in found if values[cell.chosen] in (min(values), max(values))]
        if edges:
            return f"The best {field} lies at the edge of what was tried, and may lie beyond, in: {', '.join(edges)}."
    return ""


def _tuned(study: Study, records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]] | None:
    """Mean validation accuracy of each cell with each value of the tuned field."""
    if not study.tune:
        return None
    ((field, values),) = study.tune.items()
    lines = {(r["cell"], r["chosen"], r["seed"]): r["validation_accuracy"] for r in records if r["kind"] == "tuning"}
    rows = []
    for cell in study.cells:
        row = [cell]
        for number in range(len(values)):
            each = [value for (name, chosen, _), value in lines.items() if (name, chosen) == (cell, number)]
            row.append(f"{sum(each) / len(each):.2%}" if each else "–")
        rows.append(row)
    return [f"validation accuracy, {field} =", *map(str, values)], rows


def _plots(workdir: str, study: Study, found: Sequence[Cell], compared: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Draws what there is to draw; (path, caption) each, effects first."""
    drawn = []

    def path(name: str, caption: str) -> str:
        drawn.append((os.path.join(workdir, name), caption))
        return drawn[-1][0]

    for unit in dict.fromkeys(comparison.outcome.unit for comparison in compared):
        rows = [plots.EffectRow(study.baseline, None)]
        for comparison in (c for c in compared if c.outcome.unit == unit):
            first, second = analysis.sides(comparison.contrast, study)
            to_baseline = comparison.contrast.second == (study.baseline, comparison.contrast.first[1])
            label = first if to_baseline else f"{first} less {second}"
            rows.append(plots.EffectRow(label, comparison.difference, _difference(comparison).text, comparison.seeds))
        stem = "_".join(["effects", *([] if unit == "points" else [unit or "other"])])
        caption = (
            f"Paired differences, to {study.baseline} where nothing else is named, with 95 % intervals; dots are seeds"
        )
        plots.effects_picture(path(f"{stem}.png", caption), rows, f"difference to {study.baseline}", unit)
    curves = {
        cell.name: [[(p["epoch"], p["validation_accuracy"]) for p in curve] for curve in cell.curves.values()]
        for cell in found
        if all("validation_accuracy" in p for curve in cell.curves.values() for p in curve)
    }
    if any(len(curve) > 1 for each in curves.values() for curve in each):
        caption = "Validation accuracy: mean over seeds, and the range of the seeds"
        plots.curves_picture(path("curves.png", caption), curves, "validation accuracy")
    for number, series in enumerate(study.series):
        wanted = list(series.points.values())
        lines = {c.name: [c.summaries[o] for o in wanted] for c in found if all(o in c.summaries for o in wanted)}
        if lines:
            caption = f"{series.ylabel} against {series.xlabel}, with 95 % intervals"
            plots.means_picture(
                path(f"series_{number}.png", caption), list(series.points), lines, series.xlabel, series.ylabel
            )
    return drawn


def _nets(store: Store, found: Sequence[Cell]) -> list[html.Item]:
    items: list[html.Item] = []
    for cell in found:
        for name, what in (("kernels.png", "kernels of the first layer"), ("features.png", "feature maps")):
            path = store.picture(cell.name, name)
            if os.path.exists(path):
                items.append(html.Picture(path, f"{cell.name}: {what}, one seed"))
    return items


def _differences(study: Study, asked: Asked, found: Sequence[Cell]) -> list[str]:
    """What the cells change in the config that they start from: all of them, and each."""
    shared = {**study.shared, **asked.overrides}
    lines = [f"all: {', '.join([asked.base, *(f'{key} = {value!r}' for key, value in shared.items())])}"]
    chosen = {cell.name: cell.chosen for cell in found}
    for cell, fields in study.cells.items():
        fields = dict(fields)
        for field, values in study.tune.items():
            fields[field] = values[chosen[cell]] if cell in chosen else values
        lines.append(f"{cell}: {', '.join(f'{key} = {value!r}' for key, value in fields.items()) or 'unchanged'}")
    return lines


def _facts(lines: Sequence[Mapping[str, Any]], asked: Asked) -> dict[str, Any]:
    """Command, versions, device and commit; of every session that the results are from."""

    def all_of(key: str) -> str:
        return "; ".join(dict.fromkeys(str(line[key]) for line in lines))

    def counts(key: str) -> str:
        return ", ".join(f"{count:,}" for count in sorted({line[key] for line in lines}))

    took = {(line["cell"], line["cell_seconds"]) for line in lines}
    minutes = f"{sum(seconds for _, seconds in took) / 60:.1f}"
    facts = {"command": asked.command, "seeds": f"0 to {asked.seeds - 1}", "minutes": minutes}
    packages = dict.fromkeys(", ".join(f"{k} {v}" for k, v in line["packages"].items()) for line in lines)
    return {
        **facts,
        "examples": f"{counts('train_examples')} for training, {counts('test_examples')} for testing",
        "device": all_of("device"),
        "commit": all_of("commit"),
        "Python": all_of("python"),
        "packages": "; ".join(packages),
    }
