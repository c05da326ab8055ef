"""The net of a run's best validation: its variables alone, kept beside the latest checkpoints.

Where it is lost it is taken from the checkpoint of the same step, if there is one. Else the best of later steps is
kept, which is said wherever its numbers are: `Score.since`.
"""

import contextlib
import math
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn.runs import checksums, metric_lines
from cnn.runs.checksums import BEST, LATEST
from cnn.runs.saved_steps import CheckpointError, Checkpoints


class Score(NamedTuple):
    """What the best net reached on the validation split.

    Attributes:
      step: number of steps that it was trained for.
      accuracy: fraction of the validation examples that are right.
      loss: mean cross-entropy on them, nats.
      since: it is the best of the steps after this one, because what was kept before was lost; 0: of all.
    """

    step: int
    accuracy: float
    loss: float
    since: int = 0

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
    known: dict[str, Any] = {"since": 0, **facts} if isinstance(facts, dict) else {}
    numbers: list[Any] = [known.get(name) for name in ("accuracy", "loss", "since")]
    if [type(one) for one in numbers] != [float, float, int]:  # of a run without checksums
        raise CheckpointError(f"{os.path.join(workdir, BEST, str(step))}: its facts are damaged: {str(facts)[:80]}")
    return Score(step, numbers[0], numbers[1], numbers[2])


class Lost(NamedTuple):
    """A best net that was kept once and cannot be read any more.

    Attributes:
      why: the beginning of a sentence.
      score: what it had reached, by metrics.jsonl; None: that is not known.
      saved: whether the checkpoint of its step is there, of which it can be taken.
    """

    why: str
    score: Score | None
    saved: bool


def lost(workdir: str, step: int) -> Lost | None:
    """Whether the best net of a run that keeps one is lost.

    Args:
      workdir: directory of the run, which may be missing.
      step: the step that the run stands at; validations after it do not count.

    Returns:
      What is lost; None if it can be read, or there was no validation yet.
    """
    try:
        if read(workdir) is not None:
            return None
        why = f"{os.path.join(workdir, BEST)} is missing"
    except CheckpointError as error:
        why = str(error).split("; no other")[0]
    score = _best_line(workdir, step)
    if score is None and why.endswith("is missing"):
        return None
    saved = score is not None and checksums.fault(os.path.join(workdir, LATEST), score.step) is None
    return Lost(why, score, saved)


def remove(workdir: str) -> None:
    """Removes a run's best net, if it keeps one: of a run that goes on without keeping it, it would be out of date.

    Args:
      workdir: directory of the run.
    """
    shutil.rmtree(os.path.join(workdir, BEST), ignore_errors=True)


def _best_line(workdir: str, step: int) -> Score | None:
    """The best validation up to a step by metrics.jsonl, the first of equals."""
    try:
        lines = metric_lines.read(workdir)
    except ValueError:  # nothing is known then
        return None
    score = None
    for line in lines:
        accuracy: Any = line.get("accuracy")
        loss: Any = line.get("loss")
        counts = line["split"] == "validation" and line["step"] <= step and type(accuracy) is type(loss) is float
        if counts and not math.isnan(loss) and (score is None or score.is_below(accuracy, loss)):
            score = Score(line["step"], accuracy, loss)
    return score


def at_end(workdir: str, step: int, like: Any) -> Score | None:
    """The score of the best net of a run that is trained, which is taken from a checkpoint where it was lost.

    Args:
      workdir: directory of the run.
      step: its last step.
      like: variables of the run's shapes and dtypes.

    Returns:
      The score; None if there was no validation or, after a line that says so, if the net is lost.
    """
    gone = lost(workdir, step)
    if gone is None:
        return read(workdir)
    if gone.saved:
        with Keeper(workdir, step, like):
            return gone.score
    print(f"warning: {gone.why}; the run's result says nothing of the best net", file=sys.stderr, flush=True)
    return None


class Keeper(contextlib.ExitStack):
    """Keeps the best net while a run is trained; one whose score is equal to an earlier one's does not replace it."""

    def __init__(self, workdir: str, step: int = 0, like: Any = None) -> None:
        """Reads what is kept already.

        Args:
          workdir: directory of the run. Where its best net is lost, a line says so; it is taken from the checkpoint of
            the same step, or else the next one counts.
          step: the step that the run stands at.
          like: variables of the run's shapes and dtypes; None: a net that is lost is taken from no checkpoint.
        """
        super().__init__()
        self._workdir, self._kept, self._since = workdir, None, 0
        gone = lost(workdir, step)
        self._score = None if gone else read(workdir)
        if gone and gone.score and gone.saved and like is not None:
            like = jax.tree.map(lambda one: np.zeros(one.shape, one.dtype), like)
            with Checkpoints(workdir, 1) as latest:
                variables = latest.restore(gone.score.step, variables=like)["variables"]
            self._keep(gone.score, variables)
            said = f"it is taken from the checkpoint of step {gone.score.step:,}"
        elif gone:
            self._since, said = step, "the best of the steps from here on is kept"
        if gone:
            print(f"warning: {gone.why}; {said}", file=sys.stderr, flush=True)
        self._since = self._score.since if self._score else self._since

    def offer(self, step: int, variables: Mapping[str, Any], accuracy: float, loss: float) -> None:
        """Keeps a net if it is the best so far.

        Args:
          step: number of steps done.
          variables: variables of the net, which are copied.
          accuracy, loss: what it reached on the validation split.
        """
        if math.isnan(loss) or (self._score is not None and not self._score.is_below(accuracy, loss)):
            return
        self._keep(Score(step, accuracy, loss, self._since), variables)

    def _keep(self, score: Score, variables: Mapping[str, Any]) -> None:
        if self._kept is None:
            self._kept = self.enter_context(Checkpoints(self._workdir, 1, BEST))
        self._kept.drop_after(score.step - 1)  # of an attempt that was further when it was killed, or damaged
        facts = {"accuracy": score.accuracy, "loss": score.loss, **({"since": score.since} if score.since else {})}
        # A copy: the next step reuses (donates) the arrays while they are still being written.
        self._kept.save(score.step, jax.tree.map(np.array, variables), facts=facts)
        self._score = score
