"""Which checkpoints of a run are complete and right, by a list of checksums in the folder of each.

A step is written under a name of its own, gets its list, and is renamed last: so a step that has its number for a name
has its list, whenever the process may be killed. The list says the step, and the size and SHA-256 of every file; its
last field is a checksum of the list itself. Beside what Orbax wrote, a step of the latest ones holds copies of the
run's small files (`KEPT`), by which damage to these is found, and repaired.

Steps of runs that were made before there were lists have none, and are taken as they are: the mark in Orbax's own
metadata, which all others have, says which these are.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from cnn.runtime import json_files
from cnn.runtime.json_files import JsonError

NAME = "checksums.json"
MARK = {"checksums": NAME}  # among Orbax's own metadata of a step
METADATA = "_CHECKPOINT_METADATA"  # Orbax's
LATEST, BEST = "checkpoints", "checkpoints_best"  # folders in a workdir
COPIES = "run"  # folder of a step for copies of `KEPT`
KEPT = ("config.json", "data.json", "provenance.json", "import.json", "metrics.jsonl")  # files in a workdir
LARGEST_COPY = 2**24  # bytes; a log that is longer is not copied into every checkpoint
WRITING = ".writing"  # what the name of a step that is being written ends in
REMOVED = ".removed"  # and of one that is being removed

_STEP = re.compile(r"0|[1-9][0-9]{0,9}")
_UNFINISHED = re.compile(rf"[0-9]+({re.escape(WRITING)}|{re.escape(REMOVED)})?(\.orbax-checkpoint-tmp.*)?")


def steps(folder: str) -> list[int]:
    """Numbers of all folders that are named as steps are, whatever they hold.

    Args:
      folder: a folder of checkpoints, which may be missing.

    Returns:
      The numbers, the latest first; none for a name that no step has, such as "0012".
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = (name for name in names if _STEP.fullmatch(name) and os.path.isdir(os.path.join(folder, name)))
    return sorted(map(int, found), reverse=True)


def latest(folder: str) -> int | None:
    """The latest step whose files are all there, in the sizes that they were written in; their bytes are not read.

    Args:
      folder: a folder of checkpoints, which may be missing.

    Returns:
      The step; None if there is none.
    """
    return next((step for step in steps(folder) if fault(folder, step, sizes_only=True) is None), None)


def write(path: str, step: int) -> None:
    """Writes the list of a step, of the files that are in its folder.

    Args:
      path: the folder of the step.
      step: its number.
    """
    found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    names = [os.path.relpath(one, path).replace(os.sep, "/") for one in found]
    write_list(os.path.join(path, NAME), path, [name for name in names if name != NAME], step)


