"""The site is whole; the course runs, and its numbers are the source documents' and those of independent counts."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from docs import build, cells
from tests.helpers import ROOT

COURSE = ROOT / "docs" / "course"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once: its folder, the files that became pages, and the pages of the course as they were run."""
    folder, course = tmp_path_factory.mktemp("site"), {}

    def run_and_keep(path, pictures):
        course[path.stem] = cells.run(path, pictures)
        return course[path.stem]

    return folder, build.build(folder, run_and_keep), course


@pytest.fixture
def run(site):
    """A page of the course by its name, with its printed text as one string."""

    def page_and_text(name):
        page = site[2][name]
        return page, "\n".join(result.printed for result in page.results)

    return page_and_text


def check_pages_shape(page):
    """Each code cell stands below prose, and draws or prints something, but the first, which imports."""
    code = [result for result in page.results if result.cell.code]
    for result in code[1:]:
        assert result.printed or result.pictures, result.cell.text
    for above, result in zip(page.results, page.results[1:], strict=False):
        assert not (above.cell.code and result.cell.code), "two pieces of code without prose between them"
    pictures = [picture for result in page.results for picture in result.pictures]
    assert pictures
    for picture in pictures:
        assert picture.path.read_bytes().startswith(b"\x89PNG")
        assert picture.caption.endswith(".")


@pytest.mark.pages
@pytest.mark.slow
def test_page_a(run):
    page, printed = run("a_from_32x32_to_fc")
    check_pages_shape(page)
    names = page.names
    assert (names["conv1"], names["conv2"], names["fc1"], names["fc2"]) == (228, 456, 15_100, 1_010)
    assert names["total"] == names["table"].params == 16_794
    assert "228 + 456 + 15,100 + 1,010 = 16,794" in printed
    assert names["grey"] == 78
    assert names["separate"] == 468
    assert "stride (=0) must be at least 1" in names["stride_error"]
    assert names["largest_difference"] < 1e-5
    assert names["exact_difference"] == 0
    assert names["at_rest"] > 0.9 and names["guessing"] < 0.5
    distances, accuracies = names["distances"], names["accuracies"]
    assert distances[0] == 0 and distances[1] < 0.5 < 0.9 < distances[8]
    assert accuracies[0] == names["at_rest"] and accuracies[1] > accuracies[4] > accuracies[8]
    assert accuracies[0] - accuracies[1] < 0.1 and accuracies[8] < 0.3


@pytest.mark.pages
@pytest.mark.slow
def test_page_b(run):
    page, printed = run("b_full_cnn")
    check_pages_shape(page)
    names = page.names
    assert names["by_hand"] == [320, 18_496, 401_536, 1_290]
    assert sum(names["by_hand"]) == names["mnist"].params == 421_642
    exercise = [row.params for row in names["cifar"] if row.params]
    assert exercise == [896, 18_496, 524_416, 1_290] and names["cifar"].params == 545_098
    assert "421,642" in printed and "545,098" in printed
    assert set(names["conv_counts"]) == {320 + 18_496}
    assert names["first_fc"][:2] == [401_536, 524_416]
    assert sum(parameters for parameters, _ in names["shares"].values()) == pytest.approx(1)
    assert names["shares"]["fc1"][0] > 0.95 and names["shares"]["conv2"][1] > 0.85
    scores = np.array([2.0, 1.0, 0.1, -1.0])
    softmax = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(names["probabilities"], softmax, rtol=1e-6)
    assert names["ratio"] == pytest.approx(np.e, rel=1e-6)
    assert np.isnan(names["plain"]).all()
    np.testing.assert_allclose(names["gradient"], softmax - [0, 1, 0, 0], rtol=0, atol=1e-6)
    assert names["best"] == sorted(names["best"])
    assert names["accuracy"] > 0.9


