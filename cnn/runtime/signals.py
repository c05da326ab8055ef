"""Signals that ask a program to end: the first is answered in order, a second one ends it at once.

SIGINT (Ctrl-C), SIGTERM and SIGHUP (a terminal that is closed) mean the same; what is ignored when the program starts,
as SIGHUP under nohup, stays ignored. Python runs handlers of signals between two instructions of the main thread alone,
and a compiler may keep that thread for minutes. So a second thread learns of each signal from the system itself
(`signal.set_wakeup_fd`), and ends the program after a second one, and where the main thread does not answer in time.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PIPE = int(getattr(signal, "SIGPIPE", 13))  # what reads the program's output has ended
GRACE_SECONDS = 5.0  # for the main thread to leave where nothing has to be saved first
LEAVING_SECONDS = 20.0  # for threads to end after an error
_AFTER_A_FAILED_WRITE = "Event loop is closed"  # TensorStore reports to a loop that Orbax has closed by then
_SAME_SECONDS = 0.1  # within which the same signal to a process and to its group counts once
SAVING = "stopping: the step is saved first; once more stops at once"

_WHOLE: set[Any] = set()  # code of functions that are left between two calls alone
_AT_SUDDEN_END: list[Callable[[], None]] = []


class Stopped(KeyboardInterrupt):
    """A program was asked to stop; a training run has saved where it stands.

    Attributes:
      signal: number of the signal that asked.
      together: whether all processes of the run stop at this step.
    """

    def __init__(self, number: int, *, together: bool = False) -> None:
        super().__init__()
        self.signal, self.together = int(number), together


class Request:
    """Whether a loop was asked to stop.

    Attributes:
      signal: number of the signal that asked; None: it was not asked.
      begun: whether the loop has done something that has to be saved; before, a signal ends it at once.
    """

    signal: int | None = None
    begun: bool = False

    def after_step(self) -> bool:
        """Notes that there is something to save from now on; whether to take no further step."""
        self.begun = True
        return self.signal is not None


class Watch:
    """The signals of a program, from `begin` to its end.

    Attributes:
      first: number of the first signal; None: there was none.
      request: the loop that looks for the first signal itself; None: it interrupts whatever runs.
      noted: whether a loop was asked.
    """

    def __init__(self, line: Callable[[], str]) -> None:
        """See `begin`."""
        self.first: int | None = None
        self.request: Request | None = None
        self.noted = False
        self._line, self._kept, self._waiting, self._ending, self._answered = line, 0, False, False, False
        self._at = self._since = 0.0
        self._expected = self._counted = 0
        self._main = threading.main_thread().ident
        self._said = threading.Lock()
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)

    def start(self) -> None:
        """Handles the signals that are not ignored."""
        self.install()
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked)
        unraisable, thread = sys.unraisablehook, threading.excepthook

        def swallowed(info: Any) -> None:
            if isinstance(info.exc_value, Stopped):  # raised where Python asks nobody, as when memory is collected
                self._answered = False
                threading.Timer(0.05, self._again).start()
            elif self.first is None and str(info.exc_value) != _AFTER_A_FAILED_WRITE:
                unraisable(info)

        def in_thread(info: Any) -> None:
            if self.first is None:  # what fails in other threads because the main one leaves is no news
                thread(info)

        sys.unraisablehook, threading.excepthook = swallowed, in_thread

    def install(self) -> None:
        """Handles the signals that are not ignored; to be repeated after a library set handlers of its own."""
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                signal.signal(number, self._handle)

    def ask(self, number: int) -> None:
        """Asks the program to stop as a signal would.

        Args:
          number: what the exit status says.
        """
        if self.first is not None or self._ending:
            return
        self._note(number)
        self._counted, self._at = 1, time.monotonic()
        if threading.get_ident() == self._main:
            self._act()
        else:
            self._again()

    @contextlib.contextmanager
    def looking(self, request: Request) -> Iterator[None]:
        """Within the block a loop looks for the first signal itself, once it has begun."""
        before, self.request = self.request, request
        try:
            yield
        finally:
            self.request, self._since = before, time.monotonic()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Within the block no signal interrupts; a second one ends the program all the same."""
        self._kept += 1
        try:
            yield
        finally:
            self._kept, self._since = self._kept - 1, time.monotonic()
        if self._waiting and not self._kept:
            self._act()

    def end(self, status: int = 0) -> None:
        """The program's work is done, or given up: from here on only a second signal counts.

        Args:
          status: the exit status, with which threads of libraries that do not end are left; 0: they are waited for.
        """
        self._ending, self._since = True, time.monotonic()
        if status:
            last = threading.Timer(LEAVING_SECONDS, sudden_end, [status])
            last.daemon = True
            last.start()

    def say(self) -> None:
        """Says once that the step is saved first."""
        if self._said.acquire(blocking=False):
            self.noted = True
            _print(SAVING)

    def _note(self, number: int) -> None:
        self.first, self._since = number, time.monotonic()

    def _handle(self, number: int, frame: Any) -> None:
        """In the main thread, between two instructions of Python."""
        if self.first is None:
            self._note(number)
        if frame is not None and frame.f_code in _WHOLE:
            threading.Timer(0.05, self._again).start()
        else:
            self._act()

    def _act(self) -> None:
        """Answers the first signal, once."""
        if self._answered or self._ending or self.first is None:
            return
        if self.request is not None and self.request.begun:
            self._answered, self.request.signal = True, self.first
            self.say()
        elif self._kept:
            self._waiting = True
        else:
            self._answered, self._waiting = True, False
            raise Stopped(self.first)

    def _again(self) -> None:
        """Calls the handler in the main thread."""
        self._expected += 1
        if hasattr(signal, "pthread_kill") and self._main is not None:
            signal.pthread_kill(self._main, signal.SIGTERM)
        else:
            signal.raise_signal(signal.SIGTERM)

    def _watch(self) -> None:
        """The second thread: learns of each signal at once, whatever the main thread does."""
        while True:
            waits = None if self.first is None else 0.2
            ready = select.select([self._reader], [], [], waits)[0]
            for number in self._reader.recv(64) if ready else b"":
                if number in SIGNALS:
                    self._count(number)
            request = self.request
            if self.first is None:
                continue
            if request is not None and request.begun:
                request.signal, self._answered = self.first, True
                self.say()
            elif not self._kept and time.monotonic() - self._since > GRACE_SECONDS:
                sudden_end(128 + self.first, "" if self._ending else self._text())

    def _count(self, number: int) -> None:
        """Ends the program at the second signal."""
        if self._expected:
            self._expected -= 1
            return
        now = time.monotonic()
        if self._counted and not (number == self.first and now - self._at < _SAME_SECONDS):
            sudden_end(128 + int(self.first or number), "stopped at once; what was saved before is kept")
        if self.first is None and not self._ending:
            self._note(number)
        if self.first is not None and not self._counted:
            self._counted, self._at = 1, now

    def _text(self) -> str:
        try:
            return self._line()
        except Exception:  # of a program that was interrupted anywhere
            return "stopped"


