"""What a map is of: one net and one image, in a sink apart from its source, which says what it holds."""

import json
import os

import h5py
import numpy as np
import pytest
import zarr

from cnn.dense import open_map
from cnn.dense.streaming.sink import open_sink
from cnn.images import Facts, Georeference, Source, Spacing
from cnn.images.errors import StorageError
from cnn.images.files import open_file
from tests.dense.streaming.small_maps import write_map
from tests.dense.streaming.small_stream import CONSTANTS, NET, NORMALISED, PIXELS, Watched, contents, journal_of, run
from tests.made import make_zarr

pytestmark = pytest.mark.usefixtures("small_tiles")


@pytest.mark.slow
def test_what_differs_is_named(tmp_path):
    path = tmp_path / "m.npy"
    run(path)
    before = contents(path)
    for message, options in {
        "variables": {"seed": 1},
        "mean": {"mean": (0.1, 0.2, 0.3)},
        r"image: the pixels of its 12 finished tiles differ": {"source": PIXELS[::-1], **CONSTANTS},
        r"stride \(\[2, 2\] there, \[4, 4\] now\)": {"stride": 4},
        "tile": {"tile": 24},
        "backend": {"backend": "crops"},
    }.items():
        with pytest.raises(StorageError, match=f"begun with another .*{message}.*overwrite=True"):
            run(path, **options)
    assert contents(path) == before
    run(path, seed=1, overwrite=True)
    assert contents(path) != before
    run(path, overwrite=True)
    assert contents(path) == before
    journal_of(path).unlink()
    with pytest.raises(StorageError, match="it exists; name another, or overwrite=True"):
        run(path)
    with pytest.raises(StorageError, match="not known as a map of this program"):
        run(path, overwrite=True)
    journal_of(path).write_text("{}")
    with pytest.raises(StorageError, match="not the journal of a stream.*overwrite=True"):
        run(path)
    run(path, overwrite=True)
    path.unlink()
    with pytest.raises(StorageError, match="was begun and is gone"):
        run(path)


@pytest.mark.parametrize("name", ["m.npy", "m.zarr"])
def test_a_map_is_of_one_image(tmp_path, name):
    """Begun or finished: one pixel that any finished tile read, and one score that it wrote, are enough."""
    path = tmp_path / name
    changed = PIXELS.copy()
    changed[57, 70, 1] ^= 1

    def fail(reads):
        if reads > 9:
            raise OSError("the disk is unplugged")

    with pytest.raises(OSError, match="unplugged"):
        run(path, Watched(fail), **CONSTANTS)
    begun = contents(path)
    for _ in range(2):
        with pytest.raises(StorageError, match="begun with another image: the pixels of its .* finished tiles differ"):
            run(path, changed, **CONSTANTS)
        assert contents(path) == begun
        run(path)
        begun = contents(path)
    target = open_sink(path, (42, 53, 5), existing=True)
    target.write(20, 30, np.zeros((1, 1, 5), np.float32))
    target.flush()
    target.close()
    with pytest.raises(StorageError, match="is not the map that its journal describes: the scores of"):
        run(path)
    run(path, overwrite=True)
    assert contents(path) == begun


def test_a_refused_call_leaves_nothing_that_binds_the_next(tmp_path):
    with pytest.raises(TypeError, match="its pixels are uint8; .* or give mean and std of the training data"):
        run(tmp_path / "m.npy", PIXELS.copy())
    with pytest.raises(ValueError, match="2 class_names, and the net has 5 classes"):
        run(tmp_path / "m.npy", class_names=["a", "b"])
    with pytest.raises(StorageError, match=r"written as \.npy, \.zarr, .* not as \.csv"):
        run(tmp_path / "new" / "m.csv")
    assert not list(tmp_path.iterdir())

    def fail(reads):
        raise OSError("the disk is unplugged")

    with pytest.raises(OSError, match="unplugged"):
        run(tmp_path / "m.npy", Watched(fail), stride=4, tile=24, seed=1, **CONSTANTS)
    result = run(tmp_path / "m.npy")  # nothing of the other was finished
    assert result.tiles_done_before == 0 and result.shape == (42, 53, 5)


def test_a_sink_is_apart_from_its_source(tmp_path):
    """By every name that a path may have; the source is there afterwards."""
    np.save(tmp_path / "a.npy", NORMALISED)
    os.link(tmp_path / "a.npy", tmp_path / "hard.npy")
    (tmp_path / "soft.npy").symlink_to(tmp_path / "a.npy")
    make_zarr(tmp_path / "a.zarr", NORMALISED)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    store = open_file(str(tmp_path / "a.zarr"), None, 0)[0]
    pairs = [("a.npy", name) for name in ("a.npy", "hard.npy", "soft.npy", "link/a.npy")]
    pairs += [("a.zarr", name) for name in ("a.zarr", "a.zarr/", "link/a.zarr", "a.zarr/c/m.npy", "link/a.zarr/m.zarr")]
    pairs += [("link/a.zarr", "a.zarr"), ("hard.npy", "a.npy")]
    for source, sink in [*((tmp_path / one, f"{tmp_path}/{other}") for one, other in pairs)]:
        with pytest.raises(StorageError, match="would lie in its source .* name another sink"):
            run(sink, source, overwrite=True)
    for source, sink in ((mapped[:90], "a.npy"), (store, "a.zarr")):
        with pytest.raises(StorageError, match="would lie in its source"):
            run(tmp_path / sink, source, overwrite=True)
    with pytest.raises(StorageError, match=r"it lies in the zarr array .*a\.zarr; name a sink outside of it"):
        run(tmp_path / "a.zarr" / "m.npy", NORMALISED)
    pixels = np.zeros((98, 121, 8), np.float32)
    with pytest.raises(StorageError, match="the sink lies in the memory of the source"):
        run(pixels[:42, :53, :5], pixels[..., 2:5])
    run(pixels[:42, :53, 3:], pixels[..., :3])  # in turns with it, and apart
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), NORMALISED)
    np.testing.assert_array_equal(np.asarray(store), NORMALISED)


