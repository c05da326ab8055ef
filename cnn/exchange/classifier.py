"""`Classifier`: what every reader of a foreign file returns, and every writer takes."""

import dataclasses
from typing import Any

from cnn.nets import Net


class ExchangeError(ValueError):
    """A file that cannot be read or written; one line that names the file, the layer or node, and the way out."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained net with all that is needed to use it.

    Attributes:
      net: the net; its output activation tells what its scores mean.
      variables: its variables, float32 arrays of NumPy or JAX.
      image_shape: (H, W, C) of the images that it was trained on, pixels: the window of a dense run.
      mean, std: per channel, for `cnn.data.normalise`, in units of the full range: a net that takes pixels from 0 to
        255 as they are has mean 0 and standard deviation 1 / 255.
      class_names: one for each class; "class 0", "class 1", ... where the file names none.
      channel_order: "rgb", or "grey" for one channel; "" for any other number of them. A net that was trained on blue,
        green, red is changed in its first kernel when it is read.
      notes: what was folded, dropped or assumed in reading, a sentence each.
      source: path of the file that it was read from.
    """

    net: Net
    variables: dict[str, Any]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    channel_order: str = "rgb"
    notes: tuple[str, ...] = ()
    source: str = ""
