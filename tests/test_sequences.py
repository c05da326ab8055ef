"""Sequences of commands on one directory and one map, killed anywhere, against a model of what may change.

Steps are taken by a few lines of NumPy in place of a compiled program, so that what a run must hold after any number of
them is known without training; all else is the library's own.
"""

import contextlib
import hashlib
import json
import pathlib
import tempfile

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from cnn import data, dense, nets
from cnn.reports import mistakes, net_pictures, run_pictures, run_report
from cnn.runs import best, checkpoint, logs, overrides
from cnn.runs import config as config_lib
from cnn.train import train_and_evaluate
from cnn.training import dispatch, steps
from cnn.training.evaluate import evaluate, evaluate_run
from cnn.training.predict import predict
from tests.helpers import PROGRAMS
from tests.made import small_config
from tests.programs import data_in_place

TOTAL, BATCH = 4, 4
TRAINED = ("seed", "train.learning_rate")  # fields of a config that change what is trained, of those that are drawn
CONFIGS = {
    "base": {},
    "another seed": {"seed": 1},
    "another rate": {"train.learning_rate": 0.5},
    "smaller batches of evaluation": {"eval.batch_size": 5},
    "fewer checkpoints": {"checkpoint.every_steps": 3},
}


class Killed(BaseException):
    """In place of SIGKILL: nothing of the library catches it."""


