"""The protocol grid of a padded and of an unpadded net, each computed once."""

import pytest

from cnn.protocols import vgg
from tests.protocols.noise import OPTIONS, make_pictures, make_run


@pytest.fixture(name="padded", scope="session")
def _padded():
    return vgg.evaluate_grid(make_run("same"), make_pictures(), OPTIONS._replace(strides=()))


@pytest.fixture(name="unpadded", scope="session")
def _unpadded():
    return vgg.evaluate_grid(make_run("valid"), make_pictures(), OPTIONS)
