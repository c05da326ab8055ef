"""What a process does in the moment in which another one is lost."""

import signal
import subprocess
import sys

import pytest

from cnn.runtime import presence
from tests.helpers import ROOT

# A library aborts in a thread of its own; the verdict on who was lost comes after a fifth of a second, or not at all.
ABORTS = """
import ctypes, os, sys, threading, time
from cnn.runtime import presence

presence.wait_for_verdict = lambda: time.sleep(float(sys.argv[1]))
presence.hold_aborts()
if sys.argv[2] == "lost":
    threading.Timer(0.2, lambda: os._exit(presence.LOST)).start()
threading.Thread(target=ctypes.CDLL(None).abort).start()
time.sleep(30)
"""


@pytest.mark.parametrize("wait, what, status", [("20", "lost", presence.LOST), ("0.1", "other", -signal.SIGABRT)])
def test_an_abort_waits_until_it_is_known_who_was_lost(wait, what, status):
    command = [sys.executable, "-c", ABORTS, wait, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == status, done.stderr
    assert ("Thread" in done.stderr) == (what == "other")
