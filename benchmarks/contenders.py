"""Ways to compute one score map: our backends, PyTorch with the same weights, MONAI's sliding windows.

Each is a function without arguments that returns the scores [h, w, K] of one image when they are there. One that would
take minutes computes the upper rows of the map alone, and says how many.
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

MONAI_BATCH_BYTES = 64 * 2**20  # of the largest activation of one batch of windows
OURS, TORCH, COMPILED, MONAI = "ours: ", "PyTorch", "PyTorch, compiled", "MONAI sliding windows"


class Problem(NamedTuple):
    """A score map to compute.

    Attributes:
      net, variables: the classifier.
      image: float32 [H, W, C].
      window: (height, width), pixels.
      stride: (vertical, horizontal), pixels.
      crop_macs: most multiply-adds that a contender who classifies windows one by one may spend.
      crop_windows: and most windows.
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
      run: returns scores [rows, w, K].
      macs: multiply-adds for the whole map.
      context: "crop", "image", "both" as in `dense.ScoreMap`, or "shifted": each shifted pass pads the border of its
        own part of the image, so that nothing else has the same numbers.
      rows: rows of the map that it computes.
    """

    run: Callable[[], Any]
    macs: int
    context: str
    rows: int


def ours(problem: Problem, backend: str) -> Contender:
    """`dense.score_map` by one backend; "crops" by rows where the whole map is too much.

    Args:
      problem: what to compute.
      backend: of `dense.score_map`.

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
    """One pass at the native stride: what a finer map is compared with.

    Args:
      problem: what to compute; its stride is not used.

    Returns:
      A `Contender` with fewer scores than the others.
    """
    native = problem.grid.native
    return ours(problem._replace(stride=native), "shift")._replace(context="native")


def pytorch(problem: Problem, compiled: bool = False) -> Contender:
    """The converted net in PyTorch, eager or compiled, channels_last, in inference mode; finer strides by shifts.

    Args:
      problem: what to compute.
      compiled: by `torch.compile`.

    Returns:
      A `Contender`. PyTorch's first call may fail where there is no compiler.
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
                # Strides that are no divisor of the net's leave scores out.
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

    The function is made for segmentation: it adds what the predictor returns for a window to that window's part of the
    output and divides by how often each part was covered. A classifier's scores would be blurred so; so they are
    kept as they come, in the order of the windows, and the predictor returns a single zero for each window, which is
    the cheapest that the function can be given to blend. Windows are cut, batched and blended by MONAI.

    Args:
      problem: what to compute.

    Returns:
      A `Contender`, of as many rows as it can do.
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
    # MONAI takes int(window * (1 - overlap)) for the stride; the half pixel keeps rounding from losing one.
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
    """Rows of windows, classified one by one, that stay within both."""
    grid = problem.grid
    each = geometry.table(problem.net, (*problem.window, problem.image.shape[2])).macs
    return max(1, min(grid.size[0], macs // (each * grid.size[1]), windows // grid.size[1]))


def _strip(problem: Problem, rows: int) -> np.ndarray:
    """The pixels that the first rows of windows see: MONAI would add windows for those that are left over."""
    grid = problem.grid
    height, width = ((n - 1) * s + w for n, s, w in zip((rows, grid.size[1]), grid.stride, grid.window, strict=True))
    return problem.image[:height, :width]


def _torch_image(image: np.ndarray) -> Any:
    import torch

    return torch.tensor(image)[None].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _shifts(grid: Grid, axis: int) -> list[tuple[int, int, Sequence[int]]]:
    """Along one axis, for each pass: first pixel, pixels, and (first, every) in the map, every of the pass's scores."""
    native, stride = grid.native[axis], grid.stride[axis]
    period = native // math.gcd(native, stride)
    step = stride * period // native
    found = []
    for first in range(min(period, grid.size[axis])):
        count = -(-(grid.size[axis] - first) // period)
        found.append((first * stride, grid.window[axis] + (count - 1) * step * native, (first, period, step)))
    return found
