"""An image that does not fit in memory, streamed: `python -m benchmarks.stream --size=32768`.

Makes a uint8 zarr of size x size x 3 (once), streams a net's score map of it at the native stride in a fresh
process, and measures that process's peak memory, its throughput, that of the same net, backend and tile on an image
that fits in memory, what was compiled, and the difference of a sample of scores from crops. Writes stream_SIZE.json and
.md to benchmarks/results/. A stream that was stopped goes on; its numbers are then of the rest.
"""

import contextlib
import json
import logging
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from cnn.commands import program
from cnn.runtime import byte_sizes

SIZE = flags.DEFINE_integer("size", 32768, "Height and width of the image, pixels.", lower_bound=64)
NET = flags.DEFINE_string("net", "qa_net", "Of the registry; its weights are random.")
WINDOW = flags.DEFINE_integer("window", 32, "Height and width of the net's window, pixels.", lower_bound=1)
MEMORY = flags.DEFINE_string("memory", "2GB", "Limit of the stream: a number and MB, GB, MiB or GiB.")
WORKDIR = flags.DEFINE_string("workdir", "runs/stream", "Where the image and the map lie; the disk must hold both.")
OUTPUT = flags.DEFINE_string("output", os.path.join("benchmarks", "results"), "Where to write the results.")
SMALL = flags.DEFINE_integer(
    "small", 4096, "Least height and width of the image that fits in memory; whole tiles fill it.", lower_bound=64
)
REPETITIONS = flags.DEFINE_integer("repetitions", 5, "Of the small one; the median counts.", lower_bound=1)
SAMPLE = flags.DEFINE_integer("sample", 1000, "Scores compared with crops.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the image, the weights and the sample.", lower_bound=0)
CHILD = flags.DEFINE_enum("child", None, ["stream", "small"], "What the fresh processes do; for this command itself.")

CHUNK = 1024  # pixels along each axis of a chunk of the image
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def random_pixels(height: int, width: int, seed: int, y: int, x: int) -> np.ndarray:
    """A part of an image without end: smooth random content plus noise; a pure function of its place and the seed.

    Args:
      height: of the part, pixels.
      width: of the part, pixels.
      seed: of the image.
      y: place of the part among parts, rows.
      x: place among parts, columns.

    Returns:
      uint8 [height, width, 3].
    """
    rng = np.random.default_rng((seed, y, x))
    rows, columns = np.linspace(0, 1, height, dtype=np.float32), np.linspace(0, 1, width, dtype=np.float32)
    waves = rng.uniform(1, 12, (2, 3, 4)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, (2, 3, 4)).astype(np.float32)
    amplitudes = rng.uniform(6, 30, (3, 4)).astype(np.float32)
    vertical = (
        np.sin(2 * np.pi * waves[0][..., None] * rows + phases[0][..., None]) * amplitudes[..., None]
    )  # [3, 4, H]
    horizontal = np.sin(2 * np.pi * waves[1][..., None] * columns + phases[1][..., None])  # [3, 4, W]
    smooth = np.einsum("cih,ciw->hwc", vertical, horizontal, optimize=True)
    noise = rng.integers(0, 48, (height, width, 3), np.uint8)
    return np.clip(smooth + 104 + noise, 0, 255).astype(np.uint8)


def random_zarr(path: str, height: int, width: int, seed: int) -> None:
    """Writes an image of any size, chunk by chunk; one that is finished already is left as it is.

    Args:
      path: of the zarr (version 3), uint8 [height, width, 3].
      height: pixels.
      width: pixels.
      seed: the same seed gives the same image.
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
    """The net and random weights.

    Returns:
      The net and its variables.
    """
    from cnn import nets

    net = nets.create(NET.value, num_classes=10)
    return net, nets.init(net, (WINDOW.value, WINDOW.value, 3), SEED.value)


def run_child(image: str, target: str) -> dict[str, Any]:
    """Streams in this process, or times the small image, and says what it took.

    Args:
      image: path of the large image.
      target: path of its map.

    Returns:
      Numbers by name.
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
    # Whole tiles, as scores that a tile computes beyond the map are not kept, and would count against few tiles most.
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
    """Notes what JAX compiles.

    Yields:
      A dict that fills: from the name of each function, with a number if it is compiled again, to seconds.
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


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    Returns:
      Bytes.
    """
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def compare(image: str, target: str, result: dict[str, Any]) -> float:
    """Compares a random sample of the map with crops, cut out and classified by themselves.

    Args:
      image: path of the image.
      target: path of the map.
      result: of the stream.

    Returns:
      The largest difference, relative to the largest score of the sample.
    """
    from cnn import data, dense
    from cnn.dense.streaming.source_and_sink import open_source

    net, variables = make_net()
    rng = np.random.default_rng(SEED.value)
    (height, width, _), (down, across), (rows, columns) = result["shape"], result["stride"], result["window"]
    places = np.stack([rng.integers(0, height, SAMPLE.value), rng.integers(0, width, SAMPLE.value)], axis=1).tolist()
    pixels, scores = open_source(image), open_source(target)
    crops = np.stack([pixels.read(y * down, y * down + rows, x * across, x * across + columns) for y, x in places])
    ours = np.stack([scores.read(y, y + 1, x, x + 1)[0, 0] for y, x in places])
    theirs = dense.score_map(net, variables, data.normalise(crops, MEAN, STD), (rows, columns), backend="crops")
    expected = np.asarray(theirs.scores)[:, 0, 0]
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def child(name: str, **environment: str) -> dict[str, Any]:
    """Runs a part of the benchmark in a fresh process.

    Args:
      name: "stream" or "small".
      environment: variables for it.

    Returns:
      What it measured.
    """
    command = [sys.executable, "-m", "benchmarks.stream", *sys.argv[1:], f"--child={name}"]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Makes the image, streams it, measures, writes."""
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
    """Writes the JSON and the table.

    Args:
      summary: of the benchmark.
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
    text = f"# Streaming `{NET.value}` at its own stride\n\n{markdown.markdown(['what', 'measured'], rows)}\n"
    text += f"`{where['command']}`; {where['device']}, python {where['python']}, {packages}; commit {where['commit']}\n"
    os.makedirs(OUTPUT.value, exist_ok=True)
    logs.write_json(os.path.join(OUTPUT.value, f"stream_{SIZE.value}.json"), summary)
    with open(os.path.join(OUTPUT.value, f"stream_{SIZE.value}.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    program.start(main, "--size=2048")
