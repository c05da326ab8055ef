"""Each CPU algorithm of `cnn.ops` against XLA's own, at shapes on both sides of the threshold of its rule."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from cnn import ops
from cnn.ops import batch_last, choice, gradients
from cnn.ops.pooling_gradients import max_with_own_gradient
from cnn.ops.shapes import Shapes
from cnn.reports.markdown import markdown
from cnn.runtime.compiler import jit_net
from cnn.windows import Window, output_size

NOISE = 0.05  # ratios that differ less than this from 1 agree with every rule


class Case(NamedTuple):
    """One algorithm at one shape.

    Attributes:
      threshold: the rule that is tested, in words.
      what: what is computed: "forward", "images gradient", "kernel gradient", "pool" or "pool gradient".
      algorithm: name of the algorithm's record; for pools "batch_last" or "own gradient".
      shapes: shapes of the convolution or of the pool, whose kernel is given as (height, width, C, C).
    """

    threshold: str
    what: str
    algorithm: str
    shapes: Shapes


def _conv(
    images: tuple[int, int, int, int], kernel: tuple[int, int, int], padding: int = 0, invariant: bool = True
) -> Shapes:
    """The shapes of a convolution from images (N, H, W, C) and kernel (height and width, C, K)."""
    size, channels, features = kernel
    amounts = ((padding, padding), (padding, padding))
    window = Window((size, size), padding=amounts)
    return ops.shapes_of(images, (size, size, channels, features), window, position_invariant=invariant)


def _pool(images: tuple[int, int, int, int], size: int, stride: int) -> Shapes:
    window = Window((size, size), (stride, stride))
    return ops.shapes_of(images, (size, size, images[3], images[3]), window)


CASES = {
    "direct, 3 to 3": Case("channels and features <= 8", "forward", "direct", _conv((1, 512, 512, 3), (5, 3, 3))),
    "direct, 3 to 8": Case("channels and features <= 8", "forward", "direct", _conv((1, 256, 256, 3), (5, 3, 8))),
    "direct, 8 to 12": Case("channels and features <= 8", "forward", "direct", _conv((1, 256, 256, 8), (3, 8, 12))),
    "direct batch-last, 16": Case(
        "batch >= 16", "forward", "direct_batch_last", _conv((16, 32, 32, 3), (5, 3, 3), invariant=False)
    ),
    "direct batch-last, 128": Case(
        "batch >= 16", "forward", "direct_batch_last", _conv((128, 32, 32, 3), (5, 3, 3), invariant=False)
    ),
    "direct wide, 9 terms": Case("terms <= 50", "forward", "direct_wide", _conv((128, 28, 28, 1), (3, 1, 32), 1)),
    "direct wide, 27 terms": Case("terms <= 50", "forward", "direct_wide", _conv((1, 384, 384, 3), (3, 3, 64), 1)),
    "direct wide, 75 terms": Case("terms <= 50", "forward", "direct_wide", _conv((16, 64, 64, 3), (5, 3, 32), 2)),
    "winograd, 128, 1024 tiles": Case(
        "channels >= 128", "forward", "winograd", _conv((4, 32, 32, 128), (3, 128, 128), 1, False)
    ),
    "winograd, 64, 1024 tiles": Case(
        "channels >= 128", "forward", "winograd", _conv((4, 32, 32, 64), (3, 64, 64), 1, False)
    ),
    "winograd, 64, 224x224": Case(
        "channels >= 128", "forward", "winograd", _conv((1, 224, 224, 64), (3, 64, 64), 1, False)
    ),
    "winograd, 64 to 128, batch": Case(
        "channels >= 128", "forward", "winograd", _conv((128, 16, 16, 64), (3, 64, 128), 1, False)
    ),
    "winograd, 512, 196 tiles": Case(
        "tiles >= 256", "forward", "winograd", _conv((1, 28, 28, 512), (3, 512, 512), 1, False)
    ),
    "winograd, 512, 784 tiles": Case(
        "tiles >= 256", "forward", "winograd", _conv((4, 28, 28, 512), (3, 512, 512), 1, False)
    ),
    "im2col, large kernel": Case("weights >= 2^20", "forward", "im2col", _conv((1, 12, 12, 256), (7, 256, 256))),
    "im2col, small kernel": Case("weights >= 2^20", "forward", "im2col", _conv((1, 64, 64, 64), (3, 64, 64))),
    "im2col, map of 2x2": Case("map < kernel", "forward", "im2col", _conv((128, 2, 2, 256), (3, 256, 256), 1)),
    "pad channels, 6 to 16": Case(
        "channels < 16, features <= 32", "forward", "pad_channels", _conv((128, 14, 14, 6), (5, 6, 16))
    ),
    "pad channels, 6 to 48": Case(
        "channels < 16, features <= 32", "forward", "pad_channels", _conv((128, 14, 14, 6), (5, 6, 48))
    ),
    "extra row": Case("no padding", "forward", "extra_row", _conv((16, 64, 64, 48), (4, 48, 48))),
    "images, banded, 14x16": Case(
        "width x features <= 384", "images gradient", "banded_matmul", _conv((128, 14, 14, 6), (5, 6, 16))
    ),
    "images, banded, 28x32": Case(
        "width x features <= 384", "images gradient", "banded_matmul", _conv((128, 28, 28, 8), (3, 8, 32), 1)
    ),
    "images, batch-last": Case(
        "channels and features <= 8", "images gradient", "batch_last", _conv((128, 32, 32, 3), (5, 3, 3))
    ),
    "kernel, batch-last": Case(
        "channels and features <= 8", "kernel gradient", "batch_last", _conv((128, 32, 32, 3), (5, 3, 3))
    ),
    "kernel, columns, 1 to 32": Case(
        "channels <= 4, terms <= features", "kernel gradient", "im2col_columns", _conv((128, 28, 28, 1), (3, 1, 32), 1)
    ),
    "kernel, columns, 3 to 32": Case(
        "channels <= 4, terms <= features", "kernel gradient", "im2col_columns", _conv((128, 32, 32, 3), (3, 3, 32), 1)
    ),
    "kernel, columns, 3 to 16": Case(
        "channels <= 4, terms <= features", "kernel gradient", "im2col_columns", _conv((128, 32, 32, 3), (3, 3, 16), 1)
    ),
    "kernel, split, 32 to 64": Case(
        "16 to 64 channels and features", "kernel gradient", "split_batch", _conv((128, 14, 14, 32), (3, 32, 64), 1)
    ),
    "kernel, split, 128 to 128": Case(
        "16 to 64 channels and features", "kernel gradient", "split_batch", _conv((128, 14, 14, 128), (3, 128, 128), 1)
    ),
    "pool, batch-last, 3 channels": Case("channels <= 8", "pool", "batch_last", _pool((128, 28, 28, 3), 2, 2)),
    "pool, batch-last, 16 channels": Case("channels <= 8", "pool", "batch_last", _pool((128, 28, 28, 16), 2, 2)),
    "pool gradient, 2x2": Case("always", "pool gradient", "own gradient", _pool((128, 28, 28, 32), 2, 2)),
    "pool gradient, 3x3 every 2": Case("always", "pool gradient", "own gradient", _pool((16, 55, 55, 96), 3, 2)),
}
SMOKE = {
    "direct": Case("channels and features <= 8", "forward", "direct", _conv((1, 16, 16, 3), (3, 3, 3))),
    "images, banded": Case(
        "width x features <= 384", "images gradient", "banded_matmul", _conv((4, 8, 8, 6), (3, 6, 9))
    ),
    "kernel, columns": Case(
        "terms <= features", "kernel gradient", "im2col_columns", _conv((4, 8, 8, 1), (3, 1, 16), 1)
    ),
    "pool": Case("channels <= 8", "pool", "batch_last", _pool((16, 8, 8, 3), 2, 2)),
    "pool gradient": Case("always", "pool gradient", "own gradient", _pool((4, 8, 8, 16), 2, 2)),
}


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Times an algorithm and XLA's own in turn.

    Args:
      case: the algorithm and shapes.
      rounds: number of turns of each.

    Returns:
      threshold, what, algorithm, images, kernel; `xla` and `own`, median times in milliseconds; `ratio`, the median
      over turns of the algorithm's time divided by XLA's, with `lowest` and `highest`; `used`, whether the rule chooses
      the algorithm; `agrees`, whether the ratio supports that; `difference`, the largest difference of the two outputs
      as a fraction of the largest value.
    """
    functions, arguments = _contenders(case)
    outputs = {name: np.asarray(function(*arguments), np.float64) for name, function in functions.items()}
    difference = np.abs(outputs["own"] - outputs["xla"]).max() / np.abs(outputs["xla"]).max()
    runs = {name: functools.partial(_wait, function, arguments) for name, function in functions.items()}
    times = timing.alternate(runs, rounds)
    pairs = zip(times["own"], times["xla"], strict=True)
    ratios = sorted(own / xla for own, xla in pairs if own is not None and xla is not None)
    ratio, used = timing.median_ratio(times["own"], times["xla"]), is_used(case)
    return {
        **{field: getattr(case, field) for field in ("threshold", "what", "algorithm")},
        "images": list(case.shapes.images),
        "kernel": list(case.shapes.kernel),
        "xla": 1e3 * timing.median(times["xla"]),
        "own": 1e3 * timing.median(times["own"]),
        "ratio": ratio,
        "lowest": ratios[0],
        "highest": ratios[-1],
        "used": used,
        "agrees": ratio < 1 + NOISE if used else ratio > 1 - NOISE,
        "difference": float(difference),
    }