_WATCHES: list[Watch] = []


def begin(line: Callable[[], str] = lambda: "stopped") -> Watch:
    """Handles the signals of this process until its end; for commands, not for libraries.

    Args:
      line: gives the line that says how to go on, where the main thread cannot; must not import what is slow.

    Returns:
      The `Watch`.
    """
    watch = Watch(line)
    watch.start()
    _WATCHES[:] = [watch]
    return watch


def watch() -> Watch | None:
    """The program's `Watch`, for the main thread; None in other threads, and where no command has begun one."""
    return _WATCHES[0] if _WATCHES and threading.current_thread() is threading.main_thread() else None


def at_sudden_end(call: Callable[[], None]) -> None:
    """Registers what is done, quickly, where the program ends from within `sudden_end`.

    Args:
      call: the function; called in any thread, whatever the others do.
    """
    if call not in _AT_SUDDEN_END:
        _AT_SUDDEN_END.append(call)


def never_within(function: Any) -> None:
    """Registers a function of a few instructions that no signal interrupts: what it has done would be done again.

    Args:
      function: a function of Python.
    """
    _WHOLE.add(function.__code__)


def sudden_end(status: int, line: str = "") -> NoReturn:
    """Ends the process without returning to what it does.

    Args:
      status: its exit status.
      line: what is said on standard error.
    """
    if line:
        _print(line)
    for call in _AT_SUDDEN_END:
        with contextlib.suppress(Exception):
            call()
    os._exit(status)


def _print(line: str) -> None:
    """Writes a line to standard error by the system alone: a lock of Python's may be held for ever."""
    with contextlib.suppress(OSError):
        os.write(2, f"{chr(10) if os.isatty(2) else ''}{line}\n".encode(errors="replace"))


def _forked() -> None:
    """In a process that was forked: signals mean what they meant to Python, and wake nobody in the other one."""
    _WATCHES.clear()
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
