"""data.json: the facts about a run's data that belong to the run, and whether a data set is the one that it had."""

import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from cnn import data
from cnn.data import DataError, Dataset
from cnn.data.streamed import Streamed
from cnn.runs import records, small_files
from cnn.runtime import arrays_of_all, processes
from cnn.runtime.shares import Share

if TYPE_CHECKING:
    from cnn.runs.checkpoint import Run

NAME = "data.json"
BY_EXAMPLE = "examples:"  # begins a digest of the digests of examples; older runs have one of all pixels in a row
NEEDED = ("mean", "std", "class_names", "image_shape")  # all that a net is used with; older runs have no more


def of(dataset: Dataset) -> dict[str, Any]:
    """The facts about a data set that are needed to use a net, and to know the set again.

    Args:
      dataset: the data set.

    Returns:
      {"name", "mean", "std", "class_names", "image_shape", "examples": split -> number, "digest": split -> text by
      which its pixels and labels are known, "skipped": [file, reason] of what was left out, "remarks": lines on what is
      odd}; of several processes, which all call this, what they have together.
    """
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        "name": dataset.name,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.image_shape),
        "examples": {name: len(split.labels) for name, split in splits.items()},
        "digest": {name: _digest(split, dataset.share) for name, split in splits.items()},
        "skipped": [list(one) for one in dataset.skipped],
        "remarks": list(dataset.remarks),
    }


def at_a_glance(dataset: Dataset) -> dict[str, Any]:
    """What processes that share a data set must have alike before they work on it together; no pixel is looked at.

    Args:
      dataset: the data set.

    Returns:
      Its name, the shape of its images, names of classes, and for each split the number of examples and a digest of
      their labels.
    """
    found: dict[str, Any] = {"name": dataset.name, "image_shape": list(dataset.image_shape)}
    found["class_names"] = list(dataset.class_names)
    for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        found[f"examples for {name}"] = len(split.labels)
        found[f"labels for {name}"] = hashlib.sha256(np.ascontiguousarray(split.labels, np.int32).data).hexdigest()
    return found


def of_run(run: "Run") -> dict[str, Any]:
    """What processes must have alike of a trained run that each of them reads by itself.

    Args:
      run: the run.

    Returns:
      Its step, net, mean and std, names of classes, fields of evaluation, and a digest of its variables.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.variables):
        values = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    found: dict[str, Any] = {"step": run.step, "net": str(run.net), "variables": digest.hexdigest()}
    found |= {"mean": list(run.mean), "std": list(run.std), "class_names": list(run.class_names)}
    found["train.dtype"] = run.config.train.dtype
    return found | {f"eval.{name}": value for name, value in run.config.eval.items()}


def _digest(split: data.Split, share: Share) -> str:
    """SHA-256 of the SHA-256 of each example's pixels, and of the labels: the same for any number of processes."""
    if isinstance(split.images, Streamed):
        each = split.images.digests
    else:
        pixels = np.ascontiguousarray(split.images)
        each = np.empty((len(pixels), hashlib.sha256().digest_size), np.uint8)
        for i, example in enumerate(pixels):
            each[i] = np.frombuffer(hashlib.sha256(example.data).digest(), np.uint8)
    found = hashlib.sha256((each if share.is_whole else arrays_of_all.rows_of_all(each)).data)
    found.update(np.ascontiguousarray(split.labels, np.int32).data)
    return BY_EXAMPLE + found.hexdigest()


def _digest_of_old_runs(split: data.Split) -> str:
    """SHA-256 of all pixels and labels, which a process can compute that has all of them."""
    found = hashlib.sha256()
    for image in split.images:
        found.update(np.ascontiguousarray(image).data)
    found.update(np.ascontiguousarray(split.labels, np.int32).data)
    return found.hexdigest()


def read(workdir: str) -> dict[str, Any]:
    """Reads data.json.

    Args:
      workdir: directory of a run.

    Returns:
      Its contents: at least mean, std, class_names and image_shape.

    Raises:
      FileNotFoundError: if it is missing.
      ValueError: if it is damaged.
    """
    return small_files.read(workdir, NAME, _wrong, _differing)


def _wrong(facts: Mapping[str, Any]) -> list[str]:
    """What is wrong with the contents of a data.json."""
    found = records.wrong(facts, records.DATA, NEEDED)
    if not found and not len(facts["mean"]) == len(facts["std"]) == facts["image_shape"][2]:
        found = [f"its {', '.join(NEEDED[:-1])} and {NEEDED[-1]} do not go together"]
    return found