def is_used(case: Case) -> bool:
    """Whether the library uses the algorithm at these shapes.

    Args:
      case: the algorithm and shapes.

    Returns:
      Whether the rules choose its record.
    """
    if case.what == "forward":
        return ops.algorithm_for(case.shapes).name == case.algorithm
    if case.what == "pool":
        return batch_last.is_faster(case.shapes.images)
    if case.what == "pool gradient":
        return True
    found = ops.gradients_for(case.shapes)
    return found is not None and found[case.what == "kernel gradient"].name == case.algorithm


def text(results: Mapping[str, Any]) -> str:
    """The table, Markdown.

    Args:
      results: `cases`, from `measure`, by name.

    Returns:
      The table.
    """
    headers = ["rule", "what", "algorithm", "images", "kernel", "XLA", "algorithm's", "ratio", "used", "rule is right"]
    rows = []
    for row in results["cases"].values():
        shapes = ("x".join(map(str, row[name])) for name in ("images", "kernel"))
        ratio = f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"
        times = (f"{row['xla']:.2f} ms", f"{row['own']:.2f} ms")
        answers = ("yes" if row["used"] else "no", "yes" if row["agrees"] else "NO")
        rows.append([row["threshold"], row["what"], row["algorithm"], *shapes, *times, ratio, *answers])
    return markdown(headers, rows)


