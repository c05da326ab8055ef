"""What commands share, flags and help and one line for a mistake (`flags`, `program`), and the command `run`.

Importing this package is the first thing that a command does: from here on SIGTERM and Ctrl-C end it with their status
and without a traceback, also while modules are imported; `program.start` then handles them in earnest.
"""

import contextlib
import os
import signal
import sys
import threading
from types import TracebackType
from typing import Any


def _end(number: int, _: Any = None) -> None:
    """Nothing was done yet, and nothing has to be saved."""
    with contextlib.suppress(OSError):
        os.write(2, b"stopped\n")
    os._exit(128 + number)


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _end(signal.SIGINT)
    _uncaught(kind, error, trace)


_uncaught = sys.excepthook
sys.excepthook = _hook
if threading.current_thread() is threading.main_thread():
    for _number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if _number is not None and signal.getsignal(_number) is signal.SIG_DFL:
            signal.signal(_number, _end)
