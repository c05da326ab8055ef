"""How far a stream has come: tiles that are on the disk, what they read and wrote, and the journal that says so."""

import time
from collections.abc import Mapping
from typing import Any

from cnn.dense.streaming import fingerprints, map_files
from cnn.dense.streaming.journal import write_journal
from cnn.dense.streaming.sinks.base import Sink
from cnn.runtime import locks
from cnn.windows import Pair

JOURNAL_SECONDS = 5.0  # between two writes of the journal; a killed stream repeats at most this and the tiles in flight


class Progress:
    """The number of tiles that are done; the journal, if there is one, counts them only when they are on the disk.

    Attributes:
      done: number of tiles whose scores were passed to the sink; they are the first ones of the map.
      next: number of the next tile that this process computes.
      step: how far the one after it is; 1 for a process by itself.
      skipped: (windows, tiles) among them that were left out.
    """

    def __init__(
        self,
        sink: Sink,
        path: str | None,
        facts: Mapping[str, Any],
        done: int,
        read: str,
        written: str,
        skipped: Pair | None = None,
    ) -> None:
        """Continues a journal.

        Args:
          sink: the sink that scores are written to.
          path: path of the journal; None: the sink has none.
          facts: the other fields of the journal; its "tiles" is the number of tiles.
          done: number of tiles that are in the sink already.
          read: fingerprint of their pixels.
          written: fingerprint of their scores.
          skipped: (windows, tiles) among them that were left out; None: the stream leaves none out.
        """
        self.done, self._saved = done, done
        self.next, self.step = done, 1
        self.skipped, self._skips = skipped or (0, 0), skipped is not None
        self._read, self._written = read, written
        self._sink, self._path, self._facts = sink, path, facts
        self._time = time.monotonic()

    def add(self, read: int, written: int, skipped: int = 0, alone: bool = False) -> None:
        """Counts a tile whose scores were written.

        Args:
          read: checksum of its pixels.
          written: checksum of its scores.
          skipped: number of its windows that were left out.
          alone: whether it has no others.
        """
        self.done += 1
        self.next = self.done
        self.skipped = (self.skipped[0] + skipped, self.skipped[1] + alone)
        self._read = fingerprints.chain(self._read, read)
        self._written = fingerprints.chain(self._written, written)
        if time.monotonic() >= self._time + JOURNAL_SECONDS or self.done == self._facts["tiles"]:
            self.save()

    def save(self) -> None:
        """Waits until all scores are on the disk, then writes the journal."""
        if self._saved < self.done:
            self._sink.flush()
            self._write()

    def finish(self) -> None:
        """Lets the sink make what it has beside the tiles, once all are done; then the journal says "complete"."""
        if self._sink.unfinished:
            self._sink.finish()
            self._write(finished=True)
        self._sink.tidy()
        if self._path:
            map_files.mark(self._sink.name, whole=True)

    def _write(self, finished: bool = False) -> None:
        if self._path:
            locks.check()
            skipped = self.skipped if self._skips else None
            complete = self.done == self._facts["tiles"] and (finished or not self._sink.unfinished)
            beside = self._sink.digest() if complete else ""
            journal = journal_of(self._facts, self.done, self._read, self._written, skipped, complete, beside)
            write_journal(self._path, journal)
        self._saved, self._time = self.done, time.monotonic()


def journal_of(
    facts: Mapping[str, Any],
    done: int,
    read: str,
    written: str,
    skipped: Pair | None = None,
    complete: bool = False,
    beside: str = "",
) -> dict[str, Any]:
    """A journal's fields: the arguments are those of `Progress`, whether the map is finished, and what it has beside.

    What it has beside its tiles is the digest of its sink; a map that has nothing else has no such field.
    """
    counted: dict[str, Any] = {"done": done, "complete": complete, "read": read, "written": written}
    more: dict[str, Any] = {} if skipped is None else {"skipped": list(skipped)}
    return {**facts, **counted, **more, **({"beside": beside} if beside else {})}
