"""Labels of one data set in the order of classes that another has: classes are compared by their names."""

import dataclasses
import unicodedata
from collections.abc import Sequence

import numpy as np

from cnn.data.dataset import Dataset
from cnn.data.readers import Split
from cnn.images.errors import DataError


def in_order(dataset: Dataset, class_names: Sequence[str], who: str) -> Dataset:
    """A data set with its classes in a given order; its labels are mapped by the names of the classes.

    Args:
      dataset: the data set.
      class_names: the names in the order wanted, as those of the data that a net was trained on.
      who: what has these names, for the error: "the run in runs/mine".

    Returns:
      The data set; as it is where the order is the same.

    Raises:
      DataError: if the names are not the same ones; lists both.
    """
    wanted, found = (_composed(names) for names in (class_names, dataset.class_names))
    if wanted == found:
        return dataset
    if sorted(wanted) != sorted(found):
        added, gone = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
        differ = "; ".join(f"{what} {', '.join(names)}" for what, names in (("new:", added), ("gone:", gone)) if names)
        raise DataError(
            f"the classes of data {dataset.name!r} are {_shown(found)}, those of {who} are {_shown(wanted)} "
            f"({differ}); a net gives scores for the classes that it was trained with: restore the data, or train anew "
            "in another --workdir"
        )
    place = {name: label for label, name in enumerate(wanted)}
    mapped = np.array([place[name] for name in found], np.int32)
    splits = {
        name: Split(split.images, mapped[split.labels])
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    return dataclasses.replace(dataset, **splits, class_names=wanted)


def _composed(names: Sequence[str]) -> tuple[str, ...]:
    """The names in Unicode's composed form: systems write an accent as one character or two."""
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def _shown(names: Sequence[str]) -> str:
    """The names in brackets; of many the first and the number."""
    return f"[{', '.join(names[:20])}{f', ... {len(names):,} in all' if len(names) > 20 else ''}]"
