"""Pages of runs: what they show stands in the files that the run left."""

import json
import math
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from cnn import geometry, nets
from cnn.layers import Branches, Conv, Dense, Flatten
from cnn.protocols import labelled_images
from cnn.protocols.vgg_options import Options
from cnn.reports import image_report, run_report, scenes_tables, vgg_report, vgg_tables
from cnn.reports.tables import Notes
from cnn.runs import checkpoint
from cnn.train import train_and_evaluate
from cnn.training import evaluate
from configs import default, smoke

RESULTS = pathlib.Path(__file__).parents[2] / "experiments" / "results"
HOSTILE = "<script>document.title = 'owned'</script>|$"
MADE = {"command": "python main.py --config=<b>", "python": "3.11", "packages": {"jax": "1.2.3"}, "device": "1 x cpu"}


@pytest.fixture(name="trained", scope="module")
def _trained(tmp_path_factory):
    """A run of four steps, with all that a run can leave."""
    workdir = tmp_path_factory.mktemp("trained")
    config = smoke.get_config()
    config.net.options.update({"features": 4, "width": 8})
    config.train.steps = 4
    config.eval.scenes, config.eval.scene_size = 3, 24
    result = train_and_evaluate(config, str(workdir))
    return workdir, result


@pytest.fixture(name="workdir")
def _workdir(tmp_path):
    """The files of a run by hand: three classes, one without test images, one with a name to be wary of."""
    config = default.get_config()
    config.net.name = "lenet5"
    config.net.options.activation = "relu"
    (tmp_path / "config.json").write_text(config.to_json())
    data = {"class_names": ["cat", HOSTILE, "none"], "image_shape": [32, 32, 1]}
    (tmp_path / "data.json").write_text(json.dumps(data))
    result = {"test_accuracy": 0.75, "test_loss": 0.5, "examples": 1200, "train_examples": 60000, "steps": 4690}
    result |= {"parameters": 61706, "multiply_adds": 416520, "seconds": 5400.0, "net": "lenet5", "data": "pets"}
    result |= {"per_class_accuracy": {"cat": 0.0950, HOSTILE: 1.0, "none": math.nan}, "commit": None, **MADE}
    (tmp_path / "result.json").write_text(json.dumps(result))
    lines = [
        {"step": 900, "split": "train", "loss": 1.5, "accuracy": 0.5, "seconds": 1.0},
        {"step": 900, "split": "validation", "loss": 0.75, "accuracy": 0.625, "seconds": 1.0},
        {"step": 4690, "split": "test", "loss": 0.5, "accuracy": 0.75},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def draw(path):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(path)


def count_leaves(tree):
    return sum(count_leaves(part) if isinstance(part, dict) else 1 for part in tree.values())


def headings(driver):
    return [heading.text for heading in driver.find_elements(By.TAG_NAME, "h2")]


def check(browser, path):
    """Opens a page; no requests, no complaints, no picture that does not show."""
    driver = browser.open(path)
    assert browser.requests() == [] and browser.complaints() == []
    widths = driver.execute_script("return [...document.images].map((image) => image.naturalWidth)")
    assert 0 not in widths
    return driver, len(widths)


@pytest.mark.slow
def test_a_training_run_ends_with_its_page(browser, trained):
    workdir, result = trained
    driver, count = check(browser, workdir / "report.html")
    parts = ["Result", "Training", "Classes", "Mistakes", "Net", "Dense run", "Config", "How it was made"]
    assert headings(driver) == parts
    drawn = [*workdir.glob("*.png"), *(workdir / "dense_eval").glob("*.png")]
    assert count == len(drawn) == 9  # curves, confusion, mistakes, kernels, features, scenes, three scenes
    assert driver.find_element(By.CSS_SELECTOR, ".numbers dd").text == f"{result['test_accuracy']:.2%}"
    rows = {row[0]: row[1] for row in browser.cells(1)}
    assert rows == {name: f"{value:.2%}" for name, value in result["per_class_accuracy"].items()}
    dense = json.loads((workdir / "dense_eval" / "result.json").read_text())["rows"]
    assert [[*row[:3], row[7]] for row in browser.cells(3)] == [
        [row["method"], f"{row['accuracy']:.2%}", row["averaging"], row["context"]] for row in dense
    ]
    driver, count = check(browser, workdir / "dense_eval" / "report.html")
    assert headings(driver) == ["Scenes", "How it was made"] and count == 4
    assert driver.title == "layer_pattern on 3 scenes of 24x24 pixels"


def test_a_run_page_by_value(browser, workdir):
    for name in ("curves", "confusion", "kernels", "features", "other"):
        draw(workdir / f"{name}.png")
    path = run_report.write_run_page(str(workdir))
    assert path == str(workdir / "report.html")
    driver, count = check(browser, path)
    assert count == 4 and driver.title == "lenet5 on pets"
    lead = driver.find_element(By.CSS_SELECTOR, ".subtitle").text
    said = "900 of 1,200 test images right. Trained on 60,000 images of 32x32x1 for 4,690 steps, in 90 min."
    assert lead == said
    assert headings(driver) == ["Result", "Training", "Classes", "Net", "Config", "How it was made"]
    assert browser.cells(0) == [
        ["900", "validation", "62.50%", "0.7500", "1.0"],
        ["4,690", "test", "75.00%", "0.5000", "–"],
    ]
    assert browser.cells(1) == [["cat", "9.50%"], [HOSTILE, "100.00%"], ["none", "–"]]
    for _ in range(2):
        browser.header(1, table=1).click()
    assert [row[0] for row in browser.cells(1)] == [HOSTILE, "cat", "none"]
    layers = geometry.table(nets.create("lenet5", 3, activation="relu"), (32, 32, 1))
    assert [row[0] for row in browser.cells(2)] == [row.name for row in layers]
    browser.header(3, table=2).click()
    counts = sorted(row.params for row in layers if row.params)
    assert [row[3] for row in browser.cells(2)] == [f"{n:,}" for n in counts] + [""] * (len(layers) - len(counts))
    fields = {row[0]: tuple(row[1:]) for row in browser.cells(3)}
    assert fields["net.name"] == ("lenet5", "full_cnn") and fields["seed"] == ("0", "0")
    assert fields["train.milestones"] == ("0.5, 0.75", "0.5, 0.75") and fields["train.epochs"] == ("–", "–")
    # What differs from the default comes first and in bold, and nothing else does.
    assert [row[0] for row in browser.cells(3)][:2] == ["net.name", "net.options.activation"]
    assert fields["net.options.activation"] == ("relu", "–")
    bold = [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, "td strong")]
    assert bold == ["lenet5", "relu"]
    assert len(fields) == count_leaves(json.loads((workdir / "config.json").read_text()))
    assert driver.find_elements(By.TAG_NAME, "pre")[1].text == MADE["command"]
    facts = driver.find_element(By.CSS_SELECTOR, ".facts").text.split("\n")
    assert facts == ["device", "1 x cpu", "commit", "–", "seconds", "5400", "python", "3.11", "jax", "1.2.3"]


