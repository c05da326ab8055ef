"""One image in several formats, streamed: `python -m benchmarks.stream_formats --size=20000`.

Writes the same uint16 pixels (size x size x 3) as a .npy array, a tiled and compressed TIFF and an OME-Zarr with
compressed chunks, and a uint8 zarr array of their upper bytes. Streams a net's score map of each in a new process,
within a memory limit, and reads each without a net in another. Measures throughput and peak memory, and compares all
bytes of the maps of the uint16 images. Writes stream_formats_SIZE.json and .md to --output.
"""

import hashlib
import json
import os
import shutil
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

SIZE = flags.DEFINE_integer("size", 20000, "Height and width of the image, pixels.", lower_bound=64)
NET = flags.DEFINE_string("net", "qa_net", "Name of a registered net; its weights are random.")
WINDOW = flags.DEFINE_integer("window", 32, "Height and width of the net's window, pixels.", lower_bound=1)
MEMORY = flags.DEFINE_string("memory", "1GB", "Memory limit of the stream: a number and MB, GB, MiB or GiB.")
WORKDIR = flags.DEFINE_string("workdir", "runs/stream_formats", "Directory of images and maps.")
OUTPUT = flags.DEFINE_string("output", os.path.join("benchmarks", "results"), "Directory of the results.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the image and the weights.", lower_bound=0)
CHILD = flags.DEFINE_list("child", None, "Part of the benchmark that a new process runs; set by this command.")

TILE = 512  # pixels along each axis of the TIFF's tiles and of the zarrs' chunks
BAND = 1024  # rows of the image that are made and read at once
DEEP = ("image.npy", "image.tif", "image.ome.zarr")
IMAGES = (*DEEP, "bytes.zarr")


def bands(size: int) -> Iterator[np.ndarray]:
    """The image from top to bottom.

    Args:
      size: height and width, pixels.

    Yields:
      uint16 [at most BAND, size, 3].
    """
    for y in range(0, size, BAND):
        height = min(BAND, size - y)
        parts = [
            random_pixels(height, min(BAND, size - x), SEED.value, y // BAND, x // BAND) for x in range(0, size, BAND)
        ]
        upper = np.concatenate(parts, axis=1).astype(np.uint16)
        lower = np.random.default_rng((SEED.value, y)).integers(0, 32, upper.shape, np.uint16)
        yield 256 * upper + 8 * lower  # 13 bits that matter, as a camera gives them


def make_images(folder: str, size: int) -> None:
    """Writes the image in all formats, unless that was done before.

    Args:
      folder: where the files lie.
      size: height and width, pixels.
    """
    import tensorstore
    import tifffile

    done = os.path.join(folder, f"{size}.{SEED.value}.done")
    if os.path.exists(done):
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    shape = (size, size, 3)
    whole = np.lib.format.open_memmap(os.path.join(folder, DEEP[0]), "w+", np.uint16, shape)
    for y, band in zip(range(0, size, BAND), bands(size), strict=True):
        whole[y : y + len(band)] = band
    whole.flush()
    options: dict[str, Any] = dict(tile=(TILE, TILE), compression="zstd", predictor=True, photometric="rgb")
    tifffile.imwrite(os.path.join(folder, DEEP[1]), whole, bigtiff=True, **options)
    group = os.path.join(folder, DEEP[2])
    os.makedirs(group)
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]}
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    with open(os.path.join(group, "zarr.json"), "w") as file:
        json.dump({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}, file)

    def array(path: str, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: str, names: list[str]) -> Any:
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}] if dtype == "uint16" else []
        metadata = {
            "shape": list(shape),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
            "codecs": [*codecs, {"name": "zstd", "configuration": {"level": 1}}] if codecs else [],
            "dimension_names": names,
        }
        metadata = {name: value for name, value in metadata.items() if value != []}
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}, "metadata": metadata}
        return tensorstore.open(spec, create=True, delete_existing=True).result()

    planes = array(os.path.join(group, "0"), (3, size, size), (3, TILE, TILE), "uint16", ["c", "y", "x"])
    small = array(os.path.join(folder, IMAGES[3]), shape, (TILE, TILE, 3), "uint8", ["y", "x", "c"])
    for y in range(0, size, BAND):
        band = np.array(whole[y : y + BAND])
        planes[:, y : y + len(band)].write(band.transpose(2, 0, 1)).result()
        small[y : y + len(band)].write((band >> 8).astype(np.uint8)).result()
    open(done, "w").close()


