"""Decoded data sets that are kept on disk, so that the next process reads arrays and decodes nothing.

A set is kept under a key of everything that its arrays depend on: what was asked for (name, sizes, channels, range,
fractions), the name, inode, size and times of modification and of change of every file that it is read from, the names
of folders and hidden files beside them, where links lead, the versions of the libraries that decode, and the source
code of `cnn.data` and `cnn.images`. So a picture is missed as changed only where its content changed in its place and
neither its size nor any of its times did, which takes a clock that was set back or a damaged disk. A set one of whose
files is younger than `SETTLED` seconds is not kept, as a file may change twice within one tick of its clock.

What a reader says on standard error is kept too, and said again. Every file is read into memory and checked by its
SHA-256 there; what is damaged is removed and made anew, with a line. Sets are written under another name and then
renamed, so that one is whole or not there, also with several processes. Those used longest ago are removed when all
together are larger than `LIMIT`. A folder that cannot be written or read, or a disk that would be full, costs a line
and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

LIMIT = 20 * 2**30  # bytes of all sets together
SETTLED = 2.0  # seconds; more than the coarsest clock of a usual file system (FAT's)
ABANDONED = 24 * 3600.0  # seconds after which a set that is being written is one of a process that died
ABOUT = "about.json"
WRITING = ".writing-"  # begins the name of what is no set yet, or none any more
DECODERS = (  # libraries that read pictures or look for damages in them
    *("pillow", "numpy", "tensorflow-datasets", "array-record", "tifffile", "imagecodecs", "simplejpeg", "rasterio"),
    *("openslide-python", "h5py"),
)
_FOLDER: list[str | None] = [None]  # of this process; None: nothing is kept

Arrays = dict[str, np.ndarray]


def use(folder: str = "auto") -> str | None:
    """Chooses where this process keeps decoded data sets; without it none are kept.

    Args:
      folder: path of the folder; "auto": $CNN_DATA_CACHE, else `cnn-data` in the user's cache directory
        ($XDG_CACHE_HOME, else ~/.cache); "none" or "": none are kept.

    Returns:
      The folder; None if none are kept.
    """
    if folder == "auto":
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        folder = os.environ.get("CNN_DATA_CACHE") or os.path.join(home, "cnn-data")
    _FOLDER[0] = None if folder in ("", "none") else os.path.expanduser(folder)
    return _FOLDER[0]


def kept(
    asked: Mapping[str, Any], files: Callable[[], Iterable[str]], make: Callable[[], tuple[Arrays, dict[str, Any]]]
) -> tuple[Arrays, dict[str, Any]]:
    """A decoded set: as it is kept, or made and kept.

    Args:
      asked: what it depends on beside files and code, as JSON.
      files: lists the files that it is read from; none: nothing is kept.
      make: makes its arrays, and what else belongs to it, as JSON.

    Returns:
      What `make` returns, to the bit.
    """
    folder = _FOLDER[0]
    if folder is None:
        return make()
    key, settled = _key(asked, files())
    place = os.path.join(folder, key)
    if key:
        found = _read(place)
        if found is not None:
            arrays, about, said = found
            sys.stderr.write(said)
            return arrays, about
    with _heard() as said:
        arrays, about = make()
    if key and settled and (key, True) == _key(asked, files()):
        _write(folder, place, arrays, about, said.getvalue())
    return arrays, about


def files_below(root: str, depth: int = 3) -> list[str]:
    """What lies in a folder and the folders in it: files, folders, and hidden ones, which are not looked into.

    Args:
      root: the folder, which may be missing.
      depth: how deep files lie at most; links are followed.

    Returns:
      Paths, sorted by their names in each folder.
    """
    found: list[str] = []
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return found
    for entry in entries:
        found.append(entry.path)
        if depth > 1 and not entry.name.startswith("."):
            with contextlib.suppress(OSError):  # a link in a loop, which the reader names
                found += files_below(entry.path, depth - 1) if entry.is_dir() else []
    return found


def _key(asked: Mapping[str, Any], files: Iterable[str]) -> tuple[str, bool]:
    """The key of a set, "" if it has no files; and whether all of them are old enough."""
    digest, newest, count = hashlib.sha256(), 0.0, 0
    for path in files:
        facts, hidden = "", os.path.basename(path).startswith(".")  # of a folder, and of what is hidden, the name alone
        try:
            found, link = os.lstat(path), ""
            if stat.S_ISLNK(found.st_mode):
                link = os.readlink(path)
                found = found if hidden else os.stat(path)
            if not hidden and not stat.S_ISDIR(found.st_mode):
                newest, count = max(newest, found.st_mtime, found.st_ctime), count + 1
                facts = f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
        except OSError:
            return "", False  # it is read as ever, and the reader says what is wrong
        digest.update(f"{path}\0{link}\0{facts}\0".encode("utf-8", "surrogateescape"))
    if not count:
        return "", False
    key = {"asked": asked, "files": digest.hexdigest(), "versions": _versions(), "code": _code()}
    text = json.dumps(key, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40], newest < time.time() - SETTLED


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in DECODERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def _code() -> str:
    """A digest of the source code that reads and decodes."""
    digest, here = hashlib.sha256(), pathlib.Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *(here.parent / "images").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(place: str) -> tuple[Arrays, dict[str, Any], str] | None:
    """A set that is kept; None if it is not, may not be read, or was damaged and is removed."""
    try:
        with open(os.path.join(place, ABOUT), encoding="utf-8") as file:
            written = json.load(file)
        arrays = {}
        for name, checksum in written["arrays"].items():
            path = os.path.join(place, f"{os.path.basename(name)}.npy")
            # Not mapped: what is checked is what is used, whatever becomes of the file while a run goes on.
            with open(path, "rb") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            if _checksum(array) != checksum:
                raise ValueError(f"{os.path.basename(path)} has another checksum")
            arrays[name] = array
        about, said = written["about"], written["said"]
        if written["checksum"] != _of_text(written["arrays"], about, said):
            raise ValueError(f"{ABOUT} has another checksum")
    except FileNotFoundError as error:
        if not os.path.isdir(place):
            return None  # it never was, or another process just removed it
        return _damaged(place, f"{os.path.basename(str(error.filename))} is missing")
    except PermissionError as error:  # another user's, in a folder that several share
        print(f"decoded data are not used: {error}", file=sys.stderr, flush=True)
        return None
    except Exception as error:  # of damaged bytes: ValueError, OverflowError, RecursionError, MemoryError, ...
        return _damaged(place, str(error) or type(error).__name__)
    with contextlib.suppress(OSError):  # as used now; the folder may be read-only
        os.utime(os.path.join(place, ABOUT))
    return arrays, about, said


def _damaged(place: str, why: str) -> None:
    print(f"{place}: damaged ({' '.join(why.split())[:200]}); the data are decoded anew", file=sys.stderr, flush=True)
    _remove(place)


def _write(folder: str, place: str, arrays: Arrays, about: dict[str, Any], said: str) -> None:
    """Keeps a set, if there is room."""
    size = sum(array.nbytes for array in arrays.values())
    if size > LIMIT:
        return
    made = None
    try:
        os.makedirs(folder, exist_ok=True)
        _make_room(folder, LIMIT - size)
        free = shutil.disk_usage(folder).free
        if free < 2 * size:  # a run needs room too, for its checkpoints
            raise OSError(f"{folder} has {free / 2**20:,.0f} MiB left, and they take {size / 2**20:,.0f}")
        made = os.path.join(folder, f"{WRITING}{uuid.uuid4().hex}")
        os.mkdir(made)  # with the rights of any other folder: several users may share sets
        checksums = {}
        for name, array in arrays.items():
            np.save(os.path.join(made, f"{name}.npy"), array, allow_pickle=False)
            checksums[name] = _checksum(array)
        written = {"arrays": checksums, "about": about, "said": said, "checksum": _of_text(checksums, about, said)}
        with open(os.path.join(made, ABOUT), "w", encoding="utf-8") as file:
            json.dump(written, file)
        os.rename(made, place)  # fails where another process was faster: its set is the same
    except OSError as error:
        if not os.path.isdir(place):
            print(f"decoded data are not kept: {error}", file=sys.stderr, flush=True)
    finally:
        if made is not None:
            _erase(made)


def _make_room(folder: str, most: int) -> None:
    """Removes the sets that were used longest ago until the others take at most `most` bytes."""
    sets = []
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):  # one that another process removes just now
            if entry.name.startswith(WRITING):
                if entry.stat().st_mtime < time.time() - ABANDONED:
                    _erase(entry.path)
            elif os.path.exists(os.path.join(entry.path, ABOUT)):
                size = sum(file.stat().st_size for file in os.scandir(entry.path))
                sets.append((os.stat(os.path.join(entry.path, ABOUT)).st_mtime, size, entry.path))
    total = sum(size for _, size, _ in sets)
    for _, size, path in sorted(sets):
        if total <= most:
            break
        _remove(path)
        total -= size


def _remove(place: str) -> None:
    """Removes a set under another name, so that no process finds a part of it."""
    gone = os.path.join(os.path.dirname(place), f"{WRITING}{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        os.rename(place, gone)
        _erase(gone)


def _erase(path: str) -> None:
    """Removes a folder, or a file in its place, as far as it can."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _checksum(array: np.ndarray) -> str:
    """SHA-256 of an array's shape, dtype and bytes."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _of_text(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Heard(io.StringIO):
    """Standard error with a copy of what is written."""

    def __init__(self, through: Any) -> None:
        super().__init__()
        self._through = through

    def write(self, text: str) -> int:
        self._through.write(text)
        return super().write(text)

    def flush(self) -> None:
        self._through.flush()


@contextlib.contextmanager
def _heard() -> Iterator[_Heard]:
    heard = _Heard(sys.stderr)
    with contextlib.redirect_stderr(heard):
        yield heard
