"""What a run writes about itself: metrics.jsonl, TensorBoard events, progress, and the environment that it ran in."""

import csv
import glob
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import cnn
from cnn.runs import metric_lines, records, small_files
from cnn.runs.events import Events
from cnn.runtime import whole

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def environment(together: bool = False) -> dict[str, Any]:
    """Command, versions, device and commit, to stand beside every number.

    Args:
      together: whether all processes that were joined make the numbers together, each with its devices.

    Returns:
      {"command", "python", "packages", "device", "version", "commit"}; version is that of this library, and commit that
      of the checkout it runs from: with "+changes" at the end if files differ from it, None for an installed package.
    """
    import jax  # here, so that commands answer --help without it

    devices = jax.devices() if together else jax.local_devices()
    hosts = len({device.process_index for device in devices})
    kind = devices[0].device_kind if devices[0].platform != "cpu" else f"cpu ({os.cpu_count()} cores)"
    return {
        "command": command(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "device": f"{len(devices)} x {kind}" + (f" in {hosts} processes" if hosts > 1 else ""),
        "version": cnn.__version__,
        "commit": checkout_commit(os.path.dirname(os.path.dirname(os.path.abspath(cnn.__file__)))),
    }


def command() -> str:
    """How this process was started, as one would type it from the root of the repository.

    Returns:
      "python main.py --config=mnist", with quotes where a shell needs them.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else ["python", os.path.basename(sys.argv[0])]
    return shlex.join([*start, *sys.argv[1:]])


def checkout_commit(root: str) -> str | None:
    """The commit of this project's checkout.

    Args:
      root: folder that holds the `cnn` package.

    Returns:
      The commit, "+changes" at its end if files differ from it; None if the folder is not the root of a checkout of
      this project, as for an installed package, whatever repository lies around it.
    """
    try:
        with open(os.path.join(root, "pyproject.toml"), "rb") as file:
            if tomllib.load(file).get("project", {}).get("name") != "cnn":
                return None
    except (OSError, tomllib.TOMLDecodeError):
        return None
    # Within a Git hook GIT_DIR and others name another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", root, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout.strip()

    try:
        if os.path.realpath(git("rev-parse", "--show-toplevel")) != os.path.realpath(root):
            return None
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def finite(tree: Any) -> Any:
    """A value as JSON can hold it: null in place of NaN and infinities, which JSON does not have.

    Args:
      tree: dicts, lists, tuples, texts and numbers.

    Returns:
      The same with None for every float that is not finite.
    """
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def write_json(path: str, value: Any) -> None:
    """Writes a JSON file whole or not at all.

    Args:
      path: path of the file.
      value: a value that JSON can hold; numbers that are not finite are written as null.

    Raises:
      OSError: if it cannot be written; what was there stays.
    """
    with whole.written(path) as part, open(part, "w") as file:
        json.dump(finite(value), file, indent=2, allow_nan=False)
        file.write("\n")


def write_csv(path: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table for spreadsheets whole or not at all.

    Args:
      path: path of the file.
      header: names of the columns.
      rows: texts and numbers, as many as there are columns.
    """
    with whole.written(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def read_json(path: str, *keys: str) -> dict[str, Any]:
    """Reads a JSON file of a run.

    Args:
      path: path of the file, which holds one object.
      *keys: names that the object must have.

    Returns:
      The object.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged; names the file and what is wrong with it.
    """
    return small_files.read_object(path, lambda found: records.wrong(found, (), keys))


def read_metrics(workdir: str) -> list[dict[str, Any]]:
    """Reads metrics.jsonl.

    Args:
      workdir: directory of the run.

    Returns:
      One dict a line, NaN for null; empty if there is no file (`cnn.runs.metric_lines.read`).

    Raises:
      ValueError: if a line before the last is damaged, and no checkpoint has a copy; names the file and the line.
    """
    return metric_lines.read(workdir)


class MetricWriter:
    """Appends to metrics.jsonl and to TensorBoard events."""

    def __init__(self, workdir: str, step: int) -> None:
        """Opens both for a run that stands at `step`; what an earlier try wrote beyond that step is dropped.

        Curves of a try that left no checkpoint may be of another config, and are not mixed with those of this one.

        Args:
          workdir: directory of the run.
          step: number of steps done.
        """
        before = read_metrics(workdir) if step else []
        kept = [line for line in before if line["step"] <= step and line["split"] != "test"]
        path = os.path.join(workdir, "metrics.jsonl")
        with whole.written(path) as part, open(part, "w") as file:
            file.writelines(json.dumps(finite(line)) + "\n" for line in kept)
        self.seconds_before = max((line.get("seconds", 0.0) for line in kept), default=0.0)
        self._file = whole.Appended(path)
        events = os.path.join(workdir, "tensorboard")
        for old in () if step else glob.glob(os.path.join(glob.escape(events), "events.*")):
            os.remove(old)
        self._events = Events(events, step)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Writes one line.

        Args:
          step: number of steps done.
          split: "train", "validation" or "test".
          values: numbers by name.

        Raises:
          OSError: if metrics.jsonl cannot be written; it ends with the line before.
        """
        self._file.add((json.dumps(finite({"step": step, "split": split, **values})) + "\n").encode())
        self._events.add(step, {f"{split}/{name}": value for name, value in values.items()})

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes both files."""
        self._file.close()
        self._events.close()


class Progress:
    """A bar on a terminal, plain lines elsewhere."""

    def __init__(self, total_steps: int, step: int, batch_size: int) -> None:
        """Starts the clock.

        Args:
          total_steps: length of the run.
          step: number of steps done already.
          batch_size: examples in a step.
        """
        self._total, self._batch_size = total_steps, batch_size
        self._start, self._first = time.monotonic(), step
        self._last = (self._start, step)
        self._next_line = self._start
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True)

    def update(self, step: int, loss: float, accuracy: float | None) -> float:
        """Shows where the run stands; plain lines at most every five seconds.

        Args:
          step: number of steps done.
          loss: recent mean, nats.
          accuracy: recent mean; None where no example showed its object.

        Returns:
          Examples per second since the last update.
        """
        now = time.monotonic()
        rate = (step - self._last[1]) * self._batch_size / max(now - self._last[0], 1e-9)
        self._last = (now, step)
        text = f"loss {loss:.4f}" if accuracy is None else f"loss {loss:.4f}  accuracy {accuracy:.4f}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        elif now >= self._next_line or step == self._total:
            self._next_line = now + 5
            left = (self._total - step) * (now - self._start) / max(step - self._first, 1)
            print(f"step {step}/{self._total}  {text}  {rate:.0f} images/s  {left:.0f} s left", flush=True)
        return rate

    def note(self, text: str) -> None:
        """Prints a line that stays, above the bar if there is one.

        Args:
          text: the line.
        """
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
