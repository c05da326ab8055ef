"""Every config builds its net for its data, says how it is run, and refuses fields that it does not have."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnn import geometry
from cnn.runs import checkpoint
from cnn.train import train_and_evaluate
from cnn.training import optimizer
from cnn.training.steps import total_steps
from configs import default
from tests.training.tiny_runs import leaves_of, without_pictures

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "default"))
# What each set holds, so that no data needs to be there: image shape, classes, training examples.
DATA = {
    "digits": ((32, 32, 1), 10, 1294),
    "mnist": ((28, 28, 1), 10, 54000),
    "fashion_mnist": ((28, 28, 1), 10, 54000),
    "cifar10": ((32, 32, 3), 10, 45000),
    "folder": ((64, 64, 3), 10, 900),
    "fake": ((16, 16, 3), 10, 576),
    "imagenet2012": ((224, 224, 3), 1000, 1268355),
    "experiments.digit_pages.crops:load": ((28, 28, 1), 11, 311968),
}


@pytest.mark.parametrize("name", NAMES)
def test_config_builds(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    shape, classes, examples = DATA[config.data.name]
    shape = (config.data.image_size, config.data.image_size, shape[2]) if name.endswith("_imagenet") else shape
    assert config.data.image_size in (None, shape[0])
    net = checkpoint.make_net(config, classes)
    table = geometry.table(net, shape)
    assert table[-1].output_shape == (classes,)
    total = total_steps(config.train, examples)
    assert total > 10
    schedule = optimizer.make_schedule(config.train, total)
    optimizer.make_optimizer(config.train, schedule, total_steps=total, head=optimizer.head_of(table))
    assert f"--config=configs/{name}.py" in module.__doc__ or name == "digits"
    assert "python main.py" in module.__doc__
    assert ("Not run here" if name.endswith("_imagenet") else "two cores") in module.__doc__
    assert "accuracy" in module.__doc__


@pytest.fixture(scope="module")
def photographs(tfds_data_dir, tmp_path_factory):
    """Four real photographs for training and two for the test of each of ten classes."""
    source, folder = tfds_data_dir.parent / "photos", tmp_path_factory.mktemp("photographs")
    if not source.is_dir():
        pytest.skip(f"reads photographs, and there is no {source}")
    for split, count in (("train", 4), ("val", 2)):
        for place in sorted((source / split).iterdir()):
            (folder / split / place.name).mkdir(parents=True)
            for path in sorted(place.iterdir())[:count]:
                shutil.copyfile(path, folder / split / place.name / path.name)
    return folder


@pytest.mark.pages
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "width"),
    [("alexnet_imagenet", 99, None), ("vgg16_imagenet", 64, 256), ("resnet50_imagenet", 64, 8)],
)
def test_recipes_for_imagenet_take_steps_on_photographs(name, size, width, tmp_path, photographs):
    """Three steps of four smaller images, cut out of pictures that stay in their files."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.data.update({"name": "folder", "dir": str(photographs), "validation_fraction": 0.0})
    config.train.learning_rate *= 4 / config.train.batch_size  # in proportion to the batch
    config.train.update({"epochs": None, "steps": 3, "batch_size": 4, "steps_per_dispatch": 3})
    config.eval.batch_size = 20
    config.checkpoint.best = False
    config.data.image_size = size
    if width is not None:
        config.net.options.width = width
    with without_pictures():
        result = train_and_evaluate(config, str(tmp_path / "run"))
    assert result["steps"] == 3 and 0 <= result["test_accuracy"] <= 1 and result["test_loss"] < 10
    assert all(np.isfinite(leaf).all() for leaf in leaves_of(tmp_path / "run"))


def test_the_promised_configs_are_there():
    assert set(NAMES) >= {"digits", "mnist", "fashion_mnist", "cifar10", "folder", "smoke"}


def test_unknown_fields_are_refused_with_the_nearest_name():
    config = default.get_config()
    with pytest.raises(AttributeError, match=r"Did you mean .*learning_rate"):
        config.train.learning_rat = 0.1
    with pytest.raises(TypeError):
        config.train.batch_size = "many"
    config.net.options.anything = 1  # checked by the net, which knows its options
    with pytest.raises(ValueError, match="net 'full_cnn' has no option anything; it takes num_classes"):
        checkpoint.make_net(config, 10)


def test_too_few_outputs_for_the_data():
    config = default.get_config()
    config.net.num_classes = 5
    with pytest.raises(ValueError, match=r"net.num_classes \(=5\) is below the 10 classes of data 'digits'"):
        checkpoint.make_net(config, 10)
    config.net.num_classes = 12
    assert geometry.table(checkpoint.make_net(config, 10), (28, 28, 1))[-1].output_shape == (12,)
