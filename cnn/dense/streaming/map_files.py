"""The files of a map, and what they say about its scores.

A map's journal lies beside it. What its scores are (`cnn.dense.streaming.about`) stands under `MARK`: in the attributes
of a zarr, in GDAL's metadata of a TIFF, and for .npy and TIFF in a sidecar, `map.npy.json`, too.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cnn.dense.streaming.sinks.base import writing
from cnn.runtime import json_files
from cnn.runtime.json_files import JsonError

ANEW = "overwrite=True (--overwrite) begins anew"  # the way out of a map that cannot be continued
MARK = "score_map"  # the attribute
UNFINISHED = "unfinished"  # beside it, while a .npy or .zarr is streamed
AXES = ("y", "x", "class")  # of a .zarr; version 2 has their names among its attributes, as xarray and GDAL expect


def journal_path(path: str) -> str:
    """The path of a map's journal: `map.zarr.progress.json` for `map.zarr`."""
    return f"{path}.progress.json"


def sidecar_path(path: str) -> str:
    """The path of the sidecar of a .npy or TIFF: `map.npy.json` for `map.npy`."""
    return f"{path}.json"


def has_sidecar(path: str) -> bool:
    """Whether maps of this kind have a sidecar: .npy and TIFF; zarrs say in their attributes what they are."""
    return path.lower().endswith((".npy", ".tif", ".tiff"))


def working_path(path: str) -> str:
    """The path of the zarr that a TIFF is streamed into until it is whole: `map.tif.part.zarr` for `map.tif`."""
    return f"{path}.part.zarr"


def all_paths(path: str) -> list[str]:
    """The paths of everything that a stream writes for a map: the map first, its journal, sidecar and working map."""
    beside = [path + ".part", sidecar_path(path), working_path(path)] if has_sidecar(path) else []
    return [path, journal_path(path), *beside]


def replace_json(path: str, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file atomically: even after a power failure it holds either the old or the new value.

    Args:
      path: path of the file.
      value: what it shall hold.

    Raises:
      StorageError: if it cannot be written.
    """
    with writing(path):
        try:
            with open(path + ".part", "w") as file:
                json.dump(value, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(path + ".part", path)
        except OSError:
            with suppress(OSError):
                os.remove(path + ".part")
            raise


def read_sidecar(path: str) -> dict[str, Any] | None:
    """What the sidecar of a map says of it.

    Args:
      path: path of the map.

    Returns:
      As `attributes` was given it; None if there is no sidecar, or it is none of a map.
    """
    found = _object(sidecar_path(path)).get(MARK)
    return found if isinstance(found, dict) else None


def _object(path: str) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is none."""
    try:
        found = json_files.read(path)
    except (OSError, JsonError):
        return {}
    return found if isinstance(found, dict) else {}


def _markable(path: str) -> str | None:
    """The file beside the scores that says that a map is not whole yet: other kinds of maps show it themselves."""
    lower = path.lower()
    if lower.endswith(".npy"):
        return sidecar_path(path)
    inside = os.path.join(path, ".zattrs")
    return inside if lower.endswith(".zarr") and not lower.endswith(".ome.zarr") and os.path.exists(inside) else None


def mark(path: str, *, whole: bool) -> None:
    """Says of a map, for readers that have no journal, whether all of its scores are there.

    Args:
      path: path of the map.
      whole: whether they are.

    Raises:
      StorageError: if it cannot be written.
    """
    place = _markable(path)
    found = _object(place) if place else {}
    if place and MARK in found and whole == (UNFINISHED in found):
        kept = {name: value for name, value in found.items() if name != UNFINISHED}
        replace_json(place, kept if whole else {**kept, UNFINISHED: True})


def is_marked_unfinished(path: str) -> bool:
    """Whether a map says that it is not whole: one in an OME-Zarr lacks what readers of it need."""
    if path.lower().endswith(".ome.zarr"):
        attributes_ = _object(os.path.join(path, "zarr.json")).get("attributes")
        return isinstance(attributes_, dict) and MARK in attributes_ and "omero" not in (attributes_.get("ome") or {})
    place = _markable(path)
    return bool(place) and UNFINISHED in _object(str(place))


def band_name(about: Mapping[str, Any], band: int) -> str:
    """The name of one band of a map.

    Args:
      about: what the map says of itself.
      band: which of its K bands, counted from 0.

    Returns:
      The class's name if it has one, "class 3" if not; of a map of the winning class "class" and "probability".
    """
    if about.get("written") == "class":
        return ("class", "probability")[band]
    names = about.get("class_names") or []
    if about.get("written") == "scores" and list(about.get("map", ()))[-1:] == [1] and len(names) == 2:
        return str(names[1])  # the one score of a net of two classes is the second's
    return str(names[band]) if band < len(names) else f"class {band}"


def group_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a zarr group (version 3) that holds a map's levels and says what it is."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes(about)}


def attributes(about: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a zarr that is a map.

    Args:
      about: what they say of it; values that JSON can hold.

    Returns:
      The attributes.
    """
    return {MARK: dict(about)}


def repair_attributes(path: str, about: Mapping[str, Any]) -> None:
    """Writes the attributes of a zarr of version 2 anew where they do not say what they should.

    Args:
      path: path of its directory.
      about: what they say of it.
    """
    found = _object(os.path.join(path, ".zattrs"))
    wanted = {"_ARRAY_DIMENSIONS": list(AXES), **attributes(about)}
    if json_files.digest({name: value for name, value in found.items() if name != UNFINISHED}) != json_files.digest(
        wanted
    ):
        write_attributes(path, about)


def write_attributes(path: str, about: Mapping[str, Any]) -> None:
    """Writes the attributes of a zarr of version 2.

    Args:
      path: path of its directory.
      about: what they say of it.
    """
    replace_json(os.path.join(path, ".zattrs"), {"_ARRAY_DIMENSIONS": list(AXES), **attributes(about)})
