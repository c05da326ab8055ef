"""Functions that the pages of the course share: pictures, a data set, and a short training loop."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn import data, nets

WIDTH = 4.8  # inches; at this width the letters can still be read on a telephone
FONT = 9  # points

folder = pathlib.Path("runs/course")  # directory of pictures; `docs.cells` sets it
pictures: list["Picture"] = []  # drawn since `docs.cells` last emptied the list


class Picture(NamedTuple):
    """A picture that a page has drawn.

    Attributes:
      path: the PNG file.
      caption: one sentence on what it shows; also the alternative text for screen readers.
    """

    path: pathlib.Path
    caption: str


def save(figure: Figure, name: str, caption: str) -> None:
    """Writes a figure as a PNG into `folder`.

    Args:
      figure: the figure, at most `WIDTH` inches wide.
      name: file name without its suffix.
      caption: one sentence on what it shows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=200, bbox_inches="tight", facecolor="white")
    pictures.append(Picture(path, caption))
    print(f"[picture: {path.name}]")


def new_figure(height: float) -> Figure:
    """An empty figure, `WIDTH` inches wide; height in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def show_arrays(
    name: str,
    caption: str,
    panels: Mapping[str, Any],
    *,
    columns: int = 3,
    numbers: str = "",
    colours: str = "gray",
    limits: tuple[float, float] | None = None,
) -> None:
    """Draws 2-D arrays side by side and saves the figure.

    Args:
      name: file name without its suffix.
      caption: one sentence on what it shows.
      panels: title and array [H, W] or [H, W, 3] of each panel.
      columns: how many panels stand in a row.
      numbers: format of the number that is written into each cell, for example "{:.1f}"; empty: none.
      colours: a colour map of Matplotlib.
      limits: values of the first and last colour; None: each panel's own smallest and largest value.
    """
    rows = -(-len(panels) // columns)
    shapes = [np.shape(array)[:2] for array in panels.values()]
    tallest = max(height / width for height, width in shapes)
    figure = new_figure(rows * (WIDTH / columns * tallest + 0.3))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (title, array) in zip(axes, panels.items(), strict=False):
        low, high = limits or (None, None)
        axis.imshow(np.asarray(array), cmap=colours, vmin=low, vmax=high)
        axis.set_title(title, fontsize=FONT)
        if numbers:
            write_numbers(axis, np.asarray(array), numbers)
    save(figure, name, caption)


def write_numbers(axis: Axes, array: np.ndarray, numbers: str) -> None:
    """Writes the value of each cell of a drawn array [H, W] into it, dark on light cells and light on dark ones."""
    middle = (array.min() + array.max()) / 2
    for (row, column), value in np.ndenumerate(array):
        colour = "black" if value > middle or array.min() == array.max() else "white"
        axis.text(
            column,
            row,
            numbers.format(value),
            ha="center",
            va="center",
            fontsize=FONT - 1,
            color=colour,
        )


def write_labels(axis: Axes, array: np.ndarray) -> None:
    """Writes whole numbers [H, W] into the cells of a drawn array, in black, and hides the axes."""
    axis.axis("off")
    for (row, column), value in np.ndenumerate(array):
        axis.text(column, row, str(value), ha="center", va="center", fontsize=FONT - 1)


def digits(image_size: int = 32) -> tuple[data.Dataset, Any, Any]:
    """Scikit-learn's 1,797 handwritten digits.

    Args:
      image_size: height and width, pixels.

    Returns:
      The data set, and its train and test images normalised to mean 0 and standard deviation 1, float32 [N, H, W, 1].
    """
    dataset = data.load("digits", image_size=image_size)
    train, test = (
        data.normalise(split.images, dataset.mean, dataset.std)
        for split in (dataset.train, dataset.test)
    )
    return dataset, train, test


def fit(
    net: Any,
    images: Any,
    labels: Any,
    *,
    steps: int = 150,
    batch_size: int = 64,
    seed: int = 0,
) -> Any:
    """Trains a net by Adam with a cosine schedule; `cnn.training` is what the commands train with.

    Args:
      net: a `cnn.nets.Net`.
      images: float32 [N, H, W, C], normalised.
      labels: class indices, int [N].
      steps: number of updates of the parameters.
      batch_size: examples in an update, drawn with replacement.
      seed: seed of the initial parameters and of the order in which examples are drawn.

    Returns:
      The trained variables.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    variables = nets.init(net, images.shape[1:], seed)
    memory = optimizer.init(variables)

    def loss(variables: Any, x: Any, y: Any) -> Any:
        logits = net.apply(variables, x, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(variables: Any, memory: Any, x: Any, y: Any) -> Any:
        updates, memory = optimizer.update(jax.grad(loss)(variables, x, y), memory)
        return optax.apply_updates(variables, updates), memory

    batches = np.random.default_rng(seed).integers(
        len(labels), size=(steps, batch_size)
    )
    for chosen in batches:
        variables, memory = step(variables, memory, images[chosen], labels[chosen])
    return variables


def accuracy(net: Any, variables: Any, images: Any, labels: Any) -> float:
    """The fraction of images whose largest score is that of their label."""
    return float(
        (
            np.asarray(scores(net, variables, images)).argmax(-1) == np.asarray(labels)
        ).mean()
    )


@functools.partial(jax.jit, static_argnums=0)
def scores(net: Any, variables: Any, images: Any) -> Any:
    """Logits [N, K] of images, compiled once for each net and shape."""
    return net.apply(variables, images, train=False)
