"""A training run from its config to its results; the step itself is in `cnn.training.steps`."""

import os
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn import data, dense, geometry, ops
from cnn.data import Dataset
from cnn.nets import Net
from cnn.reports import net_pictures, run_pictures, run_report, scenes_report
from cnn.runs import checkpoint, logs
from cnn.runs.config import Config
from cnn.runs.config import save as save_config
from cnn.runtime import own_code
from cnn.runtime.devices import Devices
from cnn.training import steps
from cnn.training.evaluate import Metrics, evaluate
from cnn.training.optimizer import make_optimizer, make_schedule
from cnn.training.steps import State, total_steps

PICTURED = 2  # test images whose feature maps are drawn, each of another class


class _Job(NamedTuple):
    """What a run is made of; none of it changes while it trains."""

    config: Config
    workdir: str
    dataset: Dataset
    net: Net
    devices: Devices
    total: int  # steps
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    checkpoints: checkpoint.Checkpoints

    def score(self, state: State, split: data.Split) -> Metrics:
        """Metrics of the net on a split."""
        return evaluate(
            self.net,
            state.variables,
            split,
            self.dataset.mean,
            self.dataset.std,
            batch_size=self.config.eval.batch_size,
            dtype=self.config.train.dtype,
            devices=self.devices,
        )


def train_and_evaluate(config: Config, workdir: str, dataset: Dataset | None = None) -> dict[str, Any]:
    """Trains a net as a config says, evaluates it on the test split, and writes everything to a directory.

    A run started again in its directory goes on where its last checkpoint was, and ends as if never stopped.

    Args:
      config: see `configs/default.py` for its fields.
      workdir: directory of the run; made if missing. Receives config.json, data.json (normalisation constants, class
        names), metrics.jsonl, tensorboard/, checkpoints/, result.json, pictures and report.html.
      dataset: the data, such as `cnn.data.from_arrays` makes; None: loaded as the config says. A run on a data set that
        was given cannot load it again: `--mode=evaluate` says so, everything else works.

    Returns:
      What result.json holds: test_accuracy, test_loss, test_top5 (with ten classes or more), examples, validation
      numbers, parameters, multiply_adds, seconds of training, seed, versions, device, commit.

    Raises:
      ValueError: if a field is out of range, or the directory holds a run with another config.
      FloatingPointError: if the loss is not finite any more; names the step and the learning rate.
    """
    with ops.use(config.train.get("ops", "fast")):
        return _run(config, workdir, dataset)


def _run(config: Config, workdir: str, dataset: Dataset | None) -> dict[str, Any]:
    """The run, with the operations that its config asks for."""
    environment = logs.environment()  # now: the commit that is running, whatever is checked out when it ends
    if dataset is not None:
        config = config.copy_and_resolve_references()
        config.data.name = data.IN_MEMORY
    dataset = dataset or data.load(**config.data)
    net = checkpoint.make_net(config, dataset.num_classes)
    table = geometry.table(net, dataset.image_shape)
    print(f"{own_code.short(config.net.name)}: {net}\n{table}", flush=True)
    devices = Devices()
    devices.per_device(config.train.batch_size, "train.batch_size")
    total = total_steps(config.train, len(dataset.train.labels))
    schedule = make_schedule(config.train, total)
    optimizer = make_optimizer(config.train, schedule, total_steps=total)
    save_config(config, workdir)
    _save_facts(workdir, dataset)
    with checkpoint.Checkpoints(workdir, config.checkpoint.keep) as checkpoints:
        job = _Job(config, workdir, dataset, net, devices, total, schedule, optimizer, checkpoints)
        state = _first_state(job)
        with logs.MetricWriter(workdir, int(state.step)) as writer:
            state, seconds = _train(job, state, writer)
            test = job.score(state, dataset.test)
            writer.write(total, "test", test.as_dict())

    result = {f"test_{name}": value for name, value in test.as_dict().items() if name != "examples"}
    result |= {"examples": test.examples, "train_examples": len(dataset.train.labels), "steps": total}
    if len(dataset.validation.labels):
        result["validation_accuracy"] = job.score(state, dataset.validation).accuracy
    result |= {"parameters": table.params, "multiply_adds": table.macs, "seconds": round(seconds, 1)}
    result["per_class_accuracy"] = dict(zip(dataset.class_names, test.per_class_accuracy.tolist(), strict=False))
    result |= {"net": own_code.short(config.net.name), "data": dataset.name, "seed": config.seed, **environment}
    logs.write_json(os.path.join(workdir, "result.json"), result)
    _draw(job, state, test)
    print(
        f"test accuracy {test.accuracy:.4f} ({round(test.accuracy * test.examples)} of {test.examples} right), "
        f"loss {test.loss:.4f}, trained in {seconds:.0f} s",
        flush=True,
    )
    if config.eval.scenes:
        scenes_report.run_scenes(
            checkpoint.load_run(workdir),
            dataset.test,
            os.path.join(workdir, "dense_eval"),
            scenes=config.eval.scenes,
            size=config.eval.scene_size,
            seed=config.seed,
        )
    run_report.write_run_page(workdir)
    return result


