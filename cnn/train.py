"""A training run from its config to its results: data, training, evaluation, report."""

import dataclasses
import os
import sys
from typing import Any

import numpy as np

import cnn
from cnn import data, dense, geometry, ops
from cnn.data import Dataset
from cnn.data.streamed import Streamed
from cnn.protocols import on_scenes
from cnn.reports import trained
from cnn.runs import best, checkpoint, logs, provenance, results, silent, stopping
from cnn.runs import config as config_lib
from cnn.runs import facts as facts_lib
from cnn.runs.config import Config
from cnn.runtime import arrays_of_all, own_code, processes
from cnn.runtime.devices import Devices
from cnn.training import early, initial, loop, one_seed, predict, sharded, views
from cnn.training import longer as longer_lib
from cnn.training.steps import State

BORDERS = 4096  # streamed pictures whose borders are looked at


def train_and_evaluate(
    config: Config, workdir: str, dataset: Dataset | None = None, *, longer: bool = False
) -> dict[str, Any]:
    """Trains a net as a config says, evaluates it on the test split, and writes everything to a directory.

    A run that was stopped and is started again in its directory continues from its last checkpoint, and ends as if it
    had never been stopped; its data must be those that it began with (`cnn.runs.facts`). A finished run is not changed;
    it is only evaluated anew if fields of evaluation changed, and result.json keeps what it was trained by.

    Args:
      config: config of the run; `cnn.runs.defaults` lists its fields.
      workdir: directory of the run; made if missing. The run writes config.json, data.json (normalisation constants,
        class names), metrics.jsonl, tensorboard/, checkpoints/, result.json, pictures and report.html to it.
      dataset: the data, for example from `cnn.data.from_arrays`; None: they are loaded as the config says. A data set
        that is passed here is not saved, so that `--mode=evaluate` cannot be used on the run; everything else can.
      longer: whether the run in the directory, finished or not, may be trained for longer than it was begun for, if
        the steps that are done would have the same learning rates (`cnn.training.longer`).

    Returns:
      The contents of result.json: test_accuracy, test_loss, test_top5 (with ten classes or more), examples, validation
      numbers, parameters, multiply_adds, seconds of training, seed, versions, device, commit.

    Raises:
      ValueError: if a field is out of range, the net, the data and the config do not go together, or the directory
        holds a run with another config or on other data; before anything is written.
      Taken: if another process writes to the directory; names it.
      OSError: if something cannot be written, or the directory was taken over while this process was suspended.
      FloatingPointError: if the loss is not finite any more; names the step and the learning rate. The directory is
        free for another config then.
      KeyboardInterrupt: after Ctrl-C; a `cnn.runs.stopping.Stopped` in training, which is saved first.
    """
    workdir = os.path.expanduser(workdir)
    early.check(config, workdir if processes.is_first() else None, given=dataset is not None)
    if dataset is not None:
        config = config.copy_and_resolve_references()
        config.data.name = data.IN_MEMORY
        dataset = data.of_share(dataset, processes.share())
    config = initial.with_layers(config)
    processes.agree("config", {**config_lib.identity(config), "version": cnn.__version__, "longer": longer})

    def standing() -> tuple[bool, dict[str, Any] | None]:
        return processes.from_first(lambda: _standing(config, workdir, longer))

    if (finished := standing()[1]) is None:  # a finished run is only looked at
        with processes.alone(workdir, f"--workdir={workdir}"):
            goes_on, finished = standing()  # nobody else writes there any more
            if finished is None:
                with ops.use(config.train.get("ops", "fast")):
                    return _run(config, workdir, dataset, goes_on, longer)
    if dataset is not None:  # a data set in memory, which the config does not describe
        facts_lib.same(dataset, workdir)
    print(
        f"{workdir} holds this run, finished after {finished['steps']:,} steps with test accuracy "
        f"{finished['test_accuracy']:.4f}; nothing to do. Another --workdir trains it again\n{_where(workdir)}",
        flush=True,
    )
    return finished


def _standing(config: Config, workdir: str, longer: bool) -> tuple[bool, dict[str, Any] | None]:
    """Whether a run goes on in its directory, and its result if it is finished there."""
    config_lib.check_workdir(workdir)
    goes_on = config_lib.goes_on(config, workdir, longer=longer)
    return goes_on, _finished(config, workdir) if goes_on else None


