"""Maps of a few windows, held in memory, for the tests of detections."""

import numpy as np


class SmallMap:
    """A map as `dense.open_map` gives it, of an array."""

    def __init__(self, array, written="probabilities", *, window=(8, 8), stride=(2, 2), last=(None, None), **more):
        self._array, self.shape, self.written = array, array.shape, written
        self.window, self.stride, self.last = window, stride, last
        self.class_names, self.output_activation, self.georeference, self.path = None, "softmax", None, None
        self.reads = []
        self.__dict__.update(more)

    def read(self, rows=slice(None), columns=slice(None)):
        self.reads.append((rows, columns))
        return self._array[rows, columns]

    def corners(self, axis):
        first = self.stride[axis] * np.arange(self.shape[axis])
        if self.last[axis] is not None:
            first[-1] = self.last[axis]
        return first


def places(found):
    return [(each.row, each.column, each.class_index) for each in found]