def _save_facts(workdir: str, dataset: Dataset) -> None:
    """Writes data.json: what using the net needs to know of its data."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    facts = {
        "name": dataset.name,
        "mean": dataset.mean,
        "std": dataset.std,
        "class_names": dataset.class_names,
        "image_shape": dataset.image_shape,
        "examples": {name: len(split.labels) for name, split in splits.items()},
    }
    logs.write_json(os.path.join(workdir, "data.json"), facts)


def _first_state(job: _Job) -> State:
    """The latest checkpoint's state, or a new one."""
    state = steps.init_state(job.net, job.optimizer, job.dataset.image_shape, job.config.seed)
    state = job.devices.replicate(state)
    latest = job.checkpoints.latest_step()
    if latest is None:
        if own_code.is_reference(job.config.net.name):
            _check_dense(job, state)
        return state
    saved = job.checkpoints.restore(latest, variables=state.variables, optimizer=state.optimizer)
    params = saved["variables"].pop("params")
    print(f"resumed {job.workdir} at step {latest} of {job.total}", flush=True)
    step = job.devices.replicate(jnp.asarray(latest, jnp.int32))
    return State(step, params, saved["variables"], saved["optimizer"], state.key)


def _check_dense(job: _Job, state: State) -> None:
    """Tries a net of the user's own densely before it is trained for the first time; says how that went."""
    height, width, channels = job.dataset.image_shape
    name = own_code.short(job.config.net.name)
    try:
        report = dense.check(job.net, jax.device_get(state.variables), (height, width), channels=channels)
        print(
            f"{name}: score maps by every backend agree with crops (dense.check, {report.difference:.0e})", flush=True
        )
    except ValueError as error:  # GeometryError among them; such a net may still be meant for windows alone
        print(f"warning: {name} must not be run densely, training goes on: {error}", file=sys.stderr, flush=True)


def _train(job: _Job, state: State, writer: logs.MetricWriter) -> tuple[State, float]:
    """Runs the steps that are left; returns the last state, and the seconds of training since the very first step."""
    config, train = job.config, job.dataset.train
    batch_size, count = config.train.batch_size, len(train.labels)
    intervals = {
        "train.steps_per_dispatch": config.train.steps_per_dispatch,
        "eval.every_epochs": round(config.eval.every_epochs * count / batch_size),
        "checkpoint.every_steps": config.checkpoint.every_steps,
    }
    for field, interval in intervals.items():
        if interval < 1:
            raise ValueError(f"{field} must be at least one step, is {interval}")
    dispatch, validate, save = intervals.values()

    step_function = steps.make_step(job.net, job.optimizer, config, job.dataset.mean, job.dataset.std)
    options = job.devices.compiler_options(geometry.table(job.net, job.dataset.image_shape).macs)
    run_steps = steps.make_run_steps(step_function, job.devices, dispatch, options=options)
    images, labels = job.devices.replicate((train.images, train.labels))
    step = int(state.step)
    progress = logs.Progress(job.total, step, batch_size)
    start = time.monotonic() - writer.seconds_before
    seconds = writer.seconds_before
    while step < job.total:
        stop = min([job.total, *((step // interval + 1) * interval for interval in intervals.values())])
        indices = data.batch_indices(config.seed, step, batch_size=batch_size, num_examples=count, steps=stop - step)
        state, losses, corrects = run_steps(state, images, labels, indices)
        _check_finite(losses, step, job.schedule)
        step = stop
        seconds = round(time.monotonic() - start, 3)
        loss, accuracy = float(losses.mean()), float(corrects.mean() / batch_size)
        rate = progress.update(step, loss, accuracy)
        values = {"loss": loss, "accuracy": accuracy, "learning_rate": float(np.asarray(job.schedule(step - 1)))}
        writer.write(step, "train", {**values, "images_per_second": round(rate, 1), "seconds": seconds})
        if (step % validate == 0 or step == job.total) and len(job.dataset.validation.labels):
            writer.write(step, "validation", {**job.score(state, job.dataset.validation).as_dict(), "seconds": seconds})
        if step % save == 0 or step == job.total:
            # A copy: the next step reuses (donates) the arrays while the checkpoint is still being written.
            variables, optimizer = jax.tree.map(np.array, (state.variables, state.optimizer))
            job.checkpoints.save(step, variables, optimizer)
    progress.close()
    return state, seconds


def _draw(job: _Job, state: State, test: Metrics) -> None:
    """The pictures of a run: how well it does, and what its net has learned."""
    names, split = job.dataset.class_names, job.dataset.test
    confusion, curves, kernels, features = (
        os.path.join(job.workdir, f"{name}.png") for name in ("confusion", "curves", "kernels", "features")
    )
    run_pictures.confusion_picture(confusion, test.confusion, names)
    run_pictures.curves_picture(curves, logs.read_metrics(job.workdir))
    variables = jax.tree.map(np.array, state.variables)
    kernel = net_pictures.first_kernel(job.net, variables)
    if kernel is not None:
        net_pictures.kernels_picture(kernels, kernel)
    few = np.unique(split.labels, return_index=True)[1][:PICTURED]
    mean, std = job.dataset.mean, job.dataset.std
    net_pictures.feature_maps_picture(
        features, job.net, variables, split.images[few], mean, std, names, split.labels[few]
    )


def _check_finite(losses: np.ndarray, first_step: int, schedule: optax.Schedule) -> None:
    """Stops a run whose loss is lost; its last good checkpoint stays."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        step = first_step + int(bad[0])
        rate = float(np.asarray(schedule(step)))
        raise FloatingPointError(
            f"the loss is {losses[bad[0]]} at step {step}, where the learning rate is {rate:g}; lower "
            f"train.learning_rate, or set train.warmup or train.clip_norm"
        )
