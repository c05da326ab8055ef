"""Ctrl-C and SIGTERM: a run stops between two steps and is saved; what is being written is written whole."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run was asked to stop, and has saved where it stands.

    Attributes:
      signal: number of the signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Request:
    """Whether the process was asked to stop.

    Attributes:
      signal: number of the signal that asked; None: it was not asked.
    """

    signal: int | None = None


@contextlib.contextmanager
def requests() -> Iterator[Request]:
    """Notes the first Ctrl-C or SIGTERM within a block, which looks for it; a second one acts as ever.

    Yields:
      The `Request`. In a thread beside the main one no signal arrives, and it stays as it is.
    """
    asked = Request()

    def note(number: int, _: Any) -> None:
        asked.signal = number
        restore()
        print("stopping: the step is saved first; once more stops at once", file=sys.stderr, flush=True)

    restore = _handle(note)
    try:
        yield asked
    finally:
        restore()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps signals until the end of a block; within it, they would leave threads that write a file to nobody."""
    pressed: list[int] = []
    restore = _handle(lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        restore()
    for number in dict.fromkeys(pressed):
        signal.raise_signal(number)


def _handle(handler: Callable[[int, Any], None]) -> Callable[[], None]:
    """Handles both signals, where they are not ignored; gives a function that restores what there was."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # signals reach the main thread alone, and only there can they be handled
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: there for number, there in before.items() if there not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)

    def restore() -> None:
        for number, there in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, there)

    return restore
