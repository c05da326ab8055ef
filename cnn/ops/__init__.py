"""Array functions under the layers: convolutions, pools, products, padding, normalisation. Images are [N, H, W, C].

All algorithms that are faster than XLA's own on CPU are behind these functions: layers call them and know nothing of
algorithms and memory layouts. `plain` switches to XLA's own forms, `algorithm_for` returns the algorithm of a
convolution, and `python -m benchmarks.ops` measures whether the choices are right on the machine at hand.
"""

from cnn.ops.basic import PADDING_MODES, local_response_norm, pad, product, tap
from cnn.ops.batch_last import add_bias, along, by_channel
from cnn.ops.batch_last import in_batch_last as map_images
from cnn.ops.choice import algorithm_for
from cnn.ops.convolution import convolution, workspace
from cnn.ops.fitted import fitted
from cnn.ops.gradients import gradients_for
from cnn.ops.plain import CHOICES, is_plain, plain, use
from cnn.ops.pooling import average_pool, axis_counts, max_pool, n_max_pool, sum_pool, window_counts
from cnn.ops.shapes import shapes_of
from cnn.ops.wide_sums import with_wide_sums

__all__ = [
    "CHOICES",
    "PADDING_MODES",
    "add_bias",
    "algorithm_for",
    "along",
    "average_pool",
    "axis_counts",
    "by_channel",
    "convolution",
    "fitted",
    "gradients_for",
    "is_plain",
    "local_response_norm",
    "map_images",
    "max_pool",
    "n_max_pool",
    "pad",
    "plain",
    "product",
    "shapes_of",
    "sum_pool",
    "tap",
    "use",
    "window_counts",
    "with_wide_sums",
    "workspace",
]
