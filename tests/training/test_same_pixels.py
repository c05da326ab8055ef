"""One meaning of a pixel: predicting, training, a score picture and a stream read the same, or refuse alike."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import data, dense, nets
from cnn.data import DataError
from cnn.images import ranges, whole
from cnn.nets import outputs
from cnn.reports import image_report
from cnn.runs import defaults
from cnn.runs.checkpoint import Run
from cnn.training import predict
from tests.made import make_zarr, random_variables

imagecodecs = pytest.importorskip("imagecodecs", reason="reads PNG of 16-bit colours: requirements-images.txt")
SIZE, MEAN, STD = (10, 12), (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)
COLOURS = np.random.default_rng(0).integers(0, 65536, (*SIZE, 3), np.uint16)
BYTES, GREY = (COLOURS >> 8).astype(np.uint8), COLOURS[..., 0]


def write_png(path, pixels):
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def write_ppm(path, largest=65535):
    pixels = COLOURS if largest == 65535 else COLOURS >> 4
    path.write_bytes(b"P6 # a comment\n%d %d\n%d\n" % (SIZE[1], SIZE[0], largest) + pixels.astype(">u2").tobytes())


def write_turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(BYTES)).save(path, exif=exif)


def write_clear(path, depth):
    clear = np.dstack([COLOURS, np.full(SIZE, 65535, np.uint16)])
    clear[:4, :, 3] = 0
    if depth == 8:
        Image.fromarray((clear >> 8).astype(np.uint8)).save(path)
    else:
        write_png(path, clear)


def write_stack(path):
    tifffile.imwrite(path, np.moveaxis(COLOURS, 2, 0), photometric="minisblack", ome=True, metadata={"axes": "TYX"})


def write_gif(path):
    first, second = Image.fromarray(BYTES), Image.fromarray(BYTES[::-1])
    first.save(path, save_all=True, append_images=[second])


CLEAR = COLOURS.copy()
CLEAR[:4] = 65535
RANGE = (-500, 3000)
SIGNED = (COLOURS.astype(np.int32) // 16 - 900).astype(np.int16)


def fractions(pixels, low=0.0, high=65535.0):
    """In float64, cut at both ends."""
    return np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1)


# Name of the file -> how it is written, what is seen of it (as fractions; None: it is refused), and what is said of it.
FILES = {
    "rgb16.png": (lambda path: write_png(path, COLOURS), fractions(COLOURS), {}),
    "rgb.png": (lambda path: Image.fromarray(BYTES).save(path), BYTES / 255, {}),
    "grey.png": (lambda path: Image.fromarray(BYTES[..., 0]).save(path), np.dstack([BYTES[..., 0]] * 3) / 255, {}),
    "grey16.png": (lambda path: Image.fromarray(GREY).save(path), fractions(np.dstack([GREY] * 3)), {}),
    "12 bits.png": (lambda path: write_png(path, COLOURS >> 4), fractions(COLOURS >> 4, 0, 4095), {"range": (0, 4095)}),
    "bgr.png": (lambda path: write_png(path, COLOURS), fractions(COLOURS[..., ::-1]), {"channels": (2, 1, 0)}),
    "clear.png": (lambda path: write_clear(path, 8), (CLEAR >> 8) / 255, {}),
    "clear16.png": (lambda path: write_clear(path, 16), fractions(CLEAR), {}),
    "turned.png": (write_turned, BYTES / 255, {}),
    "grey16.pgm": (lambda path: Image.fromarray(GREY).save(path), fractions(np.dstack([GREY] * 3)), {}),
    "rgb16.ppm": (write_ppm, fractions(COLOURS), {}),
    "rgb12.ppm": (lambda path: write_ppm(path, 4095), fractions(np.round((COLOURS >> 4) * (65535 / 4095))), {}),
    "grey16.tif": (lambda path: tifffile.imwrite(path, GREY), fractions(np.dstack([GREY] * 3)), {}),
    "signed.npy": (lambda path: np.save(path, SIGNED), fractions(SIGNED, *RANGE), {"range": RANGE}),
    "wide.npy": (lambda path: np.save(path, COLOURS.astype(np.uint32) << 16), fractions(COLOURS, 0, 65536), {}),
    "half.npy": (lambda path: np.save(path, BYTES.astype(np.float16) / 256), BYTES / 256, {}),
    "floats.npy": (lambda path: np.save(path, SIGNED.astype(float)), fractions(SIGNED, *RANGE), {"range": RANGE}),
    "rgb16.zarr": (lambda path: make_zarr(path, COLOURS, chunk=(5, 5, 3)), fractions(COLOURS), {}),
    "times.ome.tif": (write_stack, None, {}),
    "moves.gif": (write_gif, None, {}),
    "unsaid.npy": (lambda path: np.save(path, SIGNED.astype(float)), None, {}),
    "bytes.npy": (lambda path: np.save(path, BYTES), None, {"range": (0, 4095)}),
    "five.npy": (lambda path: np.save(path, np.zeros((*SIZE, 5), np.uint8)), None, {}),
    "fewer.npy": (lambda path: np.save(path, BYTES), None, {"channels": (5, 1, 0)}),
}


@pytest.fixture(scope="module")
def net():
    built = nets.create("layer_pattern", 3, features=4, width=8, padding="valid", blocks=1)
    return built, random_variables(built, SIZE, 3)


def make_run(net, said):
    config = defaults.get_config()
    config.eval.batch_size = 1
    config.data.value_range, config.data.channels = said.get("range", ()), said.get("channels", ())
    return Run(*net, config, MEAN, STD, ("a", "b", "c"), (*SIZE, 3), "", 0)


@pytest.mark.parametrize("name", FILES)
def test_every_reader_sees_the_same_pixels_or_refuses_alike(tmp_path, net, name):
    write, expected, said = FILES[name]
    path = tmp_path / name
    write(path)
    run, path = make_run(net, said), str(path)
    options = {"chosen": run.channels, "value_range": run.value_range}

    def stream():
        sink = np.zeros((1, 1, 3), np.float32)
        source = dense.open_image(path, net_channels=3, channels=run.channels, value_range=run.value_range)
        constants = {"mean": run.mean, "std": run.std}
        dense.stream(*net, source, sink, window=SIZE, progress=False, **constants)
        return np.asarray(outputs.probabilities(sink[0, 0]))

    readers = [
        lambda: predict.predict(run, [path])[0].probabilities,
        stream,
        lambda: data.load_images([path], SIZE, 3, **options)[0],
        lambda: whole.read_whole(path, 3, **options),
    ]
    if expected is None:
        said = set()
        for read in readers:
            with pytest.raises(DataError) as raised:
                read()
            said.add(str(raised.value).partition("; ")[0])  # what is wrong; the way out depends on the reader
        assert len(said) == 1 and name in said.pop()
        return
    predicted, streamed, kept, pixels = (read() for read in readers)
    seen = pixels / 255 if pixels.dtype == np.uint8 else pixels
    np.testing.assert_allclose(seen, expected, rtol=0, atol=2e-7)
    # As training keeps them, in 8 bits: the nearest; what is resized is the same.
    assert kept.dtype == np.uint8 and np.abs(kept - seen * 255.0).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(kept, pixels if pixels.dtype == np.uint8 else ranges.eight_bits(pixels, (0.0, 1.0)))
    np.testing.assert_allclose(predicted, streamed, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_pictures_of_both_depths_are_predicted_together(tmp_path, net):
    run = make_run(net, {})
    run.config.eval.batch_size = 4
    names = ["rgb.png", "rgb16.png", "moves.gif", "clear.png", "grey16.png", "wide.npy", "rgb16.zarr"]
    for name in names:
        FILES[name][0](tmp_path / name)
    found, unread = predict.predict_readable(run, [str(tmp_path / name) for name in names])
    assert [prediction.path.rpartition("/")[2] for prediction in found] == [n for n in names if n != "moves.gif"]
    assert len(unread) == 1 and "moves.gif" in str(unread[0])
    for prediction in found:
        alone = predict.predict(run, [prediction.path])[0]
        np.testing.assert_allclose(prediction.probabilities, alone.probabilities, rtol=0, atol=1e-6)
        assert prediction.border == alone.border


def test_deep_pictures_are_resized_as_fractions(tmp_path):
    """As bytes are, but for the rounding; and overshoots are cut."""
    y, x = np.mgrid[:30, :36]
    smooth = np.stack([y * 2000, x * 1700, (x + y) * 900], axis=2).astype(np.uint16)
    write_png(tmp_path / "a.png", smooth)
    deep = data.load_image(str(tmp_path / "a.png"), (14, 9), 3)
    assert deep.dtype == np.float32
    assert np.abs(deep * 255.0 - data.load_images([str(tmp_path / "a.png")], (14, 9), 3)[0]).max() <= 1.5
    write_png(tmp_path / "b.png", np.kron(COLOURS > 40000, np.ones((3, 3, 1))).astype(np.uint16) * 65535)
    deep = data.load_image(str(tmp_path / "b.png"), (14, 9), 3)
    assert deep.min() == 0 and deep.max() == 1


@pytest.mark.slow
def test_a_score_picture_of_16_bits(tmp_path, net):
    large = np.kron(COLOURS, np.ones((2, 2, 1), np.uint16))
    write_png(tmp_path / "a.png", large)
    run = make_run(net, {"channels": (2, 1, 0)})
    result = image_report.run_image(run, str(tmp_path / "a.png"), str(tmp_path / "out"))
    best = predict.predict(run, [str(tmp_path / "a.png")])[0]
    assert result["centre_crop"][0][0] == best.class_name
    np.testing.assert_allclose(result["centre_crop"][0][1], best.probability, rtol=0, atol=1e-5)
    sink = np.zeros((*result["windows"], 3), np.float32)
    source = dense.open_image(tmp_path / "a.png", channels=run.channels)
    dense.stream(*net, source, sink, window=SIZE, mean=MEAN, std=STD, progress=False)
    mean = np.asarray(dense.average(sink[None], "probabilities"))[0]
    for name, value in result["probabilities"]:
        assert abs(mean[run.class_names.index(name)] - value) <= 1e-5
