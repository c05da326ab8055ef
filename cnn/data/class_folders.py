"""A folder with one directory of pictures for each class: which files are examples, and of which class."""

import os
import pathlib
import unicodedata
from typing import NamedTuple

import numpy as np

from cnn.data.leftovers import Leftovers, listed, unusable
from cnn.images import paths as paths_lib
from cnn.images.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
WELL_KNOWN = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r")  # what systems leave; hidden files too


class Listing(NamedTuple):
    """Pictures in files, of any sizes, not read yet."""

    paths: list[str]
    labels: np.ndarray  # int32 [N]


def list_classes(directory: pathlib.Path, leftovers: Leftovers | None = None) -> tuple[tuple[str, ...], Listing]:
    """Lists directory/<class>/*, sorted, without reading the pictures.

    Hidden files, and the files that systems leave in folders, are left out; a line on standard error says which. Links
    are followed, and a line says how many lead out of the folder.

    Args:
      directory: that holds one directory for each class.
      leftovers: takes files that are no pictures, and lines; None: such a file is an error.

    Returns:
      The class names, in Unicode's composed form (NFC), and the files with their labels.

    Raises:
      DataError: a missing directory or class, two classes whose names hardly differ, a file that is no picture by its
        name or kind (unless it is left out), or a picture beside the classes.
    """
    if not directory.is_dir():
        raise DataError(
            f"{directory} is not a directory; data.dir must hold train/<class>/ and val/<class>/, or <class>/"
        )
    leftovers = leftovers or Leftovers(str(directory))
    try:
        inside, skipped = _entries(directory)
        check_none_beside(directory, leftovers)
        folders = [path for path in inside if path.is_dir()]
        if not folders:
            raise DataError(f"{directory} has no class directories; expected {directory}/<class>/*.jpg or *.png")
        classes = _by_name(directory, folders)
        found = [_pictures(folder, leftovers) for folder in classes.values()]
    except PermissionError as error:
        raise DataError(f"{error.filename} may not be read (permission denied); data.dir needs its rights") from error
    for _, more in found:
        skipped += more
    files = [path for some, _ in found for path in some]
    labels = np.repeat(np.arange(len(found), dtype=np.int32), [len(some) for some, _ in found])
    if skipped:
        names = dict.fromkeys(paths_lib.printable(path.name) for path in skipped)
        leftovers.remark(f"left out {len(skipped)} entries that systems make: {listed(list(names), 10)}")
    _say_links(directory, [*folders, *files], leftovers)
    return tuple(classes), Listing([str(path) for path in files], labels)


def _pictures(folder: pathlib.Path, leftovers: Leftovers) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """The pictures of a class, and what systems have left beside them."""
    files, skipped = _entries(folder)
    strange = {path: reason for path in files if (reason := unusable(str(path), EXTENSIONS))}
    if strange:
        first, reason = next(iter(strange.items()))
        leftovers.leave_out(
            [(str(path), reason) for path, reason in strange.items()],
            f"{folder} has {len(strange)} entries that are not {', '.join(EXTENSIONS)}, the first is "
            f"{paths_lib.printable(first.name)!r}, {reason}; convert or move them, so that nothing is left out unseen",
        )
    files = [path for path in files if path not in strange]
    if not files:
        raise DataError(f"{folder} has no images; remove the directory or put some there")
    return files, skipped


def check_none_beside(directory: pathlib.Path, leftovers: Leftovers | None = None) -> None:
    """Refuses what lies in a folder beside its directories, where no class has it; files of other kinds get a line.

    Pictures are refused, and links to nothing: where these led to a directory that is gone, a class is missing.

    Args:
      directory: a folder of directories, which may be missing.
      leftovers: takes the files; None: pictures are an error.

    Raises:
      DataError: if there are such, and they are not left out; names the first.
    """
    if not directory.is_dir():
        return
    leftovers = leftovers or Leftovers(str(directory))
    beside = [path for path in _entries(directory)[0] if not path.is_dir()]
    lost = [path for path in beside if path.suffix.lower() in EXTENSIONS]
    if lost:
        leftovers.leave_out(
            [(str(path), "beside the class directories, of no class") for path in lost],
            f"{directory} has {len(lost)} pictures beside its directories, which belong to no class; the first is "
            f"{paths_lib.printable(lost[0].name)!r}; move them into a class directory, or away, so that nothing is "
            "left out unseen",
        )
    nowhere = [path for path in beside if path not in lost and path.is_symlink() and not path.exists()]
    if nowhere:
        first = nowhere[0]
        leftovers.leave_out(
            [(str(path), "a link to nothing, beside the class directories") for path in nowhere],
            f"{directory} has {len(nowhere)} links to nothing beside its directories, which may have led to classes; "
            f"the first is {paths_lib.printable(first.name)!r}, to {paths_lib.printable(os.readlink(first))!r}; mend "
            "or remove them",
        )
    others = [paths_lib.printable(path.name) for path in beside if path not in (*lost, *nowhere)]
    if others:
        leftovers.remark(f"{len(others)} files beside the directories in {directory} are not read: {listed(others)}")


def _entries(directory: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """What a folder holds, sorted, and what systems have left there; other hidden files are neither."""
    everything = sorted(directory.iterdir())
    paths = [path for path in everything if not path.name.startswith(".")]
    left = [path for path in paths if path.name.lower() in WELL_KNOWN]
    # A hidden picture may be meant; "._x.jpg" is what macOS makes beside x.jpg.
    hidden = [path for path in everything if path.name.startswith(".") and path.suffix.lower() in EXTENSIONS]
    return [path for path in paths if path not in left], left + hidden


def _by_name(directory: pathlib.Path, folders: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Class name -> its directory, sorted. Systems write an accent as one character or two: both are one name."""
    for path in folders:
        if paths_lib.printable(path.name) != path.name:
            raise DataError(
                f"{directory}: the class directory {paths_lib.printable(path.name)!r} has a name that is no UTF-8, in "
                "which tables and pages would name the class; rename it"
            )
    named = {unicodedata.normalize("NFC", path.name): path for path in folders}
    if len(named) < len(folders):
        twice = [path.name for path in folders if path not in named.values()]
        raise DataError(
            f"{directory} has two directories for the class {twice[0]!r}, whose names differ in their Unicode form "
            "alone; put their pictures into one"
        )
    lower: dict[str, str] = {}
    for name in named:
        other = lower.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(
                f"{directory} has the class directories {other!r} and {name!r}, whose names differ in their case "
                "alone: on other systems they are one; put their pictures into one, or rename one"
            )
    return dict(sorted(named.items()))


def _say_links(directory: pathlib.Path, found: list[pathlib.Path], leftovers: Leftovers) -> None:
    """Says how many links lead out of the folder: what they name is used, and may change without it."""
    root = os.path.realpath(leftovers.root)
    out = []
    for path in found:
        if path.is_symlink():
            there = os.path.realpath(path)
            if os.path.commonpath([root, there]) != root:
                out.append((path, there))
    if out:
        path, there = out[0]
        leftovers.remark(
            f"{len(out):,} links lead out of the folder, and are followed: {leftovers.name(str(path))} is "
            f"{paths_lib.printable(there)}"
        )
