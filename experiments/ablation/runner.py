"""Runs a study: those of its cells that have no results yet, one after another, then the report."""

import json
import os
import shlex
import time
from collections.abc import Mapping
from typing import Any

import cnn
from cnn import data
from cnn.reports import markdown
from cnn.runs import config_files, logs
from cnn.runs import facts as facts_lib
from cnn.runs.config import Config
from cnn.runtime import own_code, processes
from cnn.training import early
from experiments.ablation import executors, spread, study_report
from experiments.ablation import study as study_lib
from experiments.ablation.cells import TUNING_SEEDS, Done, Job
from experiments.ablation.store import Store
from experiments.ablation.study import Study

# Constants of the predicted time of a cell, fitted to the committed results on two CPU cores: the rate that small
# convolutions reach, forward and backward, and the time to compile a program, whatever it computes.
MULTIPLY_ADDS_PER_SECOND = 4e10
COMPILE_SECONDS = 20.0
RESULTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "results")


def run_study(
    name: str,
    workdir: str,
    *,
    seeds: int | None = None,
    base: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    executor: str = "local",
    options: Mapping[str, Any] | None = None,
    study: Study | None = None,
) -> str:
    """Trains and measures the cells of a study that have no results yet, and writes the report.

    Args:
      name: name of a study in `experiments/studies`, or path of a file of the user's own that sets STUDY.
      workdir: directory of the study; made if missing. Receives study.json, results.jsonl, report.md, report.html and
        pictures.
      seeds: number of seeds of each cell: 0, 1, ...; None: as many as the study asks for.
      base: config that the cells start from, a name or a file; None: the study's own.
      overrides: field -> value, for all cells.
      executor: "local" or "ray".
      options: further arguments of the executor.
      study: the declaration of a study made in Python, called `name` in the report; None: `name` is loaded.

    Returns:
      Path of report.md.

    Raises:
      ValueError: if there is no such study, a field is out of range, a net cannot be built, or the directory holds
        another study; before anything is trained.
      DataError: if the data is missing.
      Taken: if another process writes to the directory; names it.
      OSError: if something cannot be written.
    """
    made_in_python = study is not None
    study = study or study_lib.load(name)
    seeds = seeds or study.seeds
    if seeds < 1:
        raise ValueError(f"--seeds={seeds} must be at least 1")
    start_from = load_base(base or study.base, beside=name)
    configs = {cell: cell_configs(study, cell, start_from, overrides or {}) for cell in study.cells}
    read: dict[str, Any] = {}  # what is known of the data of each cell
    for cell, found in configs.items():
        for config in found:
            try:
                early.check(config)
                dataset = study_lib.load_data(config)
                study_lib.check(config, dataset.image_shape, dataset.num_classes, len(dataset.train.labels))
                known_data = {**facts_lib.at_a_glance(dataset), "mean": dataset.mean, "std": dataset.std}
                read |= {f"{name} (cell {cell!r})": value for name, value in known_data.items()}
            except data.DataError:
                raise
            except ValueError as error:
                raise ValueError(f"cell {cell!r}: {error}") from error
    title = study_lib.stem(name)
    facts = {"study": title, "question": study.question, "baseline": study.baseline}
    facts = {**facts, "measures": [measure.described() for measure in study.measures]}
    known = spread.identities(facts, configs)
    processes.agree("study", {**known, "seeds": seeds, "version": cnn.__version__})
    processes.agree("data", read)
    with processes.alone(workdir, f"--workdir={workdir}", seen=True):
        opened: list[Store] = []

        def missing() -> list[Any]:
            opened.append(Store(workdir, facts, configs))
            for cell, done in spread.left(workdir, known):
                there = opened[0].seeds_done(cell)
                if not any(record["kind"] == "seed" and record["seed"] in there for record in done.records):
                    opened[0].add_pictures(cell, done.pictures)
                    opened[0].add(done.records)
                spread.taken(workdir, cell)
            return [list(job)[3:] + [job.cell] for job in _missing(study, configs, opened[0], range(seeds))]

        jobs = [
            Job(study, cell, configs[cell], tuple(left), chosen, pictures)
            for left, chosen, pictures, cell in processes.from_first(missing)
        ]
        if not processes.is_first():
            list(spread.run(jobs, workdir, known))
            return processes.from_first(str)
        store, progress = opened[0], _Progress(len(study.cells), jobs)
        failed: dict[str, Exception] = {}
        together = processes.count() > 1
        outcomes = spread.run(jobs, workdir, known) if together else executors.run(jobs, executor, **(options or {}))
        for job, done in outcomes:
            if isinstance(done, Done):
                store.add_pictures(job.cell, done.pictures)  # first: a cell with its lines is done
                store.add(done.records)
            else:
                failed[job.cell] = done
            progress.show(job, done)
        # A study made in Python is made again by the program that made it.
        command = logs.command() if made_in_python else _command(name, seeds, base, overrides)
        asked = study_report.Asked(title, seeds, base or study.base, overrides or {}, command, data_of(configs))
        path = study_report.write(store, study, asked, {cell: str(error) for cell, error in failed.items()})
    print(f"report: {path} and report.html beside it", flush=True)
    processes.from_first(lambda: path)
    if failed:
        reasons = "; ".join(f"cell {cell!r}: {error}" for cell, error in failed.items())
        raise ValueError(f"{len(failed)} of {len(study.cells)} cells failed, the report is of the others: {reasons}")
    return path


def data_of(configs: Mapping[str, tuple[Config, ...]]) -> str:
    """The data sets of a study's cells by name, with the folder where one is given.

    Args:
      configs: the configs of each cell.

    Returns:
      The names.
    """
    sets = [config.data for found in configs.values() for config in found]
    named = (own_code.short(one.name) + (f" ({one.dir})" if one.name == "folder" else "") for one in sets)
    return ", ".join(dict.fromkeys(named))


