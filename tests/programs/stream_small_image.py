"""Streams a small image into maps of two kinds, by itself or with others: FOLDER, and the flags of processes."""

import sys

import numpy as np

from cnn import dense, nets
from cnn.runtime import process, processes
from tests.made import random_variables

folder, given = sys.argv[1], dict(flag.removeprefix("--").split("=") for flag in sys.argv[2:])
process.use_cpu_devices(1, 1)
if given:
    processes.start(given["coordinator"], int(given["num_processes"]), int(given["process_id"]))
net = nets.create("layer_pattern", 3, features=2, width=4, blocks=1)
image = np.random.default_rng(5).integers(0, 255, (86, 60, 1), dtype=np.uint8)
options = {"window": (8, 8), "stride": 2, "mean": 0.5, "std": 0.25, "tile": 8, "progress": False, "together": True}
for name in ("m.zarr", "m.ome.zarr"):
    done = dense.stream(net, random_variables(net, (8, 8), 1), image, f"{folder}/{name}", **options)
    print(f"{name}: {done.tiles_done_before} of {done.tiles} tiles were there", flush=True)