def test_what_a_run_does_not_have_its_page_does_without(workdir):
    (workdir / "metrics.jsonl").unlink()
    text = pathlib.Path(run_report.write_run_page(str(workdir))).read_text()
    assert "<img" not in text and "validation accuracy" not in text and "top-5" not in text and "Dense run" not in text
    (workdir / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match="result.json is missing"):
        run_report.write_run_page(str(workdir))


@pytest.mark.parametrize("study", ["digits", "photos"])
def test_committed_evaluations_have_pages_by_value(browser, tmp_path, study):
    """Scenes, and a grid of 135 rows: every row of result.json is a row of the page."""
    shutil.copytree(RESULTS / study, tmp_path / "it")
    driver, count = check(browser, run_report.write_dense_page(str(tmp_path / "it")))
    result = json.loads((tmp_path / "it" / "result.json").read_text())
    report = (scenes_tables if study == "digits" else vgg_tables).document(result)
    old = (tmp_path / "it" / "table.md").read_text()
    assert driver.title == report.title == old.splitlines()[0].removeprefix("# ")
    assert count == (5 if study == "digits" else 0)
    shown = browser.cells(0)
    score = "accuracy" if study == "digits" else "top1"
    accuracies = [f"{row[score]:.2%}" for row in result["rows"]]
    column, low = (1, 3) if study == "digits" else (2, 5)
    assert [row[column] for row in shown] == accuracies
    for place, field in ((column, score), (low, "low" if study == "digits" else "top1_low")):
        browser.header(place).click()
        wanted = [f"{100 * value:.2f}" for value in sorted(row[field] for row in result["rows"])]
        assert [row[place].partition("%")[0] for row in browser.cells(0)] == wanted
    text = driver.find_element(By.TAG_NAME, "main").text
    for item in report.items:
        lines = item.lines if isinstance(item, Notes) else [item] if isinstance(item, str) else [item.caption]
        assert all(line in text for line in lines)
    if study == "photos":
        assert [[*row[:2], *row[3:]] for row in browser.cells(1)] == [
            [str(pair[name]) for name in ("first", "second", "only_first", "only_second")] for pair in result["pairs"]
        ]


def test_a_result_that_lacks_what_its_tables_say_shows_the_table_as_it_was_written(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"scenes": 3, "rows": [], "best_dense": {}, **MADE}))
    (tmp_path / "table.md").write_text(
        "# old net on 3 scenes\n\n| method | accuracy |\n| --- | --- |\n| crop | 50% |\n"
    )
    text = pathlib.Path(run_report.write_dense_page(str(tmp_path))).read_text()
    assert "<title>old net on 3 scenes</title>" in text and "| crop | 50% |" in text


def test_a_run_without_mistakes_says_so(browser, workdir):
    result = json.loads((workdir / "result.json").read_text()) | {"test_accuracy": 1.0}
    (workdir / "result.json").write_text(json.dumps(result))
    driver, _ = check(browser, run_report.write_run_page(str(workdir)))
    section = driver.find_element(By.ID, "part-mistakes")
    assert section.text == "Mistakes\nAll 1,200 test images are classified correctly."


