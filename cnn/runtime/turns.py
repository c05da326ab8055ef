"""What several processes decide alike: whether a run is to stop, and whose turn it is."""

import itertools

from cnn.runtime import processes, signals


class Stop:
    """Whether a run is to stop, which all processes answer alike at the same step, whichever of them was asked.

    Attributes:
      signal: number of the signal that asked; None: nobody was asked, as far as all processes know.
      checks: how often it was looked for.
    """

    def __init__(self, asked: signals.Request) -> None:
        """Watches what this process is asked.

        Args:
          asked: what this process is asked (`cnn.runtime.signals.Request`).
        """
        self.signal: int | None = None
        self._asked, self.checks, self._name = asked, 0, f"cnn/{processes.next_number()}/stop"

    @property
    def begun(self) -> bool:
        """Whether there is something to save: from then on a signal is noted here, and ends this process no more."""
        return self._asked.begun

    @begun.setter
    def begun(self, value: bool) -> None:
        self._asked.begun = value

    def check(self) -> bool:
        """Asks; all processes call this after the same steps. From the first one on there is something to save.

        Between two checks all processes wait for each other, in the sums of a step. So what one of them says before a
        step is known to all after it.

        Returns:
          Whether to stop now.
        """
        self.begun = True
        if processes.count() == 1:
            self.signal = self._asked.signal
        if self.signal is not None or processes.count() == 1:
            return self.signal is not None
        found = dict(processes.client().key_value_dir_get(f"{self._name}/{self.checks}/"))
        if found:
            self.signal = int(found[min(found)])
        elif self._asked.signal is not None:
            name = f"{self._name}/{self.checks + 1}/{processes.index()}"
            processes.client().key_value_set(name, str(int(self._asked.signal)), allow_overwrite=True)
        self.checks += 1
        return self.signal is not None


class Turns:
    """Numbers 0, 1, 2, ..., of which each is given to one process alone; all processes make one alike."""

    def __init__(self) -> None:
        self._numbers, self._name = itertools.count(), f"cnn/{processes.next_number()}/turns"

    def next(self) -> int:
        """The next number that no process was given."""
        if processes.count() == 1:
            return next(self._numbers)
        return int(processes.client().key_value_increment(self._name, 1)) - 1
