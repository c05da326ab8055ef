"""A study's records turned into its numbers: each cell's mean, and each comparison, paired by seed."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.ablation import statistics
from experiments.ablation.statistics import Difference, Summary
from experiments.ablation.study import Contrast, Outcome, Study


class Cell(NamedTuple):
    """What is known of a cell.

    Attributes:
      name: name of the cell.
      summaries: outcome's name -> its summary over seeds; without outcomes that are not finite for a seed.
      values: outcome's name -> seed -> number; None where it is not finite.
      curves: seed -> its validations.
      parameters, multiply_adds: parameters of its net, and multiply-adds for one image.
      step_bytes: memory of a compiled training step of one seed.
      epoch_seconds: wall time of one seed's epoch, seconds; mean over its seeds.
      chosen: index of the config that was tuned to.
      diverged: seeds whose loss was not finite any more.
    """

    name: str
    summaries: dict[str, Summary]
    values: dict[str, dict[int, float | None]]
    curves: dict[int, list[dict[str, Any]]]
    parameters: int
    multiply_adds: int
    step_bytes: int
    epoch_seconds: float
    chosen: int
    diverged: list[int]


class Comparison(NamedTuple):
    """A comparison and its result.

    Attributes:
      contrast: what is compared.
      outcome: outcome of its first side.
      difference: the difference, paired over the seeds that both sides have.
      seeds: each seed's own difference.
    """

    contrast: Contrast
    outcome: Outcome
    difference: Difference
    seeds: list[float]


def cells(study: Study, records: Sequence[dict[str, Any]], seeds: int) -> list[Cell]:
    """The cells that have results, in the study's order.

    Args:
      study: its declaration.
      records: lines of results.jsonl.
      seeds: number of seeds that count: 0, 1, ...

    Returns:
      The cells.
    """
    found = []
    for name in study.cells:
        lines = {r["seed"]: r for r in records if r["kind"] == "seed" and r["cell"] == name and r["seed"] < seeds}
        if not lines:
            continue
        lines = dict(sorted(lines.items()))
        units = {outcome.name: outcome.unit for outcome in study.outcomes}
        values = {outcome: {seed: line["values"].get(outcome) for seed, line in lines.items()} for outcome in units}
        finite = {key: list(each.values()) for key, each in values.items() if None not in each.values()}
        first = next(iter(lines.values()))
        found.append(
            Cell(
                name,
                {outcome: _summary(each, units[outcome]) for outcome, each in finite.items()},
                values,
                {seed: line["curve"] for seed, line in lines.items()},
                first["parameters"],
                first["multiply_adds"],
                first["step_bytes"],
                math.fsum(line["epoch_seconds"] for line in lines.values()) / len(lines),
                first["chosen"],
                [seed for seed, line in lines.items() if line["diverged"] is not None],
            )
        )
    return found


def _summary(values: Sequence[float], unit: str) -> Summary:
    """Summary of an outcome; fractions lie within 0 and 1."""
    summary = statistics.summarise(values)
    return statistics.within(summary, 0, 1) if unit == "points" else summary


def comparisons(study: Study, found: Sequence[Cell]) -> list[Comparison]:
    """Every comparison of the study that has results, with p-values corrected over all of them.

    Args:
      study: its declaration.
      found: the cells that have results (`cells`).

    Returns:
      One for each of `study.comparisons` whose sides have finite numbers for the same seeds.
    """
    values = {cell.name: cell.values for cell in found}
    outcomes = {outcome.name: outcome for outcome in study.outcomes}
    pairs = []
    for contrast in study.comparisons:
        sides = [values.get(cell, {}).get(outcome, {}) for cell, outcome in contrast]
        shared = [seed for seed in sides[0] if seed in sides[1]]
        columns = [[side[seed] for seed in shared] for side in sides]
        if shared and None not in (*columns[0], *columns[1]):
            pairs.append((contrast, columns))
    differences = statistics.compare([columns for _, columns in pairs])
    bounded = [
        statistics.within(difference, -1, 1) if outcomes[contrast.first[1]].unit == "points" else difference
        for (contrast, _), difference in zip(pairs, differences, strict=True)
    ]
    return [
        Comparison(contrast, outcomes[contrast.first[1]], difference, [a - b for a, b in zip(one, other, strict=True)])
        for (contrast, (one, other)), difference in zip(pairs, bounded, strict=True)
    ]


def sides(contrast: Contrast, study: Study) -> tuple[str, str]:
    """What to call the two sides of a comparison, no longer than needed.

    Args:
      contrast: the comparison.
      study: its study.

    Returns:
      Names of the first and the second side.
    """
    (cell, outcome), (other, reference) = contrast
    if cell == other:
        return (f"{cell}: {outcome}", f"{reference}")
    if outcome == reference:
        return (cell, other) if len(study.outcomes) == 1 else (f"{cell} ({outcome})", other)
    return f"{cell}: {outcome}", f"{other}: {reference}"