def _wait(function: Callable[..., jax.Array], arguments: tuple[jax.Array, ...]) -> None:
    jax.block_until_ready(function(*arguments))


def _contenders(case: Case) -> tuple[dict[str, Callable[..., jax.Array]], tuple[jax.Array, ...]]:
    """XLA's own and the algorithm as compiled functions of the same arrays, and these arrays."""
    shapes, rng = case.shapes, np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    padded = [n + sum(p) for n, p in zip(shapes.images[1:3], shapes.window.padding, strict=True)]
    window = shapes.window
    size = output_size((padded[0], padded[1]), window._replace(padding=((0, 0), (0, 0))), "floor", "benchmark")
    images, kernel, gradient = (
        draw(*shapes.images),
        draw(*shapes.kernel),
        draw(shapes.images[0], *size, shapes.kernel[3]),
    )

    def of(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return jit_net(lambda *arguments: function(*arguments), static_argnums=())

    if case.what == "forward":
        found = next(a for a in choice.ALGORITHMS if a.name == case.algorithm)
        bias = draw(shapes.kernel[3])

        def layer(forward: choice.Forward) -> Callable[..., jax.Array]:
            # Bias and activation are included, because XLA may compute them in the same loop.
            return of(lambda i, k: jnp.maximum(forward(i, k, shapes) + bias[None, None, None], 0))

        return {"xla": layer(choice.xla), "own": layer(found.forward)}, (images, kernel)
    if case.what.startswith("pool"):
        return _pools(case, images, gradient, of)
    records = gradients.KERNEL_GRADIENTS if case.what == "kernel gradient" else gradients.IMAGES_GRADIENTS
    fixed = images if case.what == "kernel gradient" else kernel
    own, xla = (next(r.compute for r in records if r.name == name) for name in (case.algorithm, "xla"))
    return {"xla": of(lambda x, g: xla(x, g, shapes)), "own": of(lambda x, g: own(x, g, shapes))}, (fixed, gradient)


def _pools(
    case: Case, images: jax.Array, gradient: jax.Array, of: Callable[[Callable[..., jax.Array]], Any]
) -> tuple[dict[str, Callable[..., jax.Array]], tuple[jax.Array, ...]]:
    window = case.shapes.window
    size = (gradient.shape[1], gradient.shape[2])

    def pool(x: jax.Array) -> jax.Array:
        return ops.max_pool(x, window, size)

    def plain(x: jax.Array) -> jax.Array:
        with ops.plain():
            return ops.max_pool(x, window, size)

    if case.what == "pool":
        arranged = of(lambda x: batch_last.from_batch_last(max_with_own_gradient(batch_last.to_batch_last(x), window)))
        return {"xla": of(lambda x: max_with_own_gradient(x, window)), "own": arranged}, (images,)

    def with_gradient(function: Callable[[jax.Array], jax.Array]) -> Any:
        return of(lambda x, g: jax.vjp(lambda y: function(jnp.maximum(y, 0)), x)[1](g)[0])

    return {"xla": with_gradient(plain), "own": with_gradient(pool)}, (images, gradient)