def _command(name: str, seeds: int, base: str | None, overrides: Mapping[str, Any] | None) -> str:
    """The command that makes the same results anew, without the directory that it writes to."""
    parts = ["python", "-m", "experiments.ablate", f"--study={name}", f"--seeds={seeds}"]
    parts += [f"--config={base}"] if base else []
    return shlex.join([*parts, *(f"--config.{field}={value}" for field, value in (overrides or {}).items())])


def load_base(name: str, beside: str = "") -> Config:
    """The config that a study starts from.

    Args:
      name: name of a config, or path of its file.
      beside: path of the study's file: where a relative path may start too.

    Returns:
      The config.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if the file fails.
    """
    near = os.path.join(os.path.dirname(beside), name)
    return config_files.read(near if os.path.isfile(near) else config_files.find(name))


def cell_configs(study: Study, cell: str, base: Config, overrides: Mapping[str, Any]) -> tuple[Config, ...]:
    """The configs of a cell: one for each value of the tuned field, else one.

    Args:
      study, cell, base, overrides: see `experiments.ablation.study.cell_config`.

    Returns:
      The configs.

    Raises:
      ValueError: if the user set a field that the study varies.
    """
    if not study.tune:
        return (study_lib.cell_config(study, cell, base, overrides),)
    ((field, values),) = study.tune.items()
    return tuple(study_lib.cell_config(study, cell, base, overrides, **{field: value}) for value in values)


def _missing(study: Study, configs: Mapping[str, tuple[Config, ...]], store: Store, seeds: range) -> list[Job]:
    jobs = []
    for cell in study.cells:
        there = store.seeds_done(cell)
        left = tuple(seed for seed in seeds if seed not in there)
        if left:
            jobs.append(Job(study, cell, configs[cell], left, store.chosen(cell), pictures=not there))
    return jobs


class _Progress:
    """One line for each cell that ends: how it did, how many are left, how long they will take."""

    def __init__(self, cells: int, jobs: list[Job]) -> None:
        self.left = {job.cell: _work(job) for job in jobs}
        self.start, self.done, self.cells = time.monotonic(), 0.0, cells
        there, minutes = cells - len(jobs), sum(self.left.values()) / 60
        left = f"to run, in about {minutes:.0f} min: {'; '.join(self.left)}" if jobs else "none to run"
        print(f"{cells} cells, {there} of them done before; {left}", flush=True)

    def show(self, job: Job, done: Done | Exception) -> None:
        self.done += self.left.pop(job.cell)
        rate = (time.monotonic() - self.start) / self.done
        minutes = rate * sum(self.left.values()) / 60
        if isinstance(done, Done):
            values = [r["values"][study_lib.TEST] for r in done.records if r["kind"] == "seed"]
            text = f"{study_lib.TEST} {sum(values) / len(values):.2%}, mean of {len(values)}"
        else:
            text = f"failed: {done}"
        number = self.cells - len(self.left)
        left = f"{minutes:.1f} min left, next {next(iter(self.left))!r}" if self.left else "all done"
        print(f"cell {number} of {self.cells}, {job.cell!r}: {text}; {left}", flush=True)


def _work(job: Job) -> float:
    """Seconds that a job is predicted to take."""
    return _seconds(job.configs, len(job.seeds), job.chosen is None)


def _seconds(configs: tuple[Config, ...], seeds: int, tune: bool) -> float:
    """Predicted seconds of a cell; reads the data."""
    config = configs[0]
    dataset = study_lib.load_data(config)
    examples = len(dataset.train.labels)
    table, total = study_lib.check(config, dataset.image_shape, dataset.num_classes, examples)
    seen = total * config.train.batch_size
    validated = seen / examples / config.eval.every_epochs * len(dataset.validation.labels)
    # Each seed trains (three times the forward pass), and is validated and tested.
    passes = 3 * seen + validated + len(dataset.test.labels)
    one = passes * (table.macs + 200_000) / MULTIPLY_ADDS_PER_SECOND
    tried = len(configs) if tune and len(configs) > 1 else 0
    return one * (seeds + tried * len(TUNING_SEEDS)) + COMPILE_SECONDS * (1 + tried)


def listing() -> str:
    """Every study: its question, cells, baseline, seeds and predicted minutes.

    Minutes are those that the committed results took, on their device; where there are none, predicted from the nets'
    multiply-adds.

    Returns:
      Text, and a table in Markdown.
    """
    parts = []
    rows = []
    for name in study_lib.names():
        study = study_lib.load(name)
        base = load_base(study.base)
        minutes = _measured_minutes(name) or _predicted_minutes(study, base)
        rows.append((name, len(study.cells), study.seeds, study.baseline, minutes, base.data.name))
        parts.append(f"{name}: {study.question}\n  cells: {'; '.join(study.cells)}")
    headers = ("study", "cells", "seeds", "baseline", "minutes, two CPU cores", "data")
    return "\n".join(parts) + "\n\n" + markdown.markdown(headers, rows)


def _measured_minutes(name: str) -> str:
    """What the committed results of a study took; "" if there are none."""
    path = os.path.join(RESULTS, name, "results.jsonl")
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        took = {(line["cell"], line["cell_seconds"]) for line in map(json.loads, file)}
    return f"{sum(seconds for _, seconds in took) / 60:.0f}"


def _predicted_minutes(study: Study, base: Config) -> str:
    try:
        seconds = [_seconds(cell_configs(study, cell, base, {}), study.seeds, bool(study.tune)) for cell in study.cells]
    except data.DataError:
        return "data not prepared"
    return f"{sum(seconds) / 60:.0f}"
