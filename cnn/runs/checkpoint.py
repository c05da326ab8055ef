"""Saved runs: checkpoints on disk, and trained nets loaded from them. The only module that imports Orbax.

A checkpoint has two parts, "variables" and "optimizer": a net is used without reading its optimiser's state.
"""

import contextlib
import glob
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from cnn import geometry, nets
from cnn.nets import Net
from cnn.nets.outputs import class_count
from cnn.runs import facts as facts_lib
from cnn.runs import orbax_log, ranges, stopping
from cnn.runs.config import Config
from cnn.runs.config import load as load_config
from cnn.runtime import locks, own_code, whole

LATEST, BEST = "checkpoints", "checkpoints_best"  # folders in a workdir
WHICH = {"last": LATEST, "best": BEST}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; says which step, where, and what can be done."""


class Checkpoints:
    """The checkpoints in a workdir.

    Writing goes on in the background; a checkpoint appears under its name only when it is whole, so a run killed at
    any moment finds the last complete one.
    """

    def __init__(self, workdir: str, keep: int, folder: str = LATEST) -> None:
        """Opens a workdir's checkpoints.

        Args:
          workdir: directory of the run.
          keep: number of the latest checkpoints to keep.
          folder: name of their folder in the workdir; it is made if missing.

        Raises:
          ValueError: if keep is below 1.
          OSError: if the folder is missing and cannot be made.
        """
        ranges.check_fields("checkpoint", {"keep": keep}, "keep")
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self.folder = os.path.abspath(os.path.join(workdir, folder))
        self._saving = False  # whether anything may be being written in the background
        orbax_log.raised_alone()
        with self._writing():
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest_step(self) -> int | None:
        """Step of the latest complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(
        self, step: int, variables: Mapping[str, Any], optimizer: Any = None, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Saves a step, unless it is saved already.

        Args:
          step: number of steps done.
          variables: variables of the net.
          optimizer: the optimiser's state; None: the net is never trained on from here.
          facts: what else is known of the net, as JSON has it.

        Raises:
          OSError: if this step, or the one before in the background, cannot be written; those before stay.
          Lost: if this process held a lock of the workdir, and has it no longer.
        """
        locks.check()
        if step != self.latest_step():
            parts: dict[str, Any] = {"variables": ocp.args.StandardSave(variables)}
            if optimizer is not None:
                parts["optimizer"] = ocp.args.StandardSave(optimizer)
            if facts is not None:
                parts["facts"] = ocp.args.JsonSave(dict(facts))
            self._saving = True
            with stopping.kept(), self._writing():
                self._probe()
                self._manager.save(step, args=ocp.args.Composite(**parts))

    def restore(self, step: int, **parts: Any) -> dict[str, Any]:
        """Loads parts of a checkpoint.

        Args:
          step: number of the step that was saved.
          **parts: the parts wanted, "variables" and "optimizer", each a tree of arrays or `jax.ShapeDtypeStruct`s of
            the shapes, dtypes and shardings to load.

        Returns:
          The parts by name.

        Raises:
          CheckpointError: if it cannot be read, or does not fit.
        """
        return self._restore(step, {name: ocp.args.StandardRestore(tree) for name, tree in parts.items()})

    def restore_facts(self, step: int) -> dict[str, Any]:
        """Loads the facts that were saved with a checkpoint.

        Args:
          step: number of the step that was saved.

        Returns:
          The facts.

        Raises:
          CheckpointError: if they cannot be read.
        """
        return self._restore(step, {"facts": ocp.args.JsonRestore()})["facts"]

    def _restore(self, step: int, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Loads parts, each by its arguments for Orbax."""
        arguments = ocp.args.Composite(**parts)
        try:
            restored = self._manager.restore(step, args=arguments)
            return {name: restored[name] for name in parts}
        except MemoryError:
            raise
        except Exception as error:  # Orbax and the libraries below it raise whatever a damaged byte leads them to
            where = os.path.join(self.folder, str(step))
            text = " ".join(str(error).split())
            raise CheckpointError(
                f"the checkpoint of step {step:,} cannot be read: {where}: {type(error).__name__}: {text[:200]}"
            ) from error

    def restore_latest(self, **parts: Any) -> tuple[int, dict[str, Any]] | None:
        """Loads parts of the latest checkpoint that can be read; nothing is written or removed.

        Args:
          **parts: see `restore`.

        Returns:
          (step, the parts by name), after a line on standard error for each later one that cannot be read; None if
          there are no checkpoints.

        Raises:
          CheckpointError: if there are checkpoints, and none can be read.
        """
        unread: list[CheckpointError] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self.restore(step, **parts)
            except CheckpointError as error:
                unread.append(error)
                continue
            for error in unread:
                print(f"warning: {error}; step {step:,} before it is used", file=sys.stderr, flush=True)
            return step, found
        if unread:
            raise CheckpointError(
                f"{unread[0]}; no other checkpoint of the run can be read; train again in another --workdir"
            )
        return None

    def drop_after(self, step: int) -> None:
        """Removes checkpoints beyond a step, and unfinished ones of before: they would stand in the way of new ones.

        Args:
          step: the latest step to keep.
        """
        if not self._saving:
            self._discard_parts()
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        """Waits until everything is on the disk; an error of the block is raised in place of one of writing."""
        failed: OSError | None = None
        with stopping.kept():
            try:
                with self._writing():
                    self._manager.wait_until_finished()
            except OSError as error:
                failed = error
            with contextlib.suppress(Exception):  # it raises again what was raised above
                self._manager.close()
            if failed or kind is not None:
                self._discard_parts()
            if failed and kind is None:
                raise failed

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors of writing, of Orbax and the libraries below it, as one line."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            raise whole.cannot_write(f"a checkpoint in {self.folder}", error) from error

    def _probe(self) -> None:
        """Raises at once what Orbax would find out in the background, and wait for over minutes."""
        probe = os.path.join(self.folder, f".{os.getpid()}")
        try:
            os.mkdir(probe)
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(probe)

    def _discard_parts(self) -> None:
        """Removes what was begun and never finished, which takes the room that a new one needs."""
        pattern = os.path.join(glob.escape(self.folder), "*.orbax-checkpoint-tmp*")
        for _ in range(40):  # threads that have not failed yet write to it for a moment more
            found = glob.glob(pattern)
            if not found or not os.access(self.folder, os.W_OK):
                return
            for part in found:
                shutil.rmtree(part, ignore_errors=True)
            time.sleep(0.05)


def latest_step(workdir: str, folder: str = LATEST) -> int | None:
    """Step of the latest complete checkpoint of a run, from the names of its folders alone.

    Args:
      workdir: directory of the run.
      folder: name of the checkpoints' folder in it.

    Returns:
      The step; None if there is none.
    """
    path = os.path.join(workdir, folder)
    names = os.listdir(path) if os.path.isdir(path) else []
    return max((int(name) for name in names if name.isdecimal()), default=None)


class Run(NamedTuple):
    """A trained net with all that is needed to use it.

    Attributes:
      net: the classifier.
      variables: its variables.
      config: config of the run.
      mean, std: per channel, for `cnn.data.normalise`.
      class_names: one for each score; "class 15 (unnamed)" beyond the classes of the data.
      image_shape: (H, W, C) it was trained on: the window of a dense run.
      workdir: directory of the run.
      step: number of steps trained.
      channel_order: what the channels are: "rgb", "grey", or "" where that is not known.
      notes: what was folded, dropped or assumed where the net was imported, a sentence each.
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
    channel_order: str = ""
    notes: tuple[str, ...] = ()

    @property
    def value_range(self) -> tuple[float, float] | None:
        """(low, high): the pixel values that count as 0 and as 1 (`data.value_range`); None: those of the dtype."""
        found = getattr(getattr(self.config, "data", None), "value_range", None)  # older runs have none
        return (float(found[0]), float(found[1])) if found else None

    @property
    def channels(self) -> tuple[int | str, ...] | None:
        """The channels of an image that are read, in order (`data.channels`); None: all."""
        found = getattr(getattr(self.config, "data", None), "channels", None)
        return tuple(found) if found else None


def usual_order(channels: int) -> str:
    """The order of an image's channels where nothing says another.

    Args:
      channels: number of channels.

    Returns:
      "grey" for one, "rgb" for three, "" for other numbers.
    """
    return {1: "grey", 3: "rgb"}.get(channels, "")


def load_run(workdir: str, *, net: str | None = None, data: str | None = None, which: str = "last") -> Run:
    """Loads a trained net from its workdir.

    A net that is a function of the user's own is built by the file that the run was trained with, as long as that lies
    where it lay and has the same content; no other code is executed. Where it was moved or changed, `net` names it.

    Args:
      workdir: directory that `cnn.train.train_and_evaluate` wrote.
      net: function that builds the net, "FILE.py:FUNCTION"; None: as the run has it. The run's own copy of the file is
        in WORKDIR/code/net.
      data: function that reads the data, named in the same way; it is not executed here.
      which: "last" for the latest checkpoint, "best" for that of the best validation (`checkpoint.best`).

    Returns:
      The `Run`, at that checkpoint.

    Raises:
      FileNotFoundError: if there is no run, or none of its checkpoints is complete.
      ValueError: if the net's file was moved or changed since, one of the run's files is damaged, or `which` is
        neither. Where the latest
        checkpoint cannot be read, a line says so, and the one before it is used.
    """
    if which not in WHICH:
        raise ValueError(f"load_run: which (={which!r}) must be one of {', '.join(WHICH)}")
    workdir = os.path.expanduser(workdir)
    config = load_config(workdir)
    for field, named, saved in (("net.name", net, config.net.name), ("data.name", data, config.data.name)):
        if not named:
            own_code.check_saved(saved, workdir, field)
    config.net.name, config.data.name = net or config.net.name, data or config.data.name
    facts = facts_lib.read(workdir)
    built = make_net(config, len(facts["class_names"]))
    height, width, channels = facts["image_shape"]
    image = jax.ShapeDtypeStruct((1, height, width, channels), "float32")
    template = jax.eval_shape(lambda image: built.init(jax.random.key(0), image, train=False), image)
    local = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=local), template)
    found = None
    if latest_step(workdir, WHICH[which]) is not None:  # opening them makes their folder
        with Checkpoints(workdir, config.checkpoint.keep, WHICH[which]) as checkpoints:
            found = checkpoints.restore_latest(variables=template)
    if found is None and which == "best":
        raise FileNotFoundError(
            f"{workdir!r} keeps no best checkpoint: it was trained without checkpoint.best, or has not been validated "
            "yet; take the last one (--checkpoint=last)"
        )
    if found is None:
        raise FileNotFoundError(f"{workdir!r} holds no complete checkpoint yet; let its training reach one")
    outputs = geometry.table(built, (height, width, channels))[-1].output_shape[-1]
    border = facts.get("border_brightness")
    return Run(
        built,
        found[1]["variables"],
        config,
        tuple(facts["mean"]),
        tuple(facts["std"]),
        all_names(facts["class_names"], outputs),
        (height, width, channels),
        workdir,
        found[0],
        (border[0], border[1]) if border else None,
        facts.get("channel_order", usual_order(channels)),
        tuple(facts.get("notes", ())),
    )


def all_names(class_names: Sequence[str], outputs: int) -> tuple[str, ...]:
    """A name for each output of a net, which may have more of them than its data had classes.

    Args:
      class_names: names of the data's classes.
      outputs: number of the net's scores.

    Returns:
      The names, then "class 15 (unnamed)" and so on.
    """
    return (*class_names, *(f"class {k} (unnamed)" for k in range(len(class_names), outputs)))


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
    if asked is not None and class_count(asked) < num_classes:
        data = own_code.short(config.data.name)
        raise ValueError(f"net.num_classes (={asked}) is below the {num_classes} classes of data {data!r}")
    count = num_classes if asked is None else asked
    return nets.create(
        config.net.name, count, output_activation=config.net.get("output_activation"), **config.net.options
    )
