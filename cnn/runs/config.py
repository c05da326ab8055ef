"""Configs in workdirs: saving one with a run, reading it, and comparing two; files: `cnn.runs.config_files`."""

import json
import os
import shutil
from typing import Any

from ml_collections import ConfigDict

from cnn.runs import checksums, defaults, logs, records, small_files
from cnn.runs.defaults import Config
from cnn.runs.differences import difference
from cnn.runtime import own_code

# Defaults for fields that were added after some saved runs were made: what those runs did without the field.
DEFAULTS_FOR_OLD_RUNS = {
    "data.value_range": [],
    "data.channels": [],
    "train.initial_run": "",
    "train.frozen": [],
    "train.frozen_until": 1.0,
    "train.sharding": "data",
    "train.ops": "fast",
    "data.on_error": "stop",
    "data.in_memory": "auto",
    "augment.area": [],
    "augment.aspect": [0.75, 4 / 3],
    "augment.shortest_side": [],
    "augment.colour_noise": 0.0,
    "augment.randaugment": [],
    "augment.mixup": 0.0,
    "augment.flip_in_turn": False,
    "train.nesterov": False,
    "train.bias_rate": 1.0,
    "train.head_rate": 1.0,
    "train.whitened": "",
    "train.class_weights": [],
    "eval.mirror": False,
    "eval.shift": 0,
    "checkpoint.best": True,  # they have none, and evaluating them anew would not make one
}
# Fields that say how long a run is, and how its steps change with that: those of a run that is trained for longer.
LENGTH = (
    *("train.epochs", "train.steps", "train.schedule", "train.warmup", "train.milestones", "train.decay_factor"),
    "train.frozen_until",
)
# Fields that may differ when a run goes on: they change what is written and when, not what is trained.
MAY_CHANGE_ON_RESUME = (
    "checkpoint.",
    "eval.batch_size",
    "eval.every_epochs",
    "eval.scene",
    "data.dir",
    "data.in_memory",
    "train.steps_per_dispatch",
    "train.sharding",
)
# Views that a finished run can be scored by, apart from its own result, with --mode=evaluate.
VIEWS = ("eval.mirror", "eval.shift")
# Fields that can name a function of the user's own.
CODE_FIELDS = ("net.name", "data.name")
FOLDER_FIELDS = ("data.dir", "train.initial_run")  # fields that name a folder
DIVERGED = "diverged.json"  # in the directory of a run whose loss was not finite any more


def fields(config: Config) -> dict[str, Any]:
    """The fields of a config by their full names.

    Args:
      config: the config.

    Returns:
      {"train.epochs": 1.0, ...}, in order, with what JSON makes of values: lists for tuples.
    """
    return _flat(json.loads(config.to_json()))


def as_saved(config: Config) -> dict[str, Any]:
    """A config as values for JSON, in which files are named so that they can be found from any directory.

    Args:
      config: the config.

    Returns:
      A nested dict. A net or data set by a function of the user's own is pinned to its file's content.

    Raises:
      ValueError: if such a file does not exist.
    """
    tree = json.loads(config.to_json())
    for field in CODE_FIELDS:
        group, name = field.split(".")
        value = tree.get(group, {}).get(name)
        if isinstance(value, str) and own_code.is_reference(value):
            tree[group][name] = own_code.pinned(value)
        elif isinstance(value, str) and value.lower().endswith(".npz"):
            tree[group][name] = os.path.abspath(os.path.expanduser(value))
    for field in FOLDER_FIELDS:
        group, name = field.split(".")
        if tree.get(group, {}).get(name):
            tree[group][name] = _absolute(tree[group][name])
    return tree


def _absolute(folder: str) -> str:
    """A folder as it is found from any directory; a bucket's address is left as it is."""
    return folder if "://" in folder else os.path.abspath(os.path.expanduser(folder))


def check_workdir(workdir: str) -> None:
    """Checks that a run can be written to a directory, without making it.

    Args:
      workdir: directory of the run, which may be missing.

    Raises:
      ValueError: if it is a file, lies in one, or cannot be written to.
    """
    there = os.path.abspath(workdir)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise ValueError(f"--workdir={workdir}: {there} is no folder; name a folder for the run")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--workdir={workdir}: {there} cannot be written to; name another folder for the run")


def goes_on(config: Config, workdir: str, *, longer: bool = False) -> bool:
    """Whether a run in a directory goes on with a config, or one starts there; nothing is written.

    A directory that holds neither a checkpoint nor a result holds no run: what was begun there binds nobody. Nor does a
    run whose loss was not finite any more, as it can never end.

    Args:
      config: the config of the run.
      workdir: directory of the run, which may be missing.
      longer: whether it may go on to another length: fields of `LENGTH` may differ.

    Returns:
      Whether it goes on.

    Raises:
      ValueError: if the directory holds a run whose config differs in a field that changes what is trained; names the
        fields; or if it holds none that could be trained for longer.
    """
    if not holds_run(workdir):
        if longer:
            raise ValueError(f"--longer: {workdir!r} holds no run yet; leave --longer out to begin one there")
        return False
    found = differences(config, workdir)
    differ = [field for field in found if not field.startswith(MAY_CHANGE_ON_RESUME)]
    of_length = [field for field in differ if field in LENGTH]
    if longer:
        differ = [field for field in differ if field not in of_length]
    if differ and not os.path.exists(os.path.join(workdir, DIVERGED)):
        otherwise = ", or train that run for longer with main.py --longer" if differ == of_length else ""
        if set(differ) <= set(VIEWS):
            otherwise = ", or score that run by these views with --mode=evaluate"
        texts = "; ".join(found[field] for field in differ)
        raise ValueError(f"{workdir!r} holds another run: {texts}. Choose another --workdir{otherwise}")
    return not differ


