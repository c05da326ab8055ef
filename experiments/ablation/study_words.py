"""What a study's report says in words: what can be concluded, what is missing, what the cells are, how it was made."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.ablation import analysis, statistics
from experiments.ablation.analysis import Cell, Comparison
from experiments.ablation.study import Study


def conclusions(study: Study, compared: Sequence[Comparison], found: Sequence[Cell]) -> list[str]:
    """A sentence for each comparison of a study, also for those that could not be made.

    Args:
      study: its declaration.
      compared: the comparisons that could be made.
      found: the cells that have results.

    Returns:
      The sentences; that of a comparison with a cell that `at_edge` names begins with "Inconclusive".
    """
    edge = at_edge(study, found)
    made = [_sentence(study, comparison, edge) for comparison in compared]
    return [*made, *left_out(study, compared, found)]


def left_out(study: Study, compared: Sequence[Comparison], found: Sequence[Cell]) -> list[str]:
    """A sentence for each comparison that could not be made.

    Args:
      study: its declaration.
      compared: the comparisons that could be made.
      found: the cells that have results.

    Returns:
      The sentences.
    """
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


def _sentence(study: Study, comparison: Comparison, edge: Sequence[str]) -> str:
    first, second = analysis.sides(comparison.contrast, study)
    outcome = comparison.outcome
    text = statistics.conclusion(first, second, comparison.difference, outcome.unit, outcome.higher_is_better)
    cells = [cell for cell in dict.fromkeys(side[0] for side in comparison.contrast) if cell in edge]
    if not cells:
        return text
    field = next(iter(study.tune))
    return f"Inconclusive, as the best {field} of {' and '.join(cells)} lies at the edge of what was tried: {text}"


def legend(lines: Sequence[Mapping[str, Any]]) -> str:
    """What all seeds of a study share.

    Args:
      lines: the seeds' lines of results.jsonl.

    Returns:
      A sentence.
    """
    one_size = len({line["train_examples"] for line in lines}) < 2
    shared = "the same order of examples" if one_size else "initial weights from one key, but other examples"
    tested = " or ".join(f"{count:,}" for count in sorted({line["test_examples"] for line in lines}))
    return (
        f"The {tested} test pictures and the training pictures are the same for all seeds; the same seed gives both "
        f"sides of a comparison {shared}."
    )


def notes(study: Study, base: str, overrides: Mapping[str, Any]) -> str:
    """The notes of a study; they are about the data that it was declared for.

    Args:
      study: its declaration.
      base: config file that the cells start from.
      overrides: field -> value, for all cells.

    Returns:
      The notes, marked where this study started from another config or on other data; "" if there are none.
    """
    changed = [] if base == study.base else [f"the base {base}"]
    changed += [f"{field} = {value!r}" for field, value in overrides.items() if field.startswith("data.")]
    if not study.notes or not changed:
        return study.notes
    return f"The study was declared for {study.base}, not for {', '.join(changed)}; its notes on that: {study.notes}"


def warnings(found: Sequence[Cell], failed: Mapping[str, str]) -> str:
    """Which cells have no results, and which seeds diverged.

    Args:
      found: the cells that have results.
      failed: cell -> why it has none.

    Returns:
      Sentences; "" if there is nothing to say.
    """
    lost = [f"{cell.name} (seeds {', '.join(map(str, cell.diverged))})" for cell in found if cell.diverged]
    said = [f"No results: {'; '.join(f'{cell} ({reason})' for cell, reason in failed.items())}."] if failed else []
    if lost:
        said.append(
            f"Diverged, and counted as they ended (a score that is no number is never right): {'; '.join(lost)}."
        )
    return " ".join(said)


def at_edge(study: Study, found: Sequence[Cell]) -> list[str]:
    """Which cells were tuned to the largest or the smallest value that was tried, where a better one may lie beyond.

    Args:
      study: its declaration.
      found: the cells that have results.

    Returns:
      Their names.
    """
    return [
        cell.name
        for values in study.tune.values()
        for cell in found
        if values[cell.chosen] in (min(values), max(values))
    ]


def edges(study: Study, found: Sequence[Cell]) -> str:
    """A sentence on the cells that `at_edge` names.

    Args:
      study: its declaration.
      found: the cells that have results.

    Returns:
      The sentence; "" if there are none.
    """
    cells = at_edge(study, found)
    if not cells:
        return ""
    field = next(iter(study.tune))
    return f"The best {field} lies at the edge of what was tried, and may lie beyond, in: {', '.join(cells)}."


def differences(study: Study, base: str, overrides: Mapping[str, Any], found: Sequence[Cell]) -> list[str]:
    """What the cells change in the config that they start from.

    Args:
      study: its declaration.
      base: config file that the cells start from.
      overrides: field -> value, for all cells.
      found: the cells that have results.

    Returns:
      A line for all cells, and one for each.
    """
    shared = {**study.shared, **overrides}
    lines = [f"all: {', '.join([base, *(f'{key} = {value!r}' for key, value in shared.items())])}"]
    chosen = {cell.name: cell.chosen for cell in found}
    for cell, fields in study.cells.items():
        fields = dict(fields)
        for field, values in study.tune.items():
            fields[field] = values[chosen[cell]] if cell in chosen else values
        lines.append(f"{cell}: {', '.join(f'{key} = {value!r}' for key, value in fields.items()) or 'unchanged'}")
    return lines


def facts(lines: Sequence[Mapping[str, Any]], command: str, seeds: int, data: str) -> dict[str, Any]:
    """Command, data, versions, device and commit; of every session that the results are from.

    Args:
      lines: the seeds' lines of results.jsonl.
      command: command that makes the results anew.
      seeds: number of seeds.
      data: names of the data sets.

    Returns:
      Texts by name.
    """

    def all_of(key: str) -> str:
        return "; ".join(dict.fromkeys(str(line[key]) for line in lines))

    def counts(key: str) -> str:
        return ", ".join(f"{count:,}" for count in sorted({line[key] for line in lines}))

    took = {(line["cell"], line["cell_seconds"]) for line in lines}
    minutes = f"{sum(seconds for _, seconds in took) / 60:.1f}"
    made = {"command": command, "seeds": f"0 to {seeds - 1}", "minutes": minutes}
    packages = dict.fromkeys(", ".join(f"{k} {v}" for k, v in line["packages"].items()) for line in lines)
    return {
        **made,
        "data": data,
        "examples": f"{counts('train_examples')} for training, {counts('test_examples')} for testing",
        "device": all_of("device"),
        "commit": all_of("commit"),
        "Python": all_of("python"),
        "packages": "; ".join(packages),
    }
