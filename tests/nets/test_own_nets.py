"""Nets that are functions of the user's own."""

import pytest

from cnn import geometry, nets
from cnn.runtime import own_code
from tests.helpers import PROGRAMS

FILE = f"{PROGRAMS}/own_nets.py"


def test_a_net_by_file_and_function():
    net = nets.create(f"{FILE}:small", 5, width=6)
    assert str(net) == "INPUT -> CONV -> RELU -> POOL -> FC -> RELU -> FC"
    assert geometry.table(net, (8, 8, 1))[-1].output_shape == (5,)
    assert geometry.table(nets.create(f"{FILE}:any_options", 3, width=6), (8, 8, 1))[-1].output_shape == (3,)


def test_a_net_by_module_and_function():
    assert isinstance(nets.create("tests.programs.own_nets:small", 5), nets.Net)


@pytest.mark.parametrize(
    "reference, message",
    [
        (f"{FILE}:smal", r"net.name: .*own_nets.py has no function 'smal'; did you mean small\?"),
        (f"{FILE}:AvgPol", r"own_nets.py has no function 'AvgPol'; there are any_options, plain_flax, small, with"),
        (f"{FILE}:wrong", r"own_nets.py, line \d+: NameError: name 'widht' is not defined"),
        (f"{FILE}:without_classes", "net 'own_nets.py:without_classes' must take num_classes"),
        (f"{FILE}:plain_flax", r"'own_nets.py:plain_flax' returned Dense; a net is made of the layers of cnn.layers"),
        (f"{PROGRAMS}/own_net.py:small", r"there is no file .*own_net.py; did you mean own_nets.py"),
        ("tests.programs.own_net:small", "there is no module tests.programs.own_net; a file is named with its .py"),
        ("my_net", r"unknown net 'my_net'; .*or a function of your own: my_nets.py:my_net"),
    ],
)
def test_a_mistake_is_said_in_a_line(reference, message):
    with pytest.raises(ValueError, match=message) as error:
        nets.create(reference, 3)
    assert "\n" not in str(error.value)


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"net 'own_nets.py:small' has no option depth; it takes num_classes, width=8"):
        nets.create(f"{FILE}:small", 3, depth=2)


def test_a_file_that_changed_is_not_executed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def net(num_classes):\n    pass\n")
    pinned = own_code.pinned(f"{path}:net")
    assert own_code.pinned(pinned) == pinned and own_code.short(pinned) == "mine.py:net"
    own_code.load(pinned, "net.name")
    path.write_text("raise SystemExit\n")
    message = r"net.name=mine.py:net: .*mine.py has changed since then; .*--net=WORKDIR/code/net/mine.py:net"
    with pytest.raises(ValueError, match=message):
        own_code.load(pinned, "net.name")
    path.unlink()
    with pytest.raises(ValueError, match=r"there is no file .*mine.py.*--net=WORKDIR/code/net/mine.py:net"):
        own_code.load(pinned, "net.name")
