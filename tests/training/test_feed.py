"""Training on pictures that stay in their files is training on them in memory, to the bit, also when it is stopped."""

import itertools
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from cnn import data
from cnn.data.rand_augment import RandAugment
from cnn.data.random_cuts import Cuts
from cnn.runs import checkpoint
from cnn.runtime.devices import Devices
from cnn.train import train_and_evaluate
from cnn.training import feed, many_seeds
from tests.training.tiny_runs import leaves_of, tiny_config, without_pictures


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory):
    """13 pictures for training and 4 for the test of each of three classes, 8x8 pixels."""
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for split, count in (("train", 13), ("val", 4)):
        for label, name in enumerate("abc"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(60 * label, 60 * label + 100, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def config_of(root, **fields):
    config = tiny_config(steps=9)
    config.data.update({"name": "folder", "dir": str(root), "image_size": 8, **fields})
    config.eval.update({"batch_size": 5, "every_epochs": 0.5})
    config.checkpoint.update({"every_steps": 4, "best": False})
    return config


def run(root, workdir, **fields):
    with without_pictures():
        return train_and_evaluate(config_of(root, **fields), str(workdir))


@pytest.fixture(name="whole", scope="module")
def _whole(root, tmp_path_factory):
    """Trained on pictures in memory: its folder and its result."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(root, workdir, in_memory="yes")


def assert_the_same_run(workdir, result, whole):
    jax.tree.map(np.testing.assert_array_equal, leaves_of(workdir), leaves_of(whole[0]))
    numbers = ("test_accuracy", "test_loss", "per_class_accuracy", "steps")
    assert {name: result[name] for name in numbers} == {name: whole[1][name] for name in numbers}


def test_training_is_the_same(root, tmp_path, whole):
    assert_the_same_run(tmp_path, run(root, tmp_path, in_memory="no"), whole)


def test_a_run_goes_on_in_mid_epoch_wherever_its_pictures_are(root, tmp_path, whole, monkeypatch):
    """It ends before step 7; the checkpoint of step 4 is in the first epoch, of 9 steps."""
    batches = feed.batches

    def broken(*arguments, **options):
        yield from itertools.islice(batches(*arguments, **options), 6)
        raise data.DataError("a.png: gone")

    with monkeypatch.context() as patch:
        patch.setattr(feed, "batches", broken)
        with pytest.raises(data.DataError, match="gone"):
            run(root, tmp_path, in_memory="no")
    assert checkpoint.latest_step(str(tmp_path)) == 4
    assert_the_same_run(tmp_path, run(root, tmp_path, in_memory="no"), whole)
    other = tmp_path / "other"
    with monkeypatch.context() as patch:
        patch.setattr(feed, "batches", broken)
        with pytest.raises(data.DataError, match="gone"):
            run(root, other, in_memory="no")
    assert_the_same_run(other, run(root, other, in_memory="yes"), whole)  # goes on in memory


def test_random_cuts_go_by_seed_step_and_place(root, tmp_path, monkeypatch):
    """A run on cut pictures ends the same when it is stopped; its first batch is that of the keys."""
    fields = {"in_memory": "no", "image_size": 6}
    train = data.load("folder", dir=str(root), **fields).train
    cuts = Cuts(area=(0.3, 1.0))
    batches = list(feed.batches(train, 3, 4, Devices(1), first=0, total=6, cuts=cuts))
    for step in (0, 5):
        rows = data.batch_indices(3, step, batch_size=4, num_examples=len(train.labels))[0]
        for place, row in enumerate(rows):
            key = np.random.SeedSequence((3, step, place))
            whole = np.asarray(Image.open(train.images.items[row]))
            expected = cuts.cut(whole, (6, 6), np.random.Generator(np.random.Philox(key)))
            np.testing.assert_array_equal(batches[step][0][place], expected)
    again = list(feed.batches(train, 3, 4, Devices(1), first=4, total=6, cuts=cuts))
    np.testing.assert_array_equal(again[1][0], batches[5][0])


def test_images_are_changed_after_they_are_cut(root):
    """The draws of RandAugment follow those of the cut, of one key; without cuts they are the first."""
    train = data.load("folder", dir=str(root), in_memory="no", image_size=6).train
    changes = RandAugment(2, 20)
    for cuts in (Cuts(shortest_side=(6, 9)), None):
        (batch, _), *_ = feed.batches(train, 3, 4, Devices(1), first=2, total=3, cuts=cuts, changes=changes)
        rows = data.batch_indices(3, 2, batch_size=4, num_examples=len(train.labels))[0]
        for place, row in enumerate(rows):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((3, 2, place))))
            image = train.images.cut_of_all(int(row), cuts, rng) if cuts else train.images.of_all(int(row))
            np.testing.assert_array_equal(batch[place], changes.apply(image, rng))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.in_memory": "yes", "augment.randaugment": (2, 9)}, "augment.randaugment: images are changed as .*=no"),
        ({"augment.randaugment": (2, 31)}, r"augment.randaugment \(=\(2, 31\)\) must be"),
        ({"data.in_memory": "yes", "augment.area": (0.1, 1)}, "augment.area: images are cut out of whole .*=no"),
        ({"augment.area": (0.1, 1), "augment.shortest_side": (8, 9)}, "area and augment.shortest_side: two ways"),
        ({"augment.shortest_side": (7, 9)}, r"shortest_side \(=\(7, 9\)\) must be at least 8 pixels"),
        ({"augment.area": (0.5, 1.5)}, r"augment.area \(=\(0.5, 1.5\)\) must be"),
    ],
)
def test_cuts_that_cannot_be(root, tmp_path, fields, message):
    config = config_of(root, in_memory="no")
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_trained_on_cuts(root, tmp_path, whole):
    config = config_of(root, in_memory="no")
    config.augment.shortest_side = (8, 12)
    with without_pictures():
        train_and_evaluate(config, str(tmp_path))
    same = [np.array_equal(*pair) for pair in zip(leaves_of(tmp_path), leaves_of(whole[0]), strict=True)]
    assert not all(same)


def test_a_file_that_is_gone_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "set")
    train = data.load("folder", dir=str(tmp_path / "set"), image_size=8, in_memory="no").train
    rows = data.batch_indices(0, 2, batch_size=4, num_examples=len(train.labels))[0]
    os.unlink(gone := train.images.items[rows[1]])
    coming = feed.batches(train, 0, 4, Devices(1), first=0, total=9)
    next(coming)
    with pytest.raises(data.DataError, match=os.path.basename(gone)):
        list(coming)


@pytest.mark.parametrize("first", [0, 5])
def test_batches_are_those_of_seed_and_step(root, first):
    train = data.load("folder", dir=str(root), image_size=8, in_memory="no").train
    found = list(feed.batches(train, 3, 4, Devices(1), first=first, total=20))
    assert len(found) == 20 - first
    for step, (images, labels) in enumerate(found, first):
        rows = data.batch_indices(3, step, batch_size=4, num_examples=len(train.labels))[0]
        np.testing.assert_array_equal(images, train.images[rows])
        np.testing.assert_array_equal(labels, train.labels[rows])


def test_several_seeds_at_once_want_them_in_memory(root):
    dataset = data.load("folder", dir=str(root), image_size=8, in_memory="no")
    with pytest.raises(ValueError, match="data.in_memory=yes reads them"):
        many_seeds.train_seeds(config_of(root), dataset, [0, 1])
