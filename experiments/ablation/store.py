"""The directory of a study: its declaration, and one line for each result; a killed study goes on from them."""

import functools
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from cnn.runs import defaults, logs, small_files
from cnn.runs.config import DEFAULTS_FOR_OLD_RUNS, MAY_CHANGE_ON_RESUME, Config, as_saved
from cnn.runtime import json_files, whole
from experiments.ablation import result_lines
from experiments.ablation.cells import TUNING_SEEDS

COMPARED = ("study", "measures", "cells")


class Store:
    """results.jsonl, study.json and pictures/ of a study.

    Attributes:
      workdir: the directory.
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
        self._of = {cell: _digest({**study, "cells": {cell: found}}) for cell, found in wanted["cells"].items()}
        self._path = os.path.join(workdir, "study.json")
        self._lines = result_lines.Lines(workdir)
        if self._lines.records:  # without results there is nothing to mix
            self._check_study(wanted)
        self._lines.keep(self._whole(configs))
        result_lines.note(workdir, self._lines.damaged)
        if self._lines.records or os.path.exists(os.path.join(workdir, result_lines.NAME)):
            self._lines.rewrite(self._of)
        logs.write_json(self._path, wanted)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines of results.jsonl that are as they were written."""
        return self._lines.records

    def _whole(self, configs: Mapping[str, Sequence[Config]]) -> list[bool]:
        """Whether each record is kept: not of a cell that was not chosen a config for, or lost how it was."""
        tuned: dict[str, int] = {}
        for record in self.records:
            tuned[record["cell"]] = tuned.get(record["cell"], 0) + (record["kind"] == "tuning")
        lost = {
            cell
            for cell, found in configs.items()
            if self._lines.damaged and len(found) > 1 and tuned.get(cell) != len(found) * len(TUNING_SEEDS)
        }
        untrained = {cell for cell in tuned if not self.seeds_done(cell)}
        return [record["cell"] not in lost | untrained for record in self.records]

    def _check_study(self, wanted: Mapping[str, Any]) -> None:
        """Refuses to mix results; a damaged study.json is known from the checksums of its results."""
        certain = all(
            of is not None and of == self._of.get(record["cell"])
            for record, of in zip(self.records, self._lines.of, strict=True)
        )
        try:
            there = logs.read_json(self._path, "study", "cells")
            if not isinstance(there["cells"], dict):
                raise ValueError(f"{self._path} is damaged, its cells are none")
            self._compare(there, wanted)
        except (FileNotFoundError, ValueError) as error:
            text = str(error).split("; restore it")[0].split(": a run writes")[0]
            if not certain:
                if text.startswith(self._path):
                    text += ", and results.jsonl does not say what it is of; restore it, or choose another --workdir"
                raise ValueError(text) from error
            small_files.note(
                f"{text.split('. Choose')[0]}; it is written anew, as the lines of results.jsonl are of this study"
            )

    def _compare(self, there: Any, wanted: Any) -> None:
        """Refuses to mix results of different configs or measures."""
        compared = [key for key in COMPARED if key in there]
        one, other = (dict(_flat({key: x[key] for key in compared})) for x in (there, wanted))
        fields = [field for field in {**one, **other} if not _may_change(field)]
        values = [(field, _value(one, field), _value(other, field)) for field in fields]
        differ = [f"{field} is {a} there and {b} here" for field, a, b in values if a != b]
        if differ:
            raise ValueError(
                f"{self.workdir!r} holds another study, or one with other fields: {'; '.join(differ[:5])}"
                f"{f' and {len(differ) - 5} more' if len(differ) > 5 else ''}. Choose another --workdir"
            )

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Appends results of a cell: all of them, or, if killed meanwhile, a part.

        Args:
          records: what `experiments.ablation.cells.run_cell` returned.
        """
        for cell in dict.fromkeys(record["cell"] for record in records):
            self._lines.add([record for record in records if record["cell"] == cell], self._of.get(cell, ""))

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

    def has_picture(self, cell: str, name: str) -> bool:
        """Whether a cell's picture is there, and whole: a damaged one is left out, and a line says so."""
        path = self.picture(cell, name)
        if not os.path.exists(path):
            return False
        try:
            with Image.open(path) as picture:
                picture.verify()  # a PNG has checksums of its own
            return True
        except Exception as error:  # Pillow raises many kinds for what is no picture
            small_files.note(f"{path} is damaged ({type(error).__name__}), and left out of the report")
            return False

    def seeds_done(self, cell: str) -> set[int]:
        """Seeds of a cell that have their line."""
        return {record["seed"] for record in self.records if record["kind"] == "seed" and record["cell"] == cell}

    def chosen(self, cell: str) -> int | None:
        """Index of the config that a cell was tuned to; None if no seed of it was trained yet."""
        found = {r["chosen"] for r in self.records if r["kind"] == "seed" and r["cell"] == cell}
        return found.pop() if found else None


def _digest(tree: Mapping[str, Any]) -> str:
    """A checksum of what results must not be mixed of: configs and measures, without what may change."""
    flat = dict(_flat({key: tree[key] for key in COMPARED if key in tree}))
    return json_files.digest({field: value for field, value in flat.items() if not _may_change(field)})


def _may_change(field: str) -> bool:
    return any(f".{free}" in f".{field}" for free in MAY_CHANGE_ON_RESUME)


def _value(flat: Mapping[str, Any], field: str) -> str:
    """A field as text. One that a study made before the field was there lacks has the value that says the same."""
    if field in flat:
        return repr(flat[field])
    return next((repr(value) for name, value in _old_values().items() if field.endswith(f".{name}")), "absent")


@functools.cache
def _old_values() -> dict[str, Any]:
    """What fields that configs of older studies lack stand for, flat as `_flat` makes them."""
    values = [item for name, value in DEFAULTS_FOR_OLD_RUNS.items() for item in _flat(value, f"{name}.")]
    return dict(values) | dict.fromkeys(defaults.MAY_BE_ABSENT)


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """{"a": {"b": [1]}} -> [("a.b.0", 1)]."""
    if tree in ({}, []):
        return [(prefix[:-1], tree)]
    if isinstance(tree, dict):
        return [item for key, value in tree.items() for item in _flat(value, f"{prefix}{key}.")]
    if isinstance(tree, list):
        return [item for number, value in enumerate(tree) for item in _flat(value, f"{prefix}{number}.")]
    return [(prefix[:-1], tree)]
