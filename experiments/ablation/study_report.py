"""A study's report: report.md, plots, and one page, report.html, that holds all of it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn.reports import html, tables
from cnn.reports.tables import Notes
from cnn.runtime import whole
from experiments.ablation import analysis, plots, study_findings, study_tables, study_words
from experiments.ablation.analysis import Cell, Comparison
from experiments.ablation.store import Store
from experiments.ablation.study import Study


class Asked(NamedTuple):
    """What the user asked for.

    Attributes:
      name: name of the study.
      seeds: number of seeds that count: 0, 1, ...
      base: config file that the cells start from.
      overrides: field -> value, for all cells.
      command: command that makes the results anew.
      data: names of the data sets that the cells are trained on.
    """

    name: str
    seeds: int
    base: str
    overrides: Mapping[str, Any]
    command: str
    data: str


def write(store: Store, study: Study, asked: Asked, failed: Mapping[str, str]) -> str:
    """Writes the report of what results there are.

    Args:
      store: store of the study's results.
      study: its declaration.
      asked: what the user asked for.
      failed: cell -> why it has no results.

    Returns:
      Path of report.md.
    """
    found = analysis.cells(study, store.records, asked.seeds)
    compared = analysis.comparisons(study, found)
    lines = [r for r in store.records if r["kind"] == "seed" and r["seed"] < asked.seeds]
    plotted = draw_plots(store.workdir, study, found, compared)
    conclusions = study_words.conclusions(study, compared, found)
    facts = study_words.facts(lines, asked.command, asked.seeds, asked.data)
    legend = study_words.legend(lines)
    limits = study_findings.limits(study, lines, asked.data)
    seeds = study_tables.seeds_table(found)
    main, comparisons = (
        study_tables.main_table(study, found, compared),
        study_tables.comparisons_table(study, compared),
    )
    outcomes, tuned = study_tables.outcomes_table(study, found), study_tables.tuning_table(study, store.records)
    differing = study_words.differences(study, asked.base, asked.overrides, found)
    warnings = (
        study_words.notes(study, asked.base, asked.overrides),
        study_words.warnings(found, failed),
        study_words.edges(study, found),
    )
    notes = [text for text in warnings if text]

    parts = [f"# {asked.name}: {study.question}", "", *(line for text in notes for line in (text, ""))]
    parts += [tables.table_markdown(main), legend, ""]
    if outcomes:
        parts += ["## All outcomes", "", tables.table_markdown(outcomes)]
    parts += ["## What can be concluded", "", *(f"- {text}" for text in conclusions), "", limits, ""]
    parts += ["## Comparisons", "", tables.table_markdown(comparisons)]
    parts += [f"![{caption}]({os.path.basename(path)})\n" for path, caption in plotted]
    if tuned:
        parts += ["## Tuning, on validation", "", tables.table_markdown(tuned)]
    parts += ["## Seeds", "", tables.table_markdown(seeds)]
    parts += ["## Cells", "", "```", *differing, "```", ""]
    parts += ["## How", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    path = os.path.join(store.workdir, "report.md")
    with whole.written(path) as part, open(part, "w") as file:
        file.write("\n".join(parts))

    pictures = [html.Picture(path, caption) for path, caption in plotted]
    sections = [
        html.Section("Result", [*(html.Text(text) for text in notes), main, html.Text(legend), *pictures[:1]]),
        html.Section("What can be concluded", [Notes(conclusions), html.Text(limits)]),
        html.Section("Comparisons", [comparisons]),
        html.Section("All outcomes", [outcomes] if outcomes else []),
        html.Section("Curves", pictures[1:]),
        html.Section("Tuning, on validation", [tuned] if tuned else []),
        html.Section("Seeds", [seeds]),
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


def draw_plots(
    workdir: str, study: Study, found: Sequence[Cell], compared: Sequence[Comparison]
) -> list[tuple[str, str]]:
    """Draws the pictures of a study: the effects first, then its series and curves.

    Args:
      workdir: directory that the pictures are written to.
      study: the study.
      found: its cells.
      compared: the comparisons of cells.

    Returns:
      (path, caption) of each picture.
    """
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
            rows.append(
                plots.EffectRow(
                    label, comparison.difference, study_tables.difference_cell(comparison).text, comparison.seeds
                )
            )
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
            if store.has_picture(cell.name, name):
                items.append(html.Picture(store.picture(cell.name, name), f"{cell.name}: {what}, one seed"))
    return items
