"""Who holds a lock: a process, known by its number and start, on a machine, known by its boot and namespace."""

import functools
import json
import os
import secrets
import socket
import time
from typing import NamedTuple


class Holder(NamedTuple):
    """A process that holds a lock.

    Attributes:
      host: name of its machine.
      place: what tells machine, boot and container from others, so that `pid` means a process there alone.
      pid: its number.
      started: when it began, by the system's own count; "" where the system does not say.
      since: when it took the lock, UTC.
      token: tells this lock from all others.
    """

    host: str
    place: str
    pid: int
    started: str
    since: str
    token: str

    def content(self) -> bytes:
        """What the lock's file holds."""
        return (json.dumps(self._asdict(), indent=2) + "\n").encode()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def me() -> Holder:
    """This process, as the holder of a new lock."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    pid = os.getpid()
    return Holder(socket.gethostname(), place(), pid, _started(pid)[1], since, secrets.token_hex(8))


def parse(content: bytes) -> Holder | None:
    """Reads what `Holder.content` wrote.

    Args:
      content: the bytes of a lock's file.

    Returns:
      The holder; None if they are no lock's.
    """
    try:
        found = json.loads(content)
        holder = Holder(**{name: kind(found[name]) for name, kind in Holder.__annotations__.items()})
    except (ValueError, TypeError, KeyError):
        return None
    return holder if holder.pid > 0 and len(holder.token) == 16 and holder.token.isalnum() else None


def place() -> str:
    """What tells this machine, its boot and this container from others: numbers of processes mean the same there."""
    return _place() or socket.gethostname()


def alive(pid: int, started: str) -> bool | None:
    """Whether a process of this place lives.

    Args:
      pid: its number.
      started: when it began, as its lock says.

    Returns:
      Whether it does; None if there is a process of that number and the system does not say when it began.
    """
    state, now = _started(pid)
    if not state:
        return False
    if state in ("Z", "X"):  # it has ended, and nobody has asked how
        return False
    return now == started if now and started else None


@functools.cache
def _place() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return ""


def _started(pid: int) -> tuple[str, str]:
    """State of a process and when it began; ("", "") if there is none, and ("?", "") where the system says no more."""
    if not _place():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "", ""
        except OSError:  # another user's
            pass
        return "?", ""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before it may hold anything
        return fields[0].decode(), fields[19].decode()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    except (OSError, IndexError):  # hidden from other users
        return "?", ""
