"""The net of a run's best validation: its variables alone, kept beside the latest checkpoints."""

import contextlib
import math
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn.runs.checksums import BEST
from cnn.runs.saved_steps import CheckpointError, Checkpoints


class Score(NamedTuple):
    """What the best net reached on the validation split.

    Attributes:
      step: number of steps that it was trained for.
      accuracy: fraction of the validation examples that are right.
      loss: mean cross-entropy on them, nats.
    """

    step: int
    accuracy: float
    loss: float

    def is_below(self, accuracy: float, loss: float) -> bool:
        """Whether another net is better: more accurate or, as accurate, of a lower loss."""
        return (accuracy, -loss) > (self.accuracy, -self.loss)


def read(workdir: str) -> Score | None:
    """Reads the score of a run's best net.

    Args:
      workdir: directory of the run, which may be missing.

    Returns:
      The score; None if the run keeps no best net.

    Raises:
      CheckpointError: if it cannot be read.
    """
    with Checkpoints(workdir, 1, BEST) as kept:
        found = kept.latest_facts()
    if found is None:
        return None
    step, facts = found
    numbers = [facts.get(name) for name in ("accuracy", "loss")] if isinstance(facts, dict) else []
    if [type(one) for one in numbers] != [float, float]:  # of a run without checksums
        raise CheckpointError(f"{os.path.join(workdir, BEST, str(step))}: its facts are damaged: {str(facts)[:80]}")
    return Score(step, *numbers)


def remove(workdir: str) -> None:
    """Removes a run's best net, if it keeps one: of a run that goes on without keeping it, it would be out of date.

    Args:
      workdir: directory of the run.
    """
    shutil.rmtree(os.path.join(workdir, BEST), ignore_errors=True)


class Keeper(contextlib.ExitStack):
    """Keeps the best net while a run is trained; one whose score is equal to an earlier one's does not replace it."""

    def __init__(self, workdir: str) -> None:
        """Reads what is kept already.

        Args:
          workdir: directory of the run. Where its best net cannot be read, a line says so, and the next one counts.
        """
        super().__init__()
        self._workdir, self._kept = workdir, None
        try:
            self._score = read(workdir)
        except CheckpointError as error:
            print(f"warning: {error}; the best of the steps from here on is kept", file=sys.stderr, flush=True)
            self._score = None

    def offer(self, step: int, variables: Mapping[str, Any], accuracy: float, loss: float) -> None:
        """Keeps a net if it is the best so far.

        Args:
          step: number of steps done.
          variables: variables of the net, which are copied.
          accuracy, loss: what it reached on the validation split.
        """
        if math.isnan(loss) or (self._score is not None and not self._score.is_below(accuracy, loss)):
            return
        if self._kept is None:
            self._kept = self.enter_context(Checkpoints(self._workdir, 1, BEST))
        self._kept.drop_after(step - 1)  # of an attempt that was further when it was killed
        # A copy: the next step reuses (donates) the arrays while they are still being written.
        self._kept.save(step, jax.tree.map(np.array, variables), facts={"accuracy": accuracy, "loss": loss})
        self._score = Score(step, accuracy, loss)
