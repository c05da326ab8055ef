"""Pictures of kernels and feature maps: the arrays that are drawn, read back, and PNGs that are not blank."""

import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from cnn import data, nets
from cnn.layers import Activation, BatchNorm, Branches, Conv, Dense, Dropout, Flatten, LocallyConnected, MaxPool
from cnn.nets import net as make
from cnn.reports import figure, net_pictures
from tests.drawn import keep_pages, read
from tests.made import random_variables
from tests.reference import layers as reference

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def pages(monkeypatch):
    """The figures that `net_pictures` draws."""
    return keep_pages(monkeypatch, net_pictures)


def small_net(classes=3):
    """Two convolutions with what may follow them, and images for it."""
    net = make(
        [Conv(4, 3), BatchNorm(), Activation("relu"), Dropout(0.5), MaxPool(2)],
        [Conv(12, 2), Activation("tanh"), Flatten(), Dense(classes)],
    )
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 10, 3)).astype(np.uint8)
    return net, random_variables(net, images.shape[1:3], images.shape[3]), images


def drawn_images(page):
    """What each image axes of a page shows, in the order of drawing: a list of arrays for each axes."""
    return [axes.images for axes in page.get_axes() if axes.images]


def test_first_kernel_is_the_first_convolutions():
    net, variables, _ = small_net()
    found = net_pictures.first_kernel(net, variables)
    assert np.array_equal(found, variables["params"]["conv1"]["kernel"]) and found.shape == (3, 3, 3, 4)
    late = make([BatchNorm(), Activation("relu"), Conv(2, 1), Conv(1, 1)])
    variables = random_variables(late, (4, 4), 5)
    assert np.array_equal(net_pictures.first_kernel(late, variables), variables["params"]["conv1"]["kernel"])
    grouped = make([Conv(6, 1, groups=2)])
    variables = random_variables(grouped, (4, 4), 4)
    assert net_pictures.first_kernel(grouped, variables).shape == (1, 1, 2, 6)


def test_layers_within_paths_are_found_and_drawn(tmp_path, monkeypatch):
    """The first kernel is that of the first path with one, and each block has a row of its own."""
    nested = Branches(((Branches(((), (Activation("tanh"), Conv(3, 3, padding=1)))), BatchNorm()), (Conv(3, 1),)))
    net = make([Branches(((), ())), nested, Activation(), Conv(2, 1), Flatten(), Dense(3)])
    variables = random_variables(net, (6, 6), 3)
    expected = variables["params"]["block2"]["block1"]["conv1"]["kernel"]
    assert np.array_equal(net_pictures.first_kernel(net, variables), expected)
    rows = []
    monkeypatch.setattr(net_pictures, "_draw_maps", lambda axes, row, *rest: rows.append(row))
    images = np.random.default_rng(1).integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)
    net_pictures.feature_maps_picture(str(tmp_path / "maps.png"), net, variables, images, MEAN, STD)
    assert [(row.name, row.channels) for row in rows] == [("block1", 3), ("block2, relu1", 3), ("conv1", 2)]
    _, stages = net.apply(variables, data.normalise(images, MEAN, STD), train=False, method="activations")
    np.testing.assert_allclose(rows[1].maps, stages["relu1"], atol=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        [Flatten(), Dense(3)],
        [LocallyConnected(2, 3), Conv(2, 1), Flatten(), Dense(3)],  # the convolution is not what sees the image
        [MaxPool(2), Flatten()],
    ],
)
def test_a_net_without_a_first_convolution_has_no_first_kernel(layers):
    net = make(layers)
    variables = random_variables(net, (4, 4), 3)
    assert net_pictures.first_kernel(net, variables) is None


def test_tiles_in_colour_are_symmetric_about_grey():
    kernel = np.zeros((1, 2, 3, 3), np.float32)
    kernel[0, :, :, 0] = [[4, 0, -2], [-4, 1, 2]]
    kernel[0, :, :, 1] = [[0.1, -0.1, 0], [0, 0, 0.05]]  # its own scale
    tiles = net_pictures.kernel_tiles(kernel)  # the third is zero throughout
    assert tiles.shape == (3, 1, 1, 2, 3)
    assert tiles[0, 0, 0] == pytest.approx(np.array([[1, 0.5, 0.25], [0, 0.625, 0.75]]))
    assert tiles[1, 0, 0] == pytest.approx(np.array([[1, 0, 0.5], [0.5, 0.5, 0.75]]))
    assert (tiles[2] == 0.5).all()


