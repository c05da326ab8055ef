"""Scenes by value: what is placed, where, and what is drawn around it."""

import numpy as np
import pytest
from PIL import Image

from cnn.protocols import scenes


def examples(count=7, shape=(12, 10, 1), seed=0):
    images = np.random.default_rng(seed).integers(1, 256, (count, *shape)).astype(np.uint8)
    return images, np.arange(count) * 3 % 5


def outside(made, i):
    """A scene with the object's box blackened."""
    y0, x0, y1, x1 = made.boxes[i]
    rest = made.images[i].copy()
    rest[y0:y1, x0:x1] = 0
    return rest


def test_the_same_call_gives_the_same_scenes_and_another_seed_others():
    first = scenes.build(*examples(), count=20, seed=3, size=40)
    again = scenes.build(*examples(), count=20, seed=3, size=40)
    other = scenes.build(*examples(), count=20, seed=4, size=40)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(first.images, other.images)
    assert not np.array_equal(first.boxes, other.boxes)


def test_a_shorter_call_gives_the_first_scenes_of_a_longer_one():
    long = scenes.build(*examples(), count=20, seed=3, size=40)
    short = scenes.build(*examples(), count=9, seed=3, size=40)
    for a, b in zip(long, short, strict=True):
        assert np.array_equal(a[:9], b)


def test_shapes_and_dtypes():
    made = scenes.build(*examples(shape=(12, 10, 3)), count=5, seed=0, size=40)
    assert made.images.shape == (5, 40, 40, 3) and made.images.dtype == np.uint8
    assert made.boxes.shape == (5, 4)
    assert {x.dtype for x in made[1:]} == {np.dtype(np.int32)}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_object_is_the_example_of_its_label_at_its_box(channels):
    images, labels = examples(shape=(12, 10, channels))
    made = scenes.build(images, labels, count=30, seed=1, size=25, scale=(1, 1), strokes=(0, 0))
    assert np.array_equal(made.labels, labels[made.sources])
    for i, (y0, x0, y1, x1) in enumerate(made.boxes):
        assert (y1 - y0, x1 - x0) == (12, 10)
        assert np.array_equal(made.images[i, y0:y1, x0:x1], images[made.sources[i]])
        assert not outside(made, i).any()


def test_the_object_is_resized_antialiased_to_its_box_and_lies_inside():
    images, labels = examples(shape=(20, 16, 1))
    made = scenes.build(images, labels, count=200, seed=1, size=50, scale=(0.5, 2), strokes=(0, 0))
    heights = made.boxes[:, 2] - made.boxes[:, 0]
    assert made.boxes.min() >= 0 and made.boxes.max() <= 50
    assert heights.min() < 12 and heights.max() > 35
    assert abs(np.median(heights) - 20) < 3  # halved as often as doubled
    for i, (y0, x0, y1, x1) in enumerate(made.boxes[:20]):
        resized = Image.fromarray(images[made.sources[i], ..., 0]).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC)
        assert np.array_equal(made.images[i, y0:y1, x0:x1, 0], np.asarray(resized))


def test_every_example_is_used_equally_often():
    exactly = scenes.build(*examples(7), count=21, seed=0, size=30)
    assert np.bincount(exactly.sources).tolist() == [3] * 7
    counts = np.bincount(scenes.build(*examples(7), count=24, seed=0, size=30).sources, minlength=7)
    assert sorted(counts) == [3] * 4 + [4] * 3
    assert not np.array_equal(exactly.sources[:7], exactly.sources[7:14])  # each round in an order of its own


def test_places_are_uniform():
    images, labels = examples(5, (8, 8, 1))
    made = scenes.build(images, labels, count=900, seed=0, size=10, scale=(1, 1), strokes=(0, 0))
    counts = np.zeros((3, 3))
    np.add.at(counts, (made.boxes[:, 0], made.boxes[:, 1]), 1)
    assert counts.min() > 100 - 5 * 10 and counts.max() < 100 + 5 * 10


def test_strokes_lie_outside_the_box_and_leave_the_object_as_it_was():
    images, labels = examples(shape=(16, 16, 1))
    images[0] = 0  # an example without ink gives strokes without ink
    plain = scenes.build(images, labels, count=60, seed=2, size=48, strokes=(0, 0))
    made = scenes.build(images, labels, count=60, seed=2, size=48, strokes=(3, 6))
    assert np.array_equal(plain.boxes, made.boxes)
    assert set(made.strokes) == {3, 4, 5, 6} and not plain.strokes.any()
    for i, (y0, x0, y1, x1) in enumerate(made.boxes):
        assert np.array_equal(made.images[i, y0:y1, x0:x1], plain.images[i, y0:y1, x0:x1])
        assert outside(made, i).any()
    # Short and thin: a few strokes cover a small part of the canvas.
    ink = np.mean([(outside(made, i) > 0).sum() / made.strokes[i] for i in range(60)])
    assert 0.25 * 16 * 0.10 * 16 < ink < 0.9 * 16 * (0.20 * 16 + 3)


def test_strokes_have_the_colour_of_the_brightest_pixel_of_an_example():
    images = np.zeros((2, 16, 16, 3), np.uint8)
    images[:, 8, 8] = [[250, 10, 0], [0, 20, 200]]
    images[:, 4, 4] = [0, 5, 0]
    made = scenes.build(images, np.zeros(2, int), count=20, seed=0, size=48, strokes=(1, 1))
    for i in range(20):
        assert tuple(outside(made, i).max(axis=(0, 1))) in {(250, 10, 0), (0, 20, 200)}


def test_a_stroke_without_room_is_left_out_and_not_counted():
    images, labels = examples(shape=(16, 16, 1))
    made = scenes.build(images, labels, count=3, seed=0, size=16, scale=(1, 1))
    assert made.strokes.tolist() == [0, 0, 0]
    assert np.array_equal(made.images, images[made.sources])


def test_ink_is_full_inside_the_pen_and_soft_at_its_edge():
    ink = scenes.ink_of_pen(np.array([[2.5, 2.5], [2.5, 3.5], [2.5, 4.5]]), 1.0, 5, 8)
    assert ink[2].tolist() == [0, 0.5, 1, 1, 1, 0.5, 0, 0]
    assert ink[1, 2] == 0.5 and ink[0, 2] == 0 and ink[1, 1] == pytest.approx(1.5 - 2**0.5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"count": 0}, r"count \(=0\)"),
        ({"seed": -1}, r"seed \(=-1\)"),
        ({"size": 14}, r"size \(=14\) must be at least 15 pixels: examples are 12x10 and are enlarged up to 1.25"),
        ({"scale": (0, 1)}, r"scale \(=\(0, 1\)\)"),
        ({"scale": (1.2, 1)}, r"scale"),
        ({"strokes": (3, 2)}, r"strokes \(=\(3, 2\)\)"),
        ({"images": np.zeros((3, 4, 4, 1))}, r"images are float64 \[3, 4, 4, 1\]"),
        ({"images": np.zeros((0, 4, 4, 1), np.uint8)}, r"N at least 1"),
        ({"labels": np.zeros(3)}, r"labels have shape \[3\], there are 7 images"),
    ],
)
def test_errors_name_the_field(change, message):
    images, labels = examples()
    arguments = {"images": images, "labels": labels, "count": 2, "seed": 0, "size": 40, **change}
    with pytest.raises(ValueError, match=message):
        scenes.build(**arguments)
