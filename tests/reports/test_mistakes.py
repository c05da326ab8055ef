"""A net's most confident mistakes, against probabilities that are known, and the picture of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn.data import Split
from cnn.layers import Dense, Flatten
from cnn.nets import net as make
from cnn.reports import mistakes
from cnn.training.evaluate import evaluate
from tests.reports.test_run_pictures import read

NET = make([Flatten(), Dense(3)])


def setting(brightness, labels):
    """A net whose logits are (0, b, -b) for an image of brightness b in -1 to 1, and images of 1x1 pixel."""
    kernel = jnp.array([[0.0, 1.0, -1.0]])
    variables = {"params": {"fc1": {"kernel": kernel, "bias": jnp.zeros(3)}}}
    pixels = np.rint((np.array(brightness) + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, 1, 1)
    return variables, Split(pixels, np.array(labels, np.int32))


def found_by(variables, split, batch_size, **options):
    metrics = evaluate(NET, variables, split, [0.5], [0.5], batch_size=batch_size)
    return mistakes.find(metrics, split.labels, **options)


def probability(b):
    scores = np.exp([0.0, b, -b])
    return scores.max() / scores.sum()


@pytest.mark.slow
def test_the_most_confident_mistakes_come_first():
    brightness = [1.0, 0.6, -0.2, -1.0, -0.8, 0.8]
    variables, split = setting(brightness, [1, 0, 1, 0, 2, 2])  # predicted: 1, 1, 2, 2, 2, 1
    found = found_by(variables, split, 4)
    assert found.indices.tolist() == [3, 5, 1, 2]
    assert found.predictions.tolist() == [2, 1, 1, 2]
    exact = [2 * float(split.images[i, 0, 0, 0]) / 255 - 1 for i in found.indices]
    assert found.probabilities == pytest.approx([probability(b) for b in exact], rel=1e-5)
    assert (found.wrong, found.examples) == (4, 6)
    few = found_by(variables, split, 100, count=2)
    assert few.indices.tolist() == [3, 5] and few.wrong == 4


def test_scores_that_are_not_finite_are_wrong_but_no_prediction():
    variables, split = setting([1.0, 0.5], [1, 1])
    variables["params"]["fc1"]["bias"] = jnp.array([jnp.nan, 0.0, 0.0])
    found = found_by(variables, split, 2)
    assert (len(found.indices), found.wrong) == (0, 2)


def test_without_mistakes_the_picture_of_an_earlier_evaluation_goes(tmp_path):
    variables, split = setting([1.0, 0.5], [1, 1])
    found = found_by(variables, split, 2)
    assert (len(found.indices), found.wrong) == (0, 0)
    for _ in range(2):  # whether there is one or not
        mistakes.mistakes_picture(str(tmp_path / "mistakes.png"), found, split, [])
        assert not (tmp_path / "mistakes.png").exists()
        (tmp_path / "mistakes.png").write_bytes(b"old")


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_the_picture_says_what_was_taken_for_what(tmp_path, monkeypatch, channels):
    split = Split(np.full((9, 5, 5, channels), 200, np.uint8), np.zeros(9, np.int32))
    found = mistakes.Mistakes(np.array([4, 2]), np.array([1, 2]), np.array([0.987, 0.5], np.float32), 5, 9)
    drawn = []
    draw = mistakes.run_pictures.samples_picture

    def kept(path, *arguments, **options):
        drawn.append((arguments, options))
        draw(path, *arguments, **options)

    monkeypatch.setattr(mistakes.run_pictures, "samples_picture", kept)
    mistakes.mistakes_picture(
        str(tmp_path / "mistakes.png"), found, split, ["cat", "dog", "cow"], "net, trained on pets"
    )
    assert drawn[0][1]["title"] == "net, trained on pets: the 2 most confident of 5 wrong of 9 test images"
    picture = read(tmp_path / "mistakes.png")
    assert (np.abs(picture - 200).max(axis=-1) < 2).mean() > 0.2  # two tiles of that brightness
