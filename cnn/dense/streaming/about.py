"""What a map says of itself, so that its scores can be placed and understood without the call that wrote it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import cnn
from cnn.dense.streaming.written import Written
from cnn.dense.tiles import Tiling
from cnn.images.facts import Georeference
from cnn.images.source import Source
from cnn.nets import outputs

SAME_RATIO = 0.1  # sizes of levels are rounded to whole pixels


def describe(
    image: Source,
    counted: Tiling,
    written: Written,
    class_names: Sequence[str] | None,
    identity: Mapping[str, str],
    constants: Mapping[str, Sequence[float] | None],
) -> dict[str, Any]:
    """What a map says of itself: values that JSON can hold.

    Args:
      image: the image.
      counted: the tiles of the stream.
      written: what the map holds.
      class_names: names of the classes; None: they have none.
      identity: which net it is of (`cnn.dense.streaming.journal.net_identity`).
      constants: mean and std of the training images, by name.

    Returns:
      "image_shape" [H, W, C]; "window", "stride" and "offset", the first window's pixel, [y, x], pixels; "last", where
      the last windows lie if any lies off the stride; "context"; "class_names"; "written", "dtype", "map" [h, w, K] and
      "output_activation"; "net" and "variables", which net; "mean" and "std"; "source", the name of the image's file;
      "channel_names", "spacing", "origin" and "georeference" of the image where they are known; its "value_range";
      "reduced", how many pixels of the file's largest image a pixel of the image is high and wide; "versions".

    Raises:
      ValueError: if there is not one name for each class.
    """
    scores = counted.prepared.table[-1].output_shape[-1]
    if class_names is not None and len(class_names) not in (scores, outputs.class_count(scores)):
        raise ValueError(f"stream: {len(class_names)} class_names, and the net has {scores} classes; give one for each")
    facts = image.facts
    return {
        "image_shape": list(image.shape),
        "window": list(counted.grid.window),
        "stride": list(counted.grid.stride),
        "offset": [0, 0],
        "context": counted.context,
        "class_names": None if class_names is None else [str(name) for name in class_names],
        **last_of(counted),
        "written": written.kind,
        "dtype": written.dtype.name,
        "map": [*counted.grid.size, written.bands],
        "output_activation": written.output_activation,
        **identity,
        **{name: None if value is None else [float(x) for x in value] for name, value in constants.items()},
        "source": os.path.basename(image.path) if image.path else None,
        "channel_names": None if facts.channel_names is None else list(facts.channel_names),
        "spacing": None if facts.spacing is None else dict(facts.spacing._asdict()),
        "origin": None if facts.origin is None else [float(x) for x in facts.origin],
        "value_range": [float(x) for x in image.value_range],
        "georeference": None if facts.georeference is None else _georeference(facts.georeference),
        "reduced": _reduced(image),
        "versions": {"cnn": cnn.__version__, "jax": jax.__version__, "numpy": np.__version__},
    }


def last_of(counted: Tiling) -> dict[str, Any]:
    """Where the last windows lie, if any lies off the stride: maps that are regular say nothing of it."""
    return {} if counted.grid.last == (None, None) else {"last": list(counted.grid.last)}


def _reduced(image: Source) -> list[float]:
    """How many pixels of the largest level of the file a pixel of the image is high and wide."""
    if not image.facts.levels:
        return [1.0, 1.0]
    ratios = [whole / part for whole, part in zip(image.facts.levels[0], image.shape, strict=False)]
    alike = abs(ratios[0] / ratios[1] - 1) < SAME_RATIO  # not so of one that is read turned by a right angle
    return ratios if alike else [1.0, 1.0]


def _georeference(reference: Georeference) -> dict[str, Any]:
    """A georeference as JSON holds it; `georeference_of` reads it."""
    keys = reference.geokeys
    return {
        "transform": [float(x) for x in reference.transform],
        "crs": reference.crs,
        "geokeys": None
        if keys is None
        else {str(int(n)): [int(kind), count, _plain(value)] for n, (kind, count, value) in keys.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str | int | float) else [_plain(one) for one in value]


def georeference_of(said: Mapping[str, Any] | None) -> Georeference | None:
    """A georeference from what a map says.

    Args:
      said: "georeference" of what `describe` gave.

    Returns:
      The image's georeference; None if there is none.
    """
    if not said:
        return None
    a, b, c, d, e, f = said["transform"]
    keys = said.get("geokeys")
    return Georeference(
        (a, b, c, d, e, f), said.get("crs"), None if keys is None else {int(n): tuple(v) for n, v in keys.items()}
    )