@pytest.mark.pages
@pytest.mark.slow
def test_page_c(run):
    page, printed = run("c_lecture")
    check_pages_shape(page)
    names = page.names
    output = [[0.5, 0.2, 0, 0.2], [0, 0, 0.6, 0], [0, 0.4, 0, 0.2], [0, 0, 0.6, 0]]
    np.testing.assert_allclose(names["output"], output, rtol=0, atol=1e-7)
    assert names["first"] == 0.5 and names["different"] == 7
    np.testing.assert_allclose(names["stride_3"], [[0.5, 0.2], [0, 0]], rtol=0, atol=1e-7)
    np.testing.assert_allclose(names["stride_2"], [[0.5, 0], [0, 0]], rtol=0, atol=1e-7)
    assert "(6 - 3 + 0+0) / 2 + 1 = 2.5 is not whole" in names["stride_error"]
    photograph = names["photograph"].astype(np.float64)
    assert photograph.shape == (106, 160) and 0 <= photograph.min() < 0.1 and 0.9 < photograph.max() <= 1
    smooth = photograph[:-2] + 2 * photograph[1:-1] + photograph[2:]
    np.testing.assert_allclose(names["right"], smooth[:, 2:] - smooth[:, :-2], rtol=0, atol=1e-5)
    smooth = photograph[:, :-2] + 2 * photograph[:, 1:-1] + photograph[:, 2:]
    np.testing.assert_allclose(names["down"], smooth[2:] - smooth[:-2], rtol=0, atol=1e-5)
    assert names["blurred"].std() < photograph.std()
    for mode, numpy_mode in {"zero": "constant", "edge": "edge", "reflect": "reflect", "mean": "mean"}.items():
        np.testing.assert_allclose(names["modes"][mode], np.pad(photograph, 24, mode=numpy_mode), rtol=0, atol=1e-5)
    border = names["border"]
    assert border["zero"] == pytest.approx(11 / 16, abs=0.01)  # a blur loses 1 + 4 of its 16 sixteenths upwards
    assert border["edge"] == pytest.approx(1, abs=0.02) and border["reflect"] == pytest.approx(1, abs=0.02)
    blocks = names["patch"].reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(2, 2, 4)
    ordered = np.sort(blocks)[..., ::-1]
    for name, count in {"max": 1, "2-max": 2, "3-max": 3, "average": 4}.items():
        np.testing.assert_allclose(names["pooled"][name], ordered[..., :count].mean(-1), rtol=1e-6)
    assert names["fields"] == {"max": [3, 8, 18, 38], None: [3, 5, 7, 9]}
    assert names["map_by_map"].tolist() == list(range(18))
    assert names["pixel_by_pixel"].tolist() == [v for pixel in zip(range(9), range(9, 18), strict=True) for v in pixel]
    assert names["halves"].params == 60_965_224 and names["halves"]["conv2"].params == 307_456
    assert names["whole"]["conv2"].params == 614_656
    assert "INPUT -> [[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*2 -> FC" in printed


@pytest.mark.pages
@pytest.mark.slow
def test_page_d(run):
    page, printed = run("d_notes")
    check_pages_shape(page)
    names = page.names
    assert names["size"] == (55, 55, 96) and names["neurons"] == 290_400
    assert "(224 - 11 + 0+0) / 4 + 1 = 54.25 is not whole" in names["size_error"]
    assert names["shared_count"] == 34_944 and names["own_count"] == 105_705_600
    assert names["matrix"].shape == (64, 36) and names["zero"] == 1 - 9 * 36 / (64 * 36)
    np.testing.assert_allclose(names["as_matrix"], names["as_convolution"], rtol=0, atol=1e-5)
    assert [names["converted"][n].params for n in ("fc1", "fc2", "fc3")] == [102_764_544, 16_781_312, 4_097_000]
    assert names["classifier"].params == 138_357_544
    assert names["last_map"] == (12, 12, 512) and names["score_map_shape"] == (6, 6, 1000)
    assert "36 crops 557 G multiply-adds, one pass 49.6 G: 11.2 times" in printed
    assert names["one_pass"].scores.shape == (1, 5, 5, 10) and names["difference"] < 1e-5
    assert names["probability"].shape == (17, 17) and names["probability"][8, 12] > 0.9
    assert names["averaged"] > 0.8 and names["centre"] > 0.8
    assert names["two"].sum() == 41 and names["four"].sum() == names["four"].size == 81
    assert names["half_stride"].shape == (9, 9, 10) and names["shift_difference"] < 1e-5
    assert (names["one_pass"].context, names["in_image"].context, names["as_crops"].context) == (
        "both",
        "image",
        "crop",
    )
    assert names["padded_difference"] > 0.05
    assert "N=0, M=0, K=0: INPUT -> FC" in printed
    # The study's numbers that the prose repeats.
    report = (ROOT / "experiments" / "results" / "normalisation" / "report.md").read_text()
    prose = "".join(result.cell.text for result in page.results)
    stated = re.search(
        r"([\d.]+) points of accuracy, with a 95 % interval from ([\d.]+) to ([\d.]+)\.", prose.replace("\n", " ")
    )
    assert stated and f"+{stated[1]} (+{stated[2]} to +{stated[3]})" in report


