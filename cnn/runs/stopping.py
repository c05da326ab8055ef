"""Ctrl-C and SIGTERM: a run stops between two steps and is saved; what is being written is written whole.

In a command the signals are those of the program (`cnn.runtime.signals`). In a program of the user's own, Python's
handlers are replaced within these blocks alone.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cnn.runtime import signals
from cnn.runtime.signals import Request, Stopped

__all__ = ["Request", "Stopped", "kept", "requests"]


@contextlib.contextmanager
def requests() -> Iterator[Request]:
    """Notes the first signal within a block, which looks for it; a second one acts as ever.

    Before the block has begun (`Request.begun`), nothing is to be saved, and the first signal ends it at once.

    Yields:
      The `Request`. In a thread beside the main one no signal arrives, and it stays as it is.

    Raises:
      Stopped: where a signal comes before the block has begun; and at its end, if it went on to its end all the same.
    """
    asked, watch = Request(), signals.watch()
    if watch is not None:
        with watch.looking(asked):
            yield asked
    else:

        def note(number: int, _: Any) -> None:
            restore()
            if not asked.begun:
                raise Stopped(number)
            asked.signal = number
            print(signals.SAVING, file=sys.stderr, flush=True)

        restore = _handle(note)
        try:
            yield asked
        finally:
            restore()
    if asked.signal is not None:
        raise Stopped(asked.signal)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps signals until the end of a block; within it, they would leave threads that write a file to nobody."""
    watch = signals.watch()
    if watch is not None:
        with watch.kept():
            yield
        return
    pressed: list[int] = []
    restore = _handle(lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        restore()
    for number in dict.fromkeys(pressed):
        signal.raise_signal(number)


def _handle(handler: Callable[[int, Any], None]) -> Callable[[], None]:
    """Handles the signals, where they are not ignored; gives a function that restores what there was."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # signals reach the main thread alone, and only there can they be handled
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    before = {number: there for number, there in before.items() if there not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)

    def restore() -> None:
        for number, there in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, there)

    return restore
