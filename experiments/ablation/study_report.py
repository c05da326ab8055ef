"""A study's report: report.md, plots, and one page, report.html, that holds all of it."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cnn import page, report
from cnn.config import Config
from experiments.ablation import analysis, plots, statistics
from experiments.ablation.analysis import Cell, Comparison
from experiments.ablation.store import Store
from experiments.ablation.study import TEST, Outcome, Study


def write(
    store: Store, name: str, study: Study, configs: Mapping[str, Sequence[Config]], seeds: int, command: str
) -> str:
    """Writes the report of what results there are.

    Args:
      store: of the study.
      name: of the study.
      study: its declaration.
      configs: of each cell.
      seeds: 0 to this less one count.
      command: that makes the report anew.

    Returns:
      Path of report.md.
    """
    found = analysis.cells(study, store.records, seeds)
    compared = analysis.comparisons(study, found)
    plotted = _plots(store.workdir, study, found, compared)
    conclusions = [_sentence(study, comparison) for comparison in compared]
    facts = _facts(store, found, seeds, command)
    tuned = _tuned(study, store.records)

    headers, rows = _table(study, found, compared, configs)
    more_headers, more_rows = _outcomes(study, found)
    compare_headers, compare_rows = _comparisons(study, compared)
    differing = _differences(study, configs, found)
    notes = [text for text in (study.notes, _warnings(found), _edges(study, found)) if text]

    lines = [f"# {name}: {study.question}", "", *_paragraphs(notes)]
    lines += [report.markdown(headers, _texts(rows)), _legend(study, seeds), ""]
    if more_rows:
        lines += ["## All outcomes", "", report.markdown(more_headers, _texts(more_rows))]
    lines += ["## What can be concluded", "", *(f"- {text}" for text in conclusions), ""]
    lines += ["## Comparisons", "", report.markdown(compare_headers, _texts(compare_rows))]
    lines += [f"![{caption}]({os.path.basename(path)})\n" for path, caption in plotted]
    if tuned:
        lines += ["## Tuning, on validation", "", report.markdown(tuned[0], tuned[1])]
    lines += ["## Cells", "", "```", *differing, "```", ""]
    lines += ["## How", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    path = os.path.join(store.workdir, "report.md")
    with open(path + ".part", "w") as file:
        file.write("\n".join(lines))
    os.replace(path + ".part", path)

    pictures = [page.Picture(path, caption) for path, caption in plotted]
    sections = [
        page.Section("Result", [*(page.Text(text) for text in notes), page.Table(headers, rows, TEST), *pictures[:1]]),
        page.Section("What can be concluded", [page.Text("\n\n".join(conclusions))]),
        page.Section("Comparisons", [page.Table(compare_headers, compare_rows), page.Text(_legend(study, seeds))]),
        page.Section("All outcomes", [page.Table(more_headers, more_rows)] if more_rows else []),
        page.Section("Curves", pictures[1:]),
        page.Section("Tuning, on validation", [page.Table(*tuned)] if tuned else []),
        page.Section("First-layer kernels and feature maps", _nets(store, found)),
        page.Section("Cells", [page.Listing("\n".join(differing))]),
        page.Section("How", [page.Facts(facts)]),
    ]
    page.write(
        os.path.join(store.workdir, "report.html"), f"Study: {name}", [s for s in sections if s.items], study.question
    )
    return path


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in (text, "")]


def _texts(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [[cell.text if isinstance(cell, page.Cell) else str(cell) for cell in row] for row in rows]


def _value(value: float, outcome: Outcome) -> str:
    if value != value:
        return "–"
    return f"{value:.2%}" if outcome.unit == "points" else f"{value:.3g}{f' {outcome.unit}' if outcome.unit else ''}"


def _difference(comparison: Comparison) -> page.Cell:
    found, unit = comparison.difference, comparison.outcome.unit
    scale, digits = (100, ".2f") if unit == "points" else (1, ".3g")
    if found.n < 2:
        return page.Cell(f"{scale * found.mean:+{digits}}", found.mean)
    text = f"{scale * found.mean:+{digits}} ({scale * found.low:+{digits}} to {scale * found.high:+{digits}})"
    return page.Cell(text, found.mean)


def _p(value: float) -> page.Cell:
    text = "–" if value != value else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
    return page.Cell(text, value)


def _table(
    study: Study, found: Sequence[Cell], compared: Sequence[Comparison], configs: Mapping[str, Sequence[Config]]
) -> tuple[list[str], list[list[Any]]]:
    """The main table: test accuracy, difference, costs."""
    headers = ["cell", "n", TEST, "sd", "95 % interval", f"less {study.baseline}, points", "p (Holm)"]
    headers += ["parameters", "multiply-adds", "s / epoch", "step, MB"]
    field = next(iter(study.tune), None)
    headers += [field.split(".")[-1]] if field else []
    by_cell = {c.contrast.first[0]: c for c in compared if c.contrast[1] == (study.baseline, TEST)}
    rows = []
    for cell in found:
        summary, comparison = cell.summaries[TEST], by_cell.get(cell.name)
        no_difference = page.Cell("baseline", 0.0) if cell.name == study.baseline else page.Cell("–")
        row: list[Any] = [
            cell.name,
            summary.n,
            page.Cell(f"{summary.mean:.2%}", summary.mean),
            "–" if summary.n < 2 else page.Cell(f"{100 * summary.std:.2f}", summary.std),
            "–" if summary.n < 2 else page.Cell(f"{summary.low:.2%} to {summary.high:.2%}", summary.low),
            _difference(comparison) if comparison else no_difference,
            _p(comparison.difference.p_holm) if comparison else page.Cell("–"),
            page.Cell(f"{cell.parameters:,}", cell.parameters),
            page.Cell(f"{cell.multiply_adds:,}", cell.multiply_adds),
            page.Cell(f"{cell.epoch_seconds:.2f}", cell.epoch_seconds),
            page.Cell(f"{cell.step_bytes / 1e6:.1f}", cell.step_bytes),
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
                row.append(page.Cell("–"))
                continue
            spread = f" ± {_value(summary.std, outcome).removesuffix('%')}" if summary.n > 1 else ""
            row.append(page.Cell(_value(summary.mean, outcome) + spread, summary.mean))
        rows.append(row)
    return ["outcome, mean ± sd", *(cell.name for cell in found)], rows


def _comparisons(study: Study, compared: Sequence[Comparison]) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for comparison in compared:
        found = comparison.difference
        first, second = analysis.sides(comparison.contrast, study)
        scale, digits = (100, ".2f") if comparison.outcome.unit == "points" else (1, ".3g")
        least = page.Cell("–" if found.n < 2 else f"{scale * found.detectable:{digits}}", found.detectable)
        rows.append([first, second, found.n, _difference(comparison), _p(found.p), _p(found.p_holm), least])
    headers = ["first", "second", "n", "difference (95 % interval)", "p", "p (Holm)", "found with 80 %"]
    return headers, rows


def _sentence(study: Study, comparison: Comparison) -> str:
    first, second = analysis.sides(comparison.contrast, study)
    outcome = comparison.outcome
    return statistics.conclusion(first, second, comparison.difference, outcome.unit, outcome.higher_is_better)


def _legend(study: Study, seeds: int) -> str:
    return (
        f"Intervals are 95 % t-intervals over seeds. Differences are paired: the same seed gives both sides the same "
        f"order of examples; p is the paired t-test's, and Holm's over all {len(study.comparisons)} comparisons of the "
        f"study. Test accuracy was measured once, on the net that training ended with; with n = {seeds} the last "
        f"column of the comparisons says how large a true difference would have to be to be found with 80 % "
        f"probability. Seconds are those of one seed's epoch (an epoch's wall time over the seeds that were trained at "
        f"once); memory is a compiled training step's, without the data set."
    )


def _warnings(found: Sequence[Cell]) -> str:
    lost = [f"{cell.name} (seeds {', '.join(map(str, cell.diverged))})" for cell in found if cell.diverged]
    if not lost:
        return ""
    return f"Diverged, and counted as they ended (a score that is no number is never right): {'; '.join(lost)}."


def _edges(study: Study, found: Sequence[Cell]) -> str:
    """Which cells were tuned to the largest or the smallest value that was tried, where a better one may lie beyond."""
    for field, values in study.tune.items():
        edges = [cell.name for cell in found if values[cell.chosen] in (min(values), max(values))]
        if edges and len(values) > 2:
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
            label = first if comparison.contrast.second[0] == study.baseline else f"{first} less {second}"
            rows.append(plots.EffectRow(label, comparison.difference, _difference(comparison).text, comparison.seeds))
        name = "effects.png" if unit == "points" else "effects_other.png"
        caption = f"Paired differences to {study.baseline}, with 95 % intervals; faint dots are seeds"
        plots.effects_picture(path(name, caption), rows, f"difference to {study.baseline}", unit)
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


def _nets(store: Store, found: Sequence[Cell]) -> list[page.Item]:
    items: list[page.Item] = []
    for cell in found:
        for name, what in (("kernels.png", "kernels of the first layer"), ("features.png", "feature maps")):
            path = store.picture(cell.name, name)
            if os.path.exists(path):
                items.append(page.Picture(path, f"{cell.name}: {what}, one seed"))
    return items


def _differences(study: Study, configs: Mapping[str, Sequence[Config]], found: Sequence[Cell]) -> list[str]:
    """What each cell changes in the config that all share."""
    shared = {**study.shared}
    lines = [f"all: {study.base}{''.join(f', {key} = {value!r}' for key, value in shared.items())}"]
    chosen = {cell.name: cell.chosen for cell in found}
    for cell, fields in study.cells.items():
        fields = dict(fields)
        for field, values in study.tune.items():
            fields[field] = values[chosen[cell]] if cell in chosen else values
        lines.append(f"{cell}: {', '.join(f'{key} = {value!r}' for key, value in fields.items()) or 'unchanged'}")
    return lines


def _facts(store: Store, found: Sequence[Cell], seeds: int, command: str) -> dict[str, Any]:
    """Command, versions, device and commit; of every session that the results are from."""
    lines = [record for record in store.records if record["kind"] == "seed" and record["seed"] < seeds]

    def all_of(key: str) -> str:
        return "; ".join(dict.fromkeys(json.dumps(line[key]).strip('"') for line in lines))

    took = {(line["cell"], line["cell_seconds"]) for line in lines}
    facts = {"command": command, "seeds": f"0 to {seeds - 1}", "minutes": f"{sum(s for _, s in took) / 60:.1f}"}
    if lines:
        examples = f"{lines[0]['train_examples']:,} for training, {lines[0]['test_examples']:,} for testing"
        facts |= {"examples": examples, "device": all_of("device"), "commit": all_of("commit")}
        facts |= {"Python": all_of("python"), "packages": _packages(lines)}
    return facts


def _packages(lines: Sequence[dict[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(", ".join(f"{k} {v}" for k, v in line["packages"].items()) for line in lines))
