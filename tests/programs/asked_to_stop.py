"""A command that does one kind of work until it is asked to stop, and says "ready" when it has begun: KIND [FILE]."""

import contextlib
import gc
import hashlib
import sys
import threading
import time

from absl import flags

from cnn.commands import program
from cnn.runs import stopping
from cnn.runtime import locks, signals

flags.DEFINE_string("kind", "", "")
flags.DEFINE_string("lock", "", "")
signals.GRACE_SECONDS = 0.5


def ready():
    print("ready", flush=True)


def python():
    ready()
    while True:
        time.sleep(0.01)


def compiler():
    """Outside of Python for minutes, as in a compiler."""
    ready()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


def steps(begun=True):
    """A loop that looks for the signal itself, with a step of half a second outside of Python."""
    with stopping.requests() as asked:
        if begun:
            asked.after_step()
        ready()
        while not asked.signal:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2 * 10**5)
        print("saved", flush=True)
        raise stopping.Stopped(asked.signal)


def first_step():
    steps(begun=False)


def kept():
    with stopping.kept():
        ready()
        time.sleep(0.7)
        print("written", flush=True)
    time.sleep(60)


def swallowed():
    """Python calls this where it asks nobody about errors, and libraries may drop what they do not know."""

    def callback(phase, info):
        time.sleep(0.05)

    gc.callbacks.append(callback)
    ready()
    while True:
        gc.collect()


def fails():
    """A library makes an error of its own of the stop; threads fail because the main one leaves."""

    def beside():
        with contextlib.suppress(AttributeError):
            while not signals.watch.__globals__["_WATCHES"][0].first:
                time.sleep(0.01)
        raise RuntimeError("cannot schedule new futures after shutdown")

    threading.Thread(target=beside).start()
    ready()
    try:
        while True:
            time.sleep(0.01)
    except BaseException as error:
        time.sleep(0.1)
        raise RuntimeError("INTERNAL: callback failed") from error


def cannot_save():
    """The step cannot be saved."""
    with stopping.requests() as asked:
        asked.after_step()
        ready()
        while not asked.signal:
            time.sleep(0.01)
        raise OSError("the disk is full; make room")


def talks():
    for i in range(10**9):
        print(f"line {i}")


def main():
    with contextlib.ExitStack() as stack:
        if flags.FLAGS.lock:
            stack.enter_context(locks.alone(flags.FLAGS.lock, "x"))
        globals()[flags.FLAGS.kind]()


if __name__ == "__main__":
    program.start(main, "--kind=python", lambda: "how to go on")
    sys.exit("not reached")