def holds_run(workdir: str) -> bool:
    """Whether a directory has anything that was trained: a checkpoint or a result.

    Args:
      workdir: the directory, which may be missing.

    Returns:
      Whether it has; an empty folder of a checkpoint is none.
    """
    folder = os.path.join(workdir, checksums.LATEST)
    saved = any(os.listdir(os.path.join(folder, str(step))) for step in checksums.steps(folder))
    return saved or os.path.exists(os.path.join(workdir, "result.json"))


def save(config: Config, workdir: str) -> None:
    """Writes config.json, and copies of the user's code that it names.

    Args:
      config: the config of the run, which `goes_on` takes.
      workdir: directory of the run; made if missing.

    Raises:
      ValueError: if a file that the config names does not exist.
    """
    os.makedirs(workdir, exist_ok=True)
    wanted = as_saved(config)
    for field in CODE_FIELDS:
        group, name = field.split(".")
        if own_code.is_reference(wanted[group][name]):
            source = own_code.source_file(wanted[group][name])
            copies = os.path.join(workdir, "code", group)
            os.makedirs(copies, exist_ok=True)
            shutil.copyfile(source, os.path.join(copies, os.path.basename(source)))
    logs.write_json(os.path.join(workdir, "config.json"), wanted)


def differences(config: Config, workdir: str) -> dict[str, str]:
    """Fields in which a config differs from the one that is saved in a workdir.

    Args:
      config: the config.
      workdir: directory of a run.

    Returns:
      field -> what it is there and here; empty if the configs are the same.

    Raises:
      FileNotFoundError: if the directory holds no run.
      ValueError: if a file that the config names does not exist.
    """
    saved, now = (_comparable(tree) for tree in (json.loads(load(workdir).to_json()), as_saved(config)))
    saved = DEFAULTS_FOR_OLD_RUNS | saved
    return {
        field: difference(field, saved.get(field), now.get(field)) + _changed(saved, now, field)
        for field in {**saved, **now}
        if saved.get(field) != now.get(field)
    }


def identity(config: Config) -> dict[str, Any]:
    """The fields of a config that all processes of a run must have alike.

    Args:
      config: the config.

    Returns:
      Field -> value; code by its content. Where the data lie may differ between machines.

    Raises:
      ValueError: if a file that the config names does not exist.
    """
    return {field: value for field, value in _comparable(as_saved(config)).items() if field != "data.dir"}


def load(workdir: str) -> Config:
    """Reads config.json.

    Args:
      workdir: directory of a run.

    Returns:
      The config of the run.

    Raises:
      FileNotFoundError: if the directory holds no run.
      ValueError: if config.json is damaged.
    """
    missing = f"{workdir!r} holds no run; train one with main.py --workdir"
    return ConfigDict(small_files.read(workdir, "config.json", _wrong, _differing, missing))


def _wrong(tree: dict[str, Any]) -> list[str]:
    """What is wrong with the contents of a config.json."""
    from cnn.runs import ranges  # here, so that commands answer --help without JAX

    found = records.wrong(tree, (), dict.fromkeys(field.name.split(".")[0] for field in defaults.FIELDS))
    if found:
        return found
    try:
        config: Config = ConfigDict(tree)
        ranges.check(config)
        texts = [config.net.name, config.data.name]
        return [] if all(isinstance(one, str) for one in texts) else ["net.name and data.name must be texts"]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        return [" ".join(str(error).split())]


def _differing(tree: dict[str, Any], copied: dict[str, Any]) -> list[str]:
    """What of a saved config cannot differ from its copy, and does."""
    there, here = (DEFAULTS_FOR_OLD_RUNS | _comparable(one) for one in (tree, copied))
    fields = [
        field for field in {**there, **here} if field not in LENGTH and not field.startswith(MAY_CHANGE_ON_RESUME)
    ]
    differ = [field for field in fields if there.get(field) != here.get(field)]
    return [small_files.difference(field, there.get(field), here.get(field)) for field in differ][:3]


def closest(field: str, config: Config) -> str:
    """The end of a message about a field that a config does not have.

    Args:
      field: full name, "train.epoch".
      config: the config.

    Returns:
      "; did you mean train.epochs?", or the names in its group, or the groups.
    """
    names = [name for name, _, _ in defaults.FIELDS]
    names += [name for name in fields(config) if name not in names]
    near = own_code.did_you_mean(field, names)
    if "did you mean" in near:
        return near
    group = field.split(".")[0]
    inside = [name for name in names if name.startswith(group + ".")]
    return own_code.did_you_mean(field, inside or names, "fields:")


def _comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """Fields by name; code by its content, wherever its file lies."""
    flat = _flat(tree)
    for field in FOLDER_FIELDS:
        if flat.get(field):  # older runs have it as it was given
            flat[field] = _absolute(flat[field])
    for field in CODE_FIELDS:
        value = flat.get(field)
        if isinstance(value, str) and own_code.is_reference(value):
            flat[field] = os.path.basename(value)
    return flat


def _changed(saved: dict[str, Any], now: dict[str, Any], field: str) -> str:
    """Says that the user's code was changed, where a field differs in its digest only."""
    names = [str(tree.get(field)).rpartition("@")[0] for tree in (saved, now)]
    if field not in CODE_FIELDS or names[0] != names[1] or not names[0]:
        return ""
    group, file = field.split(".")[0], names[0].rpartition(":")[0]
    return f" (the file was changed since: its content then is in code/{group}/{file} of the workdir)"


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"epochs": 1}} -> {"train.epochs": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
