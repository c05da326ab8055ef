"""Datasets of HDF5 files (and netCDF 4, which is HDF5) as images, read chunk by chunk through h5py.

h5py is imported where it is used, because it is optional.
"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnn.images import choices, units
from cnn.images.axes import COLUMNS, ROWS, arrange, check_chunk
from cnn.images.errors import StorageError
from cnn.images.extras import needed
from cnn.images.facts import Choice, Facts, Spacing

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BEGINNINGS = (0, *(512 << i for i in range(12)))  # places of the signature; before it lies a block of the user's
MOST_LISTED = 8  # names of a file's datasets in a message
_LABELS = {  # INTERLACE_MODE of HDF5's image specification -> names of the axes
    "INTERLACE_PIXEL": ("y", "x", "c"),
    "INTERLACE_LINE": ("y", "c", "x"),
    "INTERLACE_PLANE": ("c", "y", "x"),
}


def is_hdf5(path: str) -> bool:
    """Whether a file is an HDF5 file, perhaps behind a block of the user's, as MATLAB's files of version 7.3 have it.

    Args:
      path: path of the file.

    Returns:
      Whether it has HDF5's signature at one of the places where that may lie, of the first MiB.
    """
    with open(path, "rb") as file:
        for place in _BEGINNINGS:
            file.seek(place)
            found = file.read(len(SIGNATURE))
            if found == SIGNATURE:
                return True
            if len(found) < len(SIGNATURE):
                return False
    return False


def open_hdf5(path: str, inside: str, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    """Opens a dataset of an HDF5 file.

    Args:
      path: path of the file.
      inside: path of the dataset in it; "" for a file that holds one image.
      cache_bytes: largest memory for decoded chunks, bytes.
      choice: the entry along axes beside rows, columns and channels (`select`).

    Returns:
      (an array-like [H, W] or [H, W, C]; what the file says of it).

    Raises:
      StorageError: if there is no such dataset, or several and none is named, or it lies in other files, or is
        compressed with a filter that is not installed.
    """
    h5py = needed("h5py", path, "HDF5")
    name = f"{path}::{inside}" if inside else path
    choices.only(name, "an HDF5 dataset", choice, "select")
    file = h5py.File(path, "r", rdcc_nbytes=max(cache_bytes, 1))
    dataset = _named(file, path, inside) if inside else _only(file, path)
    _check(dataset, name, path)
    if dataset.chunks:
        check_chunk(name, dataset.chunks, dataset.dtype.itemsize, cache_bytes)
    labels = _labels(dataset)
    array, chosen = arrange(name, dataset, labels, choice.select)
    return array, Facts(
        spacing=_spacing(dataset, labels),
        nodata=_number(dataset.attrs.get("_FillValue")),
        chosen={**({} if inside else {"dataset": dataset.name}), **chosen},
    )


def _named(file: Any, path: str, inside: str) -> Any:
    """The dataset of a name.

    Raises:
      StorageError: if there is none; names those that are there.
    """
    import h5py

    found = file.get(inside)
    if found is not None and found.file.filename != file.filename:  # through a group that is a link
        raise StorageError(
            f"{path}::{inside}: it is a link into {found.file.filename}, which is not followed; open that file"
        )
    if isinstance(found, h5py.Dataset):
        return found
    link = file.get(inside, getlink=True) if found is None and inside in file else None
    if isinstance(link, h5py.ExternalLink):
        raise StorageError(
            f"{path}::{inside}: it is a link into {link.filename}, which is not followed; open that file"
        )
    what = "is a group" if isinstance(found, h5py.Group) else "is not in it"
    within = found if isinstance(found, h5py.Group) else file
    raise StorageError(f"{path}: {inside} {what}; name a dataset: {_listed(path, [d.name for d in _images(within)])}")


def _only(file: Any, path: str) -> Any:
    """The dataset of a file that holds one image.

    Raises:
      StorageError: if it holds none or several.
    """
    found = _images(file)
    if len(found) != 1:
        names = _listed(path, [dataset.name for dataset in found])
        raise StorageError(f"{path}: it holds {len(found)} datasets that may be images; name one: {names}")
    return found[0]


def _images(group: Any) -> list[Any]:
    """The datasets below a group that may be images: numbers along two axes or more, which are no axis themselves."""
    import h5py

    found = []

    def visit(_: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset) and entry.dtype.kind in "uifb" and entry.ndim >= 2:
            found.append(entry)

    group.visititems(visit)
    return [entry for entry in found if not entry.is_scale]


def _listed(path: str, names: Sequence[str]) -> str:
    shown = ", ".join(f"{os.path.basename(path)}::{name}" for name in names[:MOST_LISTED])
    return (f"{shown}, ..." if names[MOST_LISTED:] else shown) or "there is none"


def _check(dataset: Any, name: str, path: str) -> None:
    """Refuses what this file alone does not give."""
    import h5py

    if not os.path.samefile(dataset.file.filename, path):
        raise StorageError(f"{name}: it is a link into {dataset.file.filename}, which is not followed; open that file")
    elsewhere = next(_elsewhere(dataset, set()), None)
    if elsewhere:
        raise StorageError(f"{name}: its values lie in {elsewhere}; copy them into this file")
    if dataset.dtype.kind not in "uifb":
        raise StorageError(f"{name}: values of {dataset.dtype} are no intensities; name another dataset")
    made = dataset.id.get_create_plist()
    for code, _, _, title in (made.get_filter(i) for i in range(made.get_nfilters())):
        if not h5py.h5z.filter_avail(code):
            raise StorageError(
                f"{name}: compressed with filter {code} ({title.decode(errors='replace')}), which h5py does not have; "
                "`import hdf5plugin` before, if that package has it, or write the file anew with gzip"
            )


def _elsewhere(dataset: Any, seen: set[str]) -> Iterator[str]:
    """Where values of a dataset lie that are not in its file, in words: of a view, also those of what it shows."""
    import h5py

    seen.add(dataset.name)
    yield from (f"{raw}, which is not followed" for raw, *_ in dataset.external or ())
    for one in dataset.virtual_sources() if dataset.is_virtual else ():
        if one.file_name != ".":
            yield f"{one.file_name}, which is not followed"
            continue
        shown = dataset.file.get(one.dset_name)
        if not isinstance(shown, h5py.Dataset):
            yield f"{one.dset_name}, which is not in this file"
        elif shown.file.filename != dataset.file.filename:
            yield f"{shown.file.filename}, which is not followed"
        elif shown.name not in seen:
            yield from _elsewhere(shown, seen)


def _labels(dataset: Any) -> Sequence[str | None] | None:
    """Names of the axes: of its dimensions or their scales, ilastik's "axistags", MATLAB, or HDF5's image format."""
    names = [dim.label or (dim[0].name.rsplit("/", 1)[-1] if len(dim) else None) for dim in dataset.dims]
    if any(names):
        return names
    try:
        tags = json.loads(dataset.attrs["axistags"])["axes"]
        return [tag["key"] for tag in tags] if len(tags) == dataset.ndim else None
    except (KeyError, TypeError, ValueError):
        pass
    if "MATLAB_class" in dataset.attrs:  # MATLAB's arrays are columns first, and so turned round in HDF5
        return [*[None] * (dataset.ndim - 3), "c", "x", "y"][-dataset.ndim :]
    mode = dataset.attrs.get("INTERLACE_MODE")
    mode = mode.decode(errors="replace") if isinstance(mode, bytes) else str(mode)
    labels = _LABELS.get(mode.rstrip("\0"))
    return labels if labels and len(labels) == dataset.ndim else None


def _spacing(dataset: Any, labels: Sequence[str | None] | None) -> Spacing | None:
    """The size of a pixel: "element_size_um" along (z,) y, x, as Fiji's and ilastik's writers give it."""
    sizes = np.asarray(dataset.attrs.get("element_size_um", ()))
    if sizes.dtype.kind not in "uif" or sizes.ndim != 1 or not 2 <= len(sizes) <= 3:
        return None
    order = [label for label in labels or () if label in ("z", *ROWS, *COLUMNS)]
    if order and order[-2:] != ["y", "x"]:
        return None
    return units.spacing(float(sizes[-2]), float(sizes[-1]), "micrometre")


def _number(value: Any) -> float | None:
    """A number that an attribute holds, alone or as its one entry."""
    array = np.asarray(value)
    return array.reshape(-1)[0].item() if array.size == 1 and array.dtype.kind in "uif" else None
