"""Several processes on one machine give what one process gives; one that is lost ends the others, which say so."""

import csv
import json
import pathlib
import shutil
import signal
import socket
import struct
import time

import numpy as np
import pytest

from cnn.runs import checkpoint
from cnn.runtime import coordinator, joining, processes, signals, turns
from cnn.runtime.shares import WHOLE, Share
from tests.helpers import PROGRAMS, run_python, start_python

PROGRAM = PROGRAMS / "processes_together.py"


def start(count, folder, parts, steps=6, counts=None):
    """Starts so many processes; their output goes to FOLDER.I.txt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder.mkdir(exist_ok=True)
    started = []
    for index in range(count):
        with open(f"{folder}.{index}.txt", "w") as said:
            arguments = (address, counts[index] if counts else count, index, folder, parts, 1, steps)
            started.append(start_python(PROGRAM, *arguments, stdout=said, stderr=said))
    return started


def said(folder, index):
    return pathlib.Path(f"{folder}.{index}.txt").read_text()


def together(count, folder, parts):
    """What so many processes report."""
    started = start(count, folder, parts)
    for index, one in enumerate(started):
        assert one.wait(300) == 0, said(folder, index)
    return json.loads((folder / "report.json").read_text())


def alone(devices, folder, parts, steps=6):
    """What one process with so many devices reports."""
    folder.mkdir(exist_ok=True)
    done = run_python(PROGRAM, "", 0, 0, folder, parts, devices, steps)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "report.json").read_text())


def files_of(folder):
    """The bytes of all files of maps and their journals."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "map." in str(path)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_same_runs(one, other):
    """Parameters to 1e-6: sums over four devices may be taken in another order than within one process."""
    found = [checkpoint.load_run(str(folder / "run")) for folder in (one, other)]
    assert found[0].step == found[1].step and (found[0].mean, found[0].std) == (found[1].mean, found[1].std)
    for name, layer in found[0].variables["params"].items():
        for key, values in layer.items():
            np.testing.assert_allclose(values, found[1].variables["params"][name][key], rtol=0, atol=1e-6)
    tables = [
        list(csv.reader((folder / "run" / "predictions.csv").read_text().splitlines())) for folder in (one, other)
    ]
    assert [row[:3] for row in tables[0]] == [row[:3] for row in tables[1]]
    kept = ("examples", "digest", "class_names")
    facts = [json.loads((folder / "run" / "data.json").read_text()) for folder in (one, other)]
    assert [facts[0][name] for name in kept] == [facts[1][name] for name in kept]


@pytest.mark.slow
def test_two_processes_and_four_give_what_one_gives(tmp_path):
    one = alone(2, tmp_path / "one", "train,evaluate,stream")
    two = together(2, tmp_path / "two", "words,train")
    assert two["errors"][0] == (
        "the processes have different config: steps is 5 in process 0 and 6 in process 1; start all with the same "
        "command, code and data"
    )
    assert len(two["errors"]) == 3 and "Expecting property name" in two["errors"][1]
    assert two["errors"][2].startswith("a study: process 1 of 2 does not see this place as process 0 does: ")
    assert two["skipped"] == [two["skipped alone"]] * 2 and len(two["skipped alone"]) == 2
    labels, pixels = two["pictures alone"]
    assert [part[0] for part in two["pictures"]] == [labels] * 2
    assert [pixel for part in two["pictures"] for pixel in part[1]] == pixels
    assert_same_runs(tmp_path / "one", tmp_path / "two")
    for name, value in one["result"].items():
        assert two["result"][name] == pytest.approx(value, abs=1e-6), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "two" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == len((tmp_path / "one" / "run" / "metrics.jsonl").read_text().splitlines())
    four = together(4, tmp_path / "four", "evaluate,stream")
    assert four["evaluated"][0] == 3 and four["evaluated"][2:] == one["evaluated"][2:]
    assert four["evaluated"][1] == pytest.approx(one["evaluated"][1], abs=1e-6)
    assert files_of(tmp_path / "four") == files_of(tmp_path / "one")
    assert ["map.npy" in text or "cover" in text for text in four["refused"]] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_decode_pictures_when_they_use_them_give_what_one_gives_in_memory(tmp_path, count):
    one = alone(count, tmp_path / "one", "files,train")
    several = together(count, tmp_path / "several", "files,train")
    assert_same_runs(tmp_path / "one", tmp_path / "several")
    for name, value in one["result"].items():
        assert several["result"][name] == pytest.approx(value, abs=1e-6), name
    assert "stay in their files (data.in_memory=no)" in said(tmp_path / "several", 0)


def wait_for(path, process):
    end = time.monotonic() + 600
    while not path.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    assert path.exists(), "no checkpoint was saved"


@pytest.mark.slow
def test_a_lost_process_is_named_and_another_number_of_processes_goes_on(tmp_path):
    folder = tmp_path / "run"
    started = start(2, folder, "train", 300)
    wait_for(folder / "run" / "checkpoints" / "20", started[0])
    started[1].send_signal(signal.SIGKILL)
    started[1].wait()
    begin = time.monotonic()
    assert started[0].wait(60) == processes.LOST and time.monotonic() - begin < 60
    assert "process 1 of 2 was lost" in said(folder, 0) and "goes on from what is saved" in said(folder, 0)
    assert "Traceback" not in said(folder, 0)
    shutil.copytree(folder, tmp_path / "again")
    # One process goes on with it, is asked to stop, and so do both of two: at the same step, which is saved.
    started = start(2, folder, "train", 300)
    wait_for(folder / "run" / "checkpoints" / "60", started[0])
    started[1].send_signal(signal.SIGTERM)
    assert [one.wait(100) for one in started] == [143, 143], said(folder, 0) + said(folder, 1)
    stopped = checkpoint.latest_step(str(folder / "run"))
    assert stopped is not None and 60 <= stopped < 300
    alone(2, folder, "train", 300)
    alone(2, tmp_path / "again", "train", 300)
    assert_same_runs(folder, tmp_path / "again")


