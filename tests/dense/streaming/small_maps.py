"""Maps of random scores, written without a net, for tests of what files hold and where they say their scores lie."""

import numpy as np

from cnn.dense.streaming.sink import open_sink

ABOUT = {
    "image_shape": [4000, 4000, 3],
    "window": [32, 16],
    "stride": [4, 6],
    "offset": [0, 0],
    "context": "both",
    "class_names": ["cat", "<dog> & co", "owl"],
    "written": "scores",
    "output_activation": "softmax",
    "spacing": None,
    "georeference": None,
}


def scores(height, width, classes=3, seed=1):
    """Random scores, some of them NaN, and all of one corner."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(height, width, classes)).astype(np.float32)
    made[rng.random(made.shape) < 0.1] = np.nan
    made[: height // 3, : width // 3] = np.nan
    return made


def write_map(path, values, **about):
    """Writes a map in blocks of 64 x 64, and finishes it; returns what it says of itself."""
    said = {**ABOUT, "map": list(values.shape), "dtype": values.dtype.name, **about}
    sink = open_sink(path, values.shape, values.dtype, (64, 64), about=said)
    for y in range(0, values.shape[0], 64):
        for x in range(0, values.shape[1], 64):
            sink.write(y, x, values[y : y + 64, x : x + 64])
    sink.flush()
    sink.finish()
    sink.tidy()
    sink.close()
    return said


def centre(said, i, j):
    """The centre (y, x) of the window of score (i, j), in pixels from the image's border."""
    return tuple(
        o + s * k + w / 2 for o, s, k, w in zip(said["offset"], said["stride"], (i, j), said["window"], strict=True)
    )


def halved(values):
    """The next level of a pyramid, [h, w, K]: the mean of the known scores of each four, one by one."""
    height, width = (-(-n // 2) for n in values.shape[:2])
    made = np.full((height, width, values.shape[2]), np.nan, np.float64)
    for i in range(height):
        for j in range(width):
            four = values[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1, values.shape[2]).astype(np.float64)
            known = ~np.isnan(four)
            count = known.sum(axis=0)
            made[i, j] = np.where(count, np.where(known, four, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return made