def _differing(facts: Mapping[str, Any], copied: Mapping[str, Any]) -> list[str]:
    """What differs from a copy that an earlier version may have written; the name of a set may change."""
    return [
        small_files.difference(key, facts.get(key), copied[key])
        for key in copied
        if key != "name" and facts.get(key) != copied[key]
    ][:3]


def unnamed(class_names: Sequence[str]) -> bool:
    """Whether the names are those of classes that nobody named, as imported nets have them.

    Args:
      class_names: names of a run's classes.

    Returns:
      Whether they are "class 0", "class 1", and so on.
    """
    return list(class_names) == [f"class {k}" for k in range(len(class_names))]


def in_order_of(dataset: Dataset, workdir: str, facts: Mapping[str, Any]) -> Dataset:
    """A data set with its classes in the order of a run, which may be scored by the run's net.

    Args:
      dataset: the data set.
      workdir: directory of the run, for the error.
      facts: the run's, as `read` gives them.

    Returns:
      The data set, its labels mapped by the names of the classes.

    Raises:
      DataError: if it has other classes (lists both), or images of another shape.
    """
    if unnamed(facts["class_names"]) and len(dataset.class_names) == len(facts["class_names"]):
        text = f"the classes of {workdir} have no names; taken to be those of {dataset.name}, in order"
        print(f"note: {text}", file=sys.stderr, flush=True)
    else:
        dataset = data.in_order(dataset, facts["class_names"], f"the run in {workdir}")
    if list(dataset.image_shape) != list(facts["image_shape"]):
        raise DataError(
            f"the images of data {dataset.name!r} are {list(dataset.image_shape)} [H, W, C], those of the run in "
            f"{workdir} were {list(facts['image_shape'])}"
        )
    return dataset


def same(dataset: Dataset, workdir: str) -> Dataset:
    """The data set that a run goes on with: it must be the one that the run began with.

    Args:
      dataset: the data set.
      workdir: directory of the run.

    Returns:
      The data set with its classes in the order of the run.

    Raises:
      DataError: if it is another one: other classes, numbers of examples or pixels; says which.
      ValueError: if data.json is damaged.
    """
    facts = processes.from_first(lambda: read(workdir))
    dataset = in_order_of(dataset, workdir, facts)
    differ = differences(dataset, facts)
    if differ:
        raise DataError(
            f"{workdir!r} holds a run on other data: {'; '.join(differ)}. Restore the data, or choose another --workdir"
        )
    # Those of the data, but for a run that began with the weights of another.
    return dataclasses.replace(dataset, mean=tuple(facts["mean"]), std=tuple(facts["std"]))


def differences(dataset: Dataset, facts: Mapping[str, Any]) -> list[str]:
    """What differs between a data set and the one that a run had, classes and sizes of images apart.

    Args:
      dataset: the data set, with its classes in the run's order.
      facts: the run's, as `read` gives them.

    Returns:
      A text for each difference.
    """
    now = of(dataset)
    there = facts.get("examples", {})
    differ = [
        f"{count:,} examples for {name} there and {now['examples'][name]:,} here"
        for name, count in there.items()
        if count != now["examples"].get(name)
    ]
    if not differ and "digest" in facts:
        splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
        changed = []
        for name, digest in now["digest"].items():
            before = facts["digest"].get(name)
            if isinstance(before, str) and not before.startswith(BY_EXAMPLE):
                # Several processes cannot compute it together, and take the pixels of an older run as they are.
                digest = _digest_of_old_runs(splits[name]) if dataset.share.is_whole else before
            changed += [name] * (before != digest)
        differ = [f"the pictures or labels for {' and '.join(changed)} are others"] if changed else []
    # An older run has the exact mean and deviation of all training pixels; an imported net has constants of its own.
    elif not differ and "channel_order" not in facts:
        differ = [
            f"the {key} of the pixels is {facts[key]} there and {now[key]} here"
            for key in ("mean", "std")
            if not np.allclose(facts[key], now[key], rtol=1e-9)
        ]
    return differ + _left_out(facts, now) if differ else []


def _left_out(facts: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which files are left out here or there alone: why the examples differ."""
    there, here = ({str(one[0]) for one in tree.get("skipped", [])} for tree in (facts, now))
    return [
        f"{len(files):,} files are left out {where} alone, the first {min(files)}"
        for files, where in ((there - here, "there"), (here - there, "here"))
        if files
    ]
