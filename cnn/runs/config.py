"""Configs on disk: saving one, and telling two apart."""

import json
import os
from typing import Any

from ml_collections import ConfigDict

from cnn.runs import logs

# A ConfigDict's fields have no static types; the name says what a function wants all the same.
Config = Any

# Fields that are newer than some runs, and what those did without them.
LATER_FIELDS = {"train.frozen": [], "train.frozen_until": 1.0}
# Fields that may differ when a run goes on: they change what is written and when, not what is trained.
FREE_FIELDS = ("checkpoint.", "eval.", "data.dir", "train.steps_per_dispatch")


def save(config: Config, workdir: str) -> None:
    """Writes config.json, unless the directory holds another run.

    Args:
      config: of the run.
      workdir: its directory; made if missing.

    Raises:
      ValueError: if there is a config.json that differs in a field that changes what is trained; names the fields.
    """
    os.makedirs(workdir, exist_ok=True)
    wanted = _flat(json.loads(config.to_json()))
    if os.path.exists(os.path.join(workdir, "config.json")):
        found = LATER_FIELDS | _flat(json.loads(load(workdir).to_json()))
        differ = [
            f"{field} is {found.get(field)!r} there and {wanted.get(field)!r} here"
            for field in {**found, **wanted}
            if found.get(field) != wanted.get(field) and not field.startswith(FREE_FIELDS)
        ]
        if differ:
            raise ValueError(f"{workdir!r} holds another run: {'; '.join(differ)}. Choose another --workdir")
    logs.write_json(os.path.join(workdir, "config.json"), json.loads(config.to_json()))


def load(workdir: str) -> Config:
    """Reads config.json.

    Args:
      workdir: directory of a run.

    Returns:
      The config of the run.

    Raises:
      FileNotFoundError: if the directory holds no run.
    """
    path = os.path.join(workdir, "config.json")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing: {workdir!r} holds no run; train one with main.py --workdir")
    with open(path) as file:
        return ConfigDict(json.load(file))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"epochs": 1}} -> {"train.epochs": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
