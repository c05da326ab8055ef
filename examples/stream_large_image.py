"""Scores a large image tile by tile, from a file into a file. Run: python examples/stream_large_image.py"""

import numpy as np
import tifffile

from cnn import dense, nets

pixels = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3)).astype(np.uint8)
tifffile.imwrite("large.tif", pixels, tile=(256, 256), photometric="rgb")

net = nets.create("qa_net", num_classes=3)
variables = nets.init(net, (32, 32, 3))
half = [0.5, 0.5, 0.5]  # mean and standard deviation that the net was trained with
result = dense.stream(
    net,
    variables,
    "large.tif",
    "map.npy",
    window=(32, 32),
    mean=half,
    std=half,
    memory_limit=300 * 10**6,
    overwrite=True,
)
scores = np.load("map.npy", mmap_mode="r")
print(f"{result.image_shape} pixels -> {scores.shape} scores in {result.tiles} tiles")
