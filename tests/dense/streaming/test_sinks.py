"""Sinks hold the bytes that were written, and replace nothing but maps of this program."""

import errno
import json
import os
from collections import namedtuple
from contextlib import closing

import numpy as np
import pytest

from cnn.dense.streaming import sink as sinks
from cnn.dense.streaming.sink import open_sink
from cnn.dense.streaming.sinks import base
from cnn.images.errors import StorageError
from cnn.images.files import open_file
from tests.dense.streaming.small_stream import run
from tests.made import make_zarr

MAP = np.random.default_rng(2).normal(size=(40, 33, 5)).astype(np.float32)


def write(sink):
    for y in range(0, 40, 16):
        for x in range(0, 33, 12):
            sink.write(y, x, MAP[y : y + 16, x : x + 12])
    sink.flush()
    sink.close()


def load(path):
    if str(path).endswith(".npy"):
        return np.load(path)
    return np.asarray(open_file(str(path), None, 0)[0][:, :])


@pytest.mark.parametrize("name, version", [("m.npy", 3), ("m.zarr", 3), ("m.zarr", 2)])
def test_sinks(tmp_path, name, version):
    path = tmp_path / "new" / name
    write(open_sink(path, MAP.shape, chunk=(16, 12), zarr_format=version))
    np.testing.assert_array_equal(load(path), MAP)
    sink = open_sink(path, MAP.shape, existing=True)
    sink.write(3, 30, np.zeros((2, 3, 5), np.float32))
    sink.flush()
    sink.close()
    changed = MAP.copy()
    changed[3:5, 30:33] = 0
    np.testing.assert_array_equal(load(path), changed)
    with pytest.raises(StorageError, match="it exists; name another, or overwrite=True"):
        open_sink(path, (7, 5, 2))
    (path.parent / f"{name}.progress.json").write_text("{}")  # as lies beside every map of a stream
    open_sink(path, (7, 5, 2), overwrite=True).close()
    assert load(path).shape == (7, 5, 2)


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_says_what_its_scores_are(tmp_path, version):
    about = {"window": [16, 16], "stride": [2, 2], "offset": [0, 0], "context": "both", "class_names": ["a", "b"]}
    open_sink(tmp_path / "m.zarr", (7, 5, 2), zarr_format=version, about=about).close()
    file = "zarr.json" if version == 3 else ".zattrs"
    written = json.loads((tmp_path / "m.zarr" / file).read_text())
    assert (written["attributes"] if version == 3 else written)["score_map"] == about


def test_only_our_maps_are_replaced(tmp_path):
    def check(path, message):
        before = {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()}
        with pytest.raises(StorageError, match=message):
            open_sink(path, MAP.shape, overwrite=True)
        assert before == {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()}

    make_zarr(tmp_path / "image.zarr", np.zeros((40, 33, 3), np.uint8))
    check(tmp_path / "image.zarr", "not known as a map of this program.*image.zarr.progress.json.*not replaced")
    (tmp_path / "image.zarr.progress.json").write_text("{}")  # left behind by a map that is gone
    check(tmp_path / "image.zarr", "not known as a map of this program")
    np.save(tmp_path / "labels.npy", MAP)
    check(tmp_path / "labels.npy", "not known as a map of this program.*name another, or remove it")
    np.save(tmp_path / "pixels.npy", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "pixels.npy.progress.json").write_text("{}")
    check(tmp_path / "pixels.npy", "not known as a map of this program")
    write(open_sink(tmp_path / "m.zarr", MAP.shape, zarr_format=3))
    for name in ("notes.txt", "c/0/notes.txt", "c/old"):
        foreign = tmp_path / "m.zarr" / name
        foreign.write_text("mine")
        check(tmp_path / "m.zarr", f"it holds {name}, which is no part of a map and would be removed")
        foreign.unlink()
    open_sink(tmp_path / "m.zarr", MAP.shape, overwrite=True).close()


def test_another_name_of_a_replaced_file_keeps_its_contents(tmp_path):
    write(open_sink(tmp_path / "m.npy", MAP.shape))
    os.link(tmp_path / "m.npy", tmp_path / "kept.npy")
    (tmp_path / "m.npy.progress.json").write_text("{}")
    open_sink(tmp_path / "m.npy", MAP.shape, overwrite=True).close()
    np.testing.assert_array_equal(np.load(tmp_path / "kept.npy"), MAP)
    assert not np.load(tmp_path / "m.npy").any()


def test_a_zarr_is_written_in_whole_chunks(tmp_path):
    write(open_sink(tmp_path / "m.zarr", MAP.shape, chunk=(16, 12), zarr_format=3))
    files = sorted(
        os.path.relpath(os.path.join(d, f), tmp_path / "m.zarr") for d, _, fs in os.walk(tmp_path) for f in fs
    )
    assert files == sorted(["zarr.json", *(f"c/{i}/{j}/0" for i in range(3) for j in range(3))])
    assert (tmp_path / "m.zarr/c/1/2/0").stat().st_size == 16 * 12 * 5 * 4
    first = np.fromfile(tmp_path / "m.zarr/c/1/0/0", "<f4").reshape(16, 12, 5)
    np.testing.assert_array_equal(first, MAP[16:32, :12])


