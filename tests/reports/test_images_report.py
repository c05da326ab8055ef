"""Several images: which are meant, how their maps are named, and that one that fails stops no other."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from cnn import dense, nets
from cnn.dense import tile_runs
from cnn.exchange import workdirs
from cnn.exchange.classifier import Classifier
from cnn.images.errors import DataError, StorageError
from cnn.protocols.progress import Progress
from cnn.reports import dry_run, image_report, images_report, streamed
from cnn.reports.images_report import find, map_names
from cnn.reports.streamed import Asked
from tests.made import random_variables

QUIET = Progress(shown=False)


@pytest.fixture(name="run", scope="module")
def _run():
    net = nets.layer_pattern(num_classes=3, blocks=1, fc=0, features=4, padding="valid")
    variables = random_variables(net, (8, 8), 1)
    return workdirs.as_run(Classifier(net, variables, (8, 8, 1), (0.5,), (0.25,), ("a", "b", "background")))


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, name in enumerate(("one.png", "two.png")):
        pixels = np.random.default_rng(i).integers(0, 256, (30, 41), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "bad.png").write_text("no picture")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_images_are_found_by_pattern_list_and_folder(folder, capsys):
    names = [str(folder / name) for name in ("bad.png", "one.png", "two.png")]
    np.save(folder / "a,b.npy", np.zeros((9, 9)))
    assert find(str(folder / "*.png")) == names
    assert find(f"{names[2]}, {names[1]},{folder}/o*.png") == [names[2], names[1]]
    assert find(f"{folder}/") == [str(folder / "a,b.npy"), *names]  # what is no image is left out
    assert "in/: left out 1 entries that are no images by their names; name them, or a pattern: notes.txt" in (
        capsys.readouterr().err
    )
    for name in ("._one.png", "table.md"):
        (folder / name).write_text("hidden, or written by this program")
    for name in ("scan.lsm", "slide.czi", "field.ozx"):
        (folder / name).write_text("an image")
    (folder / "notes.txt").unlink()
    assert {os.path.basename(path) for path in find(str(folder))} == {*os.listdir(folder)} - {"._one.png", "table.md"}
    assert capsys.readouterr().err == ""
    for name in ("scan.lsm", "slide.czi", "field.ozx"):
        (folder / name).unlink()
    assert find(str(folder / "a,b.npy")) == [str(folder / "a,b.npy")]
    assert find(f"{names[1]},{folder}/../in/one.png") == [names[1]]  # one file, named in two ways
    (folder / "m.tif.part.zarr").mkdir()  # of a map that was stopped
    (folder / "m.tif.progress.json").touch()
    assert find(f"{folder}/") == [str(folder / "a,b.npy"), *names]
    assert find(f"{folder}/a?b.npy,{names[1]}") == [str(folder / "a,b.npy"), names[1]]
    with pytest.raises(DataError, match=r"in/a: there is no such file, .*; for a comma in a name write \?"):
        find(f"{folder}/a,b.npy,{names[1]}")
    for text in (f"{folder}/*.jpg", f"{names[0]},{folder}/gone.png", ","):
        with pytest.raises(DataError, match="--images"):
            find(text)


def test_names_of_maps_never_collide(folder):
    paths = ["x/a.tif", "y/a.tif", "x/a.png", "x/A.tif", "x/f.h5::/g/d", "x/f.h5::/g/e", "x/s.zarr/"]
    names = map_names(paths, "zarr")
    assert len({name.casefold() for name in names}) == len(paths)
    assert names[2:3] + names[4:] == ["a.png.zarr", "f.h5_g_d.zarr", "f.h5_g_e.zarr", "s.zarr.zarr"]
    assert map_names(paths, "zarr") == names
    places = [image_report.map_path(path, "out") for path in ("x/a.ome.tif", *paths[4:])]
    assert places == [f"out/{name}_map.zarr" for name in ("a.ome", "f_g_d", "f_g_e", "s")]


@pytest.mark.slow
def test_one_that_fails_stops_no_other_and_a_second_run_continues(run, folder, tmp_path, capsys):
    out = tmp_path / "out"
    paths = find(str(folder))
    failed = images_report.run_images(run, paths, str(out), Asked(), "npy", QUIET)
    assert [one["image"] for one in failed] == [str(folder / "bad.png")]
    assert f"error: {folder}/bad.png: cannot" in capsys.readouterr().err
    result = json.loads((out / "result.json").read_text())
    assert [row["map"] for row in result["images"]] == ["one.png.npy", "two.png.npy"]
    for row, path in zip(result["images"], paths[1:], strict=True):
        pixels = np.asarray(Image.open(path), np.float32)[None, ..., None] / 255
        expected = dense.score_map(run.net, run.variables, (pixels - 0.5) / 0.25, (8, 8), None)
        np.testing.assert_allclose(np.load(out / row["map"]), expected.scores[0], atol=1e-4)
        best = np.asarray(dense.average(expected, "probabilities"))[0]
        assert dict(row["probabilities"])["a"] == pytest.approx(best[0], abs=1e-5)
        assert (out / f"{row['map']}.report.html").exists()
    table = (out / "table.md").read_text()
    assert "30x41" in table and "bad.png" in table and "./one.png.npy.report.html" in (out / "report.html").read_text()
    Image.fromarray(np.zeros((30, 41), np.uint8)).save(folder / "bad.png")
    assert images_report.run_images(run, paths, str(out), Asked(), "npy", QUIET) == []
    result = json.loads((out / "result.json").read_text())
    assert [row["tiles_computed"] for row in result["images"]] == [1, 0, 0] and result["failed"] == []
    table = (out / "table.md").read_text()
    assert [line.split("|")[7].strip() == "earlier" for line in table.splitlines()[-3:]] == [False, True, True]
    assert "1 tiles of" in (page := (out / "one.png.npy.report.html").read_text()) and "by an earlier run" in page
    with pytest.raises(DataError, match="there is no such file, and none that matches"):
        find(f"{out}/*")  # nothing there is an image
    asked = Asked(streaming={"stride": 3})  # the maps are of another stride
    assert len(images_report.run_images(run, paths, str(out), asked, "npy", QUIET)) == 3
    assert (out / "table.md").read_text() == table
    assert "0 of 3 images; " in (said := capsys.readouterr().out) and "result.json and report.html are left" in said
    with pytest.raises(DataError, match="a folder without images"):
        find(str(out))  # maps are no images
    (out / "result.json").write_text('{"test_accuracy": 1}')
    with pytest.raises(DataError, match="its result.json is that of another evaluation; name another directory"):
        images_report.run_images(run, paths, str(out), Asked(), "npy", QUIET)


def test_a_dry_run_writes_nothing_and_says_the_sizes_of_what_is_written_then(run, folder, tmp_path):
    path, sink = str(folder / "one.png"), str(tmp_path / "maps" / "one.npy")
    paths, sinks = [str(folder / "bad.png"), path], [f"{sink}.npy", sink]
    said, refused = dry_run.texts(run, paths, sinks, Asked(streaming={"stride": 3}), QUIET)
    assert refused == 1
    assert not (tmp_path / "maps").exists()
    assert said.startswith(f"{folder}/bad.png: cannot") and "30x41x1 pixels of uint8" in said
    done = image_report.run_map(run, path, sink, Asked(streaming={"stride": 3}), QUIET)
    h, w = done["windows"]
    assert f"map: {h}x{w}x3 scores of float32" in said and f"tiles: {done['tiles']} of {h}x{w} scores" in said
    macs = dense.plan(run.net, (30, 41, 1), 3, window=(8, 8))
    assert (
        f"multiply-adds: {macs[done['backend']].macs:.3g}; window by window they were {macs['crops'].macs:.3g}" in said
    )
    assert "nothing was written" in said and np.load(sink).nbytes == h * w * 3 * 4
    again = dry_run.text(run, path, sink, Asked(streaming={"stride": 3}), QUIET)
    assert "it was begun, 1 of 1 tiles are there" in again and "0.0% of that for the tiles that are missing" in again
    anew = dry_run.text(run, path, sink, Asked(streaming={"stride": 3, "write": "class", "overwrite": True}), QUIET)
    assert "it was begun" not in anew and f"{h}x{w}x2 class of uint8" in anew


def test_a_dry_run_refuses_what_a_run_refuses(run, folder, tmp_path):
    path, sink = str(folder / "one.png"), str(tmp_path / "one.zarr")
    image_report.run_map(run, path, sink, Asked(), QUIET)
    np.save(tmp_path / "own.npy", np.zeros(3))
    asked = [
        (sink, Asked(streaming={"stride": 3}), "was begun with another stride"),
        (str(tmp_path / "own.npy"), Asked(), "it exists"),
        (str(tmp_path / "c.tif"), Asked(streaming={"stride": 4, "cover": True}), "lies off the stride"),
        (sink, Asked(detections=f"{sink}/found.csv"), "it lies in the map"),
        (str(tmp_path / "s.npy"), Asked(scales=(20, 7)), "resized to the scale 7 is 7x10 pixels, smaller than"),
        (str(tmp_path / "m.npy"), Asked(memory=100), "more than memory_limit"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for output, one, match in asked:
        for function in (dry_run.text, image_report.run_map):
            with pytest.raises((ValueError, MemoryError), match=match):
                function(run, path, output, one, QUIET)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_several_images_counts_the_tiles_that_they_share(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(images_report, "TILE", 8)
    path, asked = str(folder / "one.png"), Asked(streaming={"stride": 2})
    (name,) = map_names([path], "npy")
    said, refused = dry_run.texts(run, [path], [str(tmp_path / name)], asked, QUIET)
    images_report.run_images(run, [path], str(tmp_path), asked, "npy", QUIET)
    (row,) = json.loads((tmp_path / "result.json").read_text())["images"]
    tile = "x".join(map(str, row["tile"]))
    assert refused == 0 and row["tiles"] > 1 and f"tiles: {row['tiles']} of {tile} scores" in said


def test_places_where_no_result_can_be_are_named(run, folder, tmp_path):
    path, within = str(folder / "one.png"), str(folder / "notes.txt" / "out")
    with pytest.raises(StorageError, match=f"{within}: the directory cannot be made: Not a directory; name another"):
        images_report.run_images(run, [path], within, Asked(), "npy", QUIET)
    for function in (image_report.run_map, dry_run.text):
        with pytest.raises(StorageError, match="notes.txt is a file, not a directory; name another"):
            function(run, path, f"{within}.zarr", Asked(), QUIET)


def test_an_image_of_which_no_window_has_a_score_has_no_best_class(run, folder, tmp_path, capsys):
    Image.fromarray(np.zeros((30, 41), np.uint8)).save(folder / "mask.png")
    asked = Asked({"mask": str(folder / "mask.png")})
    assert images_report.run_images(run, [str(folder / "one.png")], str(tmp_path / "out"), asked, "npy", QUIET) == []
    assert "no window has a score, and no class an average" in (printed := capsys.readouterr().out)
    assert "nan" not in printed and "| none: no window has a score |" in (tmp_path / "out" / "table.md").read_text()


def test_several_images_that_were_stopped_before_a_tile_was_done_end_in_the_same_bytes(
    run, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(images_report, "TILE", 8)
    paths, asked = [str(folder / "one.png")], Asked(streaming={"stride": 2})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    images_report.run_images(run, paths, str(whole), asked, "zarr", QUIET)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tile_runs, "run_tile", stop)
        with pytest.raises(KeyboardInterrupt):
            images_report.run_images(run, paths, str(stopped), asked, "zarr", QUIET)
    assert json.loads((stopped / "one.png.zarr.progress.json").read_text())["done"] == 0
    images_report.run_images(run, paths, str(stopped), asked, "zarr", QUIET)
    files = [one.relative_to(whole) for one in sorted(whole.glob("*.zarr/*"))]
    assert len(files) > 3
    assert all((stopped / name).read_bytes() == (whole / name).read_bytes() for name in files)


def test_a_name_that_is_not_utf_8_stops_no_other(run, folder, tmp_path, capsys):
    odd = os.path.join(str(folder), os.fsdecode(b"\xff.png"))
    Image.fromarray(np.zeros((30, 41), np.uint8)).save(odd)
    out, printed = str(tmp_path / "out"), f"{folder}/\\udcff.png"
    (failed,) = images_report.run_images(run, [odd, str(folder / "one.png")], out, Asked(), "npy", QUIET)
    assert failed["image"] == printed and "its name is not UTF-8" in failed["error"]
    assert "Images, run densely" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["failed"] == [failed]
    assert f"error: {printed}: its name" in capsys.readouterr().err
    with pytest.raises(DataError, match="rename it"):
        image_report.run_map(run, odd, str(tmp_path / "m.npy"), Asked(), QUIET)


def test_the_background_is_found_by_name_or_number(run):
    assert streamed.background_of(run, None) == streamed.background_of(run, "2") == 2
    assert streamed.background_of(run, "a") == 0
    with pytest.raises(ValueError, match=r"--background=c: no such class; the net has 3: a, b, background"):
        streamed.background_of(run, "c")
