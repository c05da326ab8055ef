"""One stream at a time writes a map: a second is refused in a line, whatever it computes, and leaves nothing."""

import os
import threading

import numpy as np
import pytest

from cnn import dense
from cnn.dense.streaming.alone import alone, lock_path
from cnn.images.errors import StorageError
from tests.dense.streaming.small_stream import CONSTANTS, Watched, contents, run

pytestmark = pytest.mark.usefixtures("small_tiles")


@pytest.mark.parametrize("name", ["m.npy", "m.zarr", "m.ome.zarr", "m.tif"])
def test_a_second_stream_is_refused(tmp_path, name):
    """By another net, by the same, and to begin anew, while the first is reading its fifth tile."""
    run(tmp_path / "alone" / name)
    path, refused = tmp_path / "new" / name, []

    def second(reads):
        for options in ({"seed": 1}, {}, {"overwrite": True}) if reads == 5 else ():
            with pytest.raises(
                StorageError, match=rf"{name}: another stream is writing it now: process \d+ on .*\.lock"
            ):
                run(path, **options)
            refused.append(options)

    run(path, Watched(second), **CONSTANTS)
    assert len(refused) == 3
    assert contents(path) == contents(tmp_path / "alone" / name)
    assert sorted(os.listdir(tmp_path / "new")) == sorted(os.listdir(tmp_path / "alone"))


def test_locks_are_let_go(tmp_path):
    """At the end, by an error, and by a process that was killed, which leaves its file."""
    path = str(tmp_path / "a" / "b" / "m.npy")
    with pytest.raises(KeyError), alone(path):
        assert os.path.exists(lock_path(path))
        raise KeyError
    assert os.listdir(tmp_path) == []  # folders that were made for it are gone, too
    path = str(tmp_path / "m.npy")
    open(lock_path(path), "w").close()
    os.utime(lock_path(path), (0, 0))
    with alone(path), alone(str(tmp_path / "other.npy")), pytest.raises(StorageError, match="another"), alone(path):
        pass
    assert os.listdir(tmp_path) == []
    with open(lock_path(path), "w") as file:
        file.write("of somebody else")
    with pytest.raises(StorageError, match="no lock of this program; remove it"), alone(path):
        pass
    assert os.listdir(tmp_path) == ["m.npy.lock"]


def test_of_many_at_once_one_writes(tmp_path):
    path, start, ends = tmp_path / "m.zarr", threading.Barrier(4), []

    def one(seed):
        start.wait()
        try:
            run(path, seed=seed)
            ends.append(seed)
        except StorageError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrote = [end for end in ends if isinstance(end, int)]
    assert len(wrote) == 1 and all("another" in end for end in ends if isinstance(end, str))
    run(tmp_path / "expected.npy", seed=wrote[0])
    np.testing.assert_array_equal(dense.open_map(path).read(), np.load(tmp_path / "expected.npy"))
    assert sorted(os.listdir(tmp_path))[-2:] == ["m.zarr", "m.zarr.progress.json"]
