"""Splits images over eight devices, and compares their maps with those of one device; prints one line of JSON.

`python split_image.py`: for every case the largest difference as a fraction of the largest score, and whether the map
lies split on the devices; and what the compiler says that a device needs, for one device and for eight.
"""

import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from cnn import dense, nets
from cnn.layers import Activation, AvgPool, Conv, Dense, Flatten, MaxPool
from tests.made import random_variables

COUNT = 8
UNPADDED = nets.net([Conv(8, 3), Activation("relu"), MaxPool(2), Conv(10, 3), Flatten("chw"), Dense(4)])
PADDED = nets.net(
    [Conv(8, 3, padding=1), Activation("relu"), MaxPool(3, 2, padding=1, rounding="floor")],
    [Conv(10, 3, padding="same"), AvgPool(2, 2, rounding="ceil"), Flatten(), Dense(4)],
)
WINDOWS = {"unpadded": (8, 10), "padded": (13, 13)}
NETS = {"unpadded": UNPADDED, "padded": PADDED}
EXACT = {"position_invariant": True}
CASES = [
    # net, (height, width), stride, backend, other arguments
    ("unpadded", (128, 40), None, "mpf", EXACT),  # 8 parts of 16 rows; the map's 61 rows are split by columns
    ("unpadded", (71, 16), 1, "atrous", {}),  # a height that 8 does not divide, and 64 rows of scores, which it does
    ("unpadded", (61, 30), 3, "shift", {"cover": True}),
    ("unpadded", (59, 29), (5, 2), "crops", {"cover": True}),
    ("unpadded", (9, 12), 1, "mpf", {}),  # two rows of windows, each higher than seven parts of the image
    ("padded", (131, 45), 1, "mpf", EXACT),
    ("padded", (67, 33), 9, "atrous", {"cover": True}),
    ("padded", (14, 15), 3, "auto", {}),
    ("padded", (70, 20), 9, "auto", {"context": "crop"}),
]


def compare(name: str, size: tuple[int, int], stride: object, backend: str, more: dict) -> dict:
    """One map on one device and on eight."""
    net, window, devices = NETS[name], WINDOWS[name], jax.devices()
    variables = random_variables(net, window, 2)
    images = np.random.default_rng(sum(size)).normal(size=(2, *size, 2)).astype(np.float32)
    one = dense.score_map(net, variables, jnp.asarray(images), window, stride, backend, **more)
    many = dense.score_map(net, variables, images, window, stride, backend, **more, devices=devices)
    assert many.scores.shape == one.scores.shape and many.context == one.context
    assert np.array_equal(many.boxes, one.boxes) and many.grid == one.grid
    expected, found = np.asarray(one.scores), np.asarray(many.scores)
    shards = {shard.device: shard.data.shape for shard in many.scores.addressable_shards}
    return {
        "case": f"{name} {size} {stride} {backend} {more}",
        "difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "devices": len(shards),
        "shards": sorted(set(shards.values())),
        "scores": one.scores.shape,
        "backend": many.backend,
        "invariant": "position_invariant" in more,
    }


def memory() -> dict:
    """Bytes of a device, as the compiler plans them, for one device and for eight; and as `plan` predicts them."""
    net, window = nets.create("qa_net"), (32, 32)
    variables = random_variables(net, window, 3)
    size = (1, 2072, 256, 3)
    found = {}
    for count in (1, COUNT):
        devices = jax.devices()[:count]
        rows = jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices), ("rows",)), jax.P(None, "rows"))
        images = jax.ShapeDtypeStruct(size, np.float32, sharding=rows)

        def scores(images: jax.Array, devices: list = devices) -> jax.Array:
            return dense.score_map(net, variables, images, window, 8, "mpf", devices=devices).scores

        analysis = jax.jit(scores).lower(images).compile().memory_analysis()
        planned = dense.plan(net, size[1:], 8, window=window, devices=count)["mpf"]
        found[count] = {
            "argument": analysis.argument_size_in_bytes,
            "output": analysis.output_size_in_bytes,
            "temporary": analysis.temp_size_in_bytes,
            "planned": planned.peak_bytes,
        }
    return found


def main() -> None:
    """Runs all cases."""
    # Compiled with little care: one device and eight alike, so that their values are compared as ever.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    jax.config.update("jax_num_cpu_devices", COUNT)
    json.dump({"cases": [compare(*case) for case in CASES], "memory": memory()}, sys.stdout)


if __name__ == "__main__":
    main()