def _run(config: Config, workdir: str, dataset: Dataset | None, goes_on: bool, longer: bool) -> dict[str, Any]:
    """Trains what is left, evaluates and reports, with the operations that the config asks for."""
    environment = logs.environment(together=True)  # at the start: another commit may be checked out when the run ends
    dataset = dataset or data.load(**config.data, share=processes.share())
    processes.agree("data", facts_lib.at_a_glance(dataset))
    if goes_on:
        dataset = facts_lib.same(dataset, workdir)
    # A run that has begun does not need the other one any more.
    begun = goes_on and processes.from_first(lambda: checkpoint.latest_step(workdir))
    other = None if begun else initial.load(config.train.get("initial_run", ""), workdir)
    if other:
        processes.agree("runs to start from (train.initial_run)", facts_lib.of_run(other))
        dataset = initial.normalised_as(dataset, other)
    data_facts = _facts(dataset)
    devices = Devices(sharding=config.train.get("sharding", "data"))
    shape, scenes = dataset.image_shape, config.eval.scenes
    task = loop.make_task(
        config,
        dataset,
        also=[
            lambda net: devices.per_device(config.train.batch_size, "train.batch_size"),
            lambda net: on_scenes.check(net, shape, scenes, config.eval.scene_size) if scenes else None,
        ],
    )
    table = geometry.table(task.net, dataset.image_shape)
    devices = sharded.for_net(devices, table)
    print(f"{own_code.short(config.net.name)}: {task.net}\n{table}", flush=True)
    if longer:
        environment |= processes.from_first(
            lambda: longer_lib.check(task, config_lib.load(workdir), checkpoint.latest_step(workdir) or 0, workdir)
        )
    state = devices.make(lambda: task.first_state(config.seed))
    if devices.count > 1:
        held = {"parameters": state.params, "optimiser": state.optimizer}
        print(devices.state_text("parameters and optimiser", held), flush=True)
    if goes_on:
        state = one_seed.latest_state(state, devices, workdir, config.checkpoint.keep)
    if other:
        state, start = initial.begin(state, other, dataset.class_names)
        state = devices.place(state)
        environment |= {"initial_run": start._asdict()}
        print(start, flush=True)
    if not goes_on and own_code.is_reference(config.net.name):
        variables = devices.fetch(state.variables)
        if processes.is_first():
            _check_dense(task, variables)
    step = int(state.step)
    if step > task.total:
        raise ValueError(
            f"{workdir}: its latest checkpoint is of step {step:,}, and the run has {task.total:,}; remove the folder "
            f"{os.path.join(workdir, 'checkpoints', str(step))} if it is not the run's"
        )
    # What a user can get wrong was checked above, and nothing is written before it. A run that is trained already is
    # scored first, so that whatever fails leaves it as it was.
    if step < task.total:
        if processes.is_first():
            provenance.begin(config, workdir, data_facts, step, environment, goes_on=goes_on)
        state = _train(task, devices, state, workdir)
    test = task.score(state.variables, "test", devices)
    if not np.isfinite(test.loss):
        text = f"the loss on the test split is {test.loss} after step {task.total}, the last one"
        raise _diverged(
            workdir, task.total, f"{text}; lower train.learning_rate, or set train.warmup or train.clip_norm"
        )
    result = {f"test_{name}": value for name, value in test.as_dict().items() if name != "examples"}
    result |= {
        "test_balanced_accuracy": test.balanced_accuracy,
        "examples": test.examples,
        "train_examples": len(dataset.train.labels),
        "steps": task.total,
    }
    if len(dataset.validation.labels):
        result["validation_accuracy"] = task.score(state.variables, "validation", devices).accuracy
    kept = None
    if config.checkpoint.best:
        kept = processes.from_first(lambda: best.at_end(workdir, task.total, state.variables))
    variables = devices.fetch(state.variables)
    if kept:
        kept = best.Score(*kept)
        score = test if kept.step == task.total else task.score(_best_variables(workdir, variables), "test", devices)
        result["best"] = {"step": kept.step, "validation_accuracy": kept.accuracy, "test_accuracy": score.accuracy}
        result["best"] |= {"since": kept.since} if kept.since else {}
    result |= {"parameters": table.params, "multiply_adds": table.macs}
    result["per_class_accuracy"] = dict(zip(dataset.class_names, test.per_class_accuracy.tolist(), strict=False))
    result |= views.of_config(config)
    result |= {"net": own_code.short(config.net.name), "data": dataset.name, "seed": config.seed}
    task = task._replace(dataset=_with_whole_test(dataset))
    if not processes.is_first():
        return processes.from_first(dict)  # what it has written, and how long all of it took
    if step == task.total:
        provenance.again(config, workdir, data_facts)
    with logs.MetricWriter(workdir, task.total) as writer:
        writer.write(task.total, "test", test.as_dict())
        seconds = round(writer.seconds_before, 1)
    result |= {"seconds": seconds, **provenance.of_result(workdir, environment, trained=step < task.total)}
    result = logs.finite(result)
    logs.write_json(os.path.join(workdir, "result.json"), result)
    trained.write(task, workdir, variables, test)
    results.close(workdir)
    seen = f", of {said}" if (said := views.said(result)) else ""
    print(
        f"test accuracy {test.accuracy:.4f} ({round(test.accuracy * test.examples)} of {test.examples} right), "
        f"loss {test.loss:.4f}{seen}, trained in {seconds:.0f} s\n{_where(workdir)}",
        flush=True,
    )
    return processes.from_first(lambda: result)


def _best_variables(workdir: str, like: Any) -> Any:
    """The variables of the best validation, in all processes."""
    mine = checkpoint.load_run(workdir, which="best").variables if processes.is_first() else like
    return arrays_of_all.tree_from_first(mine)


