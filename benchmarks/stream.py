"""An image that does not fit in memory, streamed: `python -m benchmarks.stream --size=32768`.

Makes a uint8 zarr array of size x size x 3 (once), and streams a net's score map of it at the native stride in a new
process. Measures the peak memory and throughput of that process, the throughput of the same net, backend and tiles on
an image that fits in memory, what was compiled, and the difference of a sample of scores from crops. Writes
stream_SIZE.json and .md to --output. A stream that was stopped is continued; the measurements are then those of the
rest.
"""

import contextlib
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from benchmarks.random_image import MEAN, STD, peak_bytes, random_pixels
from cnn.commands import program
from cnn.runtime import byte_sizes

SIZE = flags.DEFINE_integer("size", 32768, "Height and width of the image, pixels.", lower_bound=64)
NET = flags.DEFINE_string("net", "qa_net", "Name of a registered net; its weights are random.")
WINDOW = flags.DEFINE_integer("window", 32, "Height and width of the net's window, pixels.", lower_bound=1)
MEMORY = flags.DEFINE_string("memory", "2GB", "Memory limit of the stream: a number and MB, GB, MiB or GiB.")
WORKDIR = flags.DEFINE_string("workdir", "runs/stream", "Directory of image and map; the disk must hold both.")
OUTPUT = flags.DEFINE_string("output", os.path.join("benchmarks", "results"), "Directory of the results.")
SMALL = flags.DEFINE_integer(
    "small", 4096, "Least height and width of the small image, which holds whole tiles, pixels.", lower_bound=64
)
REPETITIONS = flags.DEFINE_integer(
    "repetitions", 5, "Number of streams of the small image; the median is reported.", lower_bound=1
)
SAMPLE = flags.DEFINE_integer("sample", 1000, "Number of scores that are compared with crops.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the image, the weights and the sample.", lower_bound=0)
CHILD = flags.DEFINE_enum(
    "child", None, ["stream", "small"], "Part of the benchmark that a new process runs; set by this command."
)

CHUNK = 1024  # pixels along each axis of a chunk of the image