def write_list(place: str, folder: str, names: Iterable[str], step: int = 0) -> None:
    """Writes a list of checksums.

    Args:
      place: path of the list.
      folder: the folder that the files lie in.
      names: their names in it, with "/" between folders.
      step: the step that they belong to.
    """
    files = {}
    for name in sorted(names):
        one = os.path.join(folder, *name.split("/"))
        files[name] = [os.path.getsize(one), _sha256(one)]
    listed = {"step": step, "files": files}
    with open(f"{place}.part", "w", encoding="utf-8") as file:
        json.dump({**listed, "checksum": json_files.digest(listed)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{place}.part", place)


def list_fault(place: str, folder: str) -> str | None:
    """What is wrong with files of a list.

    Args:
      place: path of the list.
      folder: the folder that the files lie in.

    Returns:
      The end of a sentence; None if nothing is wrong, or there is no list.
    """
    if not os.path.lexists(place):
        return None
    try:
        return _fault_of_files(folder, _listed(place)["files"], sizes_only=False)
    except JsonError as error:
        return f"{os.path.basename(place)} {error}"
    except OSError as error:
        return f"{error.filename}: {error.strerror or error}"


def fault(folder: str, step: int, *, sizes_only: bool = False) -> str | None:
    """What is wrong with a step.

    Args:
      folder: folder of the checkpoints.
      step: number of the step.
      sizes_only: whether the bytes of its files are taken to be right where their number is.

    Returns:
      The end of a sentence about the step, which names the file; None if nothing is wrong, or if it is a step of before
      there were lists, of which that is not known.
    """
    path = os.path.join(folder, str(step))
    try:
        if not os.path.isdir(path) or not os.listdir(path):
            return "it is empty"
        if not os.path.lexists(os.path.join(path, NAME)):
            return _fault_without_list(path)
        listed = _listed(os.path.join(path, NAME))
        if listed["step"] != step:
            return f"it is a copy of step {listed['step']:,}"
        return _fault_of_files(path, listed["files"], sizes_only)
    except JsonError as error:
        return f"{NAME} {error}"
    except OSError as error:
        return f"{os.path.relpath(error.filename or path, path)}: {error.strerror or error}"


def _fault_of_files(path: str, files: Mapping[str, Any], sizes_only: bool) -> str | None:
    """What is wrong with the first of some files that is not as its list says."""
    for name, (size, checksum) in files.items():
        one = os.path.join(path, *name.split("/"))
        if not os.path.isfile(one):
            return f"{name} is missing"
        there = os.path.getsize(one)
        if there != size:
            return f"{name} has {there:,} bytes, and had {size:,}"
        if not sizes_only and _sha256(one) != checksum:
            return f"{name} has other bytes than were written"
    return None


def _fault_without_list(path: str) -> str | None:
    """What is wrong with a step that has no list."""
    metadata = os.path.join(path, METADATA)
    if not os.path.exists(metadata):
        return None if os.path.isdir(os.path.join(path, "variables")) else "it holds no variables"
    found = json_files.read(metadata)
    custom = found.get("custom_metadata") if isinstance(found, dict) else None
    return f"{NAME} is missing" if custom and "checksums" in custom else None


def _listed(place: str) -> dict[str, Any]:
    """A list of checksums; a `JsonError` says what is wrong with it."""
    found = json_files.read(place)
    if not isinstance(found, dict) or set(found) != {"step", "files", "checksum"}:
        raise JsonError("is no list of checksums")
    checksum, files = found.pop("checksum"), found["files"]
    known = type(found["step"]) is int and isinstance(files, dict) and all(map(_is_entry, files.items()))
    if not known or checksum != json_files.digest(found):
        raise JsonError("has other bytes than were written")
    return found


def _is_entry(entry: tuple[str, Any]) -> bool:
    """Whether a list has an entry as `write` makes them: of a file in the step's folder."""
    name, said = entry
    inside = not os.path.isabs(name) and ".." not in name.split("/") and "\0" not in name
    return inside and isinstance(said, list) and [type(one) for one in said] == [int, str]


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def small_files(workdir: str) -> dict[str, bytes]:
    """The run's small files as they are now.

    Args:
      workdir: directory of the run.

    Returns:
      Their bytes by name; without those that are missing, or larger than `LARGEST_COPY`.
    """
    found = {}
    for name in KEPT:
        path = os.path.join(workdir, name)
        if os.path.isfile(path) and os.path.getsize(path) <= LARGEST_COPY:
            with open(path, "rb") as file:
                found[name] = file.read()
    return found


def keep_copies(path: str, contents: Mapping[str, bytes]) -> None:
    """Writes copies of the run's small files into the folder of a step that is being written.

    Args:
      path: the folder of the step.
      contents: what `small_files` gave when the step was taken.
    """
    for name, content in contents.items():
        os.makedirs(os.path.join(path, COPIES), exist_ok=True)
        with open(os.path.join(path, COPIES, name), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def copy_of(workdir: str, name: str) -> tuple[int, bytes] | None:
    """What one of the run's small files was when its latest checkpoint was written.

    Args:
      workdir: directory of the run.
      name: one of `KEPT`.

    Returns:
      (step of the checkpoint, the file's bytes), of the latest step whose copy is right; None if there is none.
    """
    folder = os.path.join(workdir, LATEST)
    for step in steps(folder):
        path = os.path.join(folder, str(step))
        try:
            listed = _listed(os.path.join(path, NAME))
            size, checksum = listed["files"][f"{COPIES}/{name}"]
            with open(os.path.join(path, COPIES, name), "rb") as file:
                content = file.read()
        except (OSError, JsonError, KeyError):
            continue
        if listed["step"] == step and len(content) == size and hashlib.sha256(content).hexdigest() == checksum:
            return step, content
    return None


def remove(folder: str, step: int) -> None:
    """Removes a step; a link is removed, and not what it leads to.

    Args:
      folder: folder of the checkpoints.
      step: number of the step.
    """
    path = os.path.join(folder, str(step))
    if os.path.islink(path):
        os.remove(path)
        return
    # Renamed first: a process that is killed meanwhile leaves no half of a step under the step's name.
    away = f"{path}{REMOVED}"
    shutil.rmtree(away, ignore_errors=True)
    os.rename(path, away)
    shutil.rmtree(away, ignore_errors=True)


def unfinished(folder: str) -> list[str]:
    """Names of what is left of steps that are being written, or were when their process was killed.

    Args:
      folder: folder of the checkpoints, which may be missing.

    Returns:
      The names.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [name for name in names if _UNFINISHED.fullmatch(name) and not name.isdecimal()]


def remove_unfinished(folder: str) -> None:
    """Removes what was left of steps that were being written when their process was killed.

    Args:
      folder: folder of the checkpoints, which may be missing.
    """
    for name in unfinished(folder):
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def sync(folder: str) -> None:
    """Brings the names in a folder to the disk, where the system can do that.

    Args:
      folder: the folder.
    """
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError:  # of file systems that know no such thing for folders
            pass
        finally:
            os.close(opened)