class Killer:
    """Counts the moments at which something is written, and kills at one of them."""

    left: int | None = None

    def __call__(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed

    def around(self, function):
        """The function, with a moment before and a moment after it."""

        def wrapped(*arguments, **options):
            self()
            value = function(*arguments, **options)
            self()
            return value

        return wrapped

    @contextlib.contextmanager
    def at(self, moment):
        """Kills at a moment of the block; says whether it did."""
        killed, self.left = [], moment
        try:
            yield killed
        except Killed:
            killed.append(True)
        finally:
            self.left = None


def stepped(params, images, labels, rate):
    """What a step makes of the parameters: it depends on all that a step may depend on."""
    pull = np.float32(rate * (images.astype(np.float64).mean() / 255 + labels.mean()))
    return jax.tree.map(lambda leaf: (np.asarray(leaf) * np.float32(0.9) + pull).astype(np.float32), params)


def config_of(changes, place):
    config = small_config(steps=TOTAL, batch_size=BATCH, steps_per_dispatch=2, learning_rate=0.25)
    config.augment.pad = 0
    config.data.name, config.data.image_size = f"{PROGRAMS}/data_in_place.py:load", None
    config.data.dir, config.checkpoint.every_steps, config.checkpoint.keep = str(place), 2, 2
    config.net.options.update({"blocks": 1, "convs": 1, "features": 2, "width": 4})
    overrides.override(config, changes)
    return config


@pytest.fixture(name="killer")
def _killer(monkeypatch):
    """The library with NumPy's steps, without pictures, and with moments at which it can be killed."""
    killer = Killer()

    def make_step(net, optimizer, config, mean, std, class_weights, devices):
        return config.train.learning_rate

    def make_run_steps(rate, devices, length, **options):
        def run(state, images, labels, indices):
            params = state.params
            for row in indices:
                killer()
                params = stepped(params, np.asarray(images)[row], np.asarray(labels)[row], rate)
            count = len(indices)
            result = steps.StepResult(np.ones(count, np.float32), np.ones(count, np.int32), np.full(count, BATCH))
            return state._replace(step=state.step + count, params=params), result

        return run

    monkeypatch.setattr(steps, "make_step", make_step)
    monkeypatch.setattr(dispatch, "make_run_steps", make_run_steps)
    for module, names in (
        (run_pictures, ("confusion_picture", "curves_picture")),
        (net_pictures, ("kernels_picture", "feature_maps_picture")),
        (mistakes, ("mistakes_picture", "find")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *arguments, **options: killer())
    monkeypatch.setattr(logs, "write_json", killer.around(logs.write_json))
    monkeypatch.setattr(logs.MetricWriter, "write", killer.around(logs.MetricWriter.write))
    monkeypatch.setattr(checkpoint.Checkpoints, "save", killer.around(checkpoint.Checkpoints.save))
    monkeypatch.setattr(run_report, "write_run_page", killer.around(run_report.write_run_page))
    return killer


@pytest.fixture(name="reference", scope="module")
def _reference():
    """(fields that change what is trained, data, classes in order, step) -> parameters, by the steps alone."""
    known = {}

    def reference(trained, variant, class_names, step):
        key = (trained, variant, class_names, step)
        if key not in known:
            dataset = data.in_order(data_in_place.made(variant), class_names, "the test")
            seed, rate = trained
            config = config_of({}, "")
            if step == 0:
                net = checkpoint.make_net(config, len(class_names))
                known[key] = nets.init(net, dataset.image_shape, seed)["params"]
            else:
                options = {"batch_size": BATCH, "num_examples": len(dataset.train.labels)}
                (row,) = data.batch_indices(seed, step - 1, **options)
                before = reference(trained, variant, class_names, step - 1)
                known[key] = stepped(before, dataset.train.images[row], dataset.train.labels[row], rate)
        return known[key]

    return reference


class World:
    """A directory of a run, two places of its data with one content, a map; and what must be true of them."""

    def __init__(self, root, killer, reference):
        self.root, self.killer, self.reference = pathlib.Path(root), killer, reference
        self.workdir, self.map = self.root / "run", self.root / "map.npy"
        for place in ("here", "there"):
            (self.root / place).mkdir()
        self.change_data("as it was")

    def change_data(self, variant):
        self.variant = variant
        for place in ("here", "there"):
            (self.root / place / "variant").write_text(variant)

    def seen(self, *paths):
        """Digests of all files."""
        found = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in found if file.is_file()}

    def trained(self, config):
        fields = config_lib.fields(config)
        return tuple(fields[field] for field in TRAINED)

    def held(self):
        """(fields, variant, classes) of the run that the directory holds, by its files; None if it holds none."""
        if not config_lib.holds_run(str(self.workdir)):
            return None
        facts = json.loads((self.workdir / "data.json").read_text())
        names = tuple(facts["class_names"])
        for variant in data_in_place.VARIANTS:
            with contextlib.suppress(data.DataError):
                dataset = data.in_order(data_in_place.made(variant), names, "")
                labels = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
                if facts["digest"] == digests(labels):
                    return self.trained(config_lib.load(str(self.workdir))), variant, names
        raise AssertionError("data.json describes no data that there ever were")

    def train(self, changes, place, moment):
        config = config_of(changes, self.root / place)
        before, held = self.seen(self.workdir), self.held()
        now = data_in_place.made(self.variant)
        fits = held is None or (
            held[0] == self.trained(config)
            and sorted(held[2]) == sorted(now.class_names)
            and digests(data_in_place.made(held[1]), held[2]) == digests(now, held[2])
        )
        finished = held is not None and (self.workdir / "report.html").exists()
        same = finished and not config_lib.differences(config, str(self.workdir))
        with self.killer.at(moment) as killed:
            if not fits and not same:
                with pytest.raises(ValueError, match="Choose another|choose another|another --workdir"):
                    train_and_evaluate(config, str(self.workdir))
            else:
                result = train_and_evaluate(config, str(self.workdir))
                assert (self.workdir / "report.html").exists() and result["steps"] == TOTAL
                assert json.loads((self.workdir / "result.json").read_text()) == json.loads(json.dumps(result))
                assert config_lib.differences(config, str(self.workdir)) == {}
        if not fits or same:
            assert not killed and self.seen(self.workdir) == before
        if finished:  # a trained run stays trained, whatever is done with it
            assert checkpoint.latest_step(str(self.workdir)) == TOTAL

    def check(self):
        """Whatever the files say of a run is so."""
        held = self.held()
        if held is None:
            assert not (self.workdir / "report.html").exists()
            return
        try:
            run = checkpoint.load_run(str(self.workdir))
        except FileNotFoundError:
            assert not (self.workdir / "report.html").exists()
            return
        assert run.class_names == held[2]
        expected = self.reference(*held, run.step)
        jax.tree.map(np.testing.assert_array_equal, run.variables["params"], expected)
        kept, path = best.read(str(self.workdir)), self.workdir / "result.json"
        if kept:
            variables = checkpoint.load_run(str(self.workdir), which="best").variables
            jax.tree.map(np.testing.assert_array_equal, variables["params"], self.reference(*held, kept.step))
        if path.exists():
            best_of = json.loads(path.read_text())["best"]
            assert (best_of["step"], best_of["validation_accuracy"]) == kept[:2]
            result, score = json.loads(path.read_text()), self.score(run, held[1])
            assert run.step == result["steps"] == TOTAL
            assert (result["test_accuracy"], result["examples"]) == (score.accuracy, score.examples)
            np.testing.assert_allclose(result["test_loss"], score.loss, rtol=1e-6)
        if (self.workdir / "report.html").exists():
            (line,) = (line for line in logs.read_metrics(str(self.workdir)) if line["split"] == "test")
            assert line["accuracy"] == json.loads(path.read_text())["test_accuracy"]

    def score(self, run, variant):
        dataset = data.in_order(data_in_place.made(variant), run.class_names, "the test")
        return evaluate(run.net, run.variables, dataset.test, run.mean, run.std, batch_size=9)

    def evaluate(self, place):
        before = self.seen(self.workdir)
        held = self.held()
        try:
            run = overrides.load_for_use(str(self.workdir), {"data.dir": str(self.root / place)})
            found = evaluate_run(run)["test"]
        except FileNotFoundError:
            assert held is None
        except data.DataError as error:
            assert held is not None and sorted(held[2]) != sorted(data_in_place.made(self.variant).class_names)
            assert all(name in str(error) for name in held[2])
        else:
            score = self.score(run, self.variant)
            assert (found["accuracy"], found["examples"]) == (score.accuracy, score.examples)
        with pytest.raises((ValueError, FileNotFoundError), match="train.steps is 4 there and 5 here|holds no run"):
            overrides.load_for_use(str(self.workdir), {"train.steps": 5})
        assert self.seen(self.workdir) == before

    def predict(self):
        if self.held() is None:
            return
        before = self.seen(self.workdir)
        run = checkpoint.load_run(str(self.workdir))
        Image.fromarray(data_in_place.made("as it was").test.images[0, ..., 0]).save(self.root / "one.png")
        (found,) = predict(run, [str(self.root / "one.png")])
        assert found.class_names == run.class_names
        assert self.seen(self.workdir) == before

    def stream(self, picture, reads):
        if self.held() is None:
            return
        run = checkpoint.load_run(str(self.workdir))
        image = np.random.default_rng(picture).integers(0, 256, (26, 20, 1)).astype(np.uint8)
        options = {"window": (8, 8), "mean": run.mean, "std": run.std, "progress": False, "tile": 4}
        before = self.seen(*self.root.glob("map.npy*"))
        source = KilledReader(image, self.killer)
        with self.killer.at(reads) as killed:
            try:
                dense.stream(run.net, run.variables, source, str(self.map), **options)
            except ValueError:
                assert self.seen(*self.root.glob("map.npy*")) == before
                return
        if not killed:
            x = data.normalise(image[None], run.mean, run.std)
            whole = dense.score_map(run.net, run.variables, x, (8, 8)).scores[0]
            np.testing.assert_allclose(np.load(self.map), whole, atol=1e-4 * np.abs(whole).max())


class KilledReader:
    """An array, each reading of which is a moment to be killed at."""

    def __init__(self, array, killer):
        self.array, self.killer = array, killer
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key):
        self.killer()
        return self.array[key]


