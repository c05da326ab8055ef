"""Damage and kills: `python -m benchmarks.survival [--kills=100] [--damages=300] [--seed=0]`; see README.md.

Damages files of runs, studies and streams, one at a time, each followed by a command that uses it; and kills training,
ablation and streaming at random moments, each started again to its end. Writes survival.json and survival.md with a
table of what came of them. Ends with status 1 if anything was silent and different, or a traceback. Parts that ran one
after another, or at once, into folders of their own are put together by `--merge=FOLDER,FOLDER`.
"""

import collections
import math
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

from absl import flags

from benchmarks import options
from cnn.commands import program

flags.adopt_module_key_flags(options)
KILLS = flags.DEFINE_integer("kills", 100, "Number of SIGKILLs at random moments.", lower_bound=0)
DAMAGES = flags.DEFINE_integer("damages", 300, "Number of damaged files.", lower_bound=0)
MINUTES = flags.DEFINE_float("minutes", 0, "Minutes after which no further kill or damage begins; 0: no limit.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the damages and of the moments.")
JOB = flags.DEFINE_list("job", [], "Names of the jobs that are killed, in turn; default: all.")
MERGE = flags.DEFINE_list("merge", [], "Folders of results that are put together; nothing is killed or damaged.")
SMOKE_CASES = {"jobs": ["streaming into m.npy"], "subjects": ["m.npy", "half run"], "kills": 2, "damages": 12}


def main() -> None:
    """Kills, damages, writes what came of it and prints the tables."""
    import jax

    from benchmarks import machine, survival_damages, survival_kills, survival_subjects
    from cnn.runs import logs
    from cnn.runtime import compiler

    if MERGE.value:
        parts = [logs.read_json(os.path.join(folder, "survival.json"), "kills", "damages") for folder in MERGE.value]
        results = merged(parts)
        machine.write(options.OUTPUT.value, "survival", results, report(results) + "\n" + machine.lines(results))
        _end(results)
        return
    results: dict[str, Any] = {"load_before": os.getloadavg()[0], "seed": SEED.value}
    smoke = options.SMOKE.value
    jobs = SMOKE_CASES["jobs"] if smoke else machine.chosen(JOB.value, survival_kills.JOBS)
    names = SMOKE_CASES["subjects"] if smoke else options.names(survival_subjects.SUBJECTS)
    with tempfile.TemporaryDirectory() as folder, survival_subjects.small():
        place = pathlib.Path(os.path.realpath(folder))
        end = time.monotonic() + 60 * MINUTES.value if MINUTES.value else math.inf
        compiler.cache_compilations(str(place / "programs"))
        # Kills come first: processes are forked before JAX has threads in this one.
        kills = SMOKE_CASES["kills"] if smoke else KILLS.value
        killed = survival_kills.run(list(jobs), kills, SEED.value, place / "kills", end, _show) if kills else []
        count = SMOKE_CASES["damages"] if smoke else DAMAGES.value
        (place / "damages").mkdir()
        found = survival_damages.run(list(names), count, SEED.value, place / "damages", end, _show) if count else []
        jax.clear_caches()
        outcomes = [one._replace(said=one.said.replace(folder, "DIR"))._asdict() for one in found]
    results |= {"kills": [one._asdict() for one in killed], "damages": outcomes, **machine.last_facts()}
    text = report(results) + "\n" + machine.lines(results)
    print(text)
    if not smoke:
        machine.write(options.OUTPUT.value, "survival", results, text)
    _end(results)


def _end(results: Any) -> None:
    """Ends with status 1 if there is a fault."""
    faults = [one for one in [*results["kills"], *results["damages"]] if one["word"].startswith("FAULT")]
    if faults:
        sys.exit(f"error: {len(faults)} faults, of which the first is {faults[0]}")


def merged(parts: list[Any]) -> dict[str, Any]:
    """Results of several parts as those of one.

    Args:
      parts: the contents of their survival.json.

    Returns:
      Kills, damages, commands and commits of all of them; the other facts are those of the first, the load the
      smallest and the largest.
    """
    together: dict[str, Any] = {**parts[0]}
    for name in ("kills", "damages"):
        together[name] = [one for part in parts for one in part[name]]
    for name, joint in (("command", "; "), ("commit", ", ")):
        together[name] = joint.join(dict.fromkeys(str(part[name]) for part in parts))
    together["load_before"] = min(part["load_before"] for part in parts)
    together["load_after"] = max(part["load_after"] for part in parts)
    return together


def report(results: Any) -> str:
    """The tables of kills and damages.

    Args:
      results: "kills" and "damages", as their modules give them.

    Returns:
      Markdown.
    """
    from cnn.reports import markdown

    by_job: dict[str, list[Any]] = {}
    for one in results["kills"]:
        by_job.setdefault(one["job"], []).append(one)
    rows = [
        (job, sum(len(one["moments"]) for one in ones), len(ones), sum(one["word"] == "same result" for one in ones))
        for job, ones in by_job.items()
    ]
    total = sum(row[1] for row in rows)
    parts = ["# Damage and kills\n", f"## SIGKILL at {total} random moments\n"] if rows else ["# Damage and kills\n"]
    if rows:
        headers = ("job", "kills", "times started again to the end", "same numbers, or bytes")
        parts.append(markdown.markdown(headers, rows))
    counted: dict[tuple[str, str, str], collections.Counter[str]] = {}
    for one in results["damages"]:
        key = one["subject"], one["file"], one["damage"]
        counted.setdefault(key, collections.Counter())[one["word"]] += 1
    rows = [
        (*key, "; ".join(f"{word} ({count})" if count > 1 else word for word, count in sorted(words.items())))
        for key, words in sorted(counted.items())
    ]
    if rows:
        words = collections.Counter(one["word"] for one in results["damages"])
        summary = "; ".join(f"{word}: {count}" for word, count in words.most_common())
        parts += [
            f"\n## {len(results['damages'])} damages\n",
            f"{summary}. A refusal is one line that names the file.\n",
        ]
        parts.append(markdown.markdown(("of", "file", "damage", "outcome"), rows))
    return "\n".join(parts)


def _show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    program.start(main, "--damages=100")
