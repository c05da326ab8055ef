"""The dense evaluation command on a run with random weights."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from cnn import data, dense
from cnn.images.files import open_file
from cnn.protocols import on_scenes, scenes
from cnn.reports import image_report, scenes_report
from cnn.reports.streamed import Asked
from cnn.runs import checkpoint
from cnn.training import predict
from configs import default
from tests.helpers import run_python


@pytest.fixture(name="workdir", scope="module")
def _workdir(tmp_path_factory):
    """A run as `cnn.train` leaves it, with random weights: training one takes longer than all tests here."""
    config: Any = default.get_config()
    config.net.name = "qa_net"
    dataset = data.load("digits")
    folder = tmp_path_factory.mktemp("run")
    net = checkpoint.make_net(config, dataset.num_classes)
    variables = jax.jit(functools.partial(net.init, train=False))(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    facts = {name: getattr(dataset, name) for name in ("mean", "std", "class_names", "image_shape")}
    (folder / "config.json").write_text(config.to_json())
    (folder / "data.json").write_text(json.dumps(facts))
    with checkpoint.Checkpoints(str(folder), keep=1) as checkpoints:
        checkpoints.save(1, variables, {"count": jnp.zeros(1)})
    return folder


@pytest.fixture(name="run", scope="module")
def _run(workdir):
    return checkpoint.load_run(str(workdir))


def command(*arguments):
    return run_python("-m", "experiments.dense_eval", *arguments, COLUMNS=80)


@pytest.mark.slow
def test_scenes_from_the_command_line(workdir):
    arguments = [f"--workdir={workdir}", "--split=validation", "--scenes=6", "--stride=2"]
    done = command(*arguments, "--size=48")
    assert done.returncode == 0, done.stderr
    folder = workdir / "dense_eval"
    table = (folder / "table.md").read_text()
    result = json.loads((folder / "result.json").read_text())
    assert result["command"].startswith("python -m experiments.dense_eval --workdir=")
    assert (result["split"], result["scenes"], result["size"], result["seed"]) == ("validation", 6, 48, 0)
    assert {"device", "commit", "packages", "at_object", "best_dense"} <= set(result)
    methods = list(dict.fromkeys(row["method"] for row in result["rows"]))
    assert methods[2:] == ["ten crops", "all crops, stride 4", "dense, stride 4", "dense, stride 2"]
    for row in result["rows"]:
        assert f"| {row['method']:19} | {row['accuracy']:8.2%} | {row['averaging']:13} |" in table
        assert f"{row['method']:19}  {row['accuracy']:8.2%}  {row['averaging']}" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if str(workdir) not in line)
    stages = ["loading the run", "making 6 scenes of 48x48", "classifying 6 images", "timing 6 methods", "drawing"]
    places = [done.stderr.find(stage) for stage in stages]
    assert min(places) >= 0 and places == sorted(places)
    assert result["agreement"]["expected"] and result["agreement"]["difference"] <= 1e-5
    assert result["agreement"]["argmax_differs"] == 0
    for name in ["scenes.png", *(f"scene_{i}.png" for i in range(4))]:
        with Image.open(folder / name) as image:
            assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.slow
def test_grid_from_the_command_line(workdir):
    arguments = [f"--workdir={workdir}", "--protocol=grid", "--split=validation", "--images=12", "--scales=40,32"]
    done = command(*arguments, "--flip", "--multicrop=2", "--averaging=logits,max", "--timing_images=2", "--stride=2")
    assert done.returncode == 0, done.stderr
    table = (workdir / "grid" / "table.md").read_text()
    result = json.loads((workdir / "grid" / "result.json").read_text())
    assert (result["examples"], result["scales"], result["averages"]) == (12, [32, 40], ["logits", "max"])
    assert result["data"] == "12 of the validation split of digits" and result["enlarged"] == [0, 12]
    assert result["agreement"]["expected"] and result["agreement"]["difference"] <= 1e-5
    methods = ["centre crop", "ten crops", "multi-crop", "dense", "dense, stride 2", "dense + multi-crop"]
    assert list(dict.fromkeys(row["method"] for row in result["rows"])) == methods
    assert len(result["rows"]) == 3 * 2 * (2 * 5 + 1)
    for row in result["rows"]:
        assert f"{row['top1']:.2%}" in table and f"{row['multiply_adds']:,.0f}" in table
    done = command(*arguments[:2], "--data=mnisst")
    assert done.returncode != 0 and "near names: mnist" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow  # that scenes are those of their seed is tested beside them
def test_run_scenes_is_the_same_for_the_same_seed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes_report, "PICTURES", 0)
    split = scenes_report.load_split(run, "validation")
    results = [
        scenes_report.run_scenes(run, split, str(tmp_path), scenes=20, size=40, seed=seed, strides=[4])
        for seed in (1, 1, 2)
    ]
    scores = [[row["accuracy"] for row in result["rows"]] for result in results]
    assert scores[0] == scores[1] and results[0]["at_object"] == results[1]["at_object"]
    assert scores[0] != scores[2]


@pytest.mark.slow
def test_at_object_is_the_window_around_the_object(run):
    split = scenes_report.load_split(run, "validation")
    made = scenes.build(*split, count=30, seed=0, size=40, scale=(0.7, 1.2))
    right = []
    for image, label, (y0, x0, y1, x1) in zip(made.images, made.labels, made.boxes, strict=True):
        y, x = (min(max((low + high - 32) // 2, 0), 8) for low, high in ((y0, y1), (x0, x1)))
        view = (np.float32(image[None, y : y + 32, x : x + 32]) / 255 - run.mean[0]) / run.std[0]
        right.append(np.asarray(run.net.apply(run.variables, view, train=False)).argmax() == label)
    assert on_scenes.accuracy_at_objects(run, made)["accuracy"] == pytest.approx(np.mean(right))


def test_values_saving_counts_what_the_layers_write(run):
    # qa_net at 32 writes 7,340 values for a crop; of a 36x36 image its layers see all: conv 32x32x3 twice, ...
    def written(first, second, pooled):
        convolved = 2 * 3 * first**2 + 3 * (first // 2) ** 2 + 2 * 6 * second**2 + 6 * (second // 2) ** 2
        return convolved + 210 * pooled**2

    crops = 4 * (written(28, 10, 1) + 150)  # and the flattened values
    assert on_scenes.values_saving(run, 36) == pytest.approx(crops / written(32, 12, 2))


@pytest.mark.slow
def test_run_image_of_one_window_is_the_net_itself(run, tmp_path, capsys):
    digit = scenes_report.load_split(run, "test").images[0, ..., 0]
    path = tmp_path / "digit.png"
    Image.fromarray(digit).convert("RGB").save(path)  # a grey net takes colour pictures as grey
    result = image_report.run_image(run, str(path), str(tmp_path / "out"))
    assert result["windows"] == (1, 1) and (tmp_path / "out" / "digit_map.png").exists()
    x = (np.float32(digit[None, ..., None]) / 255 - run.mean[0]) / run.std[0]
    logits = np.asarray(run.net.apply(run.variables, x, train=False))[0]
    order = np.argsort(-logits)[:5]
    assert [name for name, _ in result["logits"]] == [str(k) for k in order]
    assert np.allclose([value for _, value in result["logits"]], logits[order], atol=1e-4)
    assert result["probabilities"][0][1] == pytest.approx(np.exp(logits).max() / np.exp(logits).sum(), abs=1e-4)
    printed = capsys.readouterr().out
    assert "digit.png: 32x32 pixels, 1x1 windows" in printed and "probabilities:" in printed
    # As large as the window, the picture is its own centre crop: both commands give one answer.
    assert result["centre_crop"] == [(name, pytest.approx(value)) for name, value in result["probabilities"]]
    name, value = result["centre_crop"][0]
    assert f"main.py --mode=predict says {name} ({value:.1%})" in printed and "invert it" not in printed


@pytest.mark.slow
def test_a_larger_picture_says_why_predict_may_answer_otherwise_and_that_its_polarity_looks_wrong(
    run, tmp_path, capsys
):
    page = np.full((48, 64), 255, np.uint8)
    page[10:40, 30:34] = 0  # dark on white; digits are bright on black
    Image.fromarray(page).save(tmp_path / "page.png")
    result = image_report.run_image(run, str(tmp_path / "page.png"), str(tmp_path / "out"))
    (predicted,) = predict.predict(run, [str(tmp_path / "page.png")])
    assert result["centre_crop"][0] == (predicted.class_name, pytest.approx(predicted.probability))
    printed = capsys.readouterr().out
    assert f"predict says {predicted.class_name} ({predicted.probability:.1%}): it resizes the picture's" in printed
    assert "this picture 0.9" in printed and "invert it" in printed


@pytest.mark.slow
def test_an_image_streamed_from_the_command_line(workdir, run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 411), np.uint8)
    np.save(tmp_path / "page.npy", pixels)
    arguments = (f"--workdir={workdir}", f"--image={tmp_path / 'page.npy'}", f"--output={tmp_path / 'map.zarr'}")
    done = command(*arguments, "--stride=2", "--memory=60MB")
    assert done.returncode == 0, done.stderr
    assert "300x411 pixels" in done.stdout and "135x190x10 logits" in done.stdout and "context 'both'" in done.stdout
    images = data.normalise(pixels[None, ..., None], run.mean, run.std)
    expected = dense.score_map(run.net, run.variables, images, (32, 32), 2, "mpf")
    found = np.asarray(open_file(str(tmp_path / "map.zarr"), None, 0)[0][:, :])
    np.testing.assert_allclose(found, expected.scores[0], rtol=0, atol=1e-5 * np.abs(expected.scores).max())
    attributes = dense.open_map(tmp_path / "map.zarr").about
    assert attributes["class_names"] == list("0123456789") and attributes["stride"] == [2, 2]
    arguments = (*arguments[:2], f"{arguments[2]}/")  # as a shell completes it
    again = command(*arguments, "--stride=2", "--memory=60MB")
    assert again.returncode == 0 and "by an earlier run" in again.stdout and "finished already" in again.stderr
    other = command(*arguments, "--stride=4")
    assert other.returncode == 1 and "overwrite=True (--overwrite)" in other.stderr
    assert {path.name for path in (tmp_path / "map.zarr").iterdir()} >= {".zarray", ".zattrs", "0.0.0"}
    wrong = command(f"--workdir={workdir}", "--memory=2GB")
    assert wrong.returncode == 2 and "--memory is for --image=FILE or --images" in wrong.stderr + wrong.stdout


@pytest.mark.slow
def test_a_colour_tiff_is_one_picture_with_and_without_a_map(run, tmp_path, capsys):
    """A grey net sees its luminance, by region as well as whole, and the page and the map hold the same scores."""
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    source, target = str(tmp_path / "page, one.TIF"), str(tmp_path / "map.npy")
    tifffile.imwrite(source, pixels, photometric="rgb", compression="zlib", rowsperstrip=16)
    image_report.run_map(run, source, target, Asked(streaming={"stride": 8}, memory=10**9))
    drawn = image_report.run_image(run, source, str(tmp_path / "out"), stride=8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    images = data.normalise(grey[None, ..., None], run.mean, run.std)
    expected = np.asarray(dense.score_map(run.net, run.variables, images, (32, 32), 8).scores[0])
    np.testing.assert_allclose(np.load(target), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert drawn["max"][0][1] == pytest.approx(float(expected.max()), abs=1e-4)
    assert "equal to the map of one pass" in capsys.readouterr().out


@pytest.mark.slow
def test_an_image_from_the_command_line(workdir, tmp_path):
    picture = np.zeros((40, 61), np.uint8)
    picture[5:30, 20:24] = 255
    Image.fromarray(picture).save(tmp_path / "one.png")
    done = command(f"--workdir={workdir}", f"--image={tmp_path / 'one.png'}", "--stride=3", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "40x61 pixels, 3x10 windows" in done.stdout and (tmp_path / "one_map.png").exists()


@pytest.mark.slow
def test_several_images_and_a_dry_run_from_the_command_line(workdir, tmp_path):
    for i, name in enumerate(("a", "b")):
        Image.fromarray(np.full((40, 61), 60 * i, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_text("no picture")
    arguments = (f"--workdir={workdir}", f"--images={tmp_path}/*.png", f"--output={tmp_path / 'out'}", "--maps=npy")
    planned = command(*arguments, "--dry_run")
    assert planned.returncode == 1 and planned.stdout.count("nothing was written") == 2, planned.stderr
    assert "c.png" in planned.stdout + planned.stderr
    assert not (tmp_path / "out").exists()
    done = command(*arguments)
    assert done.returncode == 1 and done.stdout.endswith("table.md, result.json and report.html\n"), done.stderr
    assert done.stderr.count("c.png: ") >= 1 and "Traceback" not in done.stderr
    maps = [np.load(tmp_path / "out" / f"{name}.png.npy") for name in ("a", "b")]
    assert all(f"{name}.png" in (tmp_path / "out" / "table.md").read_text() for name in ("a", "b", "c"))
    assert maps[0].shape == maps[1].shape == (3, 8, 10) and not np.array_equal(*maps)


def test_an_image_smaller_than_the_window_is_an_error_with_the_numbers(run, tmp_path):
    Image.new("L", (31, 50)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="small.png is 50x31 pixels.*window 32x32; enlarge or pad .* at least 50x32"):
        image_report.run_image(run, str(tmp_path / "small.png"), str(tmp_path))


def test_a_split_without_examples_and_other_data_are_errors(run):
    config = run.config.copy_and_resolve_references()
    config.data.validation_fraction = 0.0
    with pytest.raises(data.DataError, match="validation split of 'digits' has no examples"):
        scenes_report.load_split(run._replace(config=config), "validation")
    config.data.update({"validation_fraction": 0.1, "image_size": 28})
    with pytest.raises(data.DataError, match=r"\[28, 28, 1\].* those of the run in .* were \[32, 32, 1\]"):
        scenes_report.load_split(run._replace(config=config), "test")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--workdir=DIR is missing"),
        (["--workdir=x", "y"], "unknown argument 'y'"),
        (["--workdir=x", "--scenes=0"], "scenes"),
        (["--workdir=x", "--image=a.png", "--stride=1", "--stride=2"], "--image takes one --stride"),
        (["--workdir=x", "--scales=40"], "--scales is for --protocol=grid; add that, or leave the flag out"),
        (["--workdir=x", "--protocol=grid", "--size=40"], "--size is for --protocol=scenes"),
        (["--workdir=x", "--protocol=grid", "--scales=32,x"], "--scales=32,x must be whole numbers of pixels"),
        (["--workdir=x", "--image=a.png", "--flip"], "--flip is for --protocol=grid, not for --image"),
        (
            ["--workdir=x", "--image=a.png", "--output=o.mha"],
            "of --image=FILE to a .zarr, .ome.zarr, .npy or .tif; name",
        ),
        (["--workdir=x", "--output=map.zarr/"], "--output=map.zarr: pictures and a page are written to a directory"),
        (["--workdir=x", "--image=a.png", "--output=o.csv"], "with --image=FILE --detections=o.csv, beside the map"),
        (["--workdir=x", "--image=a.png", "--output=./a.png/"], "./a.png: pictures and a page are written to a dir"),
        (["--workdir=x", "--image=a.tif", "--output=./a.tif"], "--output=./a.tif is the image itself, which would be"),
        (["--workdir=x", "--image=a.png", "--detections=o.txt"], "detections are written as .csv or .geojson"),
        (["--workdir=x", "--image=a.png", "--threshold=0.3"], "--threshold is for --detections=FILE; add that"),
        (["--workdir=x", "--image=a.png", "--images=b"], "--image and --images: name one image, or several"),
        (["--workdir=x", "--images=b", "--output=o.tif"], "each of several images has a map of its own"),
        (["--workdir=x", "--image=a.png", "--scale=2", "--spacing=1"], "both say how large the image is read"),
        (["--workdir=x", "--image=a.png", "--spacing=0"], "--spacing=0: must be above 0"),
        (["--workdir=x", "--image=a.png", "--range=9,4"], "--range=9,4: two numbers, the lower one first"),
        (["--workdir=x", "--image=a.png", "--select=t"], "--select=t: axis=number, with commas between"),
        (["--workdir=x", "--image=a.png", "--skip_windows=all"], "--skip_windows is for --skip or --mask"),
        (["--workdir=x", "--image=a.png", "--write=class", "--map_dtype=float16"], "a map of classes holds whole"),
        (["--workdir=x", "--image=a.png", "--maps=tif"], "--maps is for --images=...; --output=MAP.tif names"),
        (["--workdir=x", "--channels=2,1,0"], "--channels is for --image=FILE or --images=...; leave it out"),
        (["--workdir=x", "--image=a.png", "--protocol=grid"], "--protocol=grid is for scenes or grids, not for images"),
        (["--workdir=x", "--images=b", "--split=test", "--batch_size=2"], "--split, --batch_size is for scenes or"),
        (["--weights=a.onnx", "--image=b", "--checkpoint=best"], "--checkpoint is for --workdir=DIR, not for --weig"),
        (["--workdir=x", "--image=a", "--detections=b.csv", "--threshold=0"], "--threshold=0: must be above 0"),
        (["--workdir=x", "--image="], "--image= names no image; name one, or leave the flag out"),
        (["--workdir=x", "--images= ", "--protocol=grid"], "--images= names no image; name one, or leave"),
        (["--workdir=x", "--dry_run", "--page=1"], "--page, --dry_run is for --image=FILE or --images"),
    ],
)
def test_mistakes_in_flags_say_the_way_out(arguments, message):
    done = command(*arguments)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""
    assert len(done.stderr.splitlines()) == 2  # what is wrong, and where help is


def test_a_workdir_without_a_run_is_an_error(tmp_path):
    done = command(f"--workdir={tmp_path}")
    assert done.returncode != 0 and "holds no run" in done.stderr and "Traceback" not in done.stderr