@pytest.mark.pages
@pytest.mark.slow
def test_corrections_are_marked(run):
    """Every mistake of the source documents that the pages meet is marked as a correction."""
    for name, count in {"a_from_32x32_to_fc": 1, "c_lecture": 1, "d_notes": 3}.items():
        text = "".join(cell.text for cell in cells.parse(COURSE / f"{name}.py") if not cell.code)
        assert text.count("**Correction.**") == count, name


def test_an_exception_names_the_files_own_line(tmp_path):
    path = tmp_path / "page.py"
    path.write_text('"""A page."""\n\n# %% [markdown]\n# # Title\n\n# %%\nx = 1\nx / 0\n')
    with pytest.raises(ZeroDivisionError) as caught:
        cells.run(path, tmp_path)
    assert caught.traceback[-1].lineno + 1 == 8


def test_a_page_splits_into_prose_and_code(tmp_path):
    path = tmp_path / "page.py"
    path.write_text(
        '"""Not shown."""\n\n# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nprint(1)\n\n\n# %%\n\nx = 2\n'
    )
    texts = [(cell.text, cell.code) for cell in cells.parse(path)]
    assert texts == [("# Title\n\nWords.\n", False), ("print(1)\n", True), ("\nx = 2\n", True)]
    page = cells.run(path, tmp_path)
    assert [result.printed for result in page.results] == ["", "1", ""] and page.names["x"] == 2


@pytest.mark.pages
@pytest.mark.slow
def test_a_page_is_a_program(tmp_path):
    """Without the site, as one runs it from the checkout."""
    program = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module('docs.course.b_full_cnn')"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "421,642" in done.stdout and (pathlib.Path(tmp_path) / "runs" / "course" / "shares.png").exists()


@pytest.mark.pages
@pytest.mark.slow
def test_site(site):
    """Every guide and page of the course is on the site, and all that its pages refer to."""
    folder, made, _ = site
    assert {"README.md", *(f"docs/{name}.md" for name in build.GUIDES)} <= set(made)
    for page in made:
        html = (folder / build.target(page)).read_text()
        for address in re.findall(r'(?:href|src)="([^"#]+)', html):
            if not re.match(r"[a-z]+:", address):
                assert ((folder / build.target(page)).parent / address).is_file(), f"{page}: {address}"
    course = (folder / "docs/course/d_notes.html").read_text()
    assert course.count("<figure>") == 3 and "two shifts fill 41 of 81 places" in course


@pytest.mark.pages
@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_site_in_a_browser(site, browser, width):
    """Pages ask for nothing that is not on the site, complain of nothing, and are no wider than the window."""
    folder, *_ = site
    for page in ("index.html", "docs/training.html", "docs/course/c_lecture.html", "docs/performance.html"):
        driver = browser.open(folder / page)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert browser.complaints() == []
        assert all(address.startswith(folder.as_uri()) for address in browser.requests())
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.execute_script("return [...document.images].every((image) => image.naturalWidth > 0)")


def test_all_pages_are_on_the_site():
    assert sorted(build.COURSE) == sorted(path.stem for path in COURSE.glob("[a-d]_*.py"))