def test_tiles_of_other_channels_are_grey():
    tiles = net_pictures.kernel_tiles(KERNEL)
    assert tiles.shape == (4, 2, 3, 3, 3)
    for k in range(4):
        scale = np.abs(KERNEL[..., k]).max()  # over all its channels, so that these can be compared
        for c in range(2):
            wanted = 0.5 + 0.5 * KERNEL[:, :, c, k] / scale
            assert tiles[k, c] == pytest.approx(np.stack([wanted] * 3, axis=-1), abs=1e-6)


def test_weights_that_are_not_finite_are_orange():
    orange = np.array(to_rgb(figure.ORANGE))
    kernel = np.full((1, 2, 3, 2), 2.0, np.float32)
    kernel[0, 0, 1, 0] = math.nan
    tiles = net_pictures.kernel_tiles(kernel)
    assert tiles[0, 0, 0, 0] == pytest.approx(orange) and (tiles[0, 0, 0, 1] == 1).all() and (tiles[1] == 1).all()
    tiles = net_pictures.kernel_tiles(kernel[:, :, :2])
    assert tiles[0, 1, 0, 0] == pytest.approx(orange) and (tiles[0, 0] == 1).all() and (tiles[0, 1, 0, 1] == 1).all()
    assert "\n1 hold weights that are not finite" in net_pictures.kernels_title(kernel, 2, 1)


def test_kernels_picture_draws_the_tiles_and_their_names(tmp_path, pages):
    kernel = np.random.default_rng(0).normal(size=(5, 5, 3, 10)).astype(np.float32)
    path = tmp_path / "new" / "kernels.png"
    net_pictures.kernels_picture(str(path), kernel, [f"k{i}" for i in range(10)])
    read(path)
    axes, bar = pages[0].axes
    assert [text.get_text() for text in axes.texts] == [f"k{i}" for i in range(10)]
    assert bar.get_ylim() == (-1, 1)
    assert [text.get_text() for text in bar.get_yticklabels()] == ["− largest", "0", "+ largest"]
    assert np.array_equal([tile.get_array() for tile in axes.images], net_pictures.kernel_tiles(kernel)[:, 0])
    for text, tile in zip(axes.texts, axes.images, strict=True):  # each name above its kernel
        left, right, bottom, top = tile.get_extent()
        assert text.get_position()[0] == pytest.approx((left + right) / 2) and text.get_position()[1] < top < bottom
    assert pages[0].get_suptitle().splitlines() == [
        "10 kernels of 5x5x3, each by its own largest weight",
        "red, green and blue: the weights of the three channels",
    ]
    net_pictures.kernels_picture(str(tmp_path / "channels.png"), KERNEL)
    read(tmp_path / "channels.png")
    axes, bar = pages[1].axes
    assert bar.get_ylim() == (-1, 1)
    assert np.array_equal(
        [tile.get_array() for tile in axes.images], net_pictures.kernel_tiles(KERNEL).reshape(8, 3, 3, 3)
    )
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4"]
    corners = [(tile.get_extent()[0], tile.get_extent()[3]) for tile in axes.images]
    assert corners == [(pytest.approx(1.1 * c), pytest.approx(1.1 * k)) for k in range(4) for c in range(2)]
    assert pages[1].get_suptitle().endswith("\na row is a kernel, a column a channel")


def test_kernels_picture_says_what_it_leaves_out(tmp_path, pages):
    rng = np.random.default_rng(0)
    net_pictures.kernels_picture(str(tmp_path / "deep.png"), rng.normal(size=(3, 3, 13, 17)))
    assert pages[0].get_suptitle().splitlines()[2] == "drawn: the first 16 kernels, the first 12 of 13 channels"
    assert len(pages[0].axes[0].images) == 16 * 12
    net_pictures.kernels_picture(str(tmp_path / "wide.png"), rng.normal(size=(3, 3, 1, 97)))
    assert pages[1].get_suptitle().splitlines()[1] == "drawn: the first 96 kernels"
    assert len(pages[1].axes[0].images) == 96


def test_kernels_that_are_none_are_refused(tmp_path):
    for shape in ((3, 3, 3), (3, 3, 3, 0)):
        with pytest.raises(ValueError, match=r"give \[kh, kw, C, K\]"):
            net_pictures.kernels_picture(str(tmp_path / "none.png"), np.zeros(shape))
    with pytest.raises(ValueError, match="2 names for 4 kernels"):
        net_pictures.kernels_picture(str(tmp_path / "none.png"), KERNEL, ["a", "b"])


