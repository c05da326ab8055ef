"""What tests of pictures share: a PNG read back, and the Matplotlib figures that a module drew."""

import contextlib
import pathlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn.reports import figure


def read(path: str | pathlib.Path) -> np.ndarray:
    """A picture as float64 [H, W, 3]; fails if it is blank or tiny."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"), np.float64)
    assert min(pixels.shape[:2]) > 100 and max(pixels.shape[:2]) < 3000 and pixels.std() > 5
    return pixels


def keep_pages(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[Any]:
    """The figures that a module draws from now on, in a list that grows; they are written as ever."""
    drawn: list[Any] = []

    @contextlib.contextmanager
    def kept(path: str, size: tuple[float, float]) -> Iterator[Any]:
        with figure.figure(path, size) as page:
            drawn.append(page)
            yield page

    monkeypatch.setattr(module, "figure", kept)
    return drawn
