"""What is let in: dtypes, ranks, channels, variables, constants, limits; and values that are NaN or infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import dense, nets
from cnn.layers import Activation, BatchNorm, Conv, Dense, Flatten, MaxPool
from cnn.windows import GeometryError
from tests.made import draw, random_variables

BACKENDS = ("crops", "shift", "atrous", "mpf", "auto")
WINDOW = (8, 8)
NET = nets.net([Conv(3, 3), Activation("relu"), MaxPool(2), Flatten(), Dense(4)])
VARIABLES = random_variables(NET, WINDOW, 2)
IMAGES = draw(0, (2, 11, 12, 2))
CONSTANTS = {"mean": 0.5, "std": 0.25, "progress": False, "window": WINDOW, "stride": 2}


def score_map(images=IMAGES, backend="auto", variables=VARIABLES, window=WINDOW, **options):
    return dense.score_map(NET, variables, images, window, 2, backend, **options)


def sink_of(image):
    return np.full((*dense.plan_grid(NET, (*image.shape[:2], 2), WINDOW, 2).size, 4), 7, np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_whole_numbers_are_never_scored(backend):
    for dtype in (np.uint8, np.uint16, np.int32, bool):
        message = f"images are {np.dtype(dtype)}; the net takes floating images.*cnn.data.normalise"
        with pytest.raises(TypeError, match=message):
            score_map(IMAGES.astype(dtype), backend)
        with pytest.raises(TypeError, match=f"image 1: {message}"):
            dense.score_maps(NET, VARIABLES, [IMAGES[0], IMAGES[1].astype(dtype)], WINDOW, 2, backend)


def test_a_stream_of_bytes_without_constants_leaves_nothing_behind(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 21, 2), np.uint8)
    sink, options = tmp_path / "m.npy", {**CONSTANTS, "mean": None, "std": None}
    with pytest.raises(TypeError, match="its pixels are uint8;.*cnn.data.normalise.*or give mean and std"):
        dense.stream(NET, VARIABLES, image, sink, **options)
    assert list(tmp_path.iterdir()) == []
    dense.stream(NET, VARIABLES, image, sink, **CONSTANTS)
    expected = score_map((image[None] / np.float32(255) - np.float32(0.5)) / np.float32(0.25)).scores[0]
    np.testing.assert_allclose(np.load(sink), expected, rtol=1e-4, atol=1e-5)


def test_one_number_or_one_for_each_channel():
    image = np.random.default_rng(0).integers(0, 256, (20, 21, 2), np.uint8)
    maps = []
    for mean, std in ((0.5, 0.25), ([0.5, 0.5], np.array([0.25, 0.25])), (np.float32(0.5), (0.25, 0.25))):
        maps.append(sink_of(image))
        dense.stream(NET, VARIABLES, image, maps[-1], **{**CONSTANTS, "mean": mean, "std": std})
    assert np.ptp(maps[0]) > 1
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])
    wrong = {
        r"mean \(=\[0.5, 0.5, 0.5\]\) must be one number, or one for each of the image's 2 channels": {
            "mean": [0.5] * 3
        },
        r"mean \(=half\) must be one number": {"mean": "half"},
        r"mean \(=nan\) must be one number": {"mean": float("nan")},
        r"std \(=0\) must be above 0": {"std": 0},
        r"mean \(=127\.5\) is a fraction .* between 0 and 1; divide one of bytes by 255": {"mean": 127.5},
        r"mean \(=0\.5\) and std \(=None\) go together": {"std": None},
        "memory_limit=0: must be a number of bytes above 0, such as 2GB": {"memory_limit": 0},
        "memory_limit=much: must be a number of bytes": {"memory_limit": "much"},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            dense.stream(NET, VARIABLES, image, sink_of(image), **{**CONSTANTS, **options})


def test_limits_of_memory_are_numbers_or_texts_and_are_heeded():
    whole = score_map(memory_limit="2GB")
    np.testing.assert_array_equal(score_map(memory_limit=2e9).scores, whole.scores)
    assert dense.plan(NET, IMAGES.shape[1:], 2, "1GiB", window=WINDOW).chosen == whole.backend
    for backend in BACKENDS:
        with pytest.raises(MemoryError, match=r"need at least [\d.]+ KiB \(.*\), the limit is 0.977 KiB"):
            score_map(backend=backend, memory_limit=1000)
    # Tiles that were asked for are computed in parts, or refused, where they need more.
    image = draw(1, (150, 150, 2))
    found, parts = sink_of(image), sink_of(image)
    options = {**CONSTANTS, "mean": None, "std": None, "tile": 64, "backend": "atrous"}
    dense.stream(NET, VARIABLES, image, found, **options)
    dense.stream(NET, VARIABLES, image, parts, memory_limit="700KB", **options)
    np.testing.assert_array_equal(parts, found)
    with pytest.raises(MemoryError, match=r"needs [\d.]+ KiB, the limit is [\d.]+ KiB"):
        dense.stream(NET, VARIABLES, image, parts, memory_limit="20KB", **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_variables_of_another_net_are_named_before_they_are_used(backend):
    with pytest.raises(GeometryError, match=r"conv1 \(conv\): its kernel takes 2 channels, got 1; give 2 channels"):
        score_map(IMAGES[..., :1], backend)
    with pytest.raises(GeometryError, match="variables hold conv1, fc1 themselves.*all that net.init returned"):
        score_map(IMAGES, backend, VARIABLES["params"])
    with pytest.raises(GeometryError, match=r"fc1 \(dense\): the variables hold no parameters of it, but of conv1"):
        score_map(IMAGES, backend, {"params": {"conv1": VARIABLES["params"]["conv1"]}})
    with pytest.raises(TypeError, match=r"variables \(=\[1, 2\]\) must be a net's variables"):
        score_map(IMAGES, backend, [1, 2])
    # 10x10 would fit the net, and not these kernels.
    with pytest.raises(GeometryError, match="nearest that do: 8x8 pixels$"):
        score_map(IMAGES, backend, window=(9, 9))
    several = nets.net([Conv(4, 3), Activation("relu"), Conv(3, 4)])
    own = random_variables(several, WINDOW, 1)
    message = r"conv2 \(conv\): the net gives 3x3 scores for a window of 8x8 pixels.*window=\(6, 6\), what one score"
    with pytest.raises(GeometryError, match=message):
        dense.score_map(several, own, IMAGES[..., :1], WINDOW, 1, backend)
    assert dense.score_map(several, own, IMAGES[..., :1], (6, 6), 1, backend).scores.shape == (2, 6, 7, 3)


def with_first(variables, name, change):
    """The variables, with a change to one array of the first convolution."""
    params = variables["params"]
    return {**variables, "params": {**params, "conv1": {**params["conv1"], name: change(params["conv1"][name])}}}


def test_score_maps_names_the_image_that_does_not_fit():
    with pytest.raises(GeometryError, match="score_maps: image 1: .*the window 8x8 is larger than the image 7x"):
        dense.score_maps(NET, VARIABLES, [IMAGES[0], IMAGES[0, :7]], WINDOW)
    with pytest.raises(GeometryError, match="score_maps: image 0: .*the window 8x8 is larger than the image 7x"):
        dense.score_maps(NET, VARIABLES, [IMAGES[0, :7]], WINDOW)  # also where it is the largest
    with pytest.raises(GeometryError, match=r"image 0: images have shape .* a list with one image is \[image\]"):
        dense.score_maps(NET, VARIABLES, IMAGES[0], WINDOW)


def test_statistics_kernels_and_biases_of_variables():
    net = nets.net([Conv(3, 3), BatchNorm(), Flatten(), Dense(4)])
    own = random_variables(net, WINDOW, 2)
    for variables, message in (
        ({"params": own["params"]}, r"bn1 \(batch norm\): the variables lack .*'batch_stats'"),
        ({**own, "params": {**own["params"], "fc1": {"kernel": own["params"]["fc1"]["kernel"]}}}, "lack its bias"),
        ({**own, "params": {**own["params"], "conv1": own["params"]["fc1"]}}, "its kernel is 108x4, .* be 3x3x2x3"),
        (with_first(own, "bias", lambda x: x[:1]), r"its bias has shape \(1,\), the layer's would be \(3,\)"),
        (with_first(own, "bias", lambda x: x.tolist()), "its bias is list, not floating"),
        (with_first(own, "kernel", lambda x: np.round(x).astype(np.int32)), "its kernel is int32, not floating"),
        (with_first(own, "kernel", lambda x: x + 1j), "its kernel is complex64, not floating"),
    ):
        for run in (dense.score_map, lambda n, v, x, _: n.apply(v, x, train=False)):
            with pytest.raises(GeometryError, match=message):
                run(net, variables, IMAGES[:, :8, :8], WINDOW)


def test_arrays_of_other_kinds():
    expected = score_map().scores
    for images in (IMAGES.astype(">f4"), np.ma.MaskedArray(IMAGES), IMAGES[:, :, ::-1][:, :, ::-1]):
        np.testing.assert_array_equal(score_map(images).scores, expected)
    for options in ({"window": np.array(WINDOW)}, {"window": jnp.array(WINDOW)}, {"window": np.array(8)}):
        np.testing.assert_array_equal(score_map(**options).scores, expected)
    hidden = np.ma.MaskedArray(IMAGES, np.zeros_like(IMAGES, bool))
    hidden[0, 0, 0, 0] = np.ma.masked
    scores = np.asarray(score_map(hidden).scores)
    assert np.isnan(scores[0, 0, 0]).all() and np.isnan(scores).sum() == 4
    with pytest.raises(TypeError, match="images are a list; give an array of normalised pixels"):
        score_map(IMAGES.tolist())
    with pytest.raises(TypeError, match="uint8 and masked, and whole numbers have no NaN"):
        dense.stream(NET, VARIABLES, np.ma.MaskedArray(np.zeros((9, 9, 2), np.uint8), True), None, **CONSTANTS)
    assert dense.score_maps(NET, VARIABLES, [], WINDOW) == []


def test_fields_given_as_lists_or_arrays_are_made_tuples():
    given = nets.net([Conv(3, [3, 3], padding=[[0, 0], (0, 0)]), Activation("relu")], [MaxPool(np.array([2, 2]))])
    given = nets.Net([*given.layers, *NET.layers[3:]])
    assert isinstance(hash(given), int) and given.layers[0].kernel == (3, 3) and given.layers[2].kernel == (2, 2)
    found = dense.score_map(given, VARIABLES, IMAGES, WINDOW, [2, 2])
    np.testing.assert_array_equal(found.scores, score_map().scores)


@pytest.mark.parametrize("backend", ["crops", "shift", "atrous", "mpf"])
def test_gradients_of_every_backend_are_those_of_the_crops(backend):
    weights = draw(3, (2, 2, 3, 4))

    def by_definition(images):
        rows = [[images[:, y : y + 8, x : x + 8] for x in (0, 2, 4)] for y in (0, 2)]
        scores = [jnp.stack([NET.apply(VARIABLES, cut, train=False) for cut in row], axis=1) for row in rows]
        return (jnp.stack(scores, axis=1) * weights).sum()

    expected = jax.jit(jax.grad(by_definition))(IMAGES)
    found = jax.jit(jax.grad(lambda x: (score_map(x, backend).scores * weights).sum()))(IMAGES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_minus_infinite_pixels_in_tiles_of_a_padded_net():
    """The maximum of pixels that are all -inf is a value, that of padding alone is not."""
    net = nets.net([MaxPool(2, 2, padding=1), Flatten(), Dense(3)])
    variables = random_variables(net, (6, 6), 1)
    variables["params"]["fc1"]["kernel"] = np.abs(variables["params"]["fc1"]["kernel"])
    image, sink = np.zeros((12, 12, 1), np.float32), np.zeros((4, 4, 3), np.float32)
    image[4:10, 4:10] = -np.inf
    dense.stream(net, variables, image, sink, window=(6, 6), progress=False)
    np.testing.assert_array_equal(sink, np.full((4, 4, 3), -np.inf))
    for backend in BACKENDS:
        np.testing.assert_array_equal(dense.score_map(net, variables, image[None], (6, 6), 2, backend).scores[0], sink)
    image[:], image[4, 4] = 0, -np.inf
    dense.stream(net, variables, image, sink, window=(6, 6), progress=False)
    assert np.isfinite(sink).all()

    def total(x):
        return dense.score_map(net, variables, x, (6, 6), 1, "mpf").scores.sum()

    assert np.isfinite(jax.grad(total)(jnp.zeros((1, 12, 12, 1)))).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["crops", "shift"])
def test_a_nan_reaches_no_window_that_does_not_see_it_in_a_wide_net(backend):
    """Winograd's algorithm adds pixels of neighbouring windows and subtracts them again."""
    net = nets.net([Conv(128, 3), Conv(128, 3), Flatten(), Dense(2)])
    variables, images = random_variables(net, (6, 6), 2), draw(0, (1, 40, 40, 2))
    images[0, 20, 20, 0] = np.nan
    scores = np.asarray(dense.score_map(net, variables, images, (6, 6), 1, backend).scores[0])
    assert np.isnan(scores[15:21, 15:21]).all() and np.isnan(scores).sum() == 6 * 6 * 2
    images[0, 20, 20, 0] = -np.inf
    scores = np.asarray(dense.score_map(net, variables, images, (6, 6), 1, backend).scores[0])
    assert not np.isfinite(scores[15:21, 15:21]).any() and (~np.isfinite(scores)).sum() == 6 * 6 * 2
