"""results.jsonl of a study, line by line: which lines are as they were written, by the checksums beside them.

`results.checksums` has a line for each one of results.jsonl, written and synced before it: its SHA-256, and what
configs and measures it is of. A line that is damaged is left out, and what it said is computed again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnn.runs import records, small_files
from cnn.runtime import json_files
from cnn.runtime import whole as whole_files
from cnn.runtime.json_files import JsonError
from cnn.runtime.ranges import Range, number, one_of, text, whole

NAME, CHECKSUMS = "results.jsonl", "results.checksums"
KINDS = ("seed", "tuning")


def _are_values(value: Any) -> bool:
    return isinstance(value, dict) and all(one is None or number(lambda _: True)(one) for one in value.values())


RANGES = (
    Range("kind", one_of(KINDS), f"one of {', '.join(KINDS)}"),
    Range("cell", text(), "the name of a cell"),
    Range("seed", whole(0, 2**32 - 1), "a seed"),
    Range("chosen", whole(0), "the number of a config"),
    Range("values", _are_values, "numbers by name"),
    Range("validation_accuracy", number(lambda value: 0 <= value <= 1), "a number from 0 to 1", may_be_absent=True),
)
NEEDED = {"seed": ("kind", "cell", "seed", "chosen", "values"), "tuning": ("kind", "cell", "seed", "chosen")}

Record = dict[str, Any]


class Lines:
    """The lines of a study that are as they were written.

    Attributes:
      records: what they say.
      damaged: numbers of the lines that are not, counted from 1.
      of: for each record what its checksum says that it is of; None: there is no checksum, as of older studies.
    """

    def __init__(self, workdir: str) -> None:
        """Reads results.jsonl; a last line that a kill cut off is none.

        Args:
          workdir: directory of the study.
        """
        self._path, self._sums = (os.path.join(workdir, name) for name in (NAME, CHECKSUMS))
        self.records: list[Record] = []
        self.of: list[str | None] = []
        self.damaged: list[int] = []
        known, seen = self._known(), set()
        for number_, line in enumerate(_lines(self._path), start=1):
            record = _record(line)
            checksum = _checksum(line)
            key = record and (record["kind"], record["cell"], record["seed"], record["chosen"])
            if record is None or (known is not None and checksum not in known) or key in seen:
                self.damaged.append(number_)
                continue
            seen.add(key)
            self.records.append(record)
            self.of.append(known[checksum] if known is not None else None)

    def _known(self) -> dict[str, str] | None:
        """What each checksum is of; None where there are none."""
        if not os.path.exists(self._sums):
            return None
        found = {}
        for line in _lines(self._sums):
            checksum, _, of = line.decode("ascii", "replace").partition(" ")
            found[checksum] = of
        return found

    def keep(self, chosen: Iterable[bool]) -> None:
        """Leaves records out.

        Args:
          chosen: whether each one is kept.
        """
        kept = [pair for pair, keep in zip(zip(self.records, self.of, strict=True), chosen, strict=True) if keep]
        self.records, self.of = [record for record, _ in kept], [of for _, of in kept]

    def rewrite(self, of: Mapping[str, str]) -> None:
        """Writes both files anew, with the records that are left.

        Args:
          of: what a cell's lines are of, by its name.
        """
        lines = [_line(record) for record in self.records]
        sums = [_sum(line, of.get(record["cell"], "")) for line, record in zip(lines, self.records, strict=True)]
        for path, content in ((self._sums, sums), (self._path, lines)):
            try:
                with open(f"{path}.part", "wb") as file:
                    file.writelines(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.remove(f"{path}.part")
                raise whole_files.cannot_write(path, error) from error
        # Lines without a checksum would be taken for damaged ones: those of both are known at every moment.
        _append(self._sums, sums)
        os.replace(f"{self._path}.part", self._path)
        os.replace(f"{self._sums}.part", self._sums)

    def add(self, found: Sequence[Mapping[str, Any]], of: str) -> None:
        """Appends lines: all of them, or, if killed meanwhile, a part that is whole lines.

        Args:
          found: the records.
          of: what they are of.
        """
        lines = [_line(record) for record in found]
        _append(self._sums, [_sum(line, of) for line in lines])
        _append(self._path, lines)
        self.records += [dict(record) for record in found]
        self.of += [of] * len(lines)


def note(workdir: str, damaged: Sequence[int]) -> None:
    """Says which lines were left out.

    Args:
      workdir: directory of the study.
      damaged: their numbers.
    """
    if damaged:
        several = f"lines {', '.join(map(str, damaged[:5]))}{' and more' if len(damaged) > 5 else ''} are"
        which = several if len(damaged) > 1 else f"line {damaged[0]} is"
        small_files.note(f"{os.path.join(workdir, NAME)}: {which} damaged; the seeds without a line are trained again")


def _lines(path: str) -> list[bytes]:
    """The whole lines of a file, without their ends; none if it is missing."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        return file.read().split(b"\n")[:-1]


def _record(line: bytes) -> Record | None:
    try:
        found = json_files.parse(line)
    except JsonError:
        return None
    if not isinstance(found, dict):
        return None
    needed = NEEDED.get(str(found.get("kind")), NEEDED["seed"])
    return None if records.wrong(found, RANGES, needed) else found


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _checksum(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()[:32]


def _sum(line: bytes, of: str) -> bytes:
    return f"{_checksum(line)} {of}\n".encode()


def _append(path: str, lines: Iterable[bytes]) -> None:
    """Appends lines after whole ones, and waits until they are on the disk."""
    cut = b""
    if os.path.exists(path) and os.path.getsize(path):
        with open(path, "rb") as before:
            before.seek(-1, os.SEEK_END)
            cut = b"" if before.read(1) == b"\n" else b"\n"  # a kill cut the last line off
    file = whole_files.Appended(path)
    try:
        file.add(cut + b"".join(lines))
        file.sync()
    finally:
        file.close()
