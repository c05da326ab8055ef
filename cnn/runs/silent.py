"""What stands in the other processes of a run for what the first one writes: the same calls, and nothing is written."""

from collections.abc import Mapping
from typing import Any


class Writer:
    """For `cnn.runs.logs.MetricWriter`."""

    seconds_before = 0.0

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Writes nothing."""


class Checkpoints:
    """For `cnn.runs.checkpoint.Checkpoints`."""

    def save(self, step: int, variables: Any, optimizer: Any = None, facts: Any = None) -> None:
        """Saves nothing."""


class Keeper:
    """For `cnn.runs.best.Keeper`."""

    def offer(self, step: int, variables: Any, accuracy: float, loss: float) -> None:
        """Keeps nothing."""
