"""RandAugment's operations by value, against NumPy, and how they are drawn."""

import numpy as np
import pytest
from PIL import Image

from cnn.data import rand_augment
from cnn.data.rand_augment import OPERATIONS, RandAugment

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 10, 3), np.uint8)
GREY = RNG.integers(0, 256, (12, 10), np.uint8)
ENDS = {  # the amounts at magnitude 0 and 30, for a side of 331 pixels
    **dict.fromkeys(("identity", "autocontrast", "equalize"), (0, 0)),
    **dict.fromkeys(("shear_x", "shear_y"), (0, 0.3)),
    **dict.fromkeys(("translate_x", "translate_y"), (0, 150)),
    **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), (0, 0.9)),
    "rotate": (0, 30),
    "posterize": (8, 4),
    "solarize": (255, 0),
}
NONE = ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "posterize", "solarize")


def done(name, pixels, amount):
    return np.asarray(OPERATIONS[name].apply(Image.fromarray(pixels), amount))


def test_amounts_are_those_of_torchvision():
    assert set(OPERATIONS) == set(ENDS)
    for name, one in OPERATIONS.items():
        assert (one.amount(0, 331), one.amount(1, 331)) == pytest.approx(ENDS[name]), name


@pytest.mark.parametrize("name", [*NONE, "brightness", "colour", "contrast", "sharpness"])
def test_no_amount_changes_nothing(name):
    amount = ENDS[name][0]
    changed = done(name, RGB, amount)
    np.testing.assert_array_equal(changed, np.where(RGB < 255, RGB, 0) if name == "solarize" else RGB)


def test_tones():
    np.testing.assert_array_equal(done("posterize", RGB, 5), RGB & 0b11111000)
    np.testing.assert_array_equal(done("solarize", RGB, 100), np.where(RGB < 100, RGB, 255 - RGB))
    low, high = GREY.min(axis=(0, 1)).astype(float), GREY.max(axis=(0, 1)).astype(float)
    stretched = done("autocontrast", GREY // 2 + 40, 0)  # of values from 40 to 167
    assert stretched.min() == 0 and stretched.max() == 255 and high > low
    np.testing.assert_allclose(stretched, (GREY // 2 - low // 2) * 255 / (high // 2 - low // 2), atol=1)
    ramp = np.repeat(np.arange(100, 160, dtype=np.uint8), 50).reshape(60, 50)  # sixty values, equally often
    step = (3000 - 50) // 255  # pixels for each new value, a whole number in Pillow
    values = np.minimum(255, (step // 2 + 50 * np.arange(60)) // step)
    np.testing.assert_array_equal(done("equalize", ramp, 0), np.repeat(values, 50).reshape(60, 50))


def test_strengths_are_blends_of_the_image_and_what_lacks_them():
    """Pillow cuts fractions off, and rounds the grey that it blends with."""
    grey = RGB @ (0.299, 0.587, 0.114)
    for name, without in (
        ("brightness", np.zeros_like(RGB)),
        ("colour", np.repeat(grey[..., None], 3, axis=2)),
        ("contrast", np.full(RGB.shape, grey.mean())),
    ):
        for amount in (-1, -0.4, 0.7):
            expected = np.clip(without + (1 + amount) * (RGB - without), 0, 255)
            np.testing.assert_allclose(done(name, RGB, amount), expected, atol=2, err_msg=f"{name} {amount}")
    smooth = RGB.astype(float)
    inner = sum(
        RGB[1 + y : 11 + y, 1 + x : 9 + x].astype(float) * (5 if x == y == 0 else 1)
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    )
    smooth[1:-1, 1:-1] = inner / 13
    np.testing.assert_allclose(done("sharpness", RGB, -1), smooth, atol=1)


def test_pixels_move():
    for amount, moved in (
        (3, np.pad(RGB, ((0, 0), (3, 0), (0, 0)))[:, :10]),
        (-4, np.pad(RGB, ((0, 0), (0, 4), (0, 0)))),
    ):
        expected = moved[:, -10:] if amount < 0 else moved
        np.testing.assert_array_equal(done("translate_x", RGB, amount), expected)
    expected = np.pad(RGB, ((2, 0), (0, 0), (0, 0)))[:12]
    np.testing.assert_array_equal(done("translate_y", RGB, 2), expected)
    square = np.ascontiguousarray(RGB[:10])
    np.testing.assert_array_equal(done("rotate", square, 90), np.rot90(square))
    # A shear of one pixel for each row leaves the middle: row i is moved by i + 1/2 - 6 pixels, half a pixel at least.
    odd = np.ascontiguousarray(RGB[:11])
    sheared = done("shear_x", odd, 1.0)
    np.testing.assert_array_equal(sheared[5], odd[5])
    for row in range(11):
        shift = 5 - row
        expected = np.zeros_like(odd[row])
        inside = np.arange(10) - shift
        there = (inside >= 0) & (inside < 10)
        expected[there] = odd[row][inside[there]]
        np.testing.assert_array_equal(sheared[row], expected, err_msg=str(row))
    turned = np.ascontiguousarray(odd.transpose(1, 0, 2))
    np.testing.assert_array_equal(done("shear_y", turned, 1.0), sheared.transpose(1, 0, 2))


def test_operations_are_drawn_equally_often_and_turned_half_of_the_time(monkeypatch):
    seen = []
    for name, one in OPERATIONS.items():
        recorded = one._replace(apply=lambda image, amount, name=name: seen.append((name, amount)) or image)
        monkeypatch.setitem(OPERATIONS, name, recorded)
    changes, count = RandAugment(2, 15), 7000
    for i in range(count):
        changes.apply(RGB, np.random.default_rng(i))
    names = [name for name, _ in seen]
    assert len(seen) == 2 * count
    for name, one in OPERATIONS.items():
        assert abs(names.count(name) - 1000) < 150  # five deviations
        amounts = [amount for other, amount in seen if other == name]
        full = one.amount(0.5, 10 if name.endswith("_x") else 12)
        assert set(amounts) == ({full, -full} if one.signed else {full})
        if one.signed:
            assert abs(sum(amount > 0 for amount in amounts) / len(amounts) - 0.5) < 0.08


@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_their_form(channels):
    pixels, changed = RNG.integers(0, 256, (12, 10, channels), np.uint8), set()
    for i in range(60):
        result = RandAugment(2, 30).apply(pixels, np.random.default_rng(i))
        assert result.shape == pixels.shape and result.dtype == np.uint8
        changed.add(result.tobytes())
    assert len(changed) > 40
    assert RandAugment().apply(pixels, np.random.default_rng(0)) is pixels


def test_of_config():
    assert rand_augment.of_config({}) == rand_augment.of_config({"randaugment": ()}) == RandAugment(0)
    assert rand_augment.of_config({"randaugment": (2, 9)}) == RandAugment(2, 9.0)