def run_child(part: str, image: str, target: str) -> dict[str, Any]:
    """Streams an image, or reads it without a net, in this process.

    Args:
      part: "stream" or "read".
      image: path of the image.
      target: path of its map.

    Returns:
      Measurements by name.
    """
    from cnn import dense, nets

    limit = byte_sizes.parse_bytes(MEMORY.value)
    if part == "read":
        source = dense.open_image(image, cache_bytes=limit // 8)
        begin = time.monotonic()
        for y in range(0, source.shape[0], BAND):
            for x in range(0, source.shape[1], BAND):
                source.read(y, min(y + BAND, source.shape[0]), x, min(x + BAND, source.shape[1]))
        seconds = time.monotonic() - begin
        return {"megapixels_per_second": SIZE.value**2 / 1e6 / seconds, "peak_bytes": peak_bytes()}
    window = (WINDOW.value, WINDOW.value)
    net = nets.create(NET.value, num_classes=10)
    variables = nets.init(net, (*window, 3), SEED.value)
    result = dense.stream(
        net, variables, image, target, window=window, mean=MEAN, std=STD, memory_limit=limit, overwrite=True
    )
    found = {**result._asdict(), "peak_bytes": peak_bytes()}
    opened, digest = dense.open_map(target), hashlib.sha256()
    for y in range(0, opened.shape[0], 256):
        digest.update(np.ascontiguousarray(opened.read(slice(y, y + 256))).tobytes())
    return {**found, "sha256": digest.hexdigest()}


def child(part: str, name: str) -> dict[str, Any]:
    """Runs a part of the benchmark in a new process.

    Args:
      part: "make", "stream" or "read".
      name: name of the image's file; "" for all.

    Returns:
      Measurements by name.
    """
    command = [sys.executable, "-m", "benchmarks.stream_formats", *sys.argv[1:], f"--child={part},{name}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Makes the images, streams and reads them, and writes the measurements."""
    folder = WORKDIR.value
    if CHILD.value:
        part, name = CHILD.value
        if part == "make":
            make_images(folder, SIZE.value)
            print("{}")
            return
        print(json.dumps(run_child(part, os.path.join(folder, name), os.path.join(folder, f"map_of_{name}.npy"))))
        return
    limit = byte_sizes.parse_bytes(MEMORY.value)
    child("make", "")  # apart, as the peak memory of a process counts that of the one that started it
    found = {name: {"stream": child("stream", name), "read": child("read", name)} for name in IMAGES}
    digests = {found[name]["stream"]["sha256"] for name in DEEP}
    if len(digests) != 1:
        raise RuntimeError(f"the maps of {', '.join(DEEP)} differ")
    write({"net": NET.value, "size": SIZE.value, "memory_limit_bytes": limit, "seed": SEED.value, "images": found})


def write(summary: dict[str, Any]) -> None:
    """Writes the measurements as JSON and as a table.

    Args:
      summary: all measurements of the benchmark; receives the environment.
    """
    from cnn.reports import markdown
    from cnn.runs import logs

    summary["environment"] = where = logs.environment()
    rows = [
        [
            f"`{name}`",
            f"{one['stream']['megapixels_per_second']:.2f}",
            f"{one['stream']['peak_bytes'] / 1e9:.2f} GB",
            f"{one['read']['megapixels_per_second']:.1f}",
            one["stream"]["sha256"][:12],
        ]
        for name, one in summary["images"].items()
    ]
    heads = ["image", "streamed, megapixels/s", "peak memory", "read alone, megapixels/s", "SHA-256 of the map"]
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    text = (
        f"# `{NET.value}` over {SIZE.value} x {SIZE.value} x 3 pixels in four formats\n\n"
        f"Memory limit {summary['memory_limit_bytes'] / 1e9:.2f} GB; uint16 but for `bytes.zarr`; the TIFF has tiles "
        f"of {TILE} pixels (zstd, predictor), the OME-Zarr chunks of {TILE} (zstd).\n\n"
        f"{markdown.markdown(heads, rows)}\n"
        f"`{where['command']}`; {where['device']}, python {where['python']}, {packages}; commit {where['commit']}\n"
    )
    os.makedirs(OUTPUT.value, exist_ok=True)
    logs.write_json(os.path.join(OUTPUT.value, f"stream_formats_{SIZE.value}.json"), summary)
    with open(os.path.join(OUTPUT.value, f"stream_formats_{SIZE.value}.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    program.start(main, "--size=2048")
