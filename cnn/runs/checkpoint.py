"""Saved runs: checkpoints on disk, and trained nets loaded from them."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from cnn import geometry, nets
from cnn.nets import Net
from cnn.nets.outputs import class_count
from cnn.runs import facts as facts_lib
from cnn.runs.checksums import BEST, LATEST
from cnn.runs.config import Config
from cnn.runs.config import load as load_config
from cnn.runs.saved_steps import CheckpointError, Checkpoints, fault, latest_step
from cnn.runtime import own_code

# Where a checkpoint lies and how it is read is known here too, so that a run is used by one import.
__all__ = [
    "BEST",
    "LATEST",
    "WHICH",
    "CheckpointError",
    "Checkpoints",
    "Run",
    "all_names",
    "fault",
    "latest_step",
    "load_run",
    "make_net",
    "usual_order",
]

WHICH = {"last": LATEST, "best": BEST}


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