def test_feature_maps_are_what_the_layers_give(tmp_path, pages):
    net, variables, images = small_net()
    path = tmp_path / "maps.png"
    net_pictures.feature_maps_picture(str(path), net, variables, images, MEAN, STD, ["a", "b", "c"], [0, 1], maps=8)
    read(path)
    # The net once more, by the slow layers.
    x = (images / 255 - MEAN) / STD
    params = jax.tree.map(np.asarray, variables["params"])
    first = reference.convolution(x, params["conv1"]["kernel"], params["conv1"]["bias"])
    norm, moments = params["bn1"]["norm"], variables["batch_stats"]["bn1"]["norm"]
    first = reference.batch_norm(first, moments["mean"], moments["var"], norm["scale"], norm["bias"], 1e-5)
    first = np.maximum(first, 0)
    pooled = reference.pool(first, max, (2, 2), (2, 2))
    second = np.tanh(reference.convolution(pooled, params["conv2"]["kernel"], params["conv2"]["bias"]))
    drawn = drawn_images(pages[0])
    assert len(drawn) == 2 * (1 + 3)  # of each image: itself, and a row for each of three layers
    for n in range(2):
        picture, *rows = drawn[4 * n : 4 * n + 4]
        assert np.array_equal(picture[0].get_array(), images[n])
        for row, wanted in zip(rows, (first, pooled, second), strict=True):
            wanted = wanted[..., :8]
            assert len(row) == wanted.shape[-1]
            for k, shown in enumerate(row):
                assert np.asarray(shown.get_array()) == pytest.approx(wanted[n, ..., k], abs=1e-5)
                # One scale for a layer: over the drawn maps of all images.
                assert shown.get_clim() == pytest.approx((wanted.min(), wanted.max()), abs=1e-5)
                left, right, bottom, top = shown.get_extent()
                assert (left, right) == pytest.approx((1.1 * k, 1.1 * k + 1))
                assert bottom - top == pytest.approx(wanted.shape[1] / wanted.shape[2])  # not stretched
    texts = [axes.texts[0].get_text().splitlines() for axes in pages[0].get_axes() if len(axes.images) > 1]
    assert [text[0] for text in texts[:3]] == ["conv1, bn1, relu1", "pool1", "conv2, tanh1"]
    sizes = ["6x8, 4 of 4 channels", "3x4, 4 of 4 channels", "2x3, 8 of 12 channels"]
    assert [text[1] for text in texts[:3]] == sizes
    assert texts[0][2] == f"{first.min():.3g} to {first.max():.3g}"
    assert pages[0].get_suptitle() == net_pictures.SHARED_SCALE


def bars(page):
    """Of each image: class -> (probability, colour)."""
    found = []
    for axes in page.get_axes():
        if axes.containers:
            names = [text.get_text() for text in axes.get_yticklabels()]
            patches = axes.containers[0].patches
            found.append({k: (b.get_width(), to_hex(b.get_facecolor())) for k, b in zip(names, patches, strict=True)})
    return found


def test_probabilities_and_titles(tmp_path, pages):
    net, variables, images = small_net()
    # Logits that are known: nothing but the last bias.
    variables["params"]["fc1"]["kernel"] *= 0
    variables["params"]["fc1"]["bias"] = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    net_pictures.feature_maps_picture(str(tmp_path / "maps.png"), net, variables, images, MEAN, STD, ["a", "b"], [1, 0])
    blue, orange = figure.BLUE, figure.ORANGE
    first, second = bars(pages[0])
    assert first == {
        "a": (pytest.approx(0.2), blue),
        "b": (pytest.approx(0.5), orange),
        "2": (pytest.approx(0.3), blue),
    }
    assert [colour for _, colour in second.values()] == [orange, blue, blue]
    titles = [axes.get_title() for axes in pages[0].get_axes() if len(axes.images) == 1]
    assert titles == ["b", "b, is a"]
    net_pictures.feature_maps_picture(str(tmp_path / "maps.png"), net, variables, images, MEAN, STD)
    assert [colour for _, colour in bars(pages[1])[0].values()] == [blue] * 3


@pytest.mark.slow
def test_of_many_classes_the_likeliest_and_the_label_have_bars(tmp_path, pages):
    net, variables, images = small_net(classes=30)
    logits = net.apply(variables, (images / 255 - MEAN).astype(np.float32) / np.float32(STD), train=False)
    order = np.argsort(-np.asarray(logits), axis=-1)
    labels = [order[0, 3], order[1, 29]]
    net_pictures.feature_maps_picture(str(tmp_path / "maps.png"), net, variables, images, MEAN, STD, None, labels)
    first, second = (list(found) for found in bars(pages[0]))
    assert first == [str(k) for k in order[0, :10]]
    assert second == [str(k) for k in [*order[1, :9], order[1, 29]]]