def digests(splits, names=None):
    if names is not None:
        try:
            dataset = data.in_order(splits, names, "")
        except data.DataError:
            return None
        splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    found = {}
    for name, split in splits.items():
        each = b"".join(hashlib.sha256(image.tobytes()).digest() for image in split.images)
        found[name] = "examples:" + hashlib.sha256(each + split.labels.astype(np.int32).tobytes()).hexdigest()
    return found


MOMENTS = st.one_of(st.none(), st.integers(0, 40))
PLACES = st.sampled_from(("here", "there"))
COMMANDS = st.one_of(
    st.tuples(st.just("train"), st.sampled_from(list(CONFIGS)), PLACES, MOMENTS),
    st.tuples(st.just("train"), st.just("base"), st.just("here"), MOMENTS),
    st.tuples(st.just("change_data"), st.sampled_from(data_in_place.VARIANTS)),
    st.tuples(st.just("evaluate"), PLACES),
    st.just(("predict",)),
    st.tuples(st.just("stream"), st.integers(0, 1), st.one_of(st.none(), st.integers(0, 30))),
)


@pytest.mark.slow
@hypothesis.given(st.lists(COMMANDS, min_size=1, max_size=6))
@hypothesis.settings(
    max_examples=hypothesis.settings().max_examples * 6 // 5,  # 300 in the thorough profile
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_no_sequence_of_commands_leaves_a_run_or_map_that_lies(killer, reference, commands):
    with tempfile.TemporaryDirectory() as root:
        world = World(root, killer, reference)
        for name, *arguments in commands:
            if name == "train":
                arguments[0] = CONFIGS[arguments[0]]
            getattr(world, name)(*arguments)
            world.check()