def random_zarr(path: str, height: int, width: int, seed: int) -> None:
    """Writes an image of any size chunk by chunk, unless it was finished before.

    Args:
      path: path of the zarr array (version 3), uint8 [height, width, 3].
      height: height of the image, pixels.
      width: width of the image, pixels.
      seed: seed of the image.
    """
    import tensorstore

    done = f"{path}.{height}x{width}.{seed}.done"
    if os.path.exists(done):
        return
    grid = {"name": "regular", "configuration": {"chunk_shape": [CHUNK, CHUNK, 3]}}
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": path},
        "metadata": {"shape": [height, width, 3], "data_type": "uint8", "chunk_grid": grid},
    }
    store = tensorstore.open(spec, create=True, delete_existing=True).result()
    pending = []
    for y in range(0, height, CHUNK):
        for x in range(0, width, CHUNK):
            part = random_pixels(min(CHUNK, height - y), min(CHUNK, width - x), seed, y // CHUNK, x // CHUNK)
            pending.append(store[y : y + CHUNK, x : x + CHUNK].write(part))
        while len(pending) > 16:
            pending.pop(0).result()
    for write in pending:
        write.result()
    open(done, "w").close()


def make_net() -> tuple[Any, Any]:
    """Makes the net with random weights.

    Returns:
      The net and its variables.
    """
    from cnn import nets

    net = nets.create(NET.value, num_classes=10)
    return net, nets.init(net, (WINDOW.value, WINDOW.value, 3), SEED.value)


def run_child(image: str, target: str) -> dict[str, Any]:
    """Streams the large image or times the small one in this process, whichever --child asks for.

    Args:
      image: path of the large image.
      target: path of its map.

    Returns:
      Measurements by name.
    """
    from cnn import dense
    from cnn.dense import stream

    net, variables = make_net()
    window = (WINDOW.value, WINDOW.value)
    options: dict[str, Any] = dict(window=window, mean=MEAN, std=STD, memory_limit=byte_sizes.parse_bytes(MEMORY.value))
    start = peak_bytes()
    if CHILD.value == "stream":
        with compilations() as compiled:
            result = stream(net, variables, image, target, **options)
        return {
            **result._asdict(),
            "compilations": compiled,
            "start_bytes": start,
            "peak_bytes": peak_bytes(),
        }
    table = json.loads(os.environ["STREAM_RESULT"])
    # The small image holds whole tiles: with few tiles, computing scores beyond the map would lower its speed too much.
    tiles = [-(-SMALL.value // (n * s)) for n, s in zip(table["outputs"], table["stride"], strict=True)]
    height, width = (
        WINDOW.value + (count * n - 1) * s for count, n, s in zip(tiles, table["outputs"], table["stride"], strict=True)
    )
    pixels = random_pixels(height, width, SEED.value, 0, 0)
    scores = np.empty(dense.plan_grid(net, pixels.shape, window, None).size + (table["shape"][2],), np.float32)
    options |= dict(progress=False, backend=table["backend"], tile=table["outputs"])
    rates = []
    for _ in range(REPETITIONS.value + 1):  # the first one compiles
        rates.append(stream(net, variables, pixels, scores, **options).megapixels_per_second)
    return {"size": [height, width], "megapixels_per_second": rates[1:], "median": statistics.median(rates[1:])}


@contextlib.contextmanager
def compilations() -> Iterator[dict[str, float]]:
    """Records what JAX compiles.

    Yields:
      A dict that receives the seconds of each compilation by name of the function, numbered if it is compiled again.
    """
    import jax

    seconds: dict[str, float] = {}

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = re.match(r"Finished XLA compilation of (?:jit\()?(.*?)\)? in ([\d.e-]+) sec", record.getMessage())
            if found:
                name, again = found[1], sum(key.split("#")[0] == found[1] for key in seconds)
                seconds[f"{name}#{again + 1}" if again else name] = float(found[2])

    logger, handler = logging.getLogger("jax"), Handler()
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    others = [other for other in logger.handlers if other is not handler]
    for other in others:
        logger.removeHandler(other)
    try:
        with jax.log_compiles(True):
            yield seconds
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
        for other in others:
            logger.addHandler(other)


def compare(image: str, target: str, result: dict[str, Any]) -> float:
    """Compares a random sample of the map with windows that are cut out and classified by themselves.

    Args:
      image: path of the image.
      target: path of the map.
      result: measurements of the stream, from `run_child`.

    Returns:
      The largest difference, as a fraction of the largest score of the sample.
    """
    from cnn import data, dense
    from cnn.images.source import open_image

    net, variables = make_net()
    rng = np.random.default_rng(SEED.value)
    (height, width, _), (down, across), (rows, columns) = result["shape"], result["stride"], result["window"]
    places = np.stack([rng.integers(0, height, SAMPLE.value), rng.integers(0, width, SAMPLE.value)], axis=1).tolist()
    pixels, scores = open_image(image), open_image(target)
    crops = np.stack([pixels.read(y * down, y * down + rows, x * across, x * across + columns) for y, x in places])
    ours = np.stack([scores.read(y, y + 1, x, x + 1)[0, 0] for y, x in places])
    theirs = dense.score_map(net, variables, data.normalise(crops, MEAN, STD), (rows, columns), backend="crops")
    expected = np.asarray(theirs.scores)[:, 0, 0]
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def child(name: str, **environment: str) -> dict[str, Any]:
    """Runs a part of the benchmark in a new process.

    Args:
      name: "stream" or "small".
      **environment: further environment variables of the process.

    Returns:
      Measurements by name.
    """
    command = [sys.executable, "-m", "benchmarks.stream", *sys.argv[1:], f"--child={name}"]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Makes the image, streams it, and writes the measurements."""
    byte_sizes.parse_bytes(MEMORY.value)  # a wrong number is an error before the image is made
    image = os.path.join(WORKDIR.value, f"image_{SIZE.value}_{SEED.value}.zarr")
    target = os.path.join(WORKDIR.value, f"map_{NET.value}_{SIZE.value}_{SEED.value}.zarr")
    if CHILD.value:
        print(json.dumps(run_child(image, target)))
        return
    os.makedirs(WORKDIR.value, exist_ok=True)
    begin = time.monotonic()
    random_zarr(image, SIZE.value, SIZE.value, SEED.value)
    made = time.monotonic() - begin
    result = child("stream")
    small = child("small", STREAM_RESULT=json.dumps(result))
    summary = {
        "net": NET.value,
        "size": SIZE.value,
        "memory_limit_bytes": byte_sizes.parse_bytes(MEMORY.value),
        "seed": SEED.value,
        "image_seconds": made,
        "stream": result,
        "in_memory": small,
        "ratio": result["megapixels_per_second"] / small["median"],
        "sample": {"scores": SAMPLE.value, "largest_relative_difference": compare(image, target, result)},
    }
    write(summary)


def write(summary: dict[str, Any]) -> None:
    """Writes the measurements as JSON and as a table.

    Args:
      summary: all measurements of the benchmark; receives the environment.
    """
    from cnn.reports import markdown
    from cnn.runs import logs

    summary["environment"] = where = logs.environment()
    result, small = summary["stream"], summary["in_memory"]
    rows = [
        ["image", f"{SIZE.value} x {SIZE.value} x 3 uint8, {SIZE.value**2 / 1e6:,.0f} megapixels"],
        ["map", " x ".join(str(n) for n in result["shape"])],
        ["backend, tile", f"{result['backend']}, {result['outputs'][0]} x {result['outputs'][1]} scores"],
        ["tiles", f"{result['tiles']}, {result['tiles_done_before']} done before, shrunk {result['shrunk']} times"],
        ["memory limit", f"{summary['memory_limit_bytes'] / 1e9:.2f} GB"],
        [
            "peak resident memory",
            f"{result['peak_bytes'] / 1e9:.2f} GB ({result['start_bytes'] / 1e9:.2f} at the start)",
        ],
        ["compiled", ", ".join(f"{name} {took:.2f} s" for name, took in result["compilations"].items())],
        ["seconds", f"{result['seconds']:.1f}"],
        ["megapixels / s", f"{result['megapixels_per_second']:.2f}"],
        [
            f"megapixels / s, {small['size'][0]} x {small['size'][1]} in memory",
            f"{small['median']:.2f}, median of {len(small['megapixels_per_second'])}",
        ],
        ["ratio", f"{summary['ratio']:.3f}"],
        [
            f"largest difference of {SAMPLE.value} scores from crops",
            f"{summary['sample']['largest_relative_difference']:.2e} of the largest",
        ],
    ]
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    text = f"# Streaming `{NET.value}` at the native stride\n\n{markdown.markdown(['what', 'measured'], rows)}\n"
    text += f"`{where['command']}`; {where['device']}, python {where['python']}, {packages}; commit {where['commit']}\n"
    os.makedirs(OUTPUT.value, exist_ok=True)
    logs.write_json(os.path.join(OUTPUT.value, f"stream_{SIZE.value}.json"), summary)
    with open(os.path.join(OUTPUT.value, f"stream_{SIZE.value}.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    program.start(main, "--size=2048")
