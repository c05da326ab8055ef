"""The directory of a study: its declaration, and one line for each result; a killed study goes on from them."""

import json
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from cnn.runs import logs
from cnn.runs.config import DEFAULTS_FOR_OLD_RUNS, MAY_CHANGE_ON_RESUME, Config, as_saved
from cnn.runtime import whole


class Store:
    """results.jsonl, study.json and pictures/ of a study.

    Attributes:
      workdir: the directory.
      records: the lines of results.jsonl.
    """

    def __init__(self, workdir: str, study: Mapping[str, Any], configs: Mapping[str, Sequence[Config]]) -> None:
        """Opens a directory for a study; made if missing.

        Args:
          workdir: the directory.
          study: "study" (its name), "measures", and further facts to keep.
          configs: the configs of each cell.

        Raises:
          ValueError: if the directory holds results of another study, other configs or measures; names the fields.
        """
        self.workdir = workdir
        os.makedirs(os.path.join(workdir, "pictures"), exist_ok=True)
        wanted = {**study, "cells": {cell: [as_saved(config) for config in found] for cell, found in configs.items()}}
        path = os.path.join(workdir, "study.json")
        self._path = os.path.join(workdir, "results.jsonl")
        self.records = self._read()
        if self.records and os.path.exists(path):  # without results there is nothing to mix
            with open(path) as file:
                self._compare(json.load(file), wanted)
        logs.write_json(path, wanted)

    def _compare(self, there: Any, wanted: Any) -> None:
        """Refuses to mix results of different configs or measures."""
        compared = [key for key in ("study", "measures", "cells") if key in there]
        one, other = (dict(_flat({key: x[key] for key in compared})) for x in (there, wanted))
        fields = [
            field for field in {**one, **other} if not any(f".{free}" in f".{field}" for free in MAY_CHANGE_ON_RESUME)
        ]
        values = [(field, _value(one, field), _value(other, field)) for field in fields]
        differ = [f"{field} is {a} there and {b} here" for field, a, b in values if a != b]
        if differ:
            raise ValueError(
                f"{self.workdir!r} holds another study, or one with other fields: {'; '.join(differ[:5])}"
                f"{f' and {len(differ) - 5} more' if len(differ) > 5 else ''}. Choose another --workdir"
            )

    def _read(self) -> list[dict[str, Any]]:
        """The lines so far; one cut off by a kill is taken away."""
        if not os.path.exists(self._path):
            return []
        with open(self._path) as file:
            complete = [line for line in file if line.endswith("\n")]
        with whole.written(self._path) as part, open(part, "w") as file:
            file.writelines(complete)
        return [json.loads(line) for line in complete]

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Appends results of a cell: all of them, or, if killed meanwhile, a part.

        Args:
          records: what `experiments.ablation.cells.run_cell` returned.
        """
        file = whole.Appended(self._path)
        try:
            file.add("".join(json.dumps(record) + "\n" for record in records).encode())
            file.sync()
        finally:
            file.close()
        self.records += [dict(record) for record in records]

    def add_pictures(self, cell: str, pictures: Mapping[str, bytes]) -> None:
        """Writes pictures of a cell.

        Args:
          cell: its name.
          pictures: PNG files by name.
        """
        for name, content in pictures.items():
            with whole.written(self.picture(cell, name)) as part, open(part, "wb") as file:
                file.write(content)

    def picture(self, cell: str, name: str) -> str:
        """Path of a cell's picture, whether or not it exists."""
        return os.path.join(self.workdir, "pictures", f"{urllib.parse.quote(cell, safe=' ,')} {name}")

    def seeds_done(self, cell: str) -> set[int]:
        """Seeds of a cell that have their line."""
        return {record["seed"] for record in self.records if record["kind"] == "seed" and record["cell"] == cell}

    def chosen(self, cell: str) -> int | None:
        """Index of the config that a cell was tuned to; None if no seed of it was trained yet."""
        found = {r["chosen"] for r in self.records if r["kind"] == "seed" and r["cell"] == cell}
        return found.pop() if found else None


def _value(flat: Mapping[str, Any], field: str) -> str:
    """A field as text; None and absent are not the same."""
    found = flat.get(field, DEFAULTS_FOR_OLD_RUNS.get(".".join(field.split(".")[-2:]), "absent"))
    return found if found == "absent" else repr(found)


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """{"a": {"b": [1]}} -> [("a.b.0", 1)]."""
    if tree in ({}, []):
        return [(prefix[:-1], tree)]
    if isinstance(tree, dict):
        return [item for key, value in tree.items() for item in _flat(value, f"{prefix}{key}.")]
    if isinstance(tree, list):
        return [item for number, value in enumerate(tree) for item in _flat(value, f"{prefix}{number}.")]
    return [(prefix[:-1], tree)]
