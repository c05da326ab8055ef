"""What targets of fuzzing draw from bytes: choices, numbers, texts and damaged files."""

import functools
import os
import tempfile
from typing import Any

WORDS = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "None",
        "none",
        "True",
        "False",
        "()",
        "(1,)",
        "(1, 2)",
    ),
    *(
        "(2, 1)",
        "('a', 'b')",
        "{}",
        "[]",
        "''",
        "x",
        "('x',",
        "9" * 400,
        "2147483648",
        "softmax",
        "sigmoid",
        "balanced",
    ),
    *("step", "adamw", "digits", "folder", "layers", "layer_pattern", "vgg16", "qa_net", "~", "/", "a.npz", "a.py:b"),
)
OPTIONS = (
    "convs",
    "blocks",
    "fc",
    "features",
    "width",
    "kernel",
    "norm",
    "dropout",
    "pool",
    "activation",
    "layers",
    "x",
)


class Bytes:
    """Draws choices, numbers and texts from bytes, zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def number(self, below: int) -> int:
        """A number from 0 to below - 1."""
        size = max(1, (max(below - 1, 1).bit_length() + 7) // 8)
        return int.from_bytes(self.take(size), "little") % below

    def take(self, count: int) -> bytes:
        """The next bytes."""
        found = self._data[self._place : self._place + count]
        self._place += count
        return found.ljust(count, b"\0")

    def rest(self) -> bytes:
        """All that is left."""
        found, self._place = self._data[self._place :], len(self._data)
        return found

    def pick(self, among: Any) -> Any:
        """One of a sequence."""
        return among[self.number(len(among))]

    def text(self) -> str:
        """A word that is often wrong, or a few letters of any alphabet."""
        if self.number(3):
            return self.pick(WORDS)
        return self.take(self.number(12)).decode("utf-8", "surrogateescape")

    @property
    def left(self) -> int:
        """Bytes that are not used yet."""
        return max(0, len(self._data) - self._place)


@functools.lru_cache
def folder() -> str:
    """A folder of this process, in memory where the system has such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nosec B108: mkdtemp makes a folder of its own
    return tempfile.mkdtemp(prefix="fuzz", dir=place)


def mutated(draw: Bytes, content: bytes) -> bytes:
    """A file with some bytes flipped, cut, doubled or replaced."""
    changed = bytearray(content)
    for _ in range(1 + draw.number(4)):
        kind, place = draw.number(6), draw.number(max(1, len(changed)))
        if kind == 0:
            changed[place : place + 1] = draw.take(1)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            del changed[place : place + draw.number(64)]
        elif kind == 3:
            changed[place:place] = draw.take(draw.number(8))
        elif kind == 4:
            changed[place : place + 4] = draw.pick(
                (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0")
            )
        else:
            changed[place:place] = changed[place : place + draw.number(200)]
    return bytes(changed)
