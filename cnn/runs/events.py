"""TensorBoard's event files, written in the thread that trains, so that an error is one line and nothing hangs."""

import os
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

from cnn.runtime import imports, whole


class Events:
    """Appends scalars to an event file. Where it cannot be written, a line says so, and training goes on without."""

    def __init__(self, folder: str, after: int) -> None:
        """Begins a new event file.

        Args:
          folder: where it lies; made if missing.
          after: number of steps done: what earlier files say of later steps does not count any more.
        """
        with imports.without("torch"):  # seconds to import, and not needed
            from tensorboardX.proto import event_pb2

        messages: Any = event_pb2  # made when it is imported, so that no type is known
        self._make, self._file = messages.Event, None
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        path = os.path.join(folder, name)
        try:
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise whole.cannot_write(folder, error) from error
            self._file = whole.Appended(path)
            self._add(file_version="brain.Event:2")
            if after:
                started = messages.SessionLog(status=messages.SessionLog.START)
                self._add(step=after + 1, file_version="brain.Event:2")
                self._add(step=after + 1, session_log=started)
        except OSError as error:
            self._give_up(error)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Appends numbers.

        Args:
          step: number of steps done.
          values: numbers by name, "train/loss".
        """
        from tensorboardX.summary import scalar

        if self._file is None:
            return
        try:
            for name, value in values.items():
                self._add(step=step, summary=scalar(name, value))
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _add(self, **fields: Any) -> None:
        """One record: its length and its bytes, each with its checksum (TensorFlow's TFRecord)."""
        from tensorboardX.record_writer import masked_crc32c

        data = self._make(wall_time=time.time(), **fields).SerializeToString()
        size = struct.pack("<Q", len(data))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (size, data))
        if self._file is not None:
            self._file.add(b"".join((size, next(sums), data, next(sums))))

    def _give_up(self, error: OSError) -> None:
        print(f"warning: {error}; TensorBoard's curves end here, metrics.jsonl has them", file=sys.stderr, flush=True)
        self.close()
        self._file = None
