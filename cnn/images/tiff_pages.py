"""Which pages of a TIFF are the image: one rule for all that read pictures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn.images.facts import Choice

# Names of the pictures that a slide's file holds beside the slide.
BESIDE = ("thumbnail", "label", "macro", "map", "overview", "probability")
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
_PAGE_AXES = {"Y": "l", "X": "w"}  # axes that are rows and columns of a page


class Layout(NamedTuple):
    """The pages of one image, and what of them is its channels.

    Attributes:
      series: tifffile's series that holds the image at the level that is meant.
      base: the first page of the largest level, which carries the metadata.
      pages: the pages, one for each channel that is stored as a page of its own.
      planes: where the image lies in the file without pages of their own, as a number of planes before it; None: each
        has a page.
      samples: which samples of each page; None: all.
      gathered: whether the pages are the channels.
      entries: the entry along each axis beside rows, columns and channels, e.g. {"T": 0, "Z": 3}.
      sizes: (height, width) of each level as stored, the largest first.
      level: which of them.
      chosen: what was chosen where there was a choice, e.g. {"page": 1}.
    """

    series: Any
    base: Any
    pages: Sequence[Any]
    planes: Sequence[int] | None
    samples: slice | None
    gathered: bool
    entries: Mapping[str, int]
    sizes: tuple[tuple[int, int], ...]
    level: int
    chosen: Mapping[str, Any]


def meant(file: Any) -> Any:
    """The pages of the image; of an image pyramid those of its largest level.

    Args:
      file: an opened `tifffile.TiffFile`.

    Returns:
      The only series (tifffile's) that is not known as a reduced picture, a mask, a thumbnail or a label; it has one
      page.

    Raises:
      ValueError: if none or several are left, or it is a stack; says how many and of which sizes.
    """
    series = _only(file)
    if len(series) != 1 or series.keyframe.imagedepth != 1:
        raise ValueError(
            f"{len(series)} pages, together {'x'.join(map(str, series.shape))} ({series.axes}); an image is one page, "
            "[H, W] or [H, W, C]; write the one that is meant as a file of its own"
        )
    return series


def _only(file: Any) -> Any:
    """The only series of a file that may be the image."""
    known = _REDUCED | _MASK
    pictures = [picture for one in file.series for picture in (one, *_unlike_levels(one))]
    left = [one for one in pictures if one.name.lower() not in BESIDE and not int(one.keyframe.subfiletype) & known]
    if len(pictures) == 1:
        left = pictures
    if len(left) != 1:
        sizes = ", ".join("x".join(map(str, one.shape)) for one in pictures[:4])
        more = ", ..." if len(pictures) > 4 else ""
        raise ValueError(
            f"it holds {len(pictures)} pictures ({sizes}{more}); write the one that is meant as a file of its own"
        )
    return left[0]


def _unlike_levels(series: Any) -> list[Any]:
    """What tifffile takes for levels of a pyramid by their size alone: they are not in tiles, nor marked as reduced."""
    if series.kind not in ("generic", "uniform"):
        return []
    return [
        level
        for level in series.levels[1:]
        if not (level.keyframe.is_subifd or level.keyframe.is_tiled or int(level.keyframe.subfiletype) & _REDUCED)
    ]


def _pages_to_choose(file: Any) -> str:
    """How one of several pictures is named."""
    series = [picture for one in file.series for picture in (one, *_unlike_levels(one))]
    firsts = [one[0].index for one in series if len(one) and one[0] is not None]
    pages = [f"--page={first}" for first in firsts if isinstance(first, int)]
    return f", or choose it by {', '.join(pages[:4])}{', ...' if len(pages) > 4 else ''}" if len(pages) > 1 else ""


def layout(file: Any, choice: Choice) -> Layout:
    """The pages that are meant, with what of them is a channel.

    Args:
      file: an opened `tifffile.TiffFile`.
      choice: page, level, and entries along other axes.

    Returns:
      The layout of the image.

    Raises:
      ValueError: if there is no such page, level or entry, or several images are left; lists those of the file.
    """
    try:
        series = _only(file) if choice.page is None else _of_page(file, choice.page)
    except ValueError as error:
        raise ValueError(f"{error}{_pages_to_choose(file) if choice.page is None else ''}") from error
    levels = _levels(file, series)
    level = 0 if choice.level is None else choice.level
    sizes = tuple((one.keyframe.imagelength, one.keyframe.imagewidth) for one in levels)
    if not 0 <= level < len(levels):
        listed = ", ".join(f"{i}: {height}x{width}" for i, (height, width) in enumerate(sizes))
        what = "the pyramid's levels are" if len(levels) > 1 else "it has no pyramid, only level"
        raise ValueError(f"level {level}: {what} {listed} (--level)")
    base, series = levels[0].keyframe, levels[level]
    chosen = {} if choice.page is None else {"page": choice.page}
    if len(levels) > 1:
        chosen["level"] = level
    return _channels(series, base, choice, sizes, level, chosen)


def mask_page(file: Any, found: Layout) -> Any:
    """The page that says which pixels of an image hold something, as GDAL writes it: a mask of the same size.

    Args:
      file: the opened `tifffile.TiffFile`.
      found: the image's layout.

    Returns:
      The page of its own file that is next behind the image; None: there is none.
    """
    page, keyframe = found.pages[0], found.series.keyframe
    size = keyframe.imagelength, keyframe.imagewidth
    masks = [
        one
        for series in file.series
        for level in series.levels
        if int(level.keyframe.subfiletype) & _MASK and (level.keyframe.imagelength, level.keyframe.imagewidth) == size
        for one in level
    ]
    behind = [one for one in masks if one is not None and _place(one) > _place(page)]
    return min(behind, key=_place) if behind and not int(keyframe.subfiletype) & _MASK else None


def _place(page: Any) -> tuple[int, ...]:
    """The place of a page in its file; of a page within another, behind that."""
    return (page.index,) if isinstance(page.index, int) else tuple(page.index)


class _Alone(Sequence):
    """One page as a series, with tifffile's names."""

    def __init__(self, page: Any) -> None:
        self.keyframe, self.name, self.kind, self.dataoffset, self.is_truncated = page, "", "page", None, False
        self.levels = [self]
        height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        self.axes, self.shape = ("SYX", (samples, height, width)) if page.planarconfig == 2 else (
            "YXS", (height, width, samples))  # fmt: skip

    def get_axes(self, squeeze: bool) -> str:
        return self.axes

    def get_shape(self, squeeze: bool) -> tuple[int, ...]:
        return self.shape

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return [self.keyframe][index]


def _of_page(file: Any, number: int) -> Any:
    """The series of one page, with its pyramid."""
    count = len(file.pages)
    if not 0 <= number < count:
        raise ValueError(f"page {number}: it has {count} pages, 0 to {count - 1} (--page)")
    for series in file.series:
        if len(series) == 1 and series[0] is not None and series[0].index == number and not _stack(series):
            return series
    page = file.pages[number]
    page = page.aspage() if page.keyframe is not page else page
    alone = _Alone(page)
    if page.subifds:
        inside = [_Alone(one) for one in page.pages]
        alone.levels = [alone, *(one for one in inside if not int(one.keyframe.subfiletype) & _MASK)]
    return alone


def _stack(series: Any) -> bool:
    """Whether a series of one page holds several images without pages of their own."""
    return math.prod(series.shape) != math.prod(series.keyframe.shape)


def _levels(file: Any, series: Any) -> list[Any]:
    """The levels of a series' pyramid, the largest first: as tifffile has them, or pages that are marked as reduced."""
    others = [] if isinstance(series, _Alone) else _unlike_levels(series)
    levels = [level for level in series.levels if level not in others]
    if len(levels) > 1 or isinstance(series, _Alone) or len(series) != 1:
        return levels
    base = series.keyframe
    for one in file.series:
        page = one.keyframe
        alike = (page.samplesperpixel, page.dtype, page.photometric) == (
            base.samplesperpixel, base.dtype, base.photometric)  # fmt: skip
        reduced = int(page.subfiletype) & _REDUCED and not int(page.subfiletype) & _MASK
        if one is not series and one.name.lower() not in BESIDE and alike and reduced and len(one) == 1:
            ratio = base.imagelength / page.imagelength
            if ratio > 1 and abs(base.imagewidth / ratio - page.imagewidth) <= 1:
                levels.append(one)
    return [levels[0], *sorted(levels[1:], key=lambda one: -one.keyframe.imagelength)]


def _channels(series: Any, base: Any, choice: Choice, sizes: Any, level: int, chosen: dict[str, Any]) -> Layout:
    """Sorts the axes of a series into those of its pages and those along its pages, and chooses along the latter."""
    keyframe = series.keyframe
    if keyframe.imagedepth != 1:
        raise ValueError(
            f"its pages are {keyframe.imagedepth} deep; an image is [H, W] or [H, W, C]; write the slice that is meant "
            "as a file of its own"
        )
    names, shape = _unique(series.get_axes(False)), series.get_shape(False)
    axes = dict(zip(names, shape, strict=True))
    along, inside = _split(series, axes)
    selected = _selected(choice.select, axes, inside)
    if "C" in along and "C" not in selected and inside is not None and inside != "C" and axes[inside] > 1:
        raise _several(axes, ["C"], f"each of {axes[inside]} samples")
    others = [name for name in along if name != "C" and name not in selected]
    if others:
        raise _several(axes, others, f"{len(series)} pages, together {'x'.join(map(str, series.shape))}")
    sizes_along = [axes[name] for name in along]
    count = axes["C"] if "C" in along and "C" not in selected else 1
    numbers = []
    for channel in range(count):
        entry = [selected.get(name, channel) for name in along]
        number = 0
        for i, size in zip(entry, sizes_along, strict=True):
            number = number * size + i
        numbers.append(number)
    samples = None
    if inside is not None and inside in selected:
        samples = slice(selected[inside], selected[inside] + 1)
    if selected:
        chosen["select"] = {name.lower(): i for name, i in selected.items()}
    in_pages = math.prod(sizes_along) == len(series) and not series.is_truncated
    pages = [series[number] for number in numbers] if in_pages else [series[0]] * count
    if any(page is None for page in pages):
        missing = numbers[[page is None for page in pages].index(True)]
        raise ValueError(f"plane {missing} of {len(series)} is not stored, or is in a file that is not there")
    entries = {name: selected.get(name, 0) for name in axes if name not in ("Y", "X", "S", "C")}
    if "C" in selected:
        entries["C"] = selected["C"]
    planes = None if in_pages else numbers
    return Layout(series, base, pages, planes, samples, count > 1, entries, sizes, level, chosen)


def _unique(axes: str) -> list[str]:
    """Names of axes that are all different: "QQYX" -> Q0, Q1, Y, X."""
    seen: dict[str, int] = {}
    names = []
    for axis in axes:
        if axes.count(axis) == 1:
            names.append(axis)
        else:
            names.append(f"{axis}{seen.get(axis, 0)}")
            seen[axis] = seen.get(axis, 0) + 1
    return names


def _split(series: Any, axes: Mapping[str, int]) -> tuple[list[str], str | None]:
    """(axes along the pages, of more than one entry; the axis that is the samples of a page, or None)."""
    keyframe = series.keyframe
    planes, _, height, width, samples = keyframe.shaped
    wide = [(name, size) for name, size in axes.items() if size > 1 or name in ("Y", "X")]
    page = [(size, kind) for size, kind in ((planes, "s"), (height, "l"), (width, "w"), (samples, "c")) if
            size > 1 or kind in "lw"]  # fmt: skip
    tail = wide[len(wide) - len(page) :]
    fits = len(tail) == len(page) and all(
        size == wanted and _PAGE_AXES.get(name, kind if kind in "sc" else "") == kind
        for (name, size), (wanted, kind) in zip(tail, page, strict=True)
    )
    if not fits:
        listed = ", ".join(f"{name}={size}" for name, size in axes.items())
        raise ValueError(
            f"its axes ({listed}) do not lie in its pages of {height}x{width}x{planes * samples} as rows and columns; "
            "write it anew as [H, W] or [H, W, C]"
        )
    inside = next((name for (name, _), (_, kind) in zip(tail, page, strict=True) if kind in "sc"), None)
    return [name for name, _ in wide[: len(wide) - len(page)]], inside


def _selected(select: Mapping[str, int] | None, axes: Mapping[str, int], inside: str | None) -> dict[str, int]:
    """The entries that are asked for, by the file's names of axes."""
    selected = {}
    offered = [name for name in axes if name not in ("Y", "X", "S")]
    for name, entry in (select or {}).items():
        axis = name.upper()
        if axis not in offered:
            what = ", ".join(f"{one.lower()}={axes[one]}" for one in offered) or "none beside rows, columns and samples"
            raise ValueError(f"axis {name}: its axes are {what} (--select)")
        if not 0 <= entry < axes[axis]:
            raise ValueError(f"{name}={entry}: axis {name} has {axes[axis]} entries, 0 to {axes[axis] - 1} (--select)")
        selected[axis] = int(entry)
    return selected


def _several(axes: Mapping[str, int], names: Sequence[str], what: str) -> ValueError:
    """The refusal of a stack, with its axes and how one of its images is named."""
    listed = ", ".join(f"{name}={size}" for name, size in axes.items())
    example = ",".join(f"{name.lower()}=0" for name in names)
    return ValueError(
        f"{what} ({listed}); an image is one page, [H, W] or [H, W, C]; choose one by --select={example}"
        f"{'' if 'C' in axes else ' or --page=0'}, or write it as a file of its own"
    )
