"""Fields of a config that depend on each other: what is wrong between them, before there are data."""

import itertools
import os
from collections.abc import Callable
from typing import Any

from cnn.runs import defaults, ranges
from cnn.runs.config import Config
from cnn.runtime import own_code


def problems(config: Config, *, given: bool = False) -> list[str]:
    """What does not go together in a config.

    Args:
      config: the config of a run, complete. Fields that are out of range by themselves are not compared with others.
      given: whether the data are given in memory, so that the fields that would read them say nothing.

    Returns:
      A text for each contradiction, with the fields, their values and the way out.
    """
    out = [text.partition(" (=")[0] for text in ranges.problems(config)]
    flat = _values(config)
    wrong = []
    for names, rule in _RULES:
        if set(names) & set(out) or not set(names) <= set(flat) or (given and "data.image_size" in names):
            continue
        if text := rule(*(flat[name] for name in names)):
            wrong.append(text)
    return wrong + _unknown(config)


def _values(config: Config) -> dict[str, Any]:
    """The values of all fields that the config has, by their full names."""
    found = {}
    for name, _, _ in defaults.FIELDS:
        group, _, last = name.rpartition(".")
        part = config.get(group, {}) if group else config
        if hasattr(part, "keys") and last in part:
            found[name] = part[last]
    return found


def _unknown(config: Config) -> list[str]:
    """Fields that no run has; those of net.options are the net's."""
    known = {name for name, _, _ in defaults.FIELDS} | {name.partition(".")[0] for name, _, _ in defaults.FIELDS}
    there = [name for name in config if name not in known]
    for group in config:
        if group in known and hasattr(config[group], "keys"):
            there += [f"{group}.{name}" for name in config[group] if f"{group}.{name}" not in known]
    return [
        f"{name}: a config has no such field{own_code.did_you_mean(name, sorted(known), 'fields:')}" for name in there
    ]


def _length(epochs: Any, steps: Any) -> str | None:
    if (epochs is None) != (steps is None):
        return None
    return f"give train.epochs (={epochs}) or train.steps (={steps}): one of them, not both"


def _milestones(schedule: Any, milestones: Any, warmup: Any) -> str | None:
    if schedule != "step":
        return None
    if any(one >= other for one, other in itertools.pairwise(milestones)):
        return f"train.milestones (={ranges.short(tuple(milestones))}) must rise, each above the one before"
    if milestones and milestones[0] < warmup:
        return (
            f"train.milestones (={ranges.short(tuple(milestones))}) begin in the warm-up, the first train.warmup "
            f"(={warmup}) of the run: the learning rate would never reach its peak; a later milestone or a shorter "
            "warm-up would do"
        )
    return None


def _pad(pad: Any, mode: Any, size: Any) -> str | None:
    most = None if size is None else size - 1 if mode == "reflect" else size
    if most is None or pad <= most:
        return None
    return f"augment.pad (={pad}) must be at most {most} pixels with data.image_size (={size}) and pad_mode {mode!r}"


def _scenes(scenes: Any, scene: Any, size: Any) -> str | None:
    if not scenes or size is None or scene >= size:
        return None
    return (
        f"eval.scene_size (={scene}) must be at least data.image_size (={size}): a scene is larger than the net's "
        "window; eval.scenes=0 runs none"
    )


def _source(name: Any, place: Any, size: Any) -> str | None:
    """Whether the data can be found at all."""
    if own_code.is_reference(name):
        try:
            own_code.source_file(name)
        except ValueError as error:
            return f"data.name: {error}"
    if name.lower().endswith(".npz") and not os.path.isfile(os.path.expanduser(name)):
        return f"data.name (={name!r}): there is no such file"
    if name == "shards":
        there = place and os.path.isdir(os.path.expanduser(place))
        return None if there else f"data.dir (={place!r}) is not a directory; it must hold the tar or Parquet files"
    if name != "folder":
        return None
    if not place:
        return "data.name='folder' needs data.dir, the directory that has train/ and val/ in it, or the classes"
    if not os.path.isdir(os.path.expanduser(place)):
        return f"data.dir (={place!r}) is not a directory; it must hold train/<class>/ and val/<class>/, or <class>/"
    if size is None:
        return (
            "data.name='folder' needs data.image_size: pictures of any size are resized (shortest side) and "
            "centre-cropped to it; 64 is quick, 224 usual"
        )
    return None


def _nesterov(nesterov: Any, optimizer: Any, momentum: Any) -> str | None:
    """Whether Nesterov's momentum has an effect."""
    if not nesterov or optimizer == "sgd" and momentum:
        return None
    return (
        f"train.nesterov=True is for sgd with momentum, and has no effect with train.optimizer={optimizer}, "
        f"train.momentum={momentum}"
    )


def _flips(flip: Any, in_turn: Any) -> str | None:
    """Whether images are mirrored in one way."""
    if not (flip and in_turn):
        return None
    return "augment.flip=True and augment.flip_in_turn=True: images are mirrored at random or in turn; choose one"


def _turns(in_turn: Any, area: Any, side: Any, changes: Any) -> str | None:
    """Whether an image is known again when it is seen next."""
    given = {"area": area, "shortest_side": side, "randaugment": changes}
    names = [f"augment.{name}" for name, value in given.items() if len(value)]
    if not in_turn or not names:
        return None
    return (
        f"augment.flip_in_turn=True knows an image by its pixels, which {' and '.join(names)} change each time; "
        "augment.flip=True mirrors at random"
    )


def _whitened(whitened: Any, initial_run: Any) -> str | None:
    """Whether two fields say what a layer begins with."""
    if not whitened or not initial_run:
        return None
    return f"train.whitened (={whitened!r}) and train.initial_run both say what that layer begins with; leave one out"


def _skipping(name: Any, on_error: Any) -> str | None:
    """Whether what cannot be read can be left out."""
    if name != "shards" or on_error != "skip":
        return None
    return "data.on_error=skip is for folders; an image of shards that cannot be read stops the run, which names it"


_RULES: tuple[tuple[tuple[str, ...], Callable[..., str | None]], ...] = (
    (("train.epochs", "train.steps"), _length),
    (("train.schedule", "train.milestones", "train.warmup"), _milestones),
    (("augment.pad", "augment.pad_mode", "data.image_size"), _pad),
    (("eval.scenes", "eval.scene_size", "data.image_size"), _scenes),
    (("data.name", "data.dir", "data.image_size"), _source),
    (("data.name", "data.on_error"), _skipping),
    (("augment.flip", "augment.flip_in_turn"), _flips),
    (("augment.flip_in_turn", "augment.area", "augment.shortest_side", "augment.randaugment"), _turns),
    (("train.nesterov", "train.optimizer", "train.momentum"), _nesterov),
    (("train.whitened", "train.initial_run"), _whitened),
)
