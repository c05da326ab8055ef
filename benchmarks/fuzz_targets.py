"""What is fuzzed: functions of bytes, each of which reads them as a user's input would be read.

A target returns, or raises what a user can mend (`cnn.commands.program.MENDABLE`) with a message of one line; whatever
else it raises is a finding.
"""

import contextlib
import functools
import io
import json
import os
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.fuzz_bytes import OPTIONS, Bytes, folder, mutated
from benchmarks.fuzz_files import imports, pictures

Target = Callable[[bytes], None]


def flags(data: bytes) -> None:
    """Fields of a config on the command line: parsing, setting, and every check before data are read."""
    from absl import flags as absl_flags

    from cnn.commands import flags as shared
    from cnn.runs import defaults
    from cnn.training import early

    draw = Bytes(data)
    names = [field.name for field in defaults.FIELDS]
    usual = {field.name: 1 if isinstance(field.default, type) else field.default for field in defaults.FIELDS}
    arguments = ["main.py"]
    for _ in range(1 + draw.number(4)):
        name = draw.pick(names) if draw.number(8) else draw.text()
        value = str(usual[name]) if name in usual and draw.number(2) else draw.text()
        if name == "net.options" and draw.number(4):
            name = f"net.options.{draw.pick(OPTIONS)}"
        arguments.append(f"--config.{name}={value}")
    config = shared.ConfigFlag(None, "")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            rest = config.take(arguments)
            absl_flags.FLAGS(rest)
            config.finish()
        early.check(config.value)
    except absl_flags.Error as error:
        raise ValueError(" ".join(str(error).split())) from error
    finally:
        for name in [name for name in absl_flags.FLAGS if name == "config" or name.startswith("config.")]:
            delattr(absl_flags.FLAGS, name)


def nets(data: bytes) -> None:
    """Nets by name and options, and by records, with the geometry of what comes out."""
    from cnn import geometry
    from cnn import nets as nets_lib

    draw = Bytes(data)
    shape = (draw.number(300), draw.number(300), draw.number(5))
    if draw.number(2):
        options = {draw.pick(OPTIONS): _value(draw) for _ in range(draw.number(4))}
        net = nets_lib.create(draw.pick(("layer_pattern", *nets_lib.names())), **options)
    elif draw.number(2):
        net = nets_lib.from_config(json.loads(draw.rest()))
    else:
        net = nets_lib.from_config([_record(draw) for _ in range(draw.number(6))])
    geometry.table(net, shape)
    nets_lib.from_config(nets_lib.to_config(net))


def _value(draw: Bytes, depth: int = 0) -> Any:
    """Anything that a config or JSON may hold."""
    kind = draw.number(9 if depth < 3 else 6)
    if kind == 6:
        return [_value(draw, depth + 1) for _ in range(draw.number(4))]
    if kind == 7:
        return {draw.text(): _value(draw, depth + 1) for _ in range(draw.number(3))}
    if kind == 8:
        return tuple(_value(draw, depth + 1) for _ in range(draw.number(4)))
    return (draw.number(7), draw.text(), None, bool(draw.number(2)), draw.number(2**32) - 2**31, _float(draw))[kind]


def _float(draw: Bytes) -> float:
    return struct.unpack("<d", draw.take(8))[0]


def _record(draw: Bytes) -> Any:
    """A layer's record, mostly of fields that there are."""
    from cnn.nets import records

    if not draw.number(12):
        return _value(draw)
    kinds, fields = sorted(records.KINDS), sorted(records.RULES)
    record: dict[str, Any] = {"kind": draw.pick(kinds) if draw.number(8) else _value(draw)}
    for _ in range(draw.number(4)):
        record[draw.pick([*fields, "name"])] = _value(draw)
    if draw.number(2):
        record = {"features": 1 + draw.number(8), "kernel": 1 + draw.number(5), **record}
        if record["kind"] not in ("conv", "locally_connected"):
            record.pop("kernel")
    return record


