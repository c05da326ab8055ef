"""What `benchmarks.large_folder` runs, each in processes of its own, and the report."""

import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import input_contenders, machine
from cnn.reports import markdown
from cnn.runs import checkpoint

CLASSES = 10
ROOT = pathlib.Path(__file__).parents[1]
LONGEST = 1800  # seconds that a run may take, after which the benchmark fails
# A net that costs next to nothing, so that training is as fast as its input.
NET = """
from cnn import nets
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten


def tiny(num_classes):
    return nets.net([Conv(8, 16, stride=16), Activation()], [AvgPool(None), Flatten(), Dense(num_classes)])
"""


class Ran(NamedTuple):
    """A command that ran to its end.

    Attributes:
      seconds: from its start to its end, seconds.
      peak_bytes: the largest resident memory that it had, bytes.
      said: what it wrote to its output.
    """

    seconds: float
    peak_bytes: int
    said: str


def write_folder(folder: str, count: int, side: int) -> None:
    """Writes JPEGs to FOLDER/train and FOLDER/val, one folder for each class.

    Args:
      folder: where they are written.
      count: number of pictures in train; val has a hundredth of it, and at least one for each class.
      side: height and width, pixels.
    """
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as place:
        paths = input_contenders.write_pictures(place, count + max(CLASSES, count // 100), side)
        for i, path in enumerate(paths):
            target = os.path.join(folder, "train" if i < count else "val", str(i % CLASSES), os.path.basename(path))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(path, target)


def size(folder: str) -> int:
    """Bytes of all files in a folder.

    Args:
      folder: the folder.

    Returns:
      Their sum.
    """
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*.jpg"))


def command(folder: str, steps: int, batch: int, side: int, in_memory: str) -> list[str]:
    """The command that trains on the pictures in FOLDER/pictures, all but its working directory.

    Args:
      folder: the folder, to which the net's file is written.
      steps, batch: length of the run, and images in a step.
      side: height and width of an image, pixels.
      in_memory: `data.in_memory`.

    Returns:
      Program and arguments.
    """
    net = os.path.join(folder, "tiny_net.py")
    with open(net, "w") as file:
        file.write(NET)
    fields = {"data.name": "folder", "data.dir": f"{folder}/pictures", "data.image_size": side}
    fields |= {"data.validation_fraction": 0, "data.in_memory": in_memory, "net.name": f"{net}:tiny"}
    fields |= {"train.steps": steps, "train.batch_size": batch, "train.steps_per_dispatch": 10}
    fields |= {"checkpoint.every_steps": max(1, steps // 10), "augment.flip": True}
    flags = ["--config=configs/default.py", "--data_cache=", *(f"--config.{name}={x}" for name, x in fields.items())]
    return [sys.executable, "main.py", *flags]


def train(words: Sequence[str]) -> Ran:
    """Runs a command to its end.

    Args:
      words: program and arguments.

    Returns:
      What it took, by itself without children.

    Raises:
      RuntimeError: if it fails; holds the end of its output.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _peak_bytes(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with status {process.returncode}: {text[-500:]}")
    return Ran(seconds, peak, text)


def _peak_bytes(pid: int) -> int:
    """The largest resident memory that a process has had so far, bytes (Linux, proc(5)); 0 if it has ended.

    Not that of getrusage, which counts the memory of this process when it was forked.
    """
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def kill(words: Sequence[str], workdir: str, step: int) -> int:
    """Runs a training command and kills it once its log has come to a step.

    Args:
      words: program and arguments.
      workdir: the run's directory.
      step: the step, from which on the process is killed by SIGKILL.

    Returns:
      The last step in its log.

    Raises:
      RuntimeError: if it ends, or does not come so far in time.
    """
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        start = time.perf_counter()
        while not (found := [at for at, _ in _trained(workdir)]) or found[-1] < step:
            if process.poll() is not None or time.perf_counter() - start > LONGEST:
                raise RuntimeError(f"{' '.join(words)} did not come to step {step} (status {process.returncode})")
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return found[-1]


def _trained(workdir: str) -> list[tuple[int, float]]:
    """Steps of training in a log, and the seconds since the run's start."""
    path = pathlib.Path(workdir, "metrics.jsonl")
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    lines = [json.loads(line) for line in whole]
    return [(line["step"], line["seconds"]) for line in lines if line.get("split") == "train"]


def rate(workdir: str, first: int) -> float:
    """Pictures a second in training, from a step on.

    Args:
      workdir: directory of a run that was not interrupted.
      first: the step; those before it are left out, as they wait for the compiler.

    Returns:
      The rate over the rest of the run.
    """
    steps = [(step, seconds) for step, seconds in _trained(workdir) if step >= first]
    with open(os.path.join(workdir, "config.json")) as file:
        batch = json.load(file)["train"]["batch_size"]
    return batch * (steps[-1][0] - steps[0][0]) / (steps[-1][1] - steps[0][1])


def bare_rate(folder: str, side: int, batch: int, few: bool) -> float:
    """Pictures a second of a loop over Pillow with a thread for each core, over pictures drawn from a folder.

    Args:
      folder: the folder.
      side: height and width of an image, pixels.
      batch: images in a batch.
      few: whether a few pictures are enough.

    Returns:
      The rate.
    """
    paths = sorted(str(path) for path in pathlib.Path(folder).rglob("*.jpg"))
    drawn = np.random.default_rng(0).permutation(len(paths))[: 256 if few else 8192]
    made = input_contenders.contenders([paths[i] for i in drawn], side, batch)[input_contenders.BARE]
    start = time.perf_counter()
    input_contenders.take_all(made())
    return len(drawn) // batch * batch / (time.perf_counter() - start)


def went_on_from(said: str) -> int:
    """The step from which a run went on.

    Args:
      said: its output.

    Returns:
      The step.

    Raises:
      RuntimeError: if it began anew.
    """
    found = re.search(r"step (\d+)", next((line for line in said.splitlines() if line.startswith("resum")), ""))
    if not found:
        raise RuntimeError(f"the run did not go on from a checkpoint: {said[-500:]}")
    return int(found[1])


def check_streamed(said: str) -> None:
    """Checks that a run did not hold its pictures in memory.

    Args:
      said: its output.

    Raises:
      RuntimeError: if it does not say so.
    """
    if "stay in their files" not in said:
        raise RuntimeError(f"the pictures do not stay in their files; more or larger ones would: {said[-500:]}")


def check(results: Mapping[str, Any]) -> None:
    """Checks that what must be equal is.

    Args:
      results: the contents of large_folder.json.

    Raises:
      RuntimeError: if it is not; says what.
    """
    if not results["training"]["equal_parameters"]:
        raise RuntimeError("the run that was killed and went on ends with other parameters")
    if different := [n for n, equal in results["batches"]["equal"].items() if not equal]:
        raise RuntimeError(f"{' and '.join(different)} processes see other batches than one")


def equal_parameters(one: str, other: str) -> bool:
    """Whether two runs end with the same parameters, to the bit.

    Args:
      one, other: their directories.

    Returns:
      True or False.
    """
    trees = [jax.tree.leaves(checkpoint.load_run(workdir, which="last").variables) for workdir in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*trees, strict=True))


def batches_of(count: int, folder: str, side: int, batch: int, steps: int) -> dict[str, str]:
    """Which pixels the first steps of a run see, read by so many processes.

    Args:
      count: number of processes.
      folder: the pictures.
      side: height and width of an image, pixels.
      batch, steps: images in a step, and number of steps.

    Returns:
      "STEP PLACE", the place in the batch -> digest of the image.
    """
    with tempfile.TemporaryDirectory() as place:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        outputs = [os.path.join(place, f"{i}.json") for i in range(count)]
        numbers = [str(x) for x in (side, batch, steps)]
        words = [sys.executable, "-m", "benchmarks.large_folder_batches", address, str(count)]
        started = [
            subprocess.Popen([*words, str(i), folder, *numbers, outputs[i]], cwd=ROOT, stdout=subprocess.DEVNULL)
            for i in range(count)
        ]
        for process in started:
            if process.wait(LONGEST):
                raise RuntimeError(f"{' '.join(words)} ended with status {process.returncode}")
        found: dict[str, str] = {}
        for output in outputs:
            with open(output) as file:
                found |= json.load(file)
    return found


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of large_folder.json.

    Returns:
      One table, and the facts about the machine.
    """
    training, batches = results["training"], results["batches"]
    bare = statistics.median(results["bare_pictures_per_second"])
    decoded = results["pictures"] * results["side"] ** 2 * 3
    peak = max(training["peak_resident_bytes"])
    kept = "equal to the bit" if training["equal_parameters"] else "DIFFERENT"
    same = ", ".join(f"{n} {'the same' if equal else 'DIFFERENT'}" for n, equal in batches["equal"].items() if n != "1")
    rows = [
        ["pictures", f"{results['pictures']:,} JPEGs, {results['bytes'] / 1e9:.2f} GB"],
        ["their pixels", f"{decoded / 1e9:.2f} GB"],
        ["peak resident memory of training", f"{peak / 1e9:.2f} GB"],
        ["pictures/s in training", f"{training['pictures_per_second']:,.0f}"],
        ["pictures/s of a loop over Pillow", f"{bare:,.0f}"],
        ["training by the loop", f"{training['pictures_per_second'] / bare:.2f}"],
        ["seconds for the epoch, all included", f"{training['seconds']:,.0f}"],
        [
            f"killed at step {training['killed_at_step']} of {training['steps']}, went on from step "
            f"{training['went_on_from_step']}: parameters",
            kept,
        ],
        [f"the first {batches['steps']} batches of several processes, beside those of one", same],
    ]
    title = f"# Training on JPEGs of {results['side']}x{results['side']} pixels that stay in their files"
    return f"{title}\n\n{markdown.markdown(['what', 'measured'], rows)}\n{machine.lines(results)}"