@pytest.mark.long
@pytest.mark.parametrize("channels", [2, 7])
def test_a_net_on_any_number_of_channels_trains_evaluates_draws_and_reports(browser, tmp_path, channels):
    """From a function of one's own to the page; the net learns what only the second channel shows."""
    (tmp_path / "my_data.py").write_text(
        "import numpy as np\n"
        "from cnn import data\n\n\n"
        "def load():\n"
        "    rng, labels = np.random.default_rng(0), np.arange(120) % 2\n"
        f"    images = rng.integers(0, 120, (120, 16, 16, {channels}))\n"
        "    images[..., 1] += 120 * labels[:, None, None]\n"
        "    return data.from_arrays((images.astype(np.uint8), labels), class_names=['dark', 'bright'])\n"
    )
    config = smoke.get_config()
    config.data.name, config.data.image_size = f"{tmp_path}/my_data.py:load", None
    config.net.options.update({"features": 4, "width": 8})
    config.train.steps = 12
    config.eval.scenes, config.eval.scene_size = 2, 24
    workdir = tmp_path / "run"
    result = train_and_evaluate(config, str(workdir))
    scores = evaluate.evaluate_run(checkpoint.load_run(str(workdir)))["test"]
    assert scores["accuracy"] == result["test_accuracy"] > 0.9
    driver, count = check(browser, workdir / "report.html")
    drawn = [*workdir.glob("*.png"), *(workdir / "dense_eval").glob("*.png")]
    assert count == len(drawn) >= 7
    assert f"16x16x{channels}" in driver.find_element(By.CSS_SELECTOR, ".subtitle").text


def test_an_evaluation_of_fewer_scenes_shows_no_pictures_of_the_last(workdir):
    folder = workdir / "dense_eval"
    shutil.copytree(RESULTS / "digits", folder)
    result = json.loads((folder / "result.json").read_text()) | {"scenes": 2}
    (folder / "result.json").write_text(json.dumps(result))
    text = pathlib.Path(run_report.write_dense_page(str(folder))).read_text()
    assert text.count("<img") == 3 and "Scene 1," in text and "Scene 2," not in text
    # The run around it tells of the new evaluation too.
    assert (workdir / "report.html").read_text().count("<img") == 3


@pytest.mark.slow
def test_pictures_of_ones_own_stand_on_one_page(browser, trained, tmp_path):
    run = checkpoint.load_run(str(trained[0]))
    results = {}
    for name, stride in (("a", 1), ("b", None)):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        results[name] = image_report.run_image(run, str(tmp_path / f"{name}.png"), str(tmp_path / "out"), stride=stride)
    driver, count = check(browser, tmp_path / "out" / "report.html")
    assert headings(driver) == ["a", "b", "How a was made", "How b was made"]
    drawn = driver.find_elements(By.CSS_SELECTOR, ".enlarge img")
    assert len(drawn) == 4 + 3  # the class of each pixel is drawn at stride 1 alone
    assert count == len(drawn) + len(driver.find_elements(By.CSS_SELECTOR, ".overview img, .windows img")) > 7 + 2 * 3
    facts = driver.find_element(By.CSS_SELECTOR, ".facts").text
    assert "20x31 pixels" in facts and "\nwindows\n5x16\nstride\n1\n" in facts
    best = results["a"]["probabilities"]
    assert browser.cells(0)[: len(best)] == [
        ["probabilities", str(i), name, f"{value:.2%}"] for i, (name, value) in enumerate(best, 1)
    ]


@pytest.mark.slow
def test_a_grid_ends_with_its_page(trained, tmp_path):
    run = checkpoint.load_run(str(trained[0]))
    options = Options(scales=(16,), multicrop=1, timing_images=2)
    vgg_report.run_grid(run, labelled_images.load(run, None, "test"), str(tmp_path), options, limit=4)
    assert "<title>layer_pattern on 4 pictures at Q = 16</title>" in (tmp_path / "report.html").read_text()


def test_a_directory_without_results_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no result.json and no NAME_map.json"):
        run_report.write_dense_page(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_layers_within_paths_stand_below_their_block(tmp_path):
    """With their own numbers, which the block's hold; the page says so, and of other nets does not."""
    net = nets.net([Branches(((Conv(2, 3, padding=1),), (Conv(2, 1),))), Flatten(), Dense(3)])
    _, table = run_report._net(str(tmp_path), str(net), geometry.table(net, (4, 5, 1)))[:2]
    names = [row[0] for row in table.rows]
    assert names == ["block1", "block1/conv1", "block1/conv2", "flatten1", "fc1"]
    assert [row[3].text for row in table.rows[:3]] == ["24", "20", "4"]  # 3 * 3 * 2 + 2 weights, and 1 * 2 + 2
    assert "Layers within paths stand below the block" in table.caption
    plain = nets.net([Conv(2, 3), Flatten(), Dense(3)])
    _, table = run_report._net(str(tmp_path), str(plain), geometry.table(plain, (4, 5, 1)))[:2]
    assert "paths" not in table.caption
