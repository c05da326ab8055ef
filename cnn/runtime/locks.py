"""One process at a time writes a folder or a file: a lock is a small file that names its holder.

A lock comes into being at once and whole, by a hard link, or by exclusive creation where a file system has no links:
both hold on network file systems. A holder renews its lock every few seconds. The lock of a process that has ended is
taken over: on this machine that is known from the process itself, of another machine from the lock, if it is not
renewed any more. What is compared is the file system's own clock and whether the lock changes, never the clocks of two
machines. A holder that was suspended until its lock was taken over finds out with `Held.check`.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from cnn.runtime import lock_files, signals
from cnn.runtime.holders import Holder, alive, me

NAME = "lock"  # of the lock of a folder, within it
HEARTBEAT_SECONDS = 10.0  # between two renewals of a lock
STALE_SECONDS = 60.0  # without a renewal, after which the lock of a process on another machine is looked at closer
_WATCHED = 2.5  # heartbeats for which such a lock must stay as it is before it is taken over
_EMPTY_SECONDS = 5.0  # after which a file without content is no lock that is just being made
_TRIES = 200  # times that a lock is looked for again, while other processes release or take over theirs
_PAUSE_SECONDS = 0.02


class Taken(OSError):
    """Another process holds the lock; the message names it and the way out."""


class Lost(OSError):
    """The lock was taken over while this process was suspended, or removed by hand; the message says by whom."""


class Held:
    """A lock that this process holds.

    Attributes:
      path: its file.
      what: what it is for, in messages.
    """

    def __init__(self, path: str, what: str, holder: Holder) -> None:
        """Notes a lock that was just made; `alone` makes them.

        Args:
          path: its file.
          what: what it is for.
          holder: this process.
        """
        self.path, self.what, self._holder = path, what, holder
        self._seen, self._lost = _clock(), ""

    def check(self) -> None:
        """Makes sure that the lock is still held; costs nothing as long as it was renewed in time.

        Raises:
          Lost: if another process took it over.
        """
        if not self._lost and _clock() - self._seen > 2 * HEARTBEAT_SECONDS:  # suspended, or hindered for as long
            self.renew()
        if self._lost:
            raise Lost(self._lost)

    def renew(self) -> None:
        """Gives a sign of life, if the lock is still this process's."""
        try:
            found = lock_files.read(self.path)
            now = found.holder if found else None
            if now is not None and now.token == self._holder.token:
                os.utime(self.path)
                self._seen = _clock()
                return
        except OSError:  # of a network that is away for a while
            return
        by = f"was taken over by {now}" if now else "was removed"
        self._lost = (
            f"{self.what}: its lock {self.path} {by} while this process stood still; it writes nothing more here, so "
            "that the other one can go on"
        )

    def release(self) -> None:
        """Removes the lock's file, unless another process took it over."""
        if _clock() - self._seen < STALE_SECONDS / 2:  # nobody takes it over so soon
            self.drop()
            return
        with contextlib.suppress(OSError), _claimed(self.path, self._holder.token, self.what) as found:
            if found:
                os.remove(self.path)

    def drop(self) -> None:
        """Removes the lock's file at once, for a process that ends this very moment."""
        with contextlib.suppress(OSError):
            found = lock_files.read(self.path)
            if found and found.holder and found.holder.token == self._holder.token:
                os.remove(self.path)


@contextlib.contextmanager
def alone(path: str, what: str) -> Iterator[Held]:
    """Holds a lock for a block.

    Args:
      path: the lock's file; its folder is made if missing, and taken away at the end where it is empty then.
      what: what is locked, at the beginning of messages: "--workdir=runs/mnist".

    Yields:
      The lock.

    Raises:
      Taken: if another process holds it; names host, process, since when, and the way out.
      OSError: if the lock's file cannot be written; names it.
    """
    path = os.path.abspath(path)
    new = _missing(os.path.dirname(path))
    held, owner = None, os.getpid()
    try:
        held = _acquire(path, what)
        yield held
    finally:
        if os.getpid() == owner:  # a process that was forked within the block holds nothing
            if held is not None:
                _Heartbeat.forget(held)
                held.release()
            for made in new:  # of a call that was refused, nothing is left
                with contextlib.suppress(OSError):
                    os.rmdir(made)


def check() -> None:
    """Makes sure that this process still holds all locks that it took; call it before something is written.

    Raises:
      Lost: if another process took one over.
    """
    for held in _Heartbeat.held():
        held.check()


def _acquire(path: str, what: str) -> Held:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        mine = _make(path, what)
        held = Held(path, what, mine)
        lock_files.sweep(path, mine)
    except (Taken, Lost):
        raise
    except OSError as error:
        raise type(error)(
            f"{what}: its lock {path} cannot be written: {error.strerror or error}; make room or name another place"
        ) from error
    _Heartbeat.add(held)
    return held