@pytest.mark.slow
def test_whoever_is_asked_to_stop_waits_until_the_step_is_saved(tmp_path):
    folder = tmp_path / "run"
    started = start(2, folder, "train,slowly", 3000)
    wait_for(folder / "run" / "checkpoints" / "20", started[0])
    started[1].send_signal(signal.SIGTERM)
    # Longer than the seconds in which a command ends that was asked to, where nothing is saved.
    assert [one.wait(100) for one in started] == [143, 143], said(folder, 0) + said(folder, 1)
    text = "".join(said(folder, index) for index in (0, 1))
    assert "was lost" not in text and "ended:" not in text and "Traceback" not in text
    assert checkpoint.latest_step(str(folder / "run")) is not None


@pytest.mark.slow
def test_a_process_that_stood_still_says_so(tmp_path):
    folder = tmp_path / "run"
    started = start(2, folder, "train", 3000)
    wait_for(folder / "run" / "checkpoints" / "20", started[0])
    started[1].send_signal(signal.SIGSTOP)
    assert started[0].wait(100) == processes.LOST and "process 1 of 2 was lost" in said(folder, 0)
    started[1].send_signal(signal.SIGCONT)
    assert started[1].wait(60) == processes.LOST
    assert "process 1 of 2 was silent for 30 s (suspended" in said(folder, 1)


def test_strangers_and_two_that_are_lost_at_once_do_not_end_the_roll():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        roll = coordinator.Roll(listening)
        found = [socket.create_connection(listening.getsockname(), timeout=10) for _ in range(4)]
        for index, one in enumerate(found[:3]):
            one.sendall(b'{"hello": %d}\n' % index)
        found[3].sendall(b"GET / HTTP/1.1\r\n\r\n[1]\n")
        while len(roll.there) != 3 or any(one["index"] is None for one in roll.there.values()):
            roll.turn()
        assert found[3].recv(10) == b""
        for one in found[:2]:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the next send to it fails
            one.close()
        while len(roll.there) != 1:
            roll.turn()
        lost = json.loads(found[2].makefile().readline())
        assert lost["lost"] in (0, 1)
        for one in (*found, *roll.there):
            one.close()
        roll.selector.close()


def test_two_services_do_not_share_a_port():
    first, other = joining.Service(), joining.Service()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"[::]:{free.getsockname()[1]}"
    first.begin(address, 1, 100, 30)
    try:
        with pytest.raises(RuntimeError, match="nothing can listen at .*: is the port taken"):
            other.begin(address, 1, 100, 30)
    finally:
        first.shutdown()


@pytest.mark.slow
def test_a_process_that_finds_no_other_ends_with_a_line():
    code = "from cnn.runtime import joining, processes; joining.JOIN_SECONDS = 3; processes.start('127.0.0.1:{}', 2, 0)"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        code = code.format(free.getsockname()[1])
    done = run_python("-c", code)
    assert done.returncode == 1
    assert "did not find each other within 3 s; start all 2 with the same --coordinator, each with a" in done.stderr
    assert "Check failure" not in done.stderr


@pytest.mark.slow
def test_processes_that_were_told_other_numbers(tmp_path):
    started = start(2, tmp_path / "run", "words", counts=[2, 3])
    assert [one.wait(100) for one in started] == [processes.LOST, 1]
    assert "ValueError: --num_processes=3 in process 1, and 2 in process 0; start all" in said(tmp_path / "run", 1)
    assert "process 1 of 2 ended: ValueError: --num_processes=3 in process 1" in said(tmp_path / "run", 0)


def test_shares_are_all_of_everything_once():
    for parts in (1, 2, 3, 8):
        for count in (0, 1, 2, 7, 8, 9, 100):
            shares = [Share(i, i + 1, parts) for i in range(parts)]
            rows = [row for share in shares for row in range(count)[share.rows(count)]]
            assert rows == list(range(count))
    assert WHOLE.is_whole and WHOLE.rows(5) == slice(0, 5)
    assert Share(0, 3, 3).is_whole and not Share(0, 2, 3).is_whole
    assert Share(2, 4, 4).rows(10) == slice(6, 10)  # three each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 2, 0), "need --coordinator=HOST:PORT"),
        (("host", 2, 0), "must be HOST:PORT"),
        (("host:0", 2, 0), "must be HOST:PORT"),
        (("host:80", None, 0), "needs --num_processes=N"),
        (("host:80", 2, 2), "must be from 0 to 1"),
    ],
)
def test_flags_that_do_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.start(*arguments)


def test_a_process_by_itself_agrees_with_itself():
    assert processes.count() == 1 and processes.is_first() and processes.share() == WHOLE
    assert processes.gather((1, 2)) == [[1, 2]]
    assert processes.total(np.array([2**40])).tolist() == [2**40]
    assert processes.from_first(lambda: (1, 2)) == (1, 2)
    processes.agree("config", {"a": 1})
    processes.barrier("nothing")
    asked = signals.Request()
    stop = turns.Stop(asked)
    assert not stop.begun and not stop.check() and asked.begun  # a signal is noted from here on
    asked.signal = 15
    assert stop.check() and stop.signal == 15
    own = turns.Turns()
    assert [own.next(), own.next()] == [0, 1]