@functools.lru_cache
def _json_seeds() -> dict[str, bytes]:
    """What a run, a study and a stream write, as small as it gets, by the name of the file."""
    from cnn.runs import config, defaults

    start = defaults.get_config()
    start.train.steps, start.train.epochs = 2, None
    facts = {
        "name": "fake",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "class_names": ["a", "b"],
        "image_shape": [8, 8, 3],
        "examples": {"train": 3},
        "digest": {"train": "00"},
        "border_brightness": [0.1, 0.9],
    }
    lines = [{"step": 1, "split": "train", "loss": 0.5}, {"step": 2, "split": "validation", "loss": None}]
    journal = {"computes": {"net": "x"}, "tiles": 3, "done": 1, "complete": False, "read": "", "written": ""}
    trees = {"config.json": config.as_saved(start), "data.json": facts, "a.progress.json": journal}
    return {
        **{name: json.dumps(tree).encode() for name, tree in trees.items()},
        "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in lines).encode(),
    }


def files(data: bytes) -> None:
    """The JSON files of a run and the journal of a stream, damaged in places or replaced."""
    from cnn.dense.streaming import journal
    from cnn.runs import config, facts, logs

    draw = Bytes(data)
    name = draw.pick(sorted(_json_seeds()))
    content = mutated(draw, _json_seeds()[name]) if draw.number(4) else draw.rest()
    if not draw.number(3):
        content = json.dumps(_changed(draw, json.loads(_json_seeds()[name].splitlines()[0]))).encode() + b"\n"
    path = os.path.join(folder(), name)
    with open(path, "wb") as file:
        file.write(content)
    if name == "config.json":
        config.differences(config.load(folder()), folder())
    elif name == "data.json":
        facts.read(folder())
    elif name == "metrics.jsonl":
        logs.read_metrics(folder())
    else:
        journal.read_journal(path)


def _changed(draw: Bytes, tree: Any) -> Any:
    """A tree with one value replaced, somewhere."""
    if isinstance(tree, dict) and tree and draw.number(5):
        name = draw.pick(sorted(tree))
        return {**tree, name: _changed(draw, tree[name])}
    if isinstance(tree, list) and tree and draw.number(3):
        place = draw.number(len(tree))
        return [_changed(draw, one) if i == place else one for i, one in enumerate(tree)]
    return _value(draw)


@functools.lru_cache
def _checkpoint() -> dict[str, bytes]:
    """The files of a small checkpoint, by their paths in a workdir."""
    from cnn.runs import checkpoint

    start = os.path.join(folder(), "whole")
    with checkpoint.Checkpoints(start, 1) as checkpoints:
        checkpoints.save(3, {"params": {"fc1": {"kernel": np.ones((4, 2), np.float32)}}}, facts={"loss": 1.0})
    found = {}
    for place, _, names in os.walk(start):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                found[os.path.relpath(os.path.join(place, name), start)] = file.read()
    return found


def checkpoints(data: bytes) -> None:
    """A checkpoint of which one file is damaged: metadata, manifests and arrays."""
    import shutil

    from cnn.runs import checkpoint

    draw = Bytes(data)
    files, start = _checkpoint(), os.path.join(folder(), "run")
    damaged = draw.pick(sorted(files))
    shutil.rmtree(start, ignore_errors=True)
    for name, content in files.items():
        path = os.path.join(start, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(mutated(draw, content) if name == damaged else content)
    template = {"params": {"fc1": {"kernel": np.zeros((4, 2), np.float32)}}}
    with contextlib.redirect_stderr(io.StringIO()), checkpoint.Checkpoints(start, 1) as opened:
        opened.restore_latest(variables=template)
        opened.latest_facts()


TARGETS: dict[str, Target] = {
    "flags": flags,
    "nets": nets,
    "files": files,
    "checkpoints": checkpoints,
    "pictures": pictures,
    "imports": imports,
}


def random_input(seed: int) -> bytes:
    """Bytes for a target where no coverage guides them.

    Args:
      seed: number of the input.

    Returns:
      Up to 200 bytes.
    """
    source = random.Random(seed)  # nosec B311: inputs of a fuzzer, by their seed
    return source.randbytes(source.randrange(1, 200))
