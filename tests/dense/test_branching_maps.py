"""Maps of nets that branch: tiles and streams equal the whole map to the bit, and a score depends on its box alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, nets
from cnn.dense import tiles
from cnn.dense.streaming.stream_map import stream
from cnn.layers import Activation, AvgPool, BatchNorm, Branches, Conv, Crop, Dense, Flatten, MaxPool
from tests.made import draw, random_variables

HEAD = [AvgPool(None), Flatten(), Dense(3)]
TANH = Activation("tanh")


def residual(padding):
    """Two convolutions, the first with a stride, beside a 1x1 convolution."""
    deep = (Conv(4, 3, stride=2, padding=padding, rounding="floor"), BatchNorm(), TANH, Conv(4, 3, padding=padding))
    short = (*(() if padding else (Crop(3),)), Conv(4, 1, stride=2, rounding="floor"))
    return nets.net([Conv(3, 3, padding=padding), Branches((deep, short)), TANH], HEAD)


def joined(padding, join="concat"):
    """A pool and a convolution beside three convolutions in a row, of which the last is beside an identity."""
    rest = () if padding else (Crop(3),)
    inner = Branches(((Conv(2, 3, padding=padding),), () if padding else (Crop(1),)))
    deep = (Conv(2, 3, padding=padding), Conv(2, 3, stride=2, padding=padding, rounding="floor"), inner)
    one = (*rest, Conv(2, 3, stride=2, padding=padding, rounding="floor"))
    pool = (*rest, MaxPool(3, 2, padding=padding, rounding="floor"), TANH)
    return nets.net([Branches((pool, one, deep), join), TANH], HEAD)


NETS = {
    "residual": (residual(0), 15),
    "concat": (joined(0), 15),
    "residual, padded": (residual(1), 8),
    "concat, padded": (joined(1), 8),
}


def outcomes(net, window, image, stride, backend, tile):
    """The map of the whole image in one pass, in tiles, and as it is streamed."""
    variables = random_variables(net, (window, window), 2)
    options = {"window": (window, window), "stride": stride, "backend": backend}
    whole = dense.score_map(net, variables, jnp.asarray(image)[None], position_invariant=True, **options)
    (cut,) = dense.score_maps(net, variables, [image], tile=tile, **options)
    sink = np.full(whole.scores.shape[1:], np.nan, np.float32)
    result = stream(net, variables, image, sink, tile=tile, progress=False, **options)
    assert result.tiles > 3 and result.context == cut.context == whole.context
    return np.asarray(whole.scores[0]), np.asarray(cut.scores[0]), sink


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, stride, backend",
    [
        *(("residual", 3, "atrous"), ("residual, padded", 1, "mpf")),
        *(("concat", 1, "mpf"), ("concat, padded", 3, "atrous")),
    ],
)
def test_tiles_and_streams_equal_the_whole_map_to_the_bit(name, stride, backend):
    net, window = NETS[name]
    image = draw(1, (window + 33 * stride, window + 36 * stride + 1, 2))
    whole, *others = outcomes(net, window, image, stride, backend, tiles.LEAST_OUTPUTS)
    for found in others:
        np.testing.assert_array_equal(found, whole)


def changed_by(net, window, image, pixels, stride, backend, by):
    """Which scores change with each of some pixels, bool [pixels, h, w], and which have it in their box."""
    images = np.repeat(image[None], len(pixels) + 1, axis=0)
    for number, (y, x) in enumerate(pixels, start=1):
        images[number, y, x] += by
    variables = random_variables(net, (window, window), 2)
    found = dense.score_map(net, variables, jnp.asarray(images), (window, window), stride, backend)
    scores, boxes = np.asarray(found.scores), found.boxes
    inside = [
        (boxes[..., 0] <= y) & (y < boxes[..., 2]) & (boxes[..., 1] <= x) & (x < boxes[..., 3]) for y, x in pixels
    ]
    # Not equal, rather than different: a NaN is not equal to anything.
    return (scores[1:] != scores[:1]).any(axis=-1), np.stack(inside)


MOST = {**NETS, "mean": (joined(0, "mean"), 15), "max, padded": (joined(1, "max"), 8)}


@pytest.mark.parametrize(
    "name, backend",
    [
        ("concat, padded", "mpf"),
        *(
            pytest.param(name, backend, marks=pytest.mark.slow)
            for name, backend in (
                *(("residual", "mpf"), ("residual, padded", "atrous"), ("residual, padded", "crops")),
                *(("concat", "shift"), ("mean", "atrous"), ("max, padded", "mpf")),
            )
        ),
    ],
)
def test_a_score_depends_on_the_pixels_of_its_box_alone(name, backend):
    """Changed by a number, those outside leave every bit as it is; those inside are NaN with a pixel that is."""
    net, window = MOST[name]
    image = draw(2, (window + 14, window + 11, 2))
    height, width = image.shape[:2]
    pixels = [(0, 0), (0, width - 1), (height - 1, 3), (window // 2, window + 2), (window + 3, window - 1), (9, 4)]
    changed, inside = changed_by(net, window, image, pixels, 1, backend, 0.75)
    assert not changed[~inside].any() and inside.any() and not inside.all()
    assert changed[inside].mean() > 0.5  # the others' change is lost in rounding, or hidden by a maximum
    changed, inside = changed_by(net, window, image, pixels, 1, backend, np.nan)
    np.testing.assert_array_equal(changed, inside)
