"""Whether the other processes of a run are still there: a thread that ends this one, with a line, if one is lost."""

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from cnn.runtime.coordinator import BEAT, SILENCE

LOST = 75  # exit status (EX_TEMPFAIL of sysexits.h): another process was lost; the same command goes on
GRACE = 5.0  # seconds that this process has to end by itself where another one ended by an error
_CONNECTION: list["_Connection"] = []
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_KEPT: list[Any] = []  # the handler of aborts: C has no count of references


def join(host: str, port: int, index: int, count: int) -> None:
    """Lets the others know that this process is there, and ends it when one of them is lost.

    Args:
      host, port: where `cnn.runtime.coordinator` counts the processes.
      index: number of this process.
      count: number of all.
    """
    try:
        connection = socket.create_connection((host, port), timeout=SILENCE)
    except OSError as error:
        print(
            f"warning: {host}:{port} cannot be reached ({error}): if another process is lost, this one ends without "
            "saying which",
            file=sys.stderr,
            flush=True,
        )
        return
    connection.settimeout(None)
    hold_aborts()
    _CONNECTION[:] = [_Connection(connection, index, count)]


class _Connection:
    """A connection to the coordinator, with a thread that listens and one that says that this process lives."""

    def __init__(self, connection: socket.socket, index: int, count: int) -> None:
        self.connection, self.index, self.count, self.ended = connection, index, count, False
        self.say({"hello": index})
        for work in (self._beat, self._listen):
            threading.Thread(target=work, daemon=True, name="presence").start()

    def say(self, line: dict[str, Any]) -> None:
        """Sends a line; where nobody listens any more, the other thread notices."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(line).encode() + b"\n")

    def _beat(self) -> None:
        while not self.ended:
            time.sleep(BEAT)
            self.say({"beat": 1})

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self.connection.makefile("rb") as lines:  # it may be reset
            for line in lines:
                if not self.ended:
                    self._take(json.loads(line))
        if not self.ended:  # the coordinator is gone, and with it the machine of the first process
            self._end("the machine of process 0, or the network to it, was lost")

    def _take(self, line: dict[str, Any]) -> None:
        if "silent" in line:
            self._end(
                f"process {self.index} of {self.count} was silent for {line['silent']:.0f} s (suspended, or its "
                "network failed), and counts as lost"
            )
        elif "lost" in line:
            self._end(f"process {line['lost']} of {self.count} was lost (killed, or its machine or network failed)")
        else:
            time.sleep(GRACE)
            self._end(f"process {line['process']} of {self.count} ended: {line['left']}")

    def _end(self, what: str) -> None:
        if self.ended:
            return
        text = (
            f"error: {what}; process {self.index} stops, too. Start all again, in any number: the same command goes on "
            "from what is saved"
        )
        # A bar of progress may stand on the terminal's last line.
        os.write(2, f"{os.linesep * os.isatty(2)}{text}\n".encode())
        os._exit(LOST)


def hold_aborts() -> None:
    """Has an abort wait until it is known which process was lost, which ends this one with a line.

    Gloo, JAX's transport between CPUs, aborts from a thread of its own where a message breaks off: a moment before the
    others are told that its sender was killed, or a moment after. An abort that has another reason shows where it was.
    """
    handler = _HANDLER(_hold)
    _KEPT[:] = [handler]
    library = ctypes.CDLL(None)
    library.signal.argtypes, library.signal.restype = [ctypes.c_int, _HANDLER], ctypes.c_void_p
    library.signal(signal.SIGABRT, handler)  # Python's own handlers run too late, when the process is gone


def _hold(number: int) -> None:
    wait_for_verdict()
    faulthandler.dump_traceback()


def wait_for_verdict() -> None:
    """Waits until it is known which process was lost, which ends this one; returns if none was."""
    time.sleep(SILENCE + BEAT)


def leave(text: str) -> None:
    """Tells the others that this process ends by an error.

    Args:
      text: the error, in a line.
    """
    for one in _CONNECTION:
        one.ended = True
        one.say({"left": text})


def end() -> None:
    """Tells the coordinator that this process ends, as all others do."""
    for one in _CONNECTION:
        one.ended = True
        one.say({"end": 1})
