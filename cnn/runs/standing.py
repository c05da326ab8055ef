"""Where a run stands, from its files alone, at once: for the line that is printed when a command is stopped."""

import os

from cnn.runs import logs

CHECKPOINTS = "checkpoints"


def line(workdir: str) -> str:
    """Says at which step a run stands, and how it goes on.

    Args:
      workdir: directory of the run, which may be missing.

    Returns:
      The line.
    """
    folder = os.path.join(workdir, CHECKPOINTS)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    saved = max((int(name) for name in names if name.isdecimal()), default=None)
    step = max((one["step"] for one in _metrics(workdir)), default=0)
    if saved is None:
        return f"stopped at step {step:,}; there is no checkpoint yet, the same command starts from the beginning"
    if saved >= step:
        return f"stopped at step {saved:,}, which is saved; the same command goes on"
    return f"stopped at step {step:,}; the last checkpoint is {saved:,}; the same command goes on"


def _metrics(workdir: str) -> list[dict[str, int]]:
    try:
        return logs.read_metrics(workdir)
    except (OSError, ValueError):  # a damaged file is said when the run goes on
        return []
