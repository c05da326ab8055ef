"""Sources and sinks of every kind, and how a stream of a small image is stopped and compared."""

import shutil

import numpy as np
import tifffile
from PIL import Image

from cnn import dense
from cnn.dense import tile_runs
from tests.dense.streaming.small_stream import CONSTANTS, PIXELS, run
from tests.made import make_zarr

IMAGE = PIXELS[:50, :46]  # 18 x 16 scores, 9 tiles
SIZE, TILE, TILES = (18, 16), 8, 6
SOURCES = ("array", "s.npy", "s.zarr", "s.tif", "s.png")
FILES = ("m.npy", "m.zarr", "m.ome.zarr", "m.tif")
SINKS = (*FILES, "array")


def dense_run(sink, source, **options):
    return run(sink, source, **{"tile": TILE, **CONSTANTS, **options})


def make_source(folder, name, image=IMAGE):
    """The image as a file of that name, or as it is."""
    path = folder / name
    if name == "array":
        return image
    if name == "s.npy":
        np.save(path, image)
    elif name == "s.zarr":
        shutil.rmtree(path, ignore_errors=True)
        make_zarr(path, image)
    elif name == "s.tif":
        tifffile.imwrite(path, image, tile=(16, 16), compression="zlib", photometric="rgb")
    else:
        Image.fromarray(image).save(path)
    return path


def make_sink(folder, name):
    return np.full((*SIZE, 5), np.nan, np.float32) if name == "array" else folder / name


def values(sink):
    return sink if isinstance(sink, np.ndarray) else dense.open_map(sink).read()


def files_of(folder, but=()):
    """Every file below a folder, by its path, with its bytes; and every folder."""
    return {
        str(one.relative_to(folder)): one.read_bytes() if one.is_file() else None
        for one in sorted(folder.rglob("*"))
        if one.name not in but
    }


def stop_at(monkeypatch, tile, error=KeyboardInterrupt):
    """Makes the computation of one tile fail."""
    run_tile, calls = tile_runs.run_tile, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) > tile:
            raise error("stopped")
        return run_tile(*arguments)

    monkeypatch.setattr(tile_runs, "run_tile", stopping)


def same_as_undisturbed(sink, source, folder):
    """Whether a map has the bytes of one of the same source that nothing disturbed."""
    folder.mkdir()
    whole = folder / sink.name
    dense_run(whole, source)
    beside = [one for one in sink.parent.iterdir() if one.name.startswith(sink.name)]
    found = {one.name: files_of(one) if one.is_dir() else one.read_bytes() for one in beside}
    there = {one.name: files_of(one) if one.is_dir() else one.read_bytes() for one in folder.iterdir()}
    return found == there
