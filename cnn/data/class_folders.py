"""A folder with one directory of pictures for each class: which files are examples, and of which class."""

import pathlib
import sys
import unicodedata
from typing import NamedTuple

import numpy as np

from cnn.images.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
WELL_KNOWN = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r")  # what systems leave; hidden files too


class Listing(NamedTuple):
    """Pictures in files, of any sizes, not read yet."""

    paths: list[str]
    labels: np.ndarray  # int32 [N]


def list_classes(directory: pathlib.Path) -> tuple[tuple[str, ...], Listing]:
    """Lists directory/<class>/*, sorted, without reading the pictures.

    Hidden files, and the files that systems leave in folders, are left out; a line on standard error says which.

    Args:
      directory: that holds one directory for each class.

    Returns:
      The class names, in Unicode's composed form (NFC), and the files with their labels.

    Raises:
      DataError: a missing directory or class, a file that is no picture by its name, or a picture beside the classes.
    """
    if not directory.is_dir():
        raise DataError(
            f"{directory} is not a directory; data.dir must hold train/<class>/ and val/<class>/, or <class>/"
        )
    inside, skipped = _entries(directory)
    check_none_beside(directory)
    folders = [path for path in inside if path.is_dir()]
    if not folders:
        raise DataError(f"{directory} has no class directories; expected {directory}/<class>/*.jpg or *.png")
    classes = _by_name(directory, folders)
    paths: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(classes.values()):
        files, more = _entries(folder)
        skipped += more
        strange = [path for path in files if path.is_dir() or path.suffix.lower() not in EXTENSIONS]
        if strange:
            kind = "a directory" if strange[0].is_dir() else "a file of another kind"
            raise DataError(
                f"{folder} has {len(strange)} entries that are not {', '.join(EXTENSIONS)}, the first is "
                f"{strange[0].name!r}, {kind}; convert or move them, so that nothing is left out unseen"
            )
        if not files:
            raise DataError(f"{folder} has no images; remove the directory or put some there")
        paths += [str(path) for path in files]
        labels += [label] * len(files)
    if skipped:
        names = ", ".join(dict.fromkeys(path.name for path in skipped))
        print(f"{directory}: left out {len(skipped)} entries that systems make: {names}", file=sys.stderr, flush=True)
    return tuple(classes), Listing(paths, np.array(labels, np.int32))


def check_none_beside(directory: pathlib.Path) -> None:
    """Refuses pictures that lie in a folder beside its directories, where no class has them.

    Args:
      directory: a folder of directories, which may be missing.

    Raises:
      DataError: if there are any; names the first.
    """
    if not directory.is_dir():
        return
    lost = [path.name for path in _entries(directory)[0] if path.is_file() and path.suffix.lower() in EXTENSIONS]
    if lost:
        raise DataError(
            f"{directory} has {len(lost)} pictures beside its directories, which belong to no class; the first is "
            f"{lost[0]!r}; move them into a class directory, or away, so that nothing is left out unseen"
        )


def _entries(directory: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """What a folder holds, sorted, and what systems have left there; hidden files are neither."""
    paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    left = [path for path in paths if path.name.lower() in WELL_KNOWN]
    return [path for path in paths if path not in left], left


def _by_name(directory: pathlib.Path, folders: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Class name -> its directory, sorted. Systems write an accent as one character or two: both are one name."""
    named = {unicodedata.normalize("NFC", path.name): path for path in folders}
    if len(named) < len(folders):
        twice = [path.name for path in folders if path not in named.values()]
        raise DataError(
            f"{directory} has two directories for the class {twice[0]!r}, whose names differ in their Unicode form "
            "alone; put their pictures into one"
        )
    return dict(sorted(named.items()))
