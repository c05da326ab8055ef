"""Progress of a long evaluation: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

SECONDS_BETWEEN_LINES = 10  # if the output is not a terminal


class Progress:
    """Stages of an evaluation, each announced when it starts; a context manager."""

    def __init__(self, shown: bool = True) -> None:
        """Starts the clock.

        Args:
          shown: whether to print anything.
        """
        self._shown, self._start = shown, time.monotonic()
        self._text, self._total, self._done, self._next_line = "", 0, 0, 0.0
        self._bar = None

    def stage(self, text: str, parts: int = 0) -> None:
        """Starts the next stage.

        Args:
          text: what is done in this stage.
          parts: number of times that `advance` will be called in this stage; 0: never.
        """
        self._close_bar()
        self._text, self._total, self._done = text, parts, 0
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        if not self._shown:
            return
        self._print(text)
        if parts > 1 and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=parts, leave=False, dynamic_ncols=True)

    def advance(self) -> None:
        """Reports that one more part of the stage is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(1)
        elif self._shown and time.monotonic() >= self._next_line and self._done < self._total:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            self._print(f"{self._text}: {self._done} of {self._total}")

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:4.0f} s] {text}", file=sys.stderr, flush=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the bar, if there is one."""
        self._close_bar()