def _with_whole_test(dataset: Dataset) -> Dataset:
    """A data set with all images of the test split, of which pictures are drawn."""
    if dataset.share.is_whole:
        return dataset
    images = dataset.test.images
    images = images.whole() if isinstance(images, Streamed) else arrays_of_all.rows_of_all(images)
    return dataclasses.replace(dataset, test=dataset.test._replace(images=images))


def _train(task: loop.Task, devices: Devices, state: State, workdir: str) -> State:
    """Takes the steps that are left; where all processes stop, none ends before the first one has saved the step."""
    try:
        return _train_here(task, devices, state, workdir)
    except stopping.Stopped as error:
        if error.together:
            with stopping.kept():  # saving may take longer than a program has that was asked to stop
                processes.barrier("saved")
        raise


def _train_here(task: loop.Task, devices: Devices, state: State, workdir: str) -> State:
    """Takes the steps that are left, of one process."""
    step = int(state.step)
    if not processes.is_first():
        keeper = silent.Keeper() if task.config.checkpoint.best else None
        return one_seed.train(task, devices, state, silent.Writer(), silent.Checkpoints(), keeper)
    if step:
        print(f"resumed {workdir} at step {step} of {task.total}", flush=True)
    with checkpoint.Checkpoints(workdir, task.config.checkpoint.keep) as checkpoints:
        checkpoints.drop_after(step)
        with logs.MetricWriter(workdir, step) as writer:
            try:
                if not task.config.checkpoint.best:
                    best.remove(workdir)
                    return one_seed.train(task, devices, state, writer, checkpoints)
                with best.Keeper(workdir, step, state.variables) as keeper:
                    return one_seed.train(task, devices, state, writer, checkpoints, keeper)
            except FloatingPointError as error:
                raise _diverged(workdir, step, str(error)) from error


def _diverged(workdir: str, step: int, text: str) -> FloatingPointError:
    """Notes that a run can never end, so that its directory is free for another config; gives the error to raise."""
    if not processes.is_first():
        return FloatingPointError(text)
    if provenance.lengthened(workdir):  # what it was before is worth keeping
        return FloatingPointError(
            f"{text}; the checkpoints in {workdir} are kept: --longer goes on from the last one by another schedule"
        )
    logs.write_json(os.path.join(workdir, config_lib.DIVERGED), {"after_step": step, "error": text})
    return FloatingPointError(f"{text}; the same --workdir takes the changed config")


def _finished(config: Config, workdir: str) -> dict[str, Any] | None:
    """The result of a run that is complete in its directory and has the same config; otherwise None."""
    # report.html is written last: without it the run was stopped before its end, and is continued.
    if not all(os.path.exists(os.path.join(workdir, name)) for name in ("config.json", "result.json", "report.html")):
        return None
    try:
        result = results.read(workdir)
    except ValueError as error:
        print(
            f"warning: {error.args[0].split('; the command')[0]}; the run is evaluated again",
            file=sys.stderr,
            flush=True,
        )
        return None
    step = checkpoint.latest_step(workdir)
    if step is None or step != result.get("steps") or config_lib.differences(config, workdir):
        return None
    if checkpoint.fault(workdir, step):  # that of the step before is gone on with, which says so
        return None
    if config.checkpoint.best and "best" in result and (gone := best.lost(workdir, step)):
        if gone.saved:
            return None
        text = "the best net is lost, the last one is not (--checkpoint=last); another --workdir trains both again"
        print(f"warning: {gone.why}; {text}", file=sys.stderr, flush=True)
    return result


def _where(workdir: str) -> str:
    """The last lines that are printed: the paths of report and run."""
    return f"report: {os.path.join(workdir, 'report.html')}\neverything of the run: {workdir}"


def _facts(dataset: Dataset) -> dict[str, Any]:
    """The contents of data.json."""
    images = dataset.train.images
    if isinstance(images, Streamed):  # a part of them, evenly spread, tells as much
        images = images[:: -(-len(images) // BORDERS)]
    border = predict.border_brightness(images)
    border = np.quantile(border if dataset.share.is_whole else arrays_of_all.rows_of_all(border), (0.005, 0.995))
    return {**facts_lib.of(dataset), "border_brightness": border.round(4).tolist()}


def _check_dense(task: loop.Task, variables: Any) -> None:
    """Checks the dense evaluation of a user-defined net before its training begins, and prints the result."""
    height, width, channels = task.dataset.image_shape
    name = own_code.short(task.config.net.name)
    try:
        report = dense.check(task.net, variables, (height, width), channels=channels)
        print(
            f"{name}: score maps by every backend agree with crops (dense.check, {report.difference:.0e})", flush=True
        )
    except Exception as error:  # of the library or of the user's layers; the net may still be meant for windows alone
        text = (
            str(error)
            if isinstance(error, ValueError)
            else own_code.describe(error, own_code.source_file(task.config.net.name))
        )
        print(f"warning: {name} must not be run densely, training goes on: {text}", file=sys.stderr, flush=True)
