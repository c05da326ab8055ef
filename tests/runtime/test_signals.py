"""Signals to a command: the first in order, the second at once, each with its status and one line."""

import contextlib
import os
import signal
import subprocess
import threading

import pytest

from cnn.runs import stopping
from cnn.runtime import signals
from tests.helpers import PROGRAMS, start_python

SAVING = signals.SAVING
AT_ONCE = "stopped at once; what was saved before is kept"
# Kind of work, signals that are sent, status, what is said on standard error and on standard output.
CASES = {
    "python": ([signal.SIGINT], 130, ["how to go on"], []),
    "compiler": ([signal.SIGTERM], 143, ["how to go on"], []),
    "steps": ([signal.SIGTERM], 143, [SAVING, "how to go on"], ["saved"]),
    "first_step": ([signal.SIGHUP], 129, ["how to go on"], []),
    "kept": ([signal.SIGTERM], 143, ["how to go on"], ["written"]),
    "swallowed": ([signal.SIGTERM], 143, ["how to go on"], []),
    "fails": ([signal.SIGINT], 130, ["how to go on"], []),
    "cannot_save": ([signal.SIGTERM], 143, [SAVING, "error: the disk is full; make room", "how to go on"], []),
}

FAST = ("compiler", "steps")  # processes take half a second each


@contextlib.contextmanager
def command(*arguments, **options):
    """Starts the program in tests/programs, with Python's own handlers for the signals that tests may ignore."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    process = start_python(PROGRAMS / "asked_to_stop.py", *arguments, **pipes)
    for number, handler in before.items():
        signal.signal(number, handler)
    with process:
        try:
            yield process
        finally:
            process.kill()


def ends(process, numbers):
    """Status, lines of standard error and of standard output of a process that gets signals when it is ready."""
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    return process.returncode, errors.splitlines(), said.splitlines()


@pytest.mark.parametrize("kind", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in CASES])
def test_the_first_signal(kind, tmp_path):
    numbers, status, errors, said = CASES[kind]
    with command(f"--kind={kind}", f"--lock={tmp_path}/lock") as process:
        assert ends(process, numbers) == (status, errors, said)
    assert os.listdir(tmp_path) == []  # the lock is let go, whoever ends the process


@pytest.mark.parametrize("kind", ["compiler", pytest.param("steps", marks=pytest.mark.slow)])
def test_the_second_ends_at_once(kind, tmp_path):
    """Also while the main thread is where no Python runs; of another number, or later than one sent twice."""
    with command(f"--kind={kind}", f"--lock={tmp_path}/lock") as process:
        status, errors, _ = ends(process, [signal.SIGTERM, signal.SIGINT])
    assert status in (143, 130)  # of two that come together the system says which is the first
    assert errors[-1] == AT_ONCE and set(errors) <= {SAVING, AT_ONCE}
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_what_is_ignored_stays_ignored():
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = start_python(
        PROGRAMS / "asked_to_stop.py", "--kind=python", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    signal.signal(signal.SIGHUP, before)
    with process:
        assert ends(process, [signal.SIGHUP, signal.SIGTERM]) == (143, ["how to go on"], [])


def test_a_reader_that_has_gone_and_a_full_disk_behind_the_output(tmp_path):
    """`command | head -1` ends in silence; what does not fit on the disk is dropped."""
    with command("--kind=talks") as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(), errors) == (128 + signal.SIGPIPE, "")
    with open("/dev/full", "w") as full, command("--kind=steps", stdout=full) as process:
        assert process.stderr.readline().startswith("warning: what is printed cannot be written (No space")
        process.send_signal(signal.SIGTERM)
        assert process.communicate()[1].splitlines() == [SAVING, "how to go on"]
        assert process.returncode == 143


def test_without_a_command_handlers_are_replaced_within_the_block_alone():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with pytest.raises(stopping.Stopped) as early, stopping.requests():
        signal.raise_signal(signal.SIGTERM)  # nothing is to be saved yet
    assert early.value.signal == signal.SIGTERM
    with pytest.raises(stopping.Stopped), stopping.requests() as asked:
        asked.after_step()
        signal.raise_signal(signal.SIGTERM)
        assert asked.after_step()  # it goes on to its end all the same
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
    seen = []

    def beside():
        with stopping.requests() as asked, stopping.kept():
            seen.append(asked.signal)

    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert seen == [None]
