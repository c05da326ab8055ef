"""The counts of Giusti et al.'s table against the paper's figures and plain arithmetic; mirroring; a small run."""

import json

import jax
import numpy as np
import pytest

from cnn import nets
from cnn.layers import Activation, Conv, Dense, Flatten, MaxPool
from experiments import giusti_table as giusti
from tests.helpers import run_python
from tests.made import random_variables


def test_the_papers_figures_are_reproduced():
    found = {cost.name: cost for cost in giusti.operations(nets.create("giusti_n4"), (95, 95), 512)}
    for name, (_, patches, fragments) in giusti.PAPER_LAYERS.items():
        assert int(found[name].patches / 1e9) == patches  # the paper cuts, 695.8 is 695
        assert round(found[name].paper / 1e9, 1) == fragments
    convolutions = [found[name] for name in giusti.PAPER_LAYERS]
    assert sum(int(cost.patches / 1e9) for cost in convolutions) == 63636
    assert round(sum(cost.paper for cost in convolutions) / 1e9, 1) == 81.6
    ratio = sum(cost.patches for cost in convolutions) / sum(cost.paper for cost in convolutions)
    assert ratio == pytest.approx(779.8, abs=0.1)


def test_what_is_computed_by_plain_arithmetic():
    found = {cost.name: cost.computed for cost in giusti.operations(nets.create("giusti_n4"), (95, 95), 512)}
    assert found == {
        "conv1": 2 * 603**2 * 48 * 4 * 4,
        "conv2": 2 * 4 * 297**2 * 48 * 48 * 5 * 5,
        "conv3": 2 * 16 * 145**2 * 48 * 48 * 4 * 4,
        "conv4": 2 * 64 * 69**2 * 48 * 48 * 4 * 4,
        "fc1": 2 * 512**2 * 3 * 3 * 48 * 200,
        "fc2": 2 * 512**2 * 200 * 2,
    }
    costs = giusti.operations(nets.create("giusti_n4"), (95, 95), 512)
    for cost in costs[-2:]:  # fully connected layers: every pixel has its own
        assert cost.paper is None and cost.computed == cost.patches


@pytest.mark.slow
def test_every_pixel_is_its_mirrored_window():
    net = nets.net([Conv(4, 2), Activation("relu"), MaxPool(2), Conv(6, 3), Flatten(), Dense(3)])
    window, image = (9, 9), np.random.default_rng(0).normal(size=(14, 13, 1)).astype(np.float32)
    variables = random_variables(net, window, 1)
    classify = jax.jit(lambda crop: net.apply(variables, crop, train=False))
    scores = np.asarray(giusti.every_pixel(net, variables, image, window, "crops"))
    assert scores.shape == (14, 13, 3)
    rows, columns = (np.concatenate([np.arange(4, 0, -1), np.arange(n), n - 2 - np.arange(4)]) for n in (14, 13))
    for y, x in ((0, 0), (13, 5), (6, 12)):
        crop = image[rows[y : y + 9]][:, columns[x : x + 9]]
        expected = np.asarray(classify(crop[None]))[0]
        np.testing.assert_allclose(scores[y, x], expected, atol=1e-5)
    assert giusti.largest_difference(net, variables, image, window, scores, 60, 1) < 1e-5
    scores = np.roll(scores, 1, axis=0)
    assert giusti.largest_difference(net, variables, image, window, scores, 60, 1) > 0.01


@pytest.mark.slow
def test_the_command_writes_its_tables(tmp_path):
    flags = ["--size=48", "--runs=5", "--samples=8", f"--output={tmp_path / 'new'}"]
    done = run_python("-m", "experiments.giusti", *flags)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "new" / "result.json").read_text())
    assert len(result["all_seconds"]) == 5 and min(result["all_seconds"]) <= result["seconds"]
    assert result["largest_difference"] < giusti.TOLERANCE
    table = (tmp_path / "new" / "table.md").read_text()
    assert "48x48" in table and "492.8" not in table  # the paper's figures are for 512x512


def test_the_table_shows_the_papers_figures():
    found = giusti.operations(nets.create("giusti_n4"), (95, 95), 512)
    result = {"size": 512, "backend": "mpf", "seconds": 2.0, "all_seconds": [1.9, 2.0, 2.1], "first_seconds": 9.0}
    result |= {"largest_difference": 1e-7, "samples": 200, "command": "c", "device": "d", "python": "3"}
    text = giusti.text(found, result | {"packages": {}, "commit": "x"})
    line = next(line for line in text.splitlines() if line.startswith("| convolutions"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == ["convolutions", "63,636.9", "63,636", "81.6", "81.6", "88.5", "779.8x"]
    assert "492.8" in text and "15.05" in text and "all layers" in text
