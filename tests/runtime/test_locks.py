"""Locks: who holds one is said, who has ended is followed, and of many at once exactly one gets it."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from cnn.runtime import holders, locks
from tests.disks import read_only, small_disk
from tests.helpers import PROGRAMS, start_python


def left_by(path, **other):
    """Writes the lock of another process: this one's, with other fields."""
    holder = holders.me()._replace(**other)
    path.write_bytes(holder.content())
    return holder


@pytest.fixture
def ended():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def quick(monkeypatch):
    """Heartbeats so short that a test can wait for them."""
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "STALE_SECONDS", 2.0)


def test_the_second_is_refused_in_one_line_and_nothing_is_left(tmp_path):
    path = tmp_path / "a" / "b" / "lock"
    with locks.alone(str(path), "--workdir=here") as held:
        held.check()
        locks.check()
        with pytest.raises(locks.Taken) as refused, locks.alone(str(path), "--workdir=here"):
            pass
        mine = holders.parse(path.read_bytes())
        assert os.listdir(path.parent) == ["lock"]
        with locks.alone(str(tmp_path / "a" / "other"), "another"):
            pass
    said = str(refused.value)
    assert said.startswith("--workdir=here: process ") and "\n" not in said
    assert all(text in said for text in (str(os.getpid()), mine.host, mine.since, str(path), "name another place"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyError), locks.alone(str(path), "x"):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_lock_costs_milliseconds(tmp_path):
    took = []
    for _ in range(9):
        start = time.perf_counter()
        with locks.alone(str(tmp_path / "lock"), "x"):
            pass
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05  # 1 ms alone; the machine may be busy


@pytest.mark.parametrize("case", ["ended", "its number is another's now", "never finished", "unreaped"])
def test_the_lock_of_a_process_that_ended_is_taken_over(tmp_path, capsys, ended, case):
    path = tmp_path / "lock"
    if case == "ended":
        left_by(path, pid=ended, host="here")
    elif case == "its number is another's now":
        left_by(path, started="1", host="here")
    elif case == "unreaped":
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with open(f"/proc/{process.pid}/stat") as file:
            left_by(path, pid=process.pid, started=file.read().rpartition(")")[2].split()[19], host="here")
        with pytest.raises(locks.Taken), locks.alone(str(path), "x"):
            pass
        process.stdin.close()
        while holders.alive(process.pid, "") is not False:  # nobody has asked for its status yet
            time.sleep(0.01)
    else:
        path.touch()
        os.utime(path, (time.time() - 60,) * 2)
    with locks.alone(str(path), "x"):
        assert holders.parse(path.read_bytes()).pid == os.getpid()
    if case == "unreaped":
        process.wait()
    if case != "never finished":
        assert "on here since" in (said := capsys.readouterr().err) and "is taken over, that process has ended" in said
    assert os.listdir(tmp_path) == []


def test_on_another_host_signs_of_life_count_and_clocks_do_not(tmp_path, quick):
    path = tmp_path / "lock"
    theirs = {"host": "far", "place": "elsewhere", "pid": 1}
    left_by(path, **theirs)
    with (
        pytest.raises(locks.Taken, match="process 1 on far since .* its last sign of life is 0 s old"),
        locks.alone(str(path), "x"),
    ):
        pass
    for hours in (-5, 5):  # a clock that is wrong: the lock looks old, or is of the future, and is renewed all the same
        stop = threading.Event()

        def renews(hours=hours, stop=stop):
            for n in range(10**6):
                if stop.wait(0.02):
                    return
                os.utime(path, (time.time() + hours * 3600 + n,) * 2)

        os.utime(path, (time.time() + hours * 3600,) * 2)
        thread = threading.Thread(target=renews)
        thread.start()
        try:
            with pytest.raises(locks.Taken, match="on far"), locks.alone(str(path), "x"):
                pass
        finally:
            stop.set()
            thread.join()
        with locks.alone(str(path), "x"):  # nobody renews it any more
            pass
        left_by(path, **theirs)
    with contextlib.suppress(locks.Taken), locks.alone(str(path), "x"):
        raise AssertionError("it was just written")


def test_who_was_suspended_learns_that_its_lock_is_gone(tmp_path, quick):
    path = tmp_path / "lock"
    with locks.alone(str(path), "the map") as held:
        left_by(path, host="far", pid=77, token="0123456789abcdef")
        time.sleep(0.2)
        for check in (held.check, locks.check):
            with pytest.raises(locks.Lost, match=r"the map: its lock .* was taken over by process 77 on far since"):
                check()
    assert os.listdir(tmp_path) == ["lock"]  # the other one's stays
    os.remove(path)
    with locks.alone(str(path), "the map"):
        os.remove(path)
        time.sleep(0.2)
        with pytest.raises(locks.Lost, match="was removed"):
            locks.check()
    locks.check()


@pytest.mark.parametrize("content", [b"of somebody else", b'{"pid": 1}', b"\xff\x00", b"[]"])
def test_what_is_no_lock_is_not_replaced(tmp_path, content):
    path = tmp_path / "lock"
    path.write_bytes(content)
    with pytest.raises(locks.Taken, match="no lock of this program; remove it"), locks.alone(str(path), "x"):
        pass
    assert path.read_bytes() == content


def test_without_hard_links_a_lock_is_made_exclusively(tmp_path, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    with locks.alone(str(tmp_path / "lock"), "x"):
        with pytest.raises(locks.Taken), locks.alone(str(tmp_path / "lock"), "x"):
            pass
        assert os.listdir(tmp_path) == ["lock"]
    assert os.listdir(tmp_path) == []


def test_where_no_lock_can_be_written_that_is_said(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        read_only(disk)
        said = r"^x: its lock .*/lock cannot be written: Read-only file system; "
        with pytest.raises(OSError, match=said), locks.alone(str(disk / "lock"), "x"):
            pass


def test_of_many_threads_one_takes_over(tmp_path, ended):
    wins, start, end = [], threading.Barrier(6), threading.Barrier(6)
    paths = [tmp_path / f"lock{i}" for i in range(20)]
    for path in paths:
        left_by(path, pid=ended)

    def take():
        start.wait()
        with contextlib.ExitStack() as stack:
            for path in paths:
                with contextlib.suppress(locks.Taken):
                    stack.enter_context(locks.alone(str(path), "x"))
                    wins.append(path)
            end.wait()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == sorted(paths)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_of_many_processes_one_takes_over(tmp_path, ended):
    """200 stale locks, and eight processes that want all of them."""
    for i in range(200):
        left_by(tmp_path / f"lock{i}", pid=ended)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    processes = [start_python(PROGRAMS / "take_locks.py", tmp_path, **pipes) for _ in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    wins = [process.stdout.readline().split() for process in processes]
    for process in processes:
        process.communicate("end\n")
    assert sorted(sum(wins, [])) == sorted(f"lock{i}" for i in range(200))
    assert sum(bool(won) for won in wins) > 1  # they were at it together
    assert os.listdir(tmp_path) == []


def test_what_killed_processes_left_beside_a_lock_is_removed(tmp_path, ended):
    path = tmp_path / "lock"
    left = ("lock.0123abcd", "lock.0123abcd.89abcdef", "lock.89abcdef.part", "lock.0123abcd.89abcdef.part")
    for name in left:
        left_by(tmp_path / name, pid=ended)
    old = tmp_path / "lock.11111111.part"  # of another machine, or killed before it wrote
    old.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    kept = ("lock.22222222.part", "lock.zip.part", "clock.0123abcd", "lock.0123abc")
    (tmp_path / kept[0]).write_bytes(b"")  # being written
    for name in kept[1:]:
        left_by(tmp_path / name, pid=ended)
    alive = left_by(tmp_path / "lock.33333333.part", started=holders.me().started)
    with locks.alone(str(path), "x"):
        assert sorted(os.listdir(tmp_path)) == sorted(("lock", "lock.33333333.part", *kept))
    assert alive.pid == os.getpid() and not path.exists()
