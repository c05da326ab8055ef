"""What a program prints never ends it in a traceback: a reader has gone, a terminal is closed, a disk is full."""

import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from cnn.runtime import signals

_GONE = (errno.EPIPE, errno.ESHUTDOWN)
_CLOSED = (errno.EIO, errno.ENXIO, errno.EBADF)  # a terminal that is closed


def guard(gone: Callable[[], None]) -> None:
    """Guards standard output and standard error from here on, where they are Python's own.

    What cannot be written is dropped: on a full disk with a line on the other stream.

    Args:
      gone: called once where the reader of a pipe has ended; may raise.
    """
    signals.never_within(_Raw.write)  # what was written would stand in the buffer still
    logging.raiseExceptions = False  # of the handlers that hold the streams of before
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if isinstance(stream, io.TextIOWrapper) and stream.fileno() in (1, 2):
                setattr(sys, name, _guarded(stream, gone))


def _guarded(stream: io.TextIOWrapper, gone: Callable[[], None]) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Raw(stream.fileno(), gone)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Raw(io.FileIO):
    """A descriptor whose errors are answered here."""

    def __init__(self, number: int, gone: Callable[[], None]) -> None:
        super().__init__(number, "wb", closefd=False)
        self._other, self._gone, self._warned = 3 - number, gone, False

    def write(self, data: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  a buffer of any kind
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
            return size if written is None else written
        except OSError as error:
            if error.errno in _GONE or error.errno in _CLOSED:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.fileno())
                os.close(nowhere)
                if error.errno in _GONE:
                    self._gone()
            elif not self._warned:
                self._warned = True
                text = (
                    f"warning: what is printed cannot be written ({error.strerror}) and is dropped; the work goes on\n"
                )
                with contextlib.suppress(OSError):
                    os.write(self._other, text.encode())
        return size