def test_a_callers_own_array(tmp_path):
    array = np.zeros(MAP.shape, np.float64)
    write(open_sink(array, MAP.shape))
    np.testing.assert_array_equal(array, MAP)
    store = make_zarr(tmp_path / "m.zarr", np.zeros_like(MAP), chunk=(10, 10, 5))
    write(open_sink(store, MAP.shape))
    np.testing.assert_array_equal(np.asarray(store), MAP)


def test_errors_of_sinks(tmp_path, monkeypatch):
    def check(where, message, shape=MAP.shape, error=StorageError, **options):
        with pytest.raises(error, match=message):
            open_sink(where, shape, **options)

    write(open_sink(tmp_path / "m.npy", MAP.shape))
    write(open_sink(tmp_path / "m.zarr", MAP.shape))
    for path in (tmp_path / "m.npy", tmp_path / "m.zarr"):
        check(path, "it exists; name another, or overwrite=True")
        check(path, "40x33x5 of .*float32.*, the map is 4x4x5 of float32", (4, 4, 5), existing=True)
    check(tmp_path / "gone.npy", "was begun and is gone", existing=True)
    check(tmp_path / "m.csv", r"written as \.npy, \.zarr, \.ome\.zarr, \.tif or \.tiff, not as \.csv")
    (tmp_path / "mine.zarr").mkdir()
    check(tmp_path / "mine.zarr", "not known as a map of this program", overwrite=True)
    (tmp_path / "bad.npy").write_bytes(b"x" * 99)
    check(tmp_path / "bad.npy", "cannot be opened as a map", existing=True)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(MAP))
    check(tmp_path / "fortran.npy", "Fortran order", existing=True)
    check(np.zeros((3, 3, 5), np.float32), "it is 3x3x5 of float32, the map is 40x33x5")
    check(np.zeros(MAP.shape, np.float16), "of float16, the map is .* of float32")
    check(np.broadcast_to(np.float32(0), MAP.shape), "read-only")
    check([1], "a sink is a path")
    sink = open_sink(np.zeros(MAP.shape, np.float32), MAP.shape)
    for y, x, block in ((30, 0, MAP[:16]), (-1, 0, MAP[:2]), (0, 0, MAP[..., :3]), (0, 0, MAP.astype(np.float64))):
        with pytest.raises(ValueError, match="does not lie in the map 40x33x5 of float32"):
            sink.write(y, x, block)
    usage = namedtuple("usage", "total used free")(0, 0, 2**20)
    monkeypatch.setattr(sinks.shutil, "disk_usage", lambda folder: usage)
    check(tmp_path / "new" / "big.npy", "takes 4.0 GiB, and 1.0 MiB are free", (2**15, 2**15, 1))
    free = namedtuple("usage", "total used free")(0, 0, 30)
    monkeypatch.setattr(sinks.shutil, "disk_usage", lambda folder: free)
    check(tmp_path / "new" / "big.npy", "takes 25.8 KiB, and 30 bytes are free")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    check(tmp_path / "file" / "m.npy", "file is a file, not a directory")


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    """A finished .npy is compared with its image and kept, as other maps are; a folder that cannot be made is named."""
    path = tmp_path / "m.npy"
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with closing(open_sink(path, values.shape)) as sink:
        sink.write(0, 0, values)
        sink.flush()

    def read_only(function):
        def call(*args, **options):
            if any(isinstance(mode, str) and "+" in mode for mode in (*args[1:], *options.values())):
                raise OSError(errno.EROFS, "Read-only file system")
            return function(*args, **options)

        return call

    monkeypatch.setattr("cnn.dense.streaming.sinks.npy.open", read_only(open), raising=False)
    monkeypatch.setattr(np.lib.format, "open_memmap", read_only(np.lib.format.open_memmap))
    with closing(open_sink(path, values.shape, existing=True, complete=True)) as sink:
        np.testing.assert_array_equal(sink.read(slice(0, 2), slice(1, 3)), values[:, 1:3])
    with pytest.raises(StorageError, match="m.npy: cannot be opened as a map: .*Read-only file system"):
        open_sink(path, values.shape, existing=True)

    make = os.makedirs

    def refuse(folder, *args, **options):
        if str(folder).endswith("new"):
            raise OSError(errno.EROFS, "Read-only file system")
        make(folder, *args, **options)

    monkeypatch.setattr(os, "makedirs", refuse)
    for name in ("m.npy", "m.zarr", "m.ome.zarr", "m.tif"):
        with pytest.raises(StorageError, match=rf"{name}: its folder .*/new cannot be made: Read-only file system;"):
            run(tmp_path / "new" / name, tile=30)
    assert sorted(os.listdir(tmp_path)) == ["m.npy"]


def test_errors_of_tensorstore_are_said_without_its_annotations(tmp_path):
    open_sink(tmp_path / "m.zarr", (4, 4, 1), chunk=(4, 4)).close()
    (tmp_path / "m.zarr" / ".zarray").write_text("{")
    with pytest.raises(StorageError, match=r"m.zarr: cannot be opened as a map: ") as caught:
        open_sink(tmp_path / "m.zarr", (4, 4, 1), existing=True)
    assert "tensorstore_spec" not in str(caught.value) and len(str(caught.value)) < 400
    error = ValueError("a: b\n [tensorstore_spec='{\"x\": [1]}'] [os_error_code='30']")
    assert base.plain(error) == "a: b"
