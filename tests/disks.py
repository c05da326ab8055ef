"""A small disk for tests, in memory: full or read-only, where the tests may mount one."""

import contextlib
import os
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(path, size="1m"):
    """Mounts an empty disk of a few bytes at a folder, which is made; skips where that is not allowed."""
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def read_only(path):
    """Makes a small disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)


def writable(path):
    """Makes it writable again."""
    subprocess.run(["mount", "-o", "remount,rw", path], check=True)


def fill(path, left=0):
    """Fills a small disk but for some bytes; gives the file to remove."""
    filler = path / "filler"
    room = os.statvfs(path)
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - left)))
        while not left:
            file.write(bytes(4096))
    return filler
