"""What a study found in a few lines, with its limits: for its report, and for a page of all studies."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.ablation import analysis, statistics, study_tables, study_words
from experiments.ablation.analysis import Cell, Comparison
from experiments.ablation.study import Study

NO_DIFFERENCE = "no significant difference"
INCONCLUSIVE = "inconclusive (tuned to the edge of what was tried)"
TOO_FEW = "no conclusion from one seed"
UNKNOWN = "too few seeds for a conclusion"
EQUAL = "equal for each seed"
_ORDER = ("better", "higher", "worse", "lower", NO_DIFFERENCE, EQUAL, INCONCLUSIVE, UNKNOWN, TOO_FEW)


def findings(study: Study, compared: Sequence[Comparison], found: Sequence[Cell]) -> list[str]:
    """The comparisons of a study by what they say, each with its difference and interval.

    Args:
      study: its declaration.
      compared: the comparisons that could be made.
      found: the cells that have results.

    Returns:
      Lines such as "worse than max: average -0.75 (-1.03 to -0.47); 3-max -0.33 (-0.54 to -0.13)", those on the
      baseline first, then what could not be compared, and which seeds diverged.
    """
    edge = study_words.at_edge(study, found)
    lost = study_words.warnings(found, {})
    left_out = study_words.left_out(study, compared, found)
    groups: dict[tuple[bool, str], list[str]] = {}
    for comparison in compared:
        (cell, outcome), (other, reference) = comparison.contrast
        to_baseline = other == study.baseline and cell != other and outcome == reference
        first, second = analysis.sides(comparison.contrast, study)
        verdict = INCONCLUSIVE if {cell, other} & set(edge) else _verdict(comparison)
        unit = {"points": "", "": ""}.get(comparison.outcome.unit, f" {comparison.outcome.unit}")
        difference = study_tables.difference_cell(comparison).text + unit
        name = first if to_baseline else f"{first} less {second}:"
        groups.setdefault((not to_baseline, verdict), []).append(f"{name} {difference}")
    ordered = sorted(groups.items(), key=lambda group: (group[0][0], _ORDER.index(group[0][1])))
    lines = [f"{_words(study, *head)}: {'; '.join(texts)}" for head, texts in ordered]
    return [*lines, *left_out, *([lost] if lost else [])]


def _words(study: Study, others: bool, verdict: str) -> str:
    """What a group of comparisons has in common."""
    if others:
        return f"others, {verdict}"
    between = {NO_DIFFERENCE: " from", EQUAL: " with"}.get(verdict, ", less" if " " in verdict else " than")
    return f"{verdict}{between} {study.baseline}"


def _verdict(comparison: Comparison) -> str:
    """What a comparison says, in a word or two."""
    found, better = comparison.difference, comparison.outcome.higher_is_better
    if found.n < 2:
        return TOO_FEW
    if comparison.outcome.unit == "points" and statistics.says_nothing(found, -1, 1):
        return UNKNOWN
    if found.std == 0 and found.mean == 0:
        return EQUAL
    if not statistics.significant(found):
        return NO_DIFFERENCE
    if better is None:
        return "higher" if found.mean > 0 else "lower"
    return "better" if (found.mean > 0) == better else "worse"


def limits(study: Study, lines: Sequence[Mapping[str, Any]], data: str) -> str:
    """How far a study reaches, in one line.

    Args:
      study: its declaration.
      lines: the seeds' lines of results.jsonl.
      data: names of the data sets.

    Returns:
      Data, their size, the length of training, the size of the nets and the number of seeds.
    """

    if not lines:
        return "Limits: there are no results."

    def span(values: Sequence[float], unit: str) -> str:
        low, high = min(values), max(values)
        return f"{low:,} {unit}" if low == high else f"{low:,} to {high:,} {unit}"

    examples = span([line["train_examples"] for line in lines], "training pictures")
    epochs = span([_rounded(line["curve"][-1]["epoch"]) for line in lines if line["curve"]] or [0], "epochs")
    parameters = span([line["parameters"] for line in lines], "parameters")
    seeds = span([sum(line["cell"] == cell for line in lines) for cell in study.cells], "seeds")
    return (
        f"Limits: data {data}, {examples}, {epochs}, nets of {parameters}, {seeds}; nothing is said of other data, "
        "larger nets or longer training."
    )


def _rounded(epochs: float) -> float:
    """Epochs with one decimal, those of a last part of a batch left out."""
    near = round(epochs)
    return near if near and abs(epochs - near) < 0.02 * near else round(epochs, 1)