def _make(path: str, what: str) -> Holder:
    """Makes a lock's file, in place of a stale one if need be; gives its new holder."""
    for _ in range(_TRIES):
        mine = me()
        if lock_files.create(path, mine):
            return mine
        found = lock_files.read(path)
        if found is None:  # released in between
            continue
        if found.holder is None and not found.content:
            if (
                lock_files.now_by(path) - found.renewed < _EMPTY_SECONDS * 1e9
            ):  # being made where there are no hard links
                time.sleep(_PAUSE_SECONDS)
                continue
        elif found.holder is None:
            raise Taken(
                f"{what}: its lock {path} is damaged, or no lock of this program; remove it if no other process is "
                "writing there"
            )
        reason = _reason_to_take_over(path, what, found)
        if _replace(path, what, found, mine):
            if found.holder:
                print(f"{path}: the lock of {found.holder} is taken over, {reason}", file=sys.stderr, flush=True)
            return mine
        time.sleep(_PAUSE_SECONDS)
    raise Taken(f"{what}: other processes are taking its lock {path}; try again, or name another place")


def _reason_to_take_over(path: str, what: str, found: lock_files.Found) -> str:
    """Why a lock is stale; raises `Taken` if it is not."""
    holder = found.holder
    if holder is None:
        return "it was never finished"
    if holder.place == me().place:
        known = alive(holder.pid, holder.started)
        age = (lock_files.now_by(path) - found.renewed) / 1e9
        # Where the system does not say when a process began, another one may have its number by now.
        if known is False or (known is None and age > STALE_SECONDS):
            return "that process has ended"
        raise Taken(f"{what}: {holder} is writing here and holds {path}; wait until it ends, or name another place")
    age = (lock_files.now_by(path) - found.renewed) / 1e9
    if -HEARTBEAT_SECONDS <= age < STALE_SECONDS:
        raise Taken(
            f"{what}: {holder} is writing here and holds {path}, its last sign of life is {max(age, 0):.0f} s old; "
            f"wait until it ends, or name another place; if it has crashed, try again in {STALE_SECONDS:.0f} s"
        )
    # Perhaps it is only a clock that is wrong: the lock of a process that lives changes.
    seconds = _WATCHED * HEARTBEAT_SECONDS
    print(f"{path}: waiting {seconds:.0f} s to see whether {holder} still lives", file=sys.stderr, flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(1.0, HEARTBEAT_SECONDS / 4))
        now = lock_files.read(path)
        if now is None or (now.content, now.renewed) != (found.content, found.renewed):
            raise Taken(
                f"{what}: {now.holder if now else holder} is writing here and holds {path}; wait until it ends, or "
                "name another place"
            )
    return f"it gave no sign of life for {seconds:.0f} s"


def _replace(path: str, what: str, stale: lock_files.Found, mine: Holder) -> bool:
    """Puts a lock in the place of a stale one, unless another process does so first; whether it did."""
    part = lock_files.part_of(path)
    with _claimed(path, stale.holder.token if stale.holder else "empty", what) as found:
        if not found or found.content != stale.content:
            return False
        try:
            lock_files.write(part, mine.content())
            os.replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                os.remove(part)
        return True


@contextlib.contextmanager
def _claimed(path: str, token: str, what: str) -> Iterator[lock_files.Found | None]:
    """The right to remove or replace one lock, which one process at a time has: a lock of that lock.

    Yields:
      What the lock's file holds, if it is still the lock with this token; None otherwise, and where another has the
      right.
    """
    claim = f"{path}.{token[:8]}"
    try:
        mine = _make(claim, what)
    except Taken:
        yield None
        return
    began = _clock()
    try:
        found = lock_files.read(path)
        there = found.holder.token if found and found.holder else "empty"
        # Whoever was suspended in here for longer may have lost the right, too.
        yield found if there == token and _clock() - began < STALE_SECONDS / 2 else None
    finally:
        found = lock_files.read(claim)
        if found and found.holder and found.holder.token == mine.token:
            os.remove(claim)


def _missing(folder: str) -> list[str]:
    """The folders that are to be made for one, the innermost first."""
    found = []
    while not os.path.lexists(folder):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def _clock() -> float:
    """Seconds since some moment, those that the machine slept included where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class _Heartbeat:
    """The thread that renews all locks of this process."""

    _held: list[Held] = []
    _lock = threading.Lock()
    _thread: threading.Thread | None = None

    @classmethod
    def held(cls) -> list[Held]:
        with cls._lock:
            return list(cls._held)

    @classmethod
    def add(cls, held: Held) -> None:
        with cls._lock:
            cls._held.append(held)
            if cls._thread is None or not cls._thread.is_alive():  # a process that was forked has no thread
                cls._thread = threading.Thread(target=cls._run, name="locks", daemon=True)
                cls._thread.start()
                signals.at_sudden_end(cls._drop)

    @classmethod
    def forget(cls, held: Held) -> None:
        with cls._lock:
            cls._held.remove(held)

    @classmethod
    def _run(cls) -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            for held in cls.held():
                held.renew()

    @classmethod
    def _drop(cls) -> None:
        """At a sudden end; takes no lock of threads, which may be held by one that will never go on."""
        for held in list(cls._held):
            held.drop()
