"""OME-Zarr 0.1 to 0.5: images of several levels with named axes, pixel sizes and channel names, in zarr groups.

Source: https://ngff.openmicroscopy.org (versions 0.4 and 0.5), and the layout of bioformats2raw there.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnn.images import choices, units
from cnn.images.axes import CHANNELS, COLUMNS, ROWS, arrange
from cnn.images.errors import StorageError
from cnn.images.facts import Choice, Facts, Spacing
from cnn.images.zarr_arrays import nodata, open_array, open_zarr_array
from cnn.images.zarr_nodes import Node, find, listed, multiscales, ome

OLD_AXES = ("t", "c", "z", "y", "x")  # of versions 0.1 and 0.2, which do not name them


def open_zarr(path: str, inside: str, cache_bytes: int, choice: Choice) -> tuple[Any, Facts]:
    """Opens a zarr array, or an image of an OME-Zarr group.

    Args:
      path: path of a directory or a zip file.
      inside: path from there to the array or group; "" for the file's own.
      cache_bytes: largest memory for decoded chunks, bytes.
      choice: which image is meant: `level` of a group, `page` of a group of several images, `select` along axes.

    Returns:
      (an array-like [H, W] or [H, W, C]; what the file says of it).

    Raises:
      StorageError: if it is none of these, holds several images, or lacks what was asked for.
    """
    node = find(path, inside)
    if not node.group:
        choices.only(node.name, "a zarr array", choice, "select")
        array, chosen = open_zarr_array(node, cache_bytes, choice.select)
        return array, Facts(nodata=nodata(node), chosen=chosen)
    page: dict[str, int] = {}
    try:
        if not multiscales(node):
            node, page = _of_series(node, choice)
            choice = choice._replace(page=None) if page else choice
        images = multiscales(node)
        names = [str(image.get("name") or f"image {i}") for i, image in enumerate(images)]
        number = choices.one_of(node.name, "page", choice.page, names, "images")
        page |= {"page": number} if len(images) > 1 else {}
        return _open_image(node, images[number], cache_bytes, choice, page)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise StorageError(
            f"{node.name}: what it says of its image is not OME-Zarr's ({type(error).__name__}: {error}); take an "
            "undamaged copy, or name one of its arrays"
        ) from error


def _of_series(group: Node, choice: Choice) -> tuple[Node, dict[str, int]]:
    """The image of a group whose images are groups of their own, as bioformats2raw writes them.

    Raises:
      StorageError: if the group is none of these; says what it is, and which images or arrays lie in it.
    """
    said = ome(group)
    if "bioformats2raw.layout" in said:
        members = {node.name.rsplit("/", 1)[1]: node for node in group.children()}
        series = ome(members["OME"]).get("series") if "OME" in members else None
        paths = series or sorted((name for name in members if name.isdigit()), key=int)
        number = choices.one_of(group.name, "page", choice.page, [str(path) for path in paths], "images")
        return group.child(str(paths[number])), {"page": number} if len(paths) > 1 else {}
    kind, inside = "a zarr group", listed(group)
    for key, many, entries in (("plate", "wells", "wells"), ("well", "fields", "images")):
        if key in said:
            paths = [str(entry.get("path")) for entry in said[key].get(entries, ())]
            kind = f"a {key} of {len(paths)} {many} (OME-Zarr)"
    raise StorageError(
        f"{group.name}: {kind}; name one of its arrays: {inside if inside != 'nothing' else 'it has none'}"
    )


def _open_image(
    group: Node, image: Mapping[str, Any], cache_bytes: int, choice: Choice, chosen: Mapping[str, int]
) -> tuple[Any, Facts]:
    """One image of a group at one of its levels."""
    levels = [group.child(str(level["path"])) for level in image["datasets"]]
    shapes = [tuple(int(n) for n in level.metadata["shape"]) for level in levels]
    axes, axis_units = _axes(group.name, image, len(shapes[0]))
    if any(len(shape) != len(axes) for shape in shapes):
        raise StorageError(f"{group.name}: its levels have other numbers of axes than {', '.join(axes)}")
    row, column = (_index(axes, names) for names in (ROWS, COLUMNS))
    sizes = tuple((shape[row], shape[column]) for shape in shapes) if row is not None and column is not None else ()
    entries = [f"{height}x{width}" for height, width in sizes] or [str(level.path) for level in levels]
    number = choices.one_of(group.name, "level", choice.level or 0, entries, "levels")
    array, selected = arrange(group.name, open_array(levels[number], cache_bytes), axes, choice.select)
    scale, _ = _place(image, image["datasets"][number], len(axes))
    _, moved = _place(image, image["datasets"][0], len(axes))
    spacing = origin = None
    if row is not None and column is not None and scale is not None:
        spacing = units.spacing(scale[row], scale[column], axis_units[row], axis_units[column])
        origin = _origin(spacing, moved, (row, column), (axis_units[row], axis_units[column]))
    channel = next((i for i, axis in enumerate(axes) if axis.lower() in CHANNELS), None)
    names = None if channel is None or axes[channel] in selected else _channel_names(group, shapes[0][channel])
    return array, Facts(
        channel_names=names,
        spacing=spacing,
        nodata=nodata(levels[number]),
        levels=sizes if len(sizes) > 1 else (),
        chosen={**chosen, **({"level": number} if len(sizes) > 1 else {}), **selected},
        origin=origin,
    )


def _axes(name: str, image: Mapping[str, Any], rank: int) -> tuple[list[str], list[str | None]]:
    """Names and units of the axes."""
    axes: Sequence[Any] = image.get("axes") or (OLD_AXES if rank == len(OLD_AXES) else ())
    if not axes:
        raise StorageError(f"{name}: an image of {rank} axes without their names; OME-Zarr 0.4 and 0.5 give them")
    named = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in axes]
    return [str(axis["name"]) for axis in named], [axis.get("unit") for axis in named]


def _index(axes: Sequence[str], names: Sequence[str]) -> int | None:
    found = [i for i, axis in enumerate(axes) if axis.lower() in names]
    return found[0] if len(found) == 1 else None


def _place(image: Mapping[str, Any], dataset: Mapping[str, Any], rank: int) -> tuple[list[float] | None, list[float]]:
    """(scale, translation) of a level along each axis: those of the level, then those of the whole image."""
    scale, moved, any_scale = [1.0] * rank, [0.0] * rank, False
    for transforms in (dataset.get("coordinateTransformations"), image.get("coordinateTransformations")):
        for transform in transforms or ():
            values = transform.get(transform.get("type", ""))
            if not isinstance(values, list) or len(values) != rank:
                continue  # identity, or in a file of its own
            if transform["type"] == "scale":
                scale = [a * b for a, b in zip(scale, values, strict=True)]
                moved = [a * b for a, b in zip(moved, values, strict=True)]
                any_scale = True
            elif transform["type"] == "translation":
                moved = [a + b for a, b in zip(moved, values, strict=True)]
    return (scale if any_scale else None), moved


def _origin(
    spacing: Spacing | None, moved: Sequence[float], axes: tuple[int, int], names: tuple[str | None, str | None]
) -> tuple[float, float] | None:
    """Where the centre of the largest level's first pixel lies, in the unit of the spacing; None: at 0."""
    place = [moved[axis] for axis in axes]
    if spacing is None or not any(place):
        return None
    factors = [units.spacing(1.0, 1.0, name) for name in names]
    y, x = (value * (factor.y if factor else math.nan) for value, factor in zip(place, factors, strict=True))
    return y, x


def _channel_names(group: Node, count: int) -> tuple[str, ...] | None:
    """The labels of the channels, if each has one."""
    channels = (ome(group).get("omero") or {}).get("channels") or []
    labels = [str(channel.get("label") or "") for channel in channels]
    return tuple(labels) if len(labels) == count and all(labels) else None
