"""Every config builds its net for its data, says how it is run, and refuses fields that it does not have."""

import importlib
from pathlib import Path

import pytest

from cnn import geometry
from cnn.runs import checkpoint
from cnn.training import optimizer
from cnn.training.steps import total_steps
from configs import default

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
    "experiments.digit_pages.crops:load": ((28, 28, 1), 11, 311968),
}


@pytest.mark.parametrize("name", NAMES)
def test_config_builds(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    shape, classes, examples = DATA[config.data.name]
    assert config.data.image_size in (None, shape[0])
    net = checkpoint.make_net(config, classes)
    assert geometry.table(net, shape)[-1].output_shape == (classes,)
    total = total_steps(config.train, examples)
    assert total > 10
    optimizer.make_optimizer(config.train, optimizer.make_schedule(config.train, total))
    assert f"--config=configs/{name}.py" in module.__doc__ or name == "digits"
    assert "python main.py" in module.__doc__
    assert "two cores" in module.__doc__
    assert "accuracy" in module.__doc__


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
