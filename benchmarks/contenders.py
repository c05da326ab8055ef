"""Ways to compute one score map: our backends, PyTorch with the same weights, MONAI's sliding windows.

Each is a function without arguments that computes the scores [h, w, K] of one image and returns when they are ready. A
contender that would take minutes computes only the upper rows of the map; `Contender.rows` is their number.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import convert, dense, geometry
from cnn.dense import Grid
from cnn.nets import Net

MONAI_BATCH_BYTES = 64 * 2**20  # largest activation of one batch of windows
OURS, TORCH, COMPILED, MONAI = "ours: ", "PyTorch", "PyTorch, compiled", "MONAI sliding windows"


class Problem(NamedTuple):
    """A score map to compute.

    Attributes:
      net: the classifier.
      variables: its variables.
      image: float32 [H, W, C], normalised.
      window: (height, width) of the net's window, pixels.
      stride: distance between windows, (vertical, horizontal), pixels.
      crop_macs: most multiply-adds of a contender that classifies windows one by one.
      crop_windows: most windows of such a contender.
    """

    net: Net
    variables: Mapping[str, Any]
    image: np.ndarray
    window: tuple[int, int]
    stride: tuple[int, int]
    crop_macs: int
    crop_windows: int

    @property
    def grid(self) -> Grid:
        """Where the windows lie."""
        return dense.plan_grid(self.net, self.image.shape, self.window, self.stride)


class Contender(NamedTuple):
    """One way to compute the map.

    Attributes:
      run: function that returns the scores [rows, w, K].
      macs: multiply-adds for the whole map.
      context: "crop", "image" or "both" as in `dense.ScoreMap`; or "shifted": each shifted pass pads the border of its
        part of the image, so that no other contender gives the same scores.
      rows: number of rows of the map that it computes.
    """

    run: Callable[[], Any]
    macs: int
    context: str
    rows: int


def ours(problem: Problem, backend: str) -> Contender:
    """`dense.score_map` by one backend; "crops" computes only the upper rows if the whole map would take too long.

    Args:
      problem: the score map to compute.
      backend: name of a backend of `dense.score_map`.

    Returns:
      A `Contender`.
    """
    grid = problem.grid
    rows = _affordable_rows(problem, problem.crop_macs, grid.size[0] * grid.size[1]) if backend == "crops" else None
    image = jnp.asarray(_strip(problem, rows or grid.size[0])[None])

    def run() -> Any:
        found = dense.score_map(problem.net, problem.variables, image, problem.window, problem.stride, backend)
        return jax.block_until_ready(found.scores)[0]

    macs = dense.multiply_adds(problem.net, problem.image.shape, grid, backend)
    return Contender(run, macs, _context(problem, backend), rows or grid.size[0])


def native_pass(problem: Problem) -> Contender:
    """One pass at the native stride, with which the time of a finer map is compared.

    Args:
      problem: the score map to compute; its stride is not used.

    Returns:
      A `Contender` with fewer scores than the others.
    """
    native = problem.grid.native
    return ours(problem._replace(stride=native), "shift")._replace(context="native")


def pytorch(problem: Problem, compiled: bool = False) -> Contender:
    """The converted net in PyTorch, eager or compiled, channels_last, in inference mode; finer strides by shifts.

    Args:
      problem: the score map to compute.
      compiled: whether to use `torch.compile`.

    Returns:
      A `Contender`. With `compiled`, its first call may fail on machines without a C++ compiler.
    """
    import torch

    from benchmarks.torch_nets import to_torch

    grid, shape = problem.grid, problem.image.shape
    conv_net, conv_variables = convert.fc_to_conv(problem.net, problem.variables, (*problem.window, shape[2]))
    module: Any = to_torch(conv_net, conv_variables, (*problem.window, shape[2]))
    if compiled:
        module = torch.compile(module)
    image = _torch_image(problem.image)
    passes = [_shifts(grid, axis) for axis in range(2)]

    @torch.inference_mode()
    def run() -> Any:
        scores = None
        for top, height, rows in passes[0]:
            for left, width, columns in passes[1]:
                part = module(image[:, :, top : top + height, left : left + width])
                # A stride that does not divide the native stride needs only some scores of a pass.
                part = part[:, :, :: rows[2], :: columns[2]]
                if part.shape[2:] == grid.size:
                    return part[0].permute(1, 2, 0)
                if scores is None:
                    scores = part.new_empty(1, part.shape[1], *grid.size)
                scores[:, :, rows[0] :: rows[1], columns[0] :: columns[1]] = part
        assert scores is not None
        return scores[0].permute(1, 2, 0)

    macs = sum(
        geometry.table(conv_net, (height, width, shape[2])).macs
        for _, height, _ in passes[0]
        for _, width, _ in passes[1]
    )
    one = len(passes[0]) * len(passes[1]) == 1
    context = _context(problem, "shift")
    return Contender(run, macs, context if one or context == "both" else "shifted", grid.size[0])


def monai(problem: Problem) -> Contender:
    """`monai.inferers.sliding_window_inference` with the PyTorch classifier as its predictor.

    MONAI's function is made for segmentation: it adds the predictor's output for a window to that window's part of the
    result, and divides each part by the number of windows that cover it. This would blur the scores of a classifier.
    Therefore the predictor stores the scores in the order of the windows, and returns a single zero for each window,
    the cheapest output that MONAI can blend. MONAI cuts, batches and blends the windows.

    Args:
      problem: the score map to compute.

    Returns:
      A `Contender` for as many rows as `crop_macs` and `crop_windows` allow.
    """
    import torch
    from monai.inferers.utils import sliding_window_inference

    from benchmarks.torch_nets import to_torch

    grid, channels = problem.grid, problem.image.shape[2]
    module = to_torch(problem.net, problem.variables, (*problem.window, channels))
    rows = _affordable_rows(problem, problem.crop_macs, problem.crop_windows)
    image = _torch_image(_strip(problem, rows))
    table = geometry.table(problem.net, (*problem.window, channels))
    batch = max(1, MONAI_BATCH_BYTES // (4 * max(math.prod(row.output_shape) for row in table)))
    # MONAI's stride is int(window * (1 - overlap)); half a pixel is added so that rounding does not lose one.
    overlap = [1 - (s + 0.5) / w for s, w in zip(problem.stride, problem.window, strict=True)]

    @torch.inference_mode()
    def run() -> Any:
        found = []

        def predict(windows: torch.Tensor) -> torch.Tensor:
            found.append(module(windows))
            return windows.new_zeros(len(windows), 1, 1, 1)

        sliding_window_inference(image, problem.window, min(batch, rows * grid.size[1]), predict, overlap)
        return torch.cat(found).reshape(rows, grid.size[1], -1)

    macs = dense.multiply_adds(problem.net, problem.image.shape, grid, "crops")
    return Contender(run, macs, _context(problem, "crops"), rows)


def _context(problem: Problem, backend: str) -> str:
    if not dense.has_padding(problem.net, problem.window, problem.image.shape[2]):
        return "both"
    return "crop" if backend == "crops" else "image"


def _affordable_rows(problem: Problem, macs: int, windows: int) -> int:
    """Number of rows of windows, classified one by one, that stay within both limits."""
    grid = problem.grid
    each = geometry.table(problem.net, (*problem.window, problem.image.shape[2])).macs
    return max(1, min(grid.size[0], macs // (each * grid.size[1]), windows // grid.size[1]))


def _strip(problem: Problem, rows: int) -> np.ndarray:
    """The pixels that the first `rows` rows of windows cover; MONAI would add windows for any further pixels."""
    grid = problem.grid
    height, width = ((n - 1) * s + w for n, s, w in zip((rows, grid.size[1]), grid.stride, grid.window, strict=True))
    return problem.image[:height, :width]


def _torch_image(image: np.ndarray) -> Any:
    import torch

    return torch.tensor(image)[None].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _shifts(grid: Grid, axis: int) -> list[tuple[int, int, Sequence[int]]]:
    """Each pass along one axis: first pixel, number of pixels, (first score, step in the map, step in the pass)."""
    native, stride = grid.native[axis], grid.stride[axis]
    period = native // math.gcd(native, stride)
    step = stride * period // native
    found = []
    for first in range(min(period, grid.size[axis])):
        count = -(-(grid.size[axis] - first) // period)
        found.append((first * stride, grid.window[axis] + (count - 1) * step * native, (first, period, step)))
    return found
