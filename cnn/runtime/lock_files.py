"""The file of a lock: made at once and whole, read, and aged by the clock of its file system."""

import contextlib
import errno
import os
import re
import secrets
from typing import NamedTuple

from cnn.runtime.holders import Holder, alive, me, parse

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EACCES}

_LEFT_SECONDS = 3600  # after which a file that is there for a moment only was left by a process on another machine


class Found(NamedTuple):
    """What a lock's file holds: its holder, None where it cannot be read; and when it was renewed, nanoseconds."""

    holder: Holder | None
    content: bytes
    renewed: int


def part_of(path: str) -> str:
    """The name of a new file beside a lock, which is there for a moment only."""
    return f"{path}.{secrets.token_hex(4)}.part"


def create(path: str, mine: Holder) -> bool:
    """Makes a lock's file where there is none.

    Args:
      path: the file.
      mine: its holder.

    Returns:
      Whether it was made; False: there is one.

    Raises:
      OSError: if it cannot be written.
    """
    part = part_of(path)
    try:
        write(part, mine.content())
        try:
            os.link(part, path)
            return True
        except FileExistsError:
            return os.stat(part).st_nlink == 2  # made, and its answer lost in the network
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
    finally:
        with contextlib.suppress(OSError):
            os.remove(part)
    try:
        write(path, mine.content())
        return True
    except FileExistsError:
        return False


def write(path: str, content: bytes) -> None:
    """Writes a file that must not be there, whole or not at all.

    Args:
      path: the file.
      content: a few bytes.

    Raises:
      FileExistsError: if it is there.
      OSError: if it cannot be written.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            written = os.write(file, content)
        finally:
            os.close(file)
        if written < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(path)
        raise


def read(path: str) -> Found | None:
    """Reads a lock's file, which is opened each time, so that no network's cache answers.

    Args:
      path: the file.

    Returns:
      What it holds; None if there is none.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(4096)
            return Found(parse(content), content, os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None


def now_by(path: str) -> int:
    """The time by the clock of the file system that a lock lies on.

    Args:
      path: the lock's file.

    Returns:
      Nanoseconds, as `Found.renewed`.
    """
    part = part_of(path)
    try:
        write(part, me().content())
        return os.stat(part).st_mtime_ns
    finally:
        with contextlib.suppress(OSError):
            os.remove(part)


def sweep(path: str, mine: Holder) -> None:
    """Removes what processes that were killed while they took a lock have left beside it.

    That is parts of files, and claims on a lock that is not there any more, by which nobody can take anything.

    Args:
      path: the lock's file, which this process holds.
      mine: its holder; claims on this lock are left to those who made them.
    """
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.([0-9a-f]{8})(\.[0-9a-f]{8})*(\.part)?")
    with contextlib.suppress(OSError):
        for one in os.listdir(folder):
            beside = pattern.fullmatch(one)
            if beside and beside[1] != mine.token[:8]:
                with contextlib.suppress(OSError):
                    _remove_if_left(os.path.join(folder, one), mine)


def _remove_if_left(path: str, mine: Holder) -> None:
    found = read(path)
    if found is None:
        return
    if found.holder and found.holder.place == mine.place:
        left = alive(found.holder.pid, found.holder.started) is False
    else:
        left = now_by(path) - found.renewed > _LEFT_SECONDS * 1e9
    if left:
        os.remove(path)
