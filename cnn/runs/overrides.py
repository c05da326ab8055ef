"""Fields that are set over those of a config: on the command line, by a study, or when a trained run is used."""

import json
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cnn import data, nets
from cnn.runs import checkpoint, facts, ranges
from cnn.runs import config as config_lib
from cnn.runs.checkpoint import Run
from cnn.runs.config import Config
from cnn.runs.differences import difference
from cnn.runtime import own_code

# A run has a length in epochs or in steps: setting one takes the other away.
EXCLUSIVE = {"train.epochs": "train.steps", "train.steps": "train.epochs"}
IN_USE = ("data.dir", "eval.")  # fields that say where a trained run's data are, and how it is scored


def override(config: Config, values: Mapping[str, Any]) -> None:
    """Sets fields of a config, in place.

    Setting one of two fields that exclude each other takes the other away; another net takes the options of the net
    before it away. The records of a net of records (net.name "layers") may be named by the workdir of a run that has
    some, or by a file of JSON; they are read here, so that the config holds them.

    Args:
      config: the config.
      values: value by full name of the field; "net.options" replaces all options, "net.options.width" sets one.

    Raises:
      ValueError: if there is no such field; names the nearest; or if records cannot be read.
    """
    first = [field for field in ("net.name", "net.options") if field in values]
    for field in (*first, *(field for field in values if field not in first)):
        if field == "net.name" and values[field] != config.net.name:
            config.net.options = ConfigDict()
        _set(config, field, values[field])
        other = EXCLUSIVE.get(field)
        if other and other not in values:
            _set(config, other, None)
    if config.net.name == "layers" and isinstance(config.net.options.get("layers"), str):
        records, activation = _read_records(config.net.options.layers)
        with config.ignore_type():
            config.net.options.layers = records
            if config.net.get("output_activation") is None:
                config.net.output_activation = activation


def _read_records(path: str) -> tuple[list[Any], str | None]:
    """The records of a net and its output activation, from the workdir of a run, or from a file."""
    what = f"net.options.layers (={path!r})"
    found = os.path.expanduser(path)
    if os.path.isdir(found):
        config = config_lib.load(found)
        if config.net.name == "layers":
            return json.loads(config.net.to_json())["options"]["layers"], config.net.get("output_activation")
        net = checkpoint.make_net(config, len(facts.read(found)["class_names"]))
        return nets.to_config(net), net.output_activation
    try:
        with open(found, encoding="utf-8") as file:
            tree = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{what} is no list of records, no workdir, and no file of JSON: {reason}") from error
    if not isinstance(tree, list):
        raise ValueError(f"{what} holds a {type(tree).__name__}, not a list of records, one for each layer")
    return tree, None


def _set(config: Config, field: str, value: Any) -> None:
    *path, last = field.split(".")
    if field == "net.options":
        config.net.options = ConfigDict(value)
        return
    group = config
    for name in path:
        group = group.get(name) if isinstance(group, ConfigDict) else None
    # The net says which options it takes; all other fields are there.
    if not isinstance(group, ConfigDict) or (last not in group and path != ["net", "options"]):
        raise ValueError(f"{field}: a config has no such field{config_lib.closest(field, config)}")
    with config.unlocked(), config.ignore_type():  # 2 in place of "same" and the like
        group[last] = value


def override_in_use(config: Config, values: Mapping[str, Any], workdir: str) -> None:
    """Sets fields of a trained run's config for its evaluation or for predictions, in place.

    Args:
      config: the config of the run.
      values: value by full name of the field. `data.dir` and `eval` are taken; a field that has the run's own value
        changes nothing, and a function or archive of the user's own may lie elsewhere.
      workdir: directory of the run, for the error.

    Raises:
      ValueError: if another field would be changed, or one is out of range; names them all.
    """
    there = config_lib.fields(config)
    # The net was trained on data that this config does not name: any may be scored.
    taken = ("data.", "eval.") if config.data.name in (data.IMPORTED, data.IN_MEMORY) else IN_USE
    refused = []
    for field, value in values.items():
        if field.startswith(taken) or _moved(field, there.get(field), value):
            _set(config, field, value)
        elif field not in there or there[field] != json.loads(json.dumps(value, default=dict)):
            refused.append(difference(field, there.get(field), value))
    if refused:
        raise ValueError(
            f"{workdir!r} holds a trained run, of which --config.data.dir and --config.eval.* can be set, and no field "
            f"that changes what is trained: {'; '.join(refused)}. Leave them out"
        )
    ranges.check(config)


def _moved(field: str, there: Any, here: Any) -> bool:
    """Whether a field names code or an archive of the user's own, which may lie elsewhere now."""
    both = isinstance(there, str) and isinstance(here, str)
    if field == "net.name":
        return both and own_code.is_reference(there) and own_code.is_reference(here)
    return field == "data.name" and both and data.is_own(there) and data.is_own(here)


def load_for_use(workdir: str, values: Mapping[str, Any], net: str | None = None, which: str = "last") -> Run:
    """Loads a trained run with some fields of its config set, to evaluate it or to predict with it.

    Args:
      workdir: directory of the run.
      values: value by full name of the field (see `override_in_use`).
      net: function that builds the run's net, where its file was moved or changed (`cnn.runs.checkpoint.load_run`).
      which: "last" or "best", the checkpoint that is used.

    Returns:
      The run.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if a field would change what is trained, or is out of range, or the run is damaged.
    """
    config = config_lib.load(workdir)
    override_in_use(config, values, workdir)
    # A file of the user's own that was moved since it was trained with is named anew.
    run = checkpoint.load_run(workdir, net=net or values.get("net.name"), data=values.get("data.name"), which=which)
    run.config.data, run.config.eval = config.data, config.eval
    return run
