"""The cost of a class for every pixel, by patches and by fragments, counted and measured: the table of Giusti et al.

The window of the net `giusti_n4` has 95x95 pixels. Each pixel of the image is classified by the window centred on it;
the image is continued beyond its border by mirroring (47 pixels on each side).

What is counted: one multiply-add is two operations (FLOP); biases, activations and pools count as none. "By patches" is
one whole window for each pixel. The paper counts the four convolutions and leaves out the fully connected layers, which
cost the same in both ways. Its figures by fragments are those of F fragments of s x s positions with F = 1, 4, 16, 64
and s = 559, 279, 139, 69: 512 + 47 pixels, halved at each pool; the border that a convolution removes is not
subtracted. A real pass computes more in the early layers (the mirrored image is 606 pixels wide) and the same in the
last convolution; the column "computed" has its figures.

Source: Giusti, Ciresan, Masci, Gambardella, Schmidhuber, "Fast Image Scanning with Deep Max-Pooling Convolutional
Neural Networks" (2013), arXiv 1302.1700.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import dense, geometry, nets
from cnn.dense.cost import layer_costs
from cnn.nets import Net
from cnn.reports.tables import Document, Notes, Table, document_markdown

WINDOW, PAPER_SIZE = (95, 95), 512
# The paper's GFLOP by patches and by fragments; its layer numbers count the pools.
PAPER_LAYERS = {"conv1": ("L1", 3408, 0.5), "conv2": ("L3", 53271, 35.9), "conv3": ("L5", 6262, 22.8)}
PAPER_LAYERS["conv4"] = ("L7", 695, 22.5)
PAPER_TOTAL = (63636, 81.6)
PAPER_SECONDS = {"patches, GTX-580": 492.8, "fragments, MATLAB": 15.05}
HEADERS = ("layer", "patches", "(paper)", "fragments", "(paper)", "computed", "saving")
TOLERANCE = 1e-5  # of the largest logit: float32 products may be summed in another order


class LayerOperations(NamedTuple):
    """Operations of one layer for every pixel of an image, two for each multiply-add.

    Attributes:
      name: name of the layer.
      patches: operations of one whole window for each pixel.
      paper: operations by fragments, as the paper counts them; None for a fully connected layer.
      computed: operations by fragments that are really computed.
    """

    name: str
    patches: int
    paper: int | None
    computed: int


def operations(net: Net, window: Sequence[int], size: int, channels: int = 1) -> list[LayerOperations]:
    """Operations of each layer with weights for every pixel of a square image, its border continued by mirroring.

    Args:
      net: a classifier whose convolutions all have stride 1.
      window: (height, width) of its window, pixels, which must be equal.
      size: height and width of the image, pixels.
      channels: number of channels of the image.

    Returns:
      One `LayerOperations` for each layer that has any.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    mirrored = (size + window[0] - 1, size + window[1] - 1, channels)
    prepared, grid = dense.prepare(net, window, channels), dense.plan_grid(net, mirrored, window, 1)
    patches, computed = (
        {layer.name: 2 * layer.macs for layer in layer_costs(prepared, mirrored, grid, backend)}
        for backend in ("crops", "mpf")
    )
    layers = []
    for row in geometry.table(net, (*window, channels)):
        if row.macs:
            paper = None
            if len(row.output_shape) == 3:
                each = row.macs // (row.output_shape[0] * row.output_shape[1])  # one position of one fragment
                # Along each axis there are as many fragments as the total stride so far, which share the extended
                # image.
                paper = 2 * each * (row.stride[0] * ((size + window[0] // 2) // row.stride[0])) ** 2
            layers.append(LayerOperations(row.name, patches[row.name], paper, computed[row.name]))
    return layers


def every_pixel(
    net: Net, variables: Mapping[str, Any], image: np.ndarray, window: Sequence[int], backend: str
) -> jax.Array:
    """Class scores of every pixel: the scores of the window centred on it, in the image continued by mirroring.

    Args:
      net: the classifier.
      variables: its variables.
      image: float32 [H, W, C].
      window: (height, width), pixels, odd.
      backend: a backend of `cnn.dense.score_map`.

    Returns:
      Logits [H, W, K].
    """
    return dense.score_map(net, variables, jnp.asarray(mirror(image, window)[None]), window, 1, backend).scores[0]


def mirror(image: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """The image continued by half a window on each side, its border pixels not repeated.

    Args:
      image: [H, W, C], larger than half a window.
      window: (height, width), pixels, odd.

    Returns:
      [H + window - 1, W + window - 1, C].
    """
    return np.pad(image, [(n // 2, n // 2) for n in window] + [(0, 0)], mode="reflect")


def largest_difference(
    net: Net,
    variables: Mapping[str, Any],
    image: np.ndarray,
    window: Sequence[int],
    scores: np.ndarray | jax.Array,
    samples: int,
    seed: int,
) -> float:
    """Compares scores at random pixels with those of their windows, cut out and classified.

    Args:
      net: the classifier.
      variables: its variables.
      image: float32 [H, W, C].
      window: (height, width), pixels, odd.
      scores: class scores of every pixel, [H, W, K].
      samples: number of pixels to compare.
      seed: seed of the choice of pixels.

    Returns:
      The largest difference, as a fraction of the largest logit among the crops.
    """
    places = np.random.default_rng(seed).integers(0, image.shape[:2], (samples, 2))
    mirrored = mirror(image, window)
    classify = jax.jit(lambda crops: net.apply(variables, crops, train=False))
    worst = largest = 0.0
    for start in range(0, samples, 50):
        some = places[start : start + 50]
        crops = np.stack([mirrored[y : y + window[0], x : x + window[1]] for y, x in some])
        expected = np.asarray(classify(crops))
        worst = max(worst, float(np.abs(np.asarray(scores)[tuple(some.T)] - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    return worst / largest


def measure(size: int, runs: int, samples: int, backend: str, seed: int) -> dict[str, Any]:
    """Times every pixel of a random image and checks a sample of pixels against crops.

    Args:
      size: height and width of the image, pixels.
      runs: number of timed runs.
      samples: number of pixels to compare with crops.
      backend: a backend of `cnn.dense.score_map`.
      seed: seed of weights, image and sample.

    Returns:
      {"seconds" (median), "all_seconds", "first_seconds" (with compilation), "largest_difference", "samples"}.

    Raises:
      ArithmeticError: if a pixel's score differs from its crop's by more than `TOLERANCE` of the largest logit.
    """
    net = nets.create("giusti_n4")
    image = np.random.default_rng(seed).normal(size=(size, size, 1)).astype(np.float32)
    variables = nets.init(net, (*WINDOW, 1), seed)
    seconds = []

    def timed() -> jax.Array:
        start = time.perf_counter()
        scores = jax.block_until_ready(every_pixel(net, variables, image, WINDOW, backend))
        seconds.append(time.perf_counter() - start)
        return scores

    scores = timed()
    for _ in range(runs):
        timed()
    difference = largest_difference(net, variables, image, WINDOW, scores, samples, seed)
    if not difference <= TOLERANCE:
        raise ArithmeticError(f"scores differ from {samples} crops by {difference:.1e} of the largest logit")
    return {
        "seconds": statistics.median(seconds[1:]),
        "all_seconds": seconds[1:],
        "first_seconds": seconds[0],
        "largest_difference": difference,
        "samples": samples,
    }


def document(layers: Sequence[LayerOperations], result: Mapping[str, Any]) -> Document:
    """Operations by layer, times, and facts about the machine; for the paper's image size also the paper's figures.

    Args:
      layers: operations of each layer, from `operations`.
      result: the contents of result.json.

    Returns:
      The report.
    """
    size = f"{result['size']}x{result['size']}"
    papers = result["size"] == PAPER_SIZE
    convolutions = [layer for layer in layers if layer.paper is not None]
    part = LayerOperations(
        "", *(sum(getattr(layer, field) for layer in convolutions) for field in ("patches", "paper", "computed"))
    )
    whole = LayerOperations("", sum(layer.patches for layer in layers), None, sum(layer.computed for layer in layers))
    rows = []
    for layer in layers:
        label, *theirs = PAPER_LAYERS.get(layer.name, ("",))
        rows.append(_row(f"{label} {layer.name}".strip(), layer, theirs if papers else ()))
    rows += [_row("convolutions", part, PAPER_TOTAL if papers else ()), _row("all layers", whole, ())]
    times = [[f"fragments, here ({result['backend']})", f"{result['seconds']:.2f}"]]
    if papers:
        times += [[f"{how} (paper)", f"{seconds}"] for how, seconds in PAPER_SECONDS.items()]
    return Document(
        f"Every pixel of {size}: giusti_n4 by patches and by fragments (arXiv 1302.1700)",
        [
            Table(HEADERS, rows, "Operations by layer, GFLOP."),
            Table([f"{size}, every pixel", "seconds"], times, "Time of every pixel."),
            Notes(_notes(part, whole, result)),
        ],
    )


def text(layers: Sequence[LayerOperations], result: Mapping[str, Any]) -> str:
    """`document` as Markdown.

    Args:
      layers: operations of each layer, from `operations`.
      result: the contents of result.json.

    Returns:
      Markdown.
    """
    return document_markdown(document(layers, result))


def _row(name: str, layer: LayerOperations, paper: Sequence[float]) -> list[str]:
    """A row of the table; `paper` holds the paper's figures by patches and by fragments, or is empty."""
    fragments = "-" if layer.paper is None else f"{layer.paper / 1e9:,.1f}"
    their_patches, their_fragments = (f"{paper[0]:,}", f"{paper[1]}") if paper else ("-", "-")
    saving = f"{layer.patches / (layer.paper or layer.computed):,.1f}x"
    patches, computed = f"{layer.patches / 1e9:,.1f}", f"{layer.computed / 1e9:,.1f}"
    return [name, patches, their_patches, fragments, their_fragments, computed, saving]


def _notes(part: LayerOperations, whole: LayerOperations, result: Mapping[str, Any]) -> list[str]:
    """The meaning of the numbers, and facts about the machine; `part`: operations of all convolutions together."""
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    return [
        f'GFLOP, two for a multiply-add. "fragments" as the paper counts, "computed" as it is run; "saving" is patches '
        f'by fragments, by "computed" for layers that the paper leaves out. Computed convolutions: '
        f"{part.patches / part.computed:,.1f}x; all layers: {whole.patches / whole.computed:,.1f}x",
        f"seconds: median of {len(result['all_seconds'])} runs ({min(result['all_seconds']):.2f} to "
        f"{max(result['all_seconds']):.2f}), mirroring included, compilation excluded (the first run, which compiles, "
        f"took {result['first_seconds']:.2f}); {whole.computed / result['seconds'] / 1e9:.0f} GFLOP/s",
        f"{result['samples']} random pixels were compared with their crops: largest difference "
        f"{result['largest_difference']:.1e} of the largest logit",
        f"command `{result['command']}`, device {result['device']}, python {result['python']}, {packages}",
        f"commit {result['commit']}",
    ]
