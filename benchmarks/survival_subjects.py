"""What is damaged and killed: tiny runs, studies and streams, the commands that use them, and what these must give."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from PIL import Image

from cnn import dense, nets
from cnn.dense import tiles
from cnn.dense.streaming import progress as stream_progress
from cnn.dense.streaming.sinks import pyramid
from cnn.reports import mistakes, net_pictures, run_pictures
from cnn.runs import checkpoint, logs, saved_steps
from cnn.train import train_and_evaluate
from cnn.training import predict
from cnn.training.evaluate import evaluate_run
from configs import smoke
from experiments.ablation import runner
from experiments.ablation.study import Study

STOPPED_AT = 4  # step of an unfinished run
DRAWN = (
    (run_pictures, ("confusion_picture", "curves_picture")),
    (net_pictures, ("kernels_picture", "feature_maps_picture")),
    (mistakes, ("find", "mistakes_picture")),
)
SINKS = ("m.npy", "m.zarr", "m.ome.zarr", "m.tif")
TIMES = ("epoch_seconds", "cell_seconds", "seconds", "images_per_second")


class Use(NamedTuple):
    """A command that uses a folder.

    Attributes:
      name: what it does, in words.
      run: takes the folder; gives numbers by name, or raises.
      before: what it gives where the one before is used; None: there is none before.
    """

    name: str
    run: Callable[[pathlib.Path], Any]
    before: Callable[[pathlib.Path], Any] | None = None


class Subject(NamedTuple):
    """A folder of one kind, and what uses it.

    Attributes:
      name: what it is, in words.
      make: makes it in a folder.
      uses: the commands that use it.
      left_out: beginnings of names of files that are not damaged: nothing reads them.
    """

    name: str
    make: Callable[[pathlib.Path], None]
    uses: tuple[Use, ...]
    left_out: tuple[str, ...] = ()


def config() -> Any:
    """A run of seconds: six steps, a checkpoint every two, a validation each."""
    made = smoke.get_config()
    made.train.update({"steps": 6, "steps_per_dispatch": 2, "batch_size": 8})
    made.net.options.update({"features": 2, "width": 4, "blocks": 1, "convs": 1})
    made.data.train_examples, made.eval.scenes, made.eval.every_epochs = 40, 0, 0.4
    made.checkpoint.every_steps, made.checkpoint.keep = 2, 2
    return made


@contextlib.contextmanager
def small() -> Iterator[None]:
    """In this block no pictures of runs are drawn, tiles may be small, and journals are written after each tile."""
    with contextlib.ExitStack() as stack:
        for module, names in DRAWN:
            for name in names:
                stack.enter_context(mock.patch.object(module, name, lambda *given, **options: None))
        for module, name, value in ((tiles, "LEAST_OUTPUTS", 8), (pyramid, "SMALLEST", 8)):
            stack.enter_context(mock.patch.object(module, name, value))
        stack.enter_context(mock.patch.object(stream_progress, "JOURNAL_SECONDS", 0.0))
        yield


def train(folder: pathlib.Path) -> dict[str, Any]:
    """Trains, or goes on; gives the numbers of its result, its curves and its variables."""
    result = train_and_evaluate(config(), str(folder))
    kept = ("test_accuracy", "test_loss", "steps", "examples", "validation_accuracy", "best")
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in logs.read_metrics(str(folder))]
    run = checkpoint.load_run(str(folder))
    return {**{name: result.get(name) for name in kept}, "curves": lines, "variables": _digest(run.variables)}


def train_half(folder: pathlib.Path) -> None:
    """Trains until a stop after `STOPPED_AT` steps."""
    save = saved_steps.Checkpoints.save

    def stopping(self: Any, step: int, *given: Any, **options: Any) -> None:
        save(self, step, *given, **options)
        if step == STOPPED_AT and self.folder.endswith(checkpoint.LATEST):
            raise KeyboardInterrupt

    with mock.patch.object(saved_steps.Checkpoints, "save", stopping), contextlib.suppress(KeyboardInterrupt):
        train_and_evaluate(config(), str(folder))


def evaluate(folder: pathlib.Path, which: str = "last") -> Any:
    """Evaluates a run."""
    return logs.finite(evaluate_run(checkpoint.load_run(str(folder), which=which)))


def predict_one(folder: pathlib.Path) -> Any:
    """Predicts the class of one picture."""
    picture = folder.parent / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(picture)
    (found,) = predict.predict(checkpoint.load_run(str(folder)), [str(picture)])
    return [found.class_name, np.asarray(found.probabilities).tolist()]


def _one_before(use: Callable[[pathlib.Path], Any]) -> Callable[[pathlib.Path], Any]:
    """A use without the latest checkpoint."""

    def without(folder: pathlib.Path) -> Any:
        latest = checkpoint.latest_step(str(folder))
        shutil.rmtree(folder / checkpoint.LATEST / str(latest))
        return use(folder)

    return without


STUDY = Study(
    question="Which pool?",
    cells={"max": {}, "average": {"net.options.pool": "average"}},
    baseline="max",
    base="configs/smoke.py",
    tune={"train.learning_rate": (0.01, 0.02)},
    seeds=2,
)
SHORT = {"train.steps": 3, "net.options.features": 2, "net.options.width": 4, "data.train_examples": 40}


def study(folder: pathlib.Path) -> Any:
    """Runs a study, or goes on with it; gives its lines, in order of cells and seeds, without times."""
    runner.run_study("pools", str(folder), overrides=SHORT, study=STUDY)
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    lines = [{name: value for name, value in line.items() if name not in TIMES} for line in found]
    return sorted(lines, key=lambda line: (line["kind"], line["cell"], line["chosen"], line["seed"]))


PIXELS = np.random.default_rng(3).integers(0, 256, (64, 72, 3), np.uint8)


def _net() -> tuple[Any, Any]:
    net = nets.create("layer_pattern", 3, features=4, width=8, blocks=1, convs=1)
    return net, nets.init(net, (16, 16, 3))


def stream(folder: pathlib.Path, sink: str, source: Any = PIXELS) -> str:
    """Streams a map, or goes on with it; gives a digest of all bytes that it consists of."""
    net, variables = _net()
    constants = {"mean": (0.5, 0.4, 0.6), "std": (0.2, 0.3, 0.25), "class_names": ["a", "b", "c"]}
    dense.stream(net, variables, source, folder / sink, window=(16, 16), stride=2, tile=8, progress=False, **constants)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".copy" not in path.name)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes())
    return digest.hexdigest()


def stream_half(folder: pathlib.Path, sink: str) -> None:
    """Streams until a stop after some tiles."""

    class Stopping:
        shape, dtype, reads = PIXELS.shape, PIXELS.dtype, 0

        def __getitem__(self, region: Any) -> np.ndarray:
            self.reads += 1
            if self.reads > 8:
                raise KeyboardInterrupt
            return PIXELS[region]

    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        stream(folder, sink, Stopping())


def read_map(folder: pathlib.Path, sink: str) -> str:
    """Opens a map and reads all of it."""
    opened = dense.open_map(folder / sink)
    facts = f"{opened.shape} {opened.window} {opened.stride} {opened.class_names} {opened.transform}"
    return hashlib.sha256(facts.encode() + opened.read().tobytes()).hexdigest()


def _whole_stream(sink: str) -> Subject:
    uses = (Use("open_map", lambda folder: read_map(folder, sink)), Use("stream again", lambda f: stream(f, sink)))
    return Subject(f"finished map {sink}", lambda folder: (folder.mkdir(), stream(folder, sink))[0], uses)


def _half_stream(sink: str) -> Subject:
    uses = (Use("stream on", lambda folder: stream(folder, sink)),)
    return Subject(f"unfinished map {sink}", lambda folder: stream_half(folder, sink), uses)


SUBJECTS: Mapping[str, Subject] = {
    "run": Subject(
        "finished run",
        lambda folder: (train(folder), None)[1],
        (
            Use("train again", train),
            Use("evaluate", evaluate, _one_before(evaluate)),
            Use("evaluate the best", lambda folder: evaluate(folder, "best")),
            Use("predict", predict_one, _one_before(predict_one)),
        ),
        ("tensorboard",),
    ),
    "half run": Subject("unfinished run", train_half, (Use("train on", train),), ("tensorboard",)),
    "study": Subject("finished study", lambda folder: (study(folder), None)[1], (Use("run the study again", study),)),
    **{sink: _whole_stream(sink) for sink in SINKS},
    **{f"half {sink}": _half_stream(sink) for sink in SINKS},
}


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def files_of(folder: pathlib.Path, subject: Subject) -> list[str]:
    """Names of the files of a subject that are damaged, and of its folders of steps."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    names = [os.path.relpath(path, folder) for path in found]
    names += [f"{one}/{step.name}/" for one in ("checkpoints", "checkpoints_best") for step in (folder / one).glob("*")]
    return sorted(name for name in names if not name.startswith(subject.left_out or ("\0",)))
