"""A classifier from elsewhere as a run: in memory, and as a workdir that every command takes."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnn import data, geometry, nets
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.nets.outputs import class_count
from cnn.runs import checkpoint, defaults, facts, logs
from cnn.runs import config as config_lib
from cnn.runs.checkpoint import Run
from cnn.runtime import locks

NAME = "import.json"  # where a workdir's net comes from, and how far it was checked
STEP = 0  # nothing was trained here


def as_run(classifier: Classifier, workdir: str = "") -> Run:
    """A classifier as `cnn.runs.checkpoint.load_run` would give it.

    Args:
      classifier: the classifier.
      workdir: directory of the run; "" for one that has none.

    Returns:
      The run; its config names the net as records of its layers, and data that have to be named before use.

    Raises:
      ExchangeError: if net, image shape, constants and class names do not go together.
    """
    shape = classifier.image_shape
    outputs = geometry.table(classifier.net, shape)[-1].output_shape[-1]
    channels = shape[2]
    for what, values in (("mean", classifier.mean), ("std", classifier.std)):
        if len(values) != channels:
            raise ExchangeError(f"{_where(classifier)}: {what} has {len(values)} numbers, images {channels} channels")
    if len(classifier.class_names) != class_count(outputs):
        raise ExchangeError(
            f"{_where(classifier)}: {len(classifier.class_names)} class names for the {class_count(outputs)} classes "
            f"of the net; name each once, in the order of the scores"
        )
    config = defaults.get_config()
    with config.unlocked():
        config.net.name = "layers"
        config.net.num_classes = outputs
        config.net.output_activation = classifier.net.output_activation
        config.net.options.layers = nets.to_config(classifier.net)
        config.data.name = data.IMPORTED
    return Run(
        net=classifier.net,
        variables=jax.tree.map(np.asarray, classifier.variables),
        config=config,
        mean=classifier.mean,
        std=classifier.std,
        class_names=classifier.class_names,
        image_shape=shape,
        workdir=workdir,
        step=STEP,
        channel_order=classifier.channel_order,
        notes=classifier.notes,
    )


def _where(classifier: Classifier) -> str:
    return classifier.source or "the classifier"


def write(run: Run, workdir: str, origin: Mapping[str, Any]) -> None:
    """Writes a run that was read from elsewhere to a directory.

    The checkpoint comes last: what was written before it is no run, and does not stand in the way of another import.

    Args:
      run: the run, as `as_run` gives it.
      workdir: directory to write to; made if missing.
      origin: what import.json says of the file and of the check, as JSON has it.

    Raises:
      ValueError: if the directory holds a run, or cannot be written to.
      OSError: if something cannot be written, or another process is writing there.
    """
    config_lib.check_workdir(workdir)
    with locks.alone(os.path.join(workdir, locks.NAME), f"--workdir={workdir}"):
        if config_lib.holds_run(workdir):
            raise ValueError(f"--workdir={workdir}: holds a run already; choose another --workdir")
        _write(run, workdir, origin)


def _write(run: Run, workdir: str, origin: Mapping[str, Any]) -> None:
    config_lib.save(run.config, workdir)
    known = {
        "name": data.IMPORTED,
        "mean": list(run.mean),
        "std": list(run.std),
        "class_names": list(run.class_names),
        "image_shape": list(run.image_shape),
        "channel_order": run.channel_order,
        "notes": list(run.notes),
    }
    logs.write_json(os.path.join(workdir, facts.NAME), known)
    logs.write_json(os.path.join(workdir, NAME), {**origin, "environment": logs.environment()})
    with checkpoint.Checkpoints(workdir, run.config.checkpoint.keep) as checkpoints:
        checkpoints.save(STEP, jax.tree.map(np.asarray, dict(run.variables)))
