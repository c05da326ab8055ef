"""The series of `benchmarks.scaling`: what is run at which sizes, the exponents, and the report."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine, timing, training
from cnn import convert, dense, geometry, nets
from cnn.nets import Net
from cnn.reports import markdown
from cnn.runtime.devices import Devices
from cnn.training import steps


class Point(NamedTuple):
    """One size of a series.

    Attributes:
      size: the quantity that grows, for example the number of pixels.
      run: function that does the work.
      flops: number of operations in convolutions and fully connected layers, two for each multiply-add.
      memory: memory that XLA plans for temporary arrays and results, bytes; None: not known.
    """

    size: int
    run: Callable[[], Any]
    flops: int
    memory: int | None


def _planned(macs: int, function: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], int]:
    """A call compiled for one device, and the memory that it needs beside its arguments, bytes."""
    compiled = jax.jit(function, compiler_options=Devices(1).compiler_options(macs)).lower(*arguments).compile()
    analysis: Any = compiled.memory_analysis()
    memory = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    return lambda: jax.block_until_ready(compiled(*arguments)), memory


def batch(sizes: Sequence[int]) -> list[Point]:
    """Training steps of `full_cnn` on 28x28x1 with batches of several sizes, on one device.

    Args:
      sizes: numbers of examples in a batch.

    Returns:
      One point for each size.
    """
    points = []
    for size in sizes:
        case = training.CASES["full_cnn28"]._replace(batch=size)
        problem = training.problem_of(case)
        optimizer = training.optimizer_of(problem.config)
        step = steps.make_step(problem.net, optimizer, problem.config, [training.MEAN], [training.STD])
        state = steps.init_state(problem.net, optimizer, case.image, seed=0)
        macs = geometry.table(problem.net, case.image).macs
        run, memory = _planned(macs, step, state, problem.images[:size], problem.labels[:size])
        points.append(Point(size, run, size * training.flops_per_example(problem.net, case.image), memory))
    return points


def _converted(name: str, window: tuple[int, int, int], **options: Any) -> tuple[Net, Any]:
    net = nets.create(name, **options)
    variables = nets.init(net, window)
    return convert.fc_to_conv(net, variables, window)


def pixels(sizes: Sequence[int]) -> list[Point]:
    """The dense pass of a converted `full_cnn` (32x32x3) over square images.

    Args:
      sizes: numbers of pixels in an image, squares of whole numbers.

    Returns:
      One point for each size.
    """
    net, variables = _converted("full_cnn", (32, 32, 3), num_classes=10)
    points = []
    for size in sizes:
        side = round(size**0.5)
        images = jnp.ones((1, side, side, 3))
        macs = geometry.table(net, images.shape[1:]).macs
        run, memory = _planned(macs, functools.partial(net.apply, train=False), variables, images)
        points.append(Point(side * side, run, 2 * macs, memory))
    return points


def pixels_stride1(sizes: Sequence[int]) -> list[Point]:
    """A score for every window of a square image: `qa_net` (32x32x3) at stride 1.

    Args:
      sizes: numbers of pixels in an image, squares of whole numbers.

    Returns:
      One point for each size.
    """
    net = nets.create("qa_net")
    variables = nets.init(net, (32, 32, 3))
    points = []
    for size in sizes:
        side = round(size**0.5)
        images = jnp.ones((1, side, side, 3))

        def run(images: jax.Array = images) -> Any:
            return jax.block_until_ready(dense.score_map(net, variables, images, (32, 32), 1).scores)

        grid = dense.plan_grid(net, images.shape[1:], (32, 32), (1, 1))
        backend = dense.score_map(net, variables, images, (32, 32), 1).backend
        points.append(Point(side * side, run, 2 * dense.multiply_adds(net, images.shape[1:], grid, backend), None))
    return points


def classes(sizes: Sequence[int], side: int = 256) -> list[Point]:
    """The dense pass of a converted `vgg11` (64x64x3) over an image, with several numbers of classes.

    Args:
      sizes: numbers of classes.
      side: height and width of the image, pixels.

    Returns:
      One point for each size.
    """
    points = []
    for size in sizes:
        net, variables = _converted("vgg11", (64, 64, 3), num_classes=size)
        images = jnp.ones((1, side, side, 3))
        macs = geometry.table(net, images.shape[1:]).macs
        run, memory = _planned(macs, functools.partial(net.apply, train=False), variables, images)
        points.append(Point(size, run, 2 * macs, memory))
    return points


def devices(counts: Sequence[int]) -> list[Point]:
    """Training steps of `full_cnn` on 28x28x1, 128 examples split over several devices.

    Args:
      counts: numbers of devices.

    Returns:
      One point for each size.
    """
    case = training.CASES["full_cnn28"]
    problem = training.problem_of(case)
    flops = case.batch * training.flops_per_example(problem.net, case.image)
    points = []
    for count in counts:
        run = training.ours(problem, most_steps=1, devices=Devices(count))
        points.append(Point(count, lambda run=run: run(1), flops, None))
    return points


def fitted_exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The exponent of c * size ** exponent that fits best, by least squares of logarithms.

    Args:
      sizes: at least two different sizes.
      values: the value at each size, for example seconds.

    Returns:
      The exponent; 1 is linear growth.
    """
    return float(np.polyfit(np.log(np.asarray(sizes, float)), np.log(np.asarray(values, float)), 1)[0])


