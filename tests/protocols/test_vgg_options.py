"""What the protocol grid is made of: the scales it takes by itself, and errors that name the flag."""

import pytest

from cnn import nets
from cnn.protocols import vgg as vgg_lib
from cnn.protocols import vgg_options
from cnn.protocols.vgg_options import Options
from tests.protocols.test_vgg import make_pictures, make_run


def test_default_scales_are_the_papers_in_proportion():
    run = make_run("same")
    assert vgg_options.default_scales(run) == (10, 14, 18)  # stride 2: 9.1, 13.7 and 18.3
    vgg = run._replace(net=nets.create("vgg16", 10, width=8), image_shape=(224, 224, 3))
    assert vgg_options.default_scales(vgg) == (256, 384, 512)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scales": (7, 20)}, r"--scales=7,20: a shortest side of 7 pixels is below .* 8x8; .* from 8 on .*=10,14,18"),
        ({"scales": (9, 9)}, "--scales: 9 is given more than once"),
        ({"averages": ("mean",)}, "--averaging=mean: any of probabilities, logits, max would do"),
        ({"averages": ()}, "--averaging=: any of"),
        ({"averages": ("max", "max")}, "--averaging: max is given more than once"),
        ({"strides": (2, 2)}, "--stride: 2 is given more than once"),
        ({"multicrop": 0}, "--multicrop=0 must be at least 1"),
        ({"batch_size": 0}, "--batch_size=0 must be"),
        ({"strides": (0,)}, r"stride \(=0\) must be at least 1"),
    ],
)
def test_errors_name_the_flag(change, message):
    with pytest.raises(ValueError, match=message):
        vgg_lib.evaluate_grid(make_run("valid"), make_pictures(), Options((8,))._replace(**change))
