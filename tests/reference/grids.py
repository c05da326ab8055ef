"""Grids of windows and boxes, spelt out for tests."""

import numpy as np

from cnn.dense import Grid


def spans(count, window, stride, start=0):
    """(start, end) of each window along one axis."""
    return [(start + i * stride, start + i * stride + window) for i in range(count)]


def boxes_of(rows, columns):
    """[h, w, 4] from (y0, y1) of each row and (x0, x1) of each column."""
    return np.array([[(y0, x0, y1, x1) for x0, x1 in columns] for y0, y1 in rows])


def grid_of(rows, columns):
    """The grid whose scores see these spans, before they are cut at the image's border."""
    axes = (rows, columns)
    strides = tuple(these[1][0] - these[0][0] if len(these) > 1 else 1 for these in axes)
    seen = tuple(these[0][1] - these[0][0] for these in axes)
    return Grid(seen, strides, (len(rows), len(columns)), strides, tuple(these[0][0] for these in axes), seen)
