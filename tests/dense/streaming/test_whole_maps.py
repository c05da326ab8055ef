"""A map is opened if it is whole and as its stream wrote it: by its journal, and by a mark where that is lost."""

import json
import shutil

import numpy as np
import pytest

from cnn import dense
from cnn.dense.streaming import journal as journals
from cnn.dense.streaming.sinks import pyramid
from cnn.images.errors import StorageError
from tests.dense.streaming.small_stream import CONSTANTS, PIXELS, Watched, journal_of, run

IMAGE = PIXELS[:50, :46]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("sink", ["m.npy", "m.zarr", "m.ome.zarr", "m.tif"])
def test_a_score_that_changed_is_found_when_the_map_is_opened(tmp_path, sink):
    path = tmp_path / sink
    run(path, IMAGE, **CONSTANTS, cover=sink in ("m.npy", "m.zarr"))
    whole = dense.open_map(path).read()
    scores = path / {"m.zarr": "0.0.0", "m.ome.zarr": "0/c/0/0/0"}.get(sink, "")
    place = -40 if sink == "m.npy" else scores.stat().st_size // 2 if sink == "m.tif" else 41
    flip(scores, place)
    with pytest.raises(StorageError, match="its scores are not those that its stream wrote|cannot be|damaged") as error:
        dense.open_map(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    if sink != "m.tif":  # where the file's own compression may notice
        assert dense.open_map(path, check=False).read().shape == whole.shape
    flip(scores, place)
    np.testing.assert_array_equal(dense.open_map(path, check=True).read(), whole)


def test_a_damaged_journal_is_said_and_what_a_map_says_is_compared_with_it(tmp_path):
    path = tmp_path / "m.npy"
    run(path, IMAGE, **CONSTANTS)
    journal, sidecar = journal_of(path), tmp_path / "m.npy.json"
    content, said = journal.read_bytes(), sidecar.read_text()
    for damaged in (content[:50], b"", content.replace(b"cpu", b"gpu", 1), content.replace(b'"done"', b'"dune"')):
        journal.write_bytes(damaged)
        with pytest.raises(StorageError, match="progress.json: it is damaged .*; restore it, or remove it if they are"):
            dense.open_map(path)
        with pytest.raises(StorageError, match="progress.json: not the journal of a stream .*begins anew"):
            run(path, IMAGE, **CONSTANTS)
        assert dense.open_map(path, unfinished=True).shape[2] == 5
    journal.write_bytes(content)
    about = json.loads(said)
    about["score_map"]["stride"] = [3, 3]
    sidecar.write_text(json.dumps(about))
    with pytest.raises(StorageError, match=r"its stride is \[3, 3\], and .* in its journal"):
        dense.open_map(path)
    run(path, IMAGE, **CONSTANTS)  # which writes the sidecar anew
    assert sidecar.read_text() == said
    journal.unlink()  # a finished map does without
    assert dense.open_map(path).shape[2] == 5


@pytest.mark.parametrize("sink", ["m.npy", "m.zarr", "m.ome.zarr"])
def test_an_unfinished_map_without_its_journal_is_not_taken_for_a_whole_one(tmp_path, sink):
    def see(reads):
        if reads > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / sink, Watched(see), **CONSTANTS)
    copy = tmp_path / "moved"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("moved", "*.progress.json"))
    with pytest.raises(StorageError, match="it is not finished, some tiles are computed"):
        dense.open_map(copy / sink)
    assert dense.open_map(copy / sink, unfinished=True).shape[2] == 5


@pytest.mark.parametrize("sink", ["m.ome.zarr", "m.tif"])
def test_what_a_map_holds_beside_its_scores_is_compared_and_made_anew(tmp_path, monkeypatch, caplog, sink):
    """Smaller levels, descriptions and overviews, which `open_map` does not read: viewers do."""
    monkeypatch.setattr(pyramid, "SMALLEST", 8)
    path = tmp_path / sink
    run(path, IMAGE, **CONSTANTS)
    assert len(json.loads(journal_of(path).read_text())["beside"]) == 64
    folder = tmp_path if sink == "m.tif" else path
    whole = {str(one): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}
    beside = [path / name for name in ("1/c/0/0/0", "2/c/1/0/0", "1/zarr.json", "2/zarr.json", "zarr.json")]
    for file in [path] if sink == "m.tif" else beside:
        content = file.read_bytes()
        place = len(content) - 5 if sink == "m.tif" else content.rindex(b"d") if file.suffix else 9
        damages = [content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]]
        damages += [content[:-7], b"", bytes(len(content)), None] if file == beside[0] else []
        for damaged in damages:
            file.unlink() if damaged is None else file.write_bytes(damaged)
            if file.name != "zarr.json" or file.parent != path:  # which is read, and may be refused for another reason
                assert dense.open_map(path).shape[2] == 5
                with pytest.raises(StorageError, match="its scores are those that its stream wrote, and .* are not"):
                    dense.open_map(path, check=True)
            if sink == "m.tif":
                with pytest.raises(StorageError, match=r"m.tif is not as its stream wrote it: .*overwrite=True"):
                    run(path, IMAGE, **CONSTANTS)
                run(path, IMAGE, **CONSTANTS, overwrite=True)
            else:
                caplog.clear()
                run(path, IMAGE, **CONSTANTS)
                assert "m.ome.zarr: its smaller levels, or its description, had changed" in caplog.text
            assert {str(one): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()} == whole
            assert dense.open_map(path, check=True).shape[2] == 5
    if sink == "m.ome.zarr":
        (path / "1" / "notes.txt").write_text("mine")
        run(path, IMAGE, **CONSTANTS)  # is no part of the map, and does not matter
        beside[0].unlink()
        with pytest.raises(StorageError, match=r"it holds 1/notes.txt, which is no part of a map"):
            run(path, IMAGE, **CONSTANTS)
        assert (path / "1" / "notes.txt").read_text() == "mine"


def test_a_map_whose_journal_says_nothing_of_its_levels_is_taken_as_it_is(tmp_path, monkeypatch):
    """As of earlier versions."""
    monkeypatch.setattr(pyramid, "SMALLEST", 8)
    path = tmp_path / "m.ome.zarr"
    run(path, IMAGE, **CONSTANTS)
    journal = json.loads(journal_of(path).read_text())
    del journal["beside"], journal["checksum"]
    journals.write_journal(str(journal_of(path)), journal)
    (path / "1/c/0/0/0").unlink()
    assert dense.open_map(path, check=True).shape[2] == 5
    assert run(path, IMAGE, **CONSTANTS).tiles_done_before
