"""What all committed studies found, generated from their results for docs/studies.md."""

import json
import pathlib

from experiments.ablation import analysis, runner, study_findings
from experiments.ablation import study as study_lib

RESULTS = pathlib.Path(__file__).parents[1] / "experiments" / "results"


def of(name: str) -> list[str]:
    """What a study found.

    Args:
      name: its name.

    Returns:
      Its findings, and its limits in the last line.
    """
    study = study_lib.load(name)
    records = [json.loads(line) for line in (RESULTS / name / "results.jsonl").read_text().splitlines()]
    found = analysis.cells(study, records, study.seeds)
    base = runner.load_base(study.base)
    data = runner.data_of({cell: runner.cell_configs(study, cell, base, {}) for cell in study.cells})
    lines = [record for record in records if record["kind"] == "seed" and record["seed"] < study.seeds]
    compared = analysis.comparisons(study, found)
    return [*study_findings.findings(study, compared, found), study_findings.limits(study, lines, data)]


def studies() -> str:
    """All studies: question, findings, limits.

    Returns:
      A list in Markdown, a link to each study's report first.
    """
    parts = []
    for name in study_lib.names():
        report = f"[{name}](../experiments/results/{name}/report.md)"
        lines = "\n".join(f"  - {line[0].upper()}{line[1:]}" for line in of(name))
        parts.append(f"- **{report}**: {study_lib.load(name).question}\n{lines}")
    return "\n".join(parts)