def test_a_map_carries_what_its_scores_are(tmp_path, monkeypatch):
    names = ["a", "b", "c", "d", "e"]
    monkeypatch.setenv("HOME", str(tmp_path))
    run("~/m.zarr/", class_names=names)  # as a shell leaves it that does not know `~` there
    expected = {
        "image_shape": [98, 121, 3],
        "window": [16, 16],
        "stride": [2, 2],
        "offset": [0, 0],
        "context": "both",
        "class_names": names,
    }
    expected |= {
        "written": "scores",
        "dtype": "float32",
        "map": [42, 53, 5],
        "output_activation": "softmax",
        "mean": list(CONSTANTS["mean"]),
        "source": None,
        "spacing": None,
    }
    found = json.loads((tmp_path / "m.zarr" / ".zattrs").read_text())["score_map"]
    assert {name: found[name] for name in expected} == expected
    assert str(NET) in found["net"] and found["versions"].keys() == {"cnn", "jax", "numpy"}
    assert json.loads(journal_of(tmp_path / "m.zarr").read_text())["about"] == found


def test_other_names_or_another_place_are_refused(tmp_path):
    """The map would keep those that it was begun with; a call that gives no names takes those of the map."""
    path, names = tmp_path / "m.npy", list("abcde")
    run(path, class_names=names)
    before = contents(path)
    with pytest.raises(StorageError, match=r"another class_names \(\['a', .* there, \['v', .* now\).*overwrite=True"):
        run(path, class_names=list("vwxyz"))
    run(path)
    assert contents(path) == before and open_map(path).class_names == names
    run(tmp_path / "unnamed.npy")
    with pytest.raises(StorageError, match="another class_names .None there"):
        run(tmp_path / "unnamed.npy", class_names=names)

    def placed(x, size=0.5):
        place = Georeference((size, 0.0, x, 0.0, -size, 9.0), "EPSG:32618")
        facts = Facts(spacing=Spacing(size, size, "metre"), georeference=place)
        return {"source": Source(PIXELS, "scene", facts=facts), **CONSTANTS}

    run(tmp_path / "placed.tif", **placed(100.0))
    run(tmp_path / "placed.tif", **placed(100.0))
    for moved, message in ((placed(5000.0), "georeference"), (placed(100.0, 0.25), "georeference .*spacing")):
        with pytest.raises(StorageError, match=f"begun with another {message}"):
            run(tmp_path / "placed.tif", **moved)
    assert open_map(tmp_path / "placed.tif").transform[2] == 100 + 0.5 * 7


@pytest.mark.parametrize("field", ["done", "tiles", "complete", "computes", "read", "written", "about"])
def test_a_damaged_journal_is_told_in_a_line(tmp_path, field):
    path = tmp_path / "m.npy"
    run(path)
    before = contents(path)
    journal = json.loads(before["journal"])
    for value in ("x", None, 1.5, [1], *((-1, 13) if field == "done" else ())):
        if value != "x" or field not in ("read", "written"):
            journal_of(path).write_text(json.dumps({**journal, field: value}))
            with pytest.raises(StorageError, match="m.npy.progress.json: not the journal of a stream .*overwrite=True"):
                run(path)
    run(path, overwrite=True)
    assert contents(path) == before
    journal_of(path).unlink()
    journal_of(path).mkdir()
    with pytest.raises(StorageError, match="m.npy.progress.json: cannot be read: Is a directory; name another"):
        run(path)


def test_a_map_is_not_written_over_the_map_that_it_reads(tmp_path):
    """By whichever library the array of the source was opened: once it is lost, a map would be of nothing."""
    values = np.random.default_rng(0).random((98, 121, 3), np.float32)
    for name, version in (("two.zarr", 2), ("three.zarr", 3)):
        write_map(tmp_path / name, values) if version == 2 else make_zarr(tmp_path / name, values)
        with pytest.raises(StorageError, match=f"{name}: the map would lie in its source"):
            run(tmp_path / name, zarr.open_array(tmp_path / name, mode="r"), overwrite=True)
        np.testing.assert_array_equal(zarr.open_array(tmp_path / name, mode="r")[:], values)
    with (
        h5py.File(tmp_path / "file.npy", "w") as file,
        pytest.raises(StorageError, match="file.npy: the map would lie in its source"),
    ):
        run(tmp_path / "file.npy", file.create_dataset("a", data=values), overwrite=True)