def test_a_map_of_scores_is_averaged_as_probabilities(tmp_path, pages):
    net = make([Conv(2, 1)])
    images = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    variables = {"params": {"conv1": {"kernel": jnp.array([[[[0.0, 2.0]]]]), "bias": jnp.zeros(2)}}}
    net_pictures.feature_maps_picture(str(tmp_path / "maps.png"), net, variables, images, [0.0], [1.0])
    (found,) = bars(pages[0])
    assert found["1"][0] == pytest.approx((0.5 + 1 / (1 + math.exp(-2))) / 2)


def test_a_diverged_net_is_drawn_and_said_to_be_one(tmp_path, pages):
    net, variables, images = small_net()
    variables = jax.tree.map(lambda x: x * jnp.nan, variables)
    path = tmp_path / "maps.png"
    net_pictures.feature_maps_picture(str(path), net, variables, images, MEAN, STD, None, [0, 1])
    assert [axes.get_title() for axes in pages[0].get_axes() if len(axes.images) == 1] == ["scores are not finite"] * 2
    picture = read(path)
    orange = (np.abs(picture - [255, 127, 14]).max(axis=-1) < 8).sum()
    maps = [tile for axes in pages[0].get_axes() if len(axes.images) > 1 for tile in axes.images]
    areas = [tile.get_window_extent().width * tile.get_window_extent().height for tile in maps]
    assert orange == pytest.approx(sum(areas) * (figure.DPI / pages[0].dpi) ** 2, rel=0.05)  # all of its maps
    net_pictures.kernels_picture(str(path), net_pictures.first_kernel(net, variables))
    assert "4 hold weights" in pages[1].get_suptitle()


@pytest.mark.slow
@pytest.mark.parametrize("name, size, classes", [("lenet5", 32, 10), ("alexnet", 67, 3)])
def test_the_registrys_nets_can_be_drawn(tmp_path, name, size, classes):
    net = nets.create(name, classes)
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.uint8)
    variables = random_variables(net, images.shape[1:3], images.shape[3])
    net_pictures.feature_maps_picture(str(tmp_path / "maps.png"), net, variables, images, MEAN, STD)
    read(tmp_path / "maps.png")
    net_pictures.kernels_picture(str(tmp_path / "kernels.png"), net_pictures.first_kernel(net, variables))
    read(tmp_path / "kernels.png")


@pytest.mark.parametrize("channels", [2, 7])
def test_images_of_other_channels_are_shown_by_their_mean(tmp_path, pages, channels):
    net = make([Conv(2, 3), Flatten(), Dense(3)])
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 6, channels)).astype(np.uint8)
    variables = random_variables(net, (6, 6), channels)
    constants = [0.5] * channels, [0.5] * channels
    path = tmp_path / "maps.png"
    net_pictures.feature_maps_picture(str(path), net, variables, images, *constants, title="net, trained on data")
    read(path)
    lines = ["net, trained on data", net_pictures.SHARED_SCALE, f"images in grey: the mean of {channels} channels"]
    assert pages[0].get_suptitle().splitlines() == lines
    drawn = [axes[0].get_array() for axes in drawn_images(pages[0]) if len(axes) == 1]
    assert np.abs(np.array(drawn, np.float64) - images.mean(axis=-1)).max() <= 0.5


def test_a_net_without_maps_shows_image_and_probabilities(tmp_path, pages):
    net = make([Flatten(), Dense(3)])
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1)).astype(np.uint8)
    variables = random_variables(net, images.shape[1:3], images.shape[3])
    net_pictures.feature_maps_picture(str(tmp_path / "maps.png"), net, variables, images, [0.5], [0.5])
    read(tmp_path / "maps.png")
    assert len(drawn_images(pages[0])) == len(bars(pages[0])) == 2


def test_what_cannot_be_drawn_is_refused(tmp_path):
    net, variables, images = small_net()

    def draw(images, labels=None, maps=8):
        net_pictures.feature_maps_picture(
            str(tmp_path / "no.png"), net, variables, images, MEAN, STD, None, labels, maps
        )

    with pytest.raises(TypeError, match="images are float64; give uint8"):
        draw(images / 255)
    with pytest.raises(ValueError, match="0 images"):
        draw(images[:0])
    with pytest.raises(ValueError, match=r"maps \(=0\)"):
        draw(images, maps=0)
    with pytest.raises(ValueError, match="3 labels for 2 images"):
        draw(images, [0, 1, 2])


def test_importing_visuals_does_not_import_matplotlib():
    code = "import sys, cnn.reports.net_pictures; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
