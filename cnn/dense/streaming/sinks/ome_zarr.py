"""Maps as OME-Zarr 0.5, which lie on their image in a viewer; see https://ngff.openmicroscopy.org/0.5."""

import colorsys
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.dense.streaming import beside, map_files, own_maps
from cnn.dense.streaming.sinks import coordinates, pyramid
from cnn.dense.streaming.sinks.base import reading_beside, writing
from cnn.dense.streaming.sinks.zarr_arrays import ArraySink
from cnn.images.errors import StorageError
from cnn.runtime import json_files
from cnn.runtime.json_files import JsonError
from cnn.windows import Pair

VERSION = "0.5"
UNITS = {"micrometre": "micrometer", "metre": "meter"}  # as OME-Zarr spells them; it has no angles
SHOWN = 3  # channels that a viewer shows at first
_GOLDEN = 0.618034  # of the circle of hues, from one channel's colour to the next


class OmeZarrSink(ArraySink):
    """An OME-Zarr [K, h, w]; its level 0 is written block by block, the further ones when it is whole."""

    def __init__(
        self,
        path: str,
        shape: Sequence[int],
        dtype: np.dtype,
        chunk: Pair | None,
        about: Mapping[str, Any],
        complete: bool,
    ) -> None:
        """Opens level 0, or makes it if there is a size of its chunks.

        Args:
          path: path of the OME-Zarr's directory.
          shape: shape (h, w, K) of the map.
          dtype: dtype of its values.
          chunk: height and width of its chunks, scores; None: the map is there already.
          about: what it says of its scores.
          complete: whether its pyramid is finished.

        Raises:
          StorageError: if it is another map.
        """
        self._path, self._about, self.unfinished = path, about, not complete
        if chunk is None:
            array = pyramid.open_level(path, 0, write=True)
        else:
            if os.path.lexists(path):
                shutil.rmtree(path)
            os.makedirs(path)
            self._say(1, None)
            array = pyramid.create_level(path, 0, (shape[2], *shape[:2]), dtype, chunk)
        if array.rank != 3:
            raise StorageError(f"{path}: its level 0 has {array.rank} axes, a map has c, y and x; name another")
        super().__init__(array.transpose([1, 2, 0]), path, shape, dtype)
        if complete and not self._is_described():
            self.unfinished = True  # its pyramid and description are made again

    def _is_described(self) -> bool:
        """Whether its `zarr.json` says what it should; the values' ranges are not known without reading them all."""
        wanted = group(self._path, self._about, len(pyramid.level_sizes(self.shape[:2])), None)["attributes"]
        try:
            found = dict(json_files.read(os.path.join(self._path, "zarr.json"))["attributes"])
            said = {name: value for name, value in found.pop("ome").items() if name != "omero"}
        except (OSError, JsonError, KeyError, TypeError, ValueError, AttributeError):
            return False
        return json_files.digest({**found, "ome": said}) == json_files.digest(wanted)

    def finish(self) -> None:
        with writing(self.name):
            ranges = pyramid.build(self._path, self._about.get("written") == "class")
            self._say(len(pyramid.level_sizes(self.shape[:2])), ranges)

    def digest(self) -> str:
        with reading_beside(self.name):
            return beside.digest(self._path)

    def make_anew(self) -> bool:
        own_maps.check_inside(self._path)  # a level is removed before it is made
        self.finish()
        self.unfinished = False
        return True

    def _say(self, levels: int, ranges: np.ndarray | None) -> None:
        map_files.replace_json(os.path.join(self._path, "zarr.json"), group(self._path, self._about, levels, ranges))


def group(path: str, about: Mapping[str, Any], levels: int, ranges: np.ndarray | None) -> dict[str, Any]:
    """The metadata of an OME-Zarr's group.

    Args:
      path: path of the OME-Zarr, for its name.
      about: what the map says of itself.
      levels: number of levels that are there.
      ranges: smallest and largest value of each class, [K, 2]; None: not known yet.

    Returns:
      What its `zarr.json` holds.
    """
    unit = UNITS.get((about.get("spacing") or {}).get("unit", ""))
    space = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in ("y", "x")]
    image = {
        "name": os.path.basename(path),
        "axes": [{"name": "c", "type": "channel"}, *space],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, *_both(coordinates.level_scale, about, level)]},
                    {"type": "translation", "translation": [0.0, *_both(coordinates.level_translation, about, level)]},
                ],
            }
            for level in range(levels)
        ],
        "type": "strongest of four" if about.get("written") == "class" else "mean",
    }
    ome: dict[str, Any] = {"version": VERSION, "multiscales": [image]}
    if ranges is not None:
        ome["omero"] = {"channels": _channels(about, ranges)}
    return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome, **map_files.attributes(about)}}


def _both(value: Any, about: Mapping[str, Any], level: int) -> list[float]:
    return [value(about, axis, level) for axis in range(2)]


def _channels(about: Mapping[str, Any], ranges: np.ndarray) -> list[dict[str, Any]]:
    """Names, colours and ranges of values by which viewers show the classes."""
    channels = []
    for k, (low, high) in enumerate(ranges.tolist()):
        if about.get("written") == "probabilities":
            low, high = 0.0, 1.0
        elif not low < high:  # also where there is no value
            low, high = (low - 0.5, low + 0.5) if low == low else (0.0, 1.0)
        channels.append(
            {
                "label": map_files.band_name(about, k),
                "color": _colour(k),
                "window": {"min": low, "max": high, "start": low, "end": high},
                "active": k < SHOWN,
            }
        )
    return channels


def _colour(k: int) -> str:
    """A colour as six hexadecimal digits; neighbouring channels have hues far apart."""
    return "".join(f"{round(255 * part):02X}" for part in colorsys.hsv_to_rgb(k * _GOLDEN % 1, 0.85, 1.0))