SERIES: dict[str, tuple[Callable[..., list[Point]], str]] = {
    "batch": (batch, "examples in a training step of `full_cnn`, 28x28x1, one device"),
    "pixels": (pixels, "pixels of an image, dense pass of `full_cnn`"),
    "pixels_stride1": (pixels_stride1, "pixels of an image, every window of `qa_net`"),
    "classes": (classes, "classes, dense pass of `vgg11` over 256x256"),
    "devices": (devices, "devices that a training step of `full_cnn`, 128 of 28x28x1, is split over"),
}
SIZES: dict[str, tuple[int, ...]] = {
    "batch": (32, 64, 128, 256, 512, 1024),
    "pixels": (128**2, 256**2, 512**2, 1024**2, 2048**2),
    "pixels_stride1": (128**2, 256**2, 512**2, 1024**2),
    "classes": (10, 100, 1000, 10000),
}
SMOKE_SIZES: dict[str, tuple[int, ...]] = {
    "batch": (16, 32),
    "pixels": (32**2, 64**2),
    "pixels_stride1": (36**2, 48**2),
    "classes": (2, 4),
}


def measure(name: str, sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Times all sizes of a series in turn.

    Args:
      name: name of the series in `SERIES`.
      sizes: the sizes to run.
      rounds: number of turns of each size.

    Returns:
      `about`, the series in words; `rows` with size, milliseconds (median), gflops, memory in bytes; and
      `time_exponent` and `memory_exponent`, which is None if memory is not known.
    """
    make, about = SERIES[name]
    points = make(sizes)
    times = timing.alternate({str(point.size): point.run for point in points}, rounds)
    taken = [timing.median(times[str(point.size)]) for point in points]
    rows = [
        {"size": p.size, "milliseconds": 1e3 * t, "gflops": 1e-9 * p.flops / t, "memory": p.memory}
        for p, t in zip(points, taken, strict=True)
    ]
    known = [point.memory for point in points if point.memory is not None]
    grows = len(points) > 1
    return {
        "about": about,
        "rows": rows,
        "time_exponent": fitted_exponent([p.size for p in points], taken) if grows else None,
        "memory_exponent": fitted_exponent([p.size for p in points], known) if grows and known else None,
    }


def text(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
      results: the contents of scaling.json.

    Returns:
      A table for each series, its exponents, and the facts about the machine.
    """
    parts = ["# How time and memory grow\n"]
    for name, case in results["cases"].items():
        first = case["rows"][0]
        rows = []
        for row in case["rows"]:
            memory = "-" if row["memory"] is None else f"{row['memory'] / 2**20:,.1f}"
            numbers = [f"{row['milliseconds']:,.2f}", f"{row['milliseconds'] / first['milliseconds']:.2f}"]
            rows.append([f"{row['size']:,}", *numbers, f"{row['gflops']:.0f}", memory])
        headers = ["size", "ms", "times the first", "GFLOP/s", "memory, MiB"]
        fits = [
            f"{what} grows with the power {case[key]:.2f}"
            for what, key in (("time", "time_exponent"), ("memory", "memory_exponent"))
            if case[key] is not None
        ]
        parts.append(f"## {name}: {case['about']}\n\n{markdown.markdown(headers, rows)}")
        if fits:
            parts.append(f"{'; '.join(fits)}.\n")
    return "\n".join([*parts, machine.lines(results)])
