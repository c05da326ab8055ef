"""One cell of a study: its seeds trained and measured; a pure function of a job, which can run on any machine."""

import functools
import os
import tempfile
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn import data, geometry
from cnn.data import Dataset
from cnn.reports import figure, net_pictures
from cnn.runs import logs
from cnn.runs.config import Config
from cnn.runtime import own_code
from cnn.runtime.devices import Devices
from cnn.training import initial, many_seeds
from cnn.training.evaluate import score_split
from experiments.ablation import study as study_lib
from experiments.ablation.measures import Trained
from experiments.ablation.study import Study

TUNING_SEEDS = (1_000_000, 1_000_001)  # apart from those that count
PICTURED = 3  # test images whose feature maps are drawn


class Job(NamedTuple):
    """What a cell needs to run.

    Attributes:
      study: its declaration.
      cell: name of the cell.
      configs: the cell's configs, one for each value of a tuned field, else one.
      seeds: seeds to train.
      chosen: index of the config that an earlier session tuned to; None: not tuned yet.
      pictures: whether kernels and feature maps are drawn (of the first seed).
    """

    study: Study
    cell: str
    configs: tuple[Config, ...]
    seeds: tuple[int, ...]
    chosen: int | None = None
    pictures: bool = True


class Done(NamedTuple):
    """What a cell gives.

    Attributes:
      records: one for each seed, as a line of results.jsonl has it, and one for each tuned value.
      pictures: PNG files by name.
    """

    records: list[dict[str, Any]]
    pictures: dict[str, bytes]


def run_cell(job: Job) -> Done:
    """Trains and measures the seeds of a cell.

    Args:
      job: see `Job`.

    Returns:
      Records and pictures.

    Raises:
      ValueError: if a field is out of range.
      DataError: if the data is missing.
    """
    start = time.monotonic()
    environment = _environment()
    devices = Devices(jax.local_devices())
    chosen, tried = (0, []) if len(job.configs) == 1 else (job.chosen, [])
    if chosen is None:
        chosen, tried = tune(job, devices)
    config, dataset = _prepared(job.configs[chosen])
    found = many_seeds.train_seeds(config, dataset, job.seeds, devices)
    table = geometry.table(found.net, dataset.image_shape)
    costs = {
        "parameters": table.params,
        "multiply_adds": table.macs,
        "epoch_seconds": round(found.epoch_seconds, 4),
        "step_bytes": found.step_bytes,
        "train_examples": len(dataset.train.labels),
        "test_examples": len(dataset.test.labels),
    }
    where = {key: environment[key] for key in ("device", "commit", "python", "packages")}
    records = []
    for run in found.runs:
        values, lost = _measure(job, config, dataset, found.net, run, devices), run.diverged
        record = {"kind": "seed", "cell": job.cell, "seed": run.seed, "chosen": chosen, "values": values}
        records.append({**record, "diverged": lost, "curve": run.curve, **costs, **where})
    took = round(time.monotonic() - start, 2)
    records = [{**record, "cell_seconds": took} for record in [*tried, *records]]
    title = f"{job.cell}: {figure.run_title(own_code.short(config.net.name), dataset.name)}, seed {job.seeds[0]}"
    return Done(logs.finite(records), _draw(found, dataset, title) if job.pictures else {})


def _prepared(config: Config) -> tuple[Config, Dataset]:
    """A config and its data, as a run that starts from another one has them."""
    return initial.prepared(config, study_lib.load_data(config))


# Once for each process, before it trains: the commit that is running, whatever is checked out when it ends.
_environment = functools.cache(logs.environment)


def tune(job: Job, devices: Devices) -> tuple[int, list[dict[str, Any]]]:
    """Chooses the config with the best mean validation accuracy, by seeds of its own; the test split is not seen.

    Args:
      job: the cell and the configs to choose from.
      devices: the devices to train on.

    Returns:
      The number of the config, and a record of each config and seed.

    Raises:
      ValueError: if there are no validation examples.
    """
    records = []
    for number, config in enumerate(job.configs):
        config, dataset = _prepared(config)
        if not len(dataset.validation.labels):
            raise ValueError("a study that tunes chooses on validation; set data.validation_fraction above 0")
        found = many_seeds.train_seeds(config, dataset, TUNING_SEEDS, devices)
        for run in found.runs:
            accuracy = 0.0 if run.diverged is not None else run.curve[-1]["validation_accuracy"]
            record = {"kind": "tuning", "cell": job.cell, "seed": run.seed, "chosen": number}
            records.append({**record, "validation_accuracy": accuracy, "diverged": run.diverged})
    means = [
        np.mean([record["validation_accuracy"] for record in records if record["chosen"] == number])
        for number in range(len(job.configs))
    ]
    return int(np.argmax(means)), records


def _measure(
    job: Job, config: Config, dataset: data.Dataset, net: Any, run: many_seeds.SeedRun, devices: Devices
) -> dict[str, float]:
    """Every outcome of a seed."""
    test = score_split(net, run.variables, config, dataset, "test", devices)
    values = {study_lib.TEST: test.accuracy, "test loss": test.loss}
    for measure in job.study.measures:
        values |= measure.function(Trained(net, run.variables, config, dataset, devices))
    return values


def _draw(found: many_seeds.TrainedSeeds, dataset: data.Dataset, title: str) -> dict[str, bytes]:
    """Kernels of the first layer and feature maps of the first test images, of the first seed."""
    variables = found.runs[0].variables
    drawn = {}
    with tempfile.TemporaryDirectory() as folder:
        kernels, features = os.path.join(folder, "kernels.png"), os.path.join(folder, "features.png")
        kernel = net_pictures.first_kernel(found.net, variables)
        if kernel is not None:
            net_pictures.kernels_picture(kernels, kernel, title=title)
        shown = dataset.test.images[:PICTURED]
        net_pictures.feature_maps_picture(
            features,
            found.net,
            variables,
            shown,
            dataset.mean,
            dataset.std,
            dataset.class_names,
            dataset.test.labels[:PICTURED],
            title=title,
        )
        for path in (kernels, features):
            if os.path.exists(path):
                with open(path, "rb") as file:
                    drawn[os.path.basename(path)] = file.read()
    return drawn
