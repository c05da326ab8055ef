"""Saved runs: checkpoints on disk, and trained nets loaded from them. The only module that imports Orbax.

A checkpoint has two parts, "variables" and "optimizer": a net is used without reading its optimiser's state.
"""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from cnn import nets
from cnn.nets import Net
from cnn.runs import ranges
from cnn.runs.config import Config
from cnn.runs.config import load as load_config
from cnn.runtime import own_code


class Checkpoints:
    """The checkpoints in a workdir.

    Writing goes on in the background; a checkpoint appears under its name only when it is whole, so a run killed at
    any moment finds the last complete one.
    """

    def __init__(self, workdir: str, keep: int) -> None:
        """Opens a workdir's checkpoints.

        Args:
          workdir: directory of the run.
          keep: number of the latest checkpoints to keep.

        Raises:
          ValueError: if keep is below 1.
        """
        ranges.check_fields("checkpoint", {"keep": keep}, "keep")
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(os.path.abspath(os.path.join(workdir, "checkpoints")), options=options)

    def latest_step(self) -> int | None:
        """Step of the latest complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, variables: Mapping[str, Any], optimizer: Any) -> None:
        """Saves a step, unless it is saved already.

        Args:
          step: number of steps done.
          variables: variables of the net.
          optimizer: the optimiser's state.
        """
        if step != self.latest_step():
            arguments = ocp.args.Composite(
                variables=ocp.args.StandardSave(variables), optimizer=ocp.args.StandardSave(optimizer)
            )
            with _uninterrupted():
                self._manager.save(step, args=arguments)

    def restore(self, step: int, **parts: Any) -> dict[str, Any]:
        """Loads parts of a checkpoint.

        Args:
          step: number of the step that was saved.
          **parts: the parts wanted, "variables" and "optimizer", each a tree of arrays or `jax.ShapeDtypeStruct`s of
            the shapes, dtypes and shardings to load.

        Returns:
          The parts by name.
        """
        arguments = ocp.args.Composite(**{name: ocp.args.StandardRestore(tree) for name, tree in parts.items()})
        restored = self._manager.restore(step, args=arguments)
        return {name: restored[name] for name in parts}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        """Waits until everything is on disk."""
        with _uninterrupted():
            self._manager.wait_until_finished()
            self._manager.close()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keeps Ctrl-C until the end of the block; within it, it would leave threads that write a checkpoint to nobody."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C reaches the main thread alone, and only there can it be kept
        return
    pressed = False

    def keep(*_: Any) -> None:
        nonlocal pressed
        pressed = True

    handler = signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler if handler is not None else signal.default_int_handler)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def latest_step(workdir: str) -> int | None:
    """Step of the latest complete checkpoint of a run, from the names of its folders alone.

    Args:
      workdir: directory of the run.

    Returns:
      The step; None if there is none.
    """
    folder = os.path.join(workdir, "checkpoints")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return max((int(name) for name in names if name.isdecimal()), default=None)


class Run(NamedTuple):
    """A trained net with all that is needed to use it.

    Attributes:
      net: the classifier.
      variables: its variables.
      config: config of the run.
      mean, std: per channel, for `cnn.data.normalise`.
      class_names: one for each score.
      image_shape: (H, W, C) it was trained on: the window of a dense run.
      workdir: directory of the run.
      step: number of steps trained.
      border_brightness: lowest and highest brightness that the borders of nearly all training images have (from 0.5 %
        to 99.5 % of them), in units of the full range; None for runs that did not save it.
    """

    net: Net
    variables: dict[str, Any]
    config: Config
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    workdir: str
    step: int
    border_brightness: tuple[float, float] | None = None


def load_run(workdir: str, *, net: str | None = None, data: str | None = None) -> Run:
    """Loads a trained net from its workdir.

    A net that is a function of the user's own is built by the file that the run was trained with, as long as that lies
    where it lay and has the same content; no other code is executed. Where it was moved or changed, `net` names it.

    Args:
      workdir: directory that `cnn.train.train_and_evaluate` wrote.
      net: function that builds the net, "FILE.py:FUNCTION"; None: as the run has it. The run's own copy of the file is
        in WORKDIR/code/net.
      data: function that reads the data, named in the same way; it is not executed here.

    Returns:
      The `Run`, at its latest checkpoint.

    Raises:
      FileNotFoundError: if there is no run, or none of its checkpoints is complete.
      ValueError: if the net's file was moved or changed since.
    """
    config = load_config(workdir)
    config.net.name, config.data.name = net or config.net.name, data or config.data.name
    with open(os.path.join(workdir, "data.json")) as file:
        facts = json.load(file)
    built = make_net(config, len(facts["class_names"]))
    height, width, channels = facts["image_shape"]
    image = jax.ShapeDtypeStruct((1, height, width, channels), "float32")
    template = jax.eval_shape(lambda image: built.init(jax.random.key(0), image, train=False), image)
    local = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=local), template)
    with Checkpoints(workdir, config.checkpoint.keep) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise FileNotFoundError(f"{workdir!r} holds no complete checkpoint yet; let its training reach one")
        variables = checkpoints.restore(step, variables=template)["variables"]
    return Run(
        built,
        variables,
        config,
        tuple(facts["mean"]),
        tuple(facts["std"]),
        tuple(facts["class_names"]),
        (height, width, channels),
        workdir,
        step,
        tuple(facts["border_brightness"]) if "border_brightness" in facts else None,
    )


def make_net(config: Config, num_classes: int) -> Net:
    """The net that a config asks for.

    Args:
      config: the config of the run; its `net.num_classes` wins over the data's. Its `net.name` may be a function of the
        user's own.
      num_classes: number of classes in the data.

    Returns:
      The net.

    Raises:
      ValueError: if the net is unknown, or has fewer outputs than the data has classes.
    """
    asked = config.net.num_classes
    if asked is not None and asked < num_classes:
        data = own_code.short(config.data.name)
        raise ValueError(f"net.num_classes (={asked}) is below the {num_classes} classes of data {data!r}")
    return nets.create(config.net.name, num_classes if asked is None else asked, **config.net.options)
