"""Pictures of what a net has learned: the kernels of a convolution, and the maps that its layers make of an image.

Matplotlib is imported where it is used.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from cnn import data, geometry
from cnn.layers import Branches, Conv, Dense, Dropout, Layer, LocallyConnected, WindowLayer
from cnn.nets import Net, outputs
from cnn.reports.figure import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    WARNING,
    channels_remark,
    class_name,
    figure,
    head,
    shortened,
    show,
)
from cnn.runtime.compiler import jit_net

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WITH_KERNEL = (Conv, Dense, LocallyConnected)
KERNELS = 96  # tiles that a picture of kernels shows at most
CHANNELS = 12  # channels of a kernel that it shows, where they are not colours
ROWS = 16  # kernels that it then shows
CLASSES = 10  # classes with a bar
BAR = 1.8  # height of the colour bar of kernels, inches, where there is room
STEP = 1.1  # from tile to tile, in widths of a tile
SHARED_SCALE = "the channels of a layer share one scale, from black to white, over all images"


def first_kernel(net: Net, variables: Mapping[str, Any]) -> np.ndarray | None:
    """The kernel of a net's first convolution.

    Args:
      net: the classifier.
      variables: its variables.

    Returns:
      [kh, kw, C / groups, K], float32; None where the first layer with a kernel is no convolution. Of a net that
      begins with paths, that of the first path with a kernel.
    """
    own = _first_with_kernel(net.layers, variables.get("params", {}))  # a net of pools alone has none
    return None if own is None else np.asarray(own["kernel"], np.float32)


def _first_with_kernel(layers: Sequence[Layer], params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The parameters of the first layer with a kernel, within paths too; None where it is no convolution."""
    for name, layer in zip(geometry.layer_names(layers), layers, strict=True):
        if isinstance(layer, Branches):
            chain = [inner for path in layer.paths for inner in path]
            if any(isinstance(inner, _WITH_KERNEL) for inner in _flat(chain)):
                return _first_with_kernel(chain, params[name])
        if isinstance(layer, Conv):
            return params[name]
        if isinstance(layer, _WITH_KERNEL):
            return None
    return None


def _flat(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer in layers:
        if isinstance(layer, Branches):
            yield from (inner for path in layer.paths for inner in _flat(path))
        else:
            yield layer


def kernels_picture(path: str, kernel: np.ndarray, names: Sequence[str] | None = None, title: str = "") -> None:
    """Draws the kernels of a convolution, each scaled by its own largest magnitude, zero in the middle of the grey.

    A kernel of three channels is drawn in colour, one tile a kernel; another has a tile for each channel. Of many, the
    first are drawn, and the title says so. Weights that are not finite are orange. A colour bar shows the scale.

    Args:
      path: path of the PNG to write.
      kernel: [kh, kw, C, K], floating.
      names: names of the kernels, [K]; None: their numbers.
      title: first line above the picture, such as the net and the data.

    Raises:
      ValueError: if the kernel has another number of axes or is empty, or there are not K names.
    """
    kernel = np.asarray(kernel, np.float32)
    if kernel.ndim != 4 or not kernel.size:
        raise ValueError(f"kernels_picture: the kernel has shape {kernel.shape}; give [kh, kw, C, K], none of them 0")
    height, width, channels, count = kernel.shape
    if names is not None and len(names) != count:
        raise ValueError(f"kernels_picture: {len(names)} names for {count} kernels")
    tiles = kernel_tiles(kernel)
    shown, across = tiles.shape[:2]
    labels = [shortened(str(k + 1) if names is None else names[k]) for k in range(shown)]
    tall = height / width
    if across > 1:  # a row for each kernel
        places = [(c * STEP, k * (tall + STEP - 1)) for k in range(shown) for c in range(across)]
        inch = 0.6  # width of a tile
    else:  # kernels side by side, named above
        columns = min(shown, 12 if shown > 32 else 8)
        inch = max(0.65, 0.065 * max(map(len, labels)))
        places = [(k % columns * STEP, k // columns * (tall + 0.2 / inch)) for k in range(shown)]
    right, bottom = max(x for x, _ in places) + 1, max(y for _, y in places) + tall
    with figure(path, (max(inch * right, 4.2) + 1.2, max(inch * bottom, 1.1) + 0.6 + 0.2 * bool(title))) as page:
        head(page, title, kernels_title(kernel, shown, across))
        axes = page.subplots()
        for (x, y), tile in zip(places, tiles.reshape(-1, height, width, 3), strict=True):
            axes.imshow(tile, extent=(x, x + 1, y + tall, y), interpolation="nearest")
        for (x, y), label in zip(places[::across], labels, strict=True):
            beside = across > 1
            at = (x - 0.1, y + tall / 2) if beside else (x + 0.5, y - 0.03 / inch)
            sides = ("right", "center") if beside else ("center", "bottom")
            axes.text(*at, label, ha=sides[0], va=sides[1], fontsize=7)
        axes.set(xlim=(0, right), ylim=(bottom, 0))
        axes.set_axis_off()
        _kernels_bar(page, axes, min(1.0, BAR / (inch * bottom)))


def _kernels_bar(page: "Figure", axes: "Axes", part: float) -> None:
    """The scale of the tiles, as high as a part of them: from minus to plus the largest weight of each kernel."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-1, 1), "gray")
    bar = page.colorbar(scale, ax=axes, fraction=0.05, pad=0.03, aspect=12, shrink=part)
    bar.set_ticks([-1, 0, 1], labels=["− largest", "0", "+ largest"])
    bar.ax.tick_params(labelsize=7)


def kernels_title(kernel: np.ndarray, shown: int, across: int) -> str:
    """What the picture of a kernel says above it: its shape, what is drawn of it, and what is broken.

    Args:
      kernel: float [kernel height, kernel width, C, K].
      shown: number of kernels drawn.
      across: number of channels drawn of each.

    Returns:
      Lines of text.
    """
    height, width, channels, count = kernel.shape
    text = f"{count} kernels of {height}x{width}x{channels}, each by its own largest weight"
    first = [f"the first {shown} kernels"] * (shown < count)
    if channels == 3:
        text += "\nred, green and blue: the weights of the three channels"
    else:
        first += [f"the first {across} of {channels} channels"] * (across < channels)
        text += "\na row is a kernel, a column a channel" if across > 1 else ""
    text += f"\ndrawn: {', '.join(first)}" if first else ""
    broken = int((~np.isfinite(kernel)).any(axis=(0, 1, 2)).sum())
    return text + (f"\n{broken} hold weights that are not finite (orange)" if broken else "")


def kernel_tiles(kernel: np.ndarray) -> np.ndarray:
    """The tiles of a kernel that are drawn; weights that are not finite are orange.

    Args:
      kernel: float [kernel height, kernel width, C, K].

    Returns:
      RGB in [0, 1], [kernels, 1 or channels, kernel height, kernel width, 3].
    """
    height, width, channels, count = kernel.shape
    finite = np.where(np.isfinite(kernel), kernel, 0)
    largest = np.abs(finite).max(axis=(0, 1, 2))
    grey = (0.5 + 0.5 * finite / np.where(largest > 0, largest, 1)).transpose(3, 2, 0, 1)  # [K, C, kh, kw]
    if channels == 3:
        tiles = grey.transpose(0, 2, 3, 1)[:KERNELS, None]
    else:
        tiles = grey[: KERNELS if channels == 1 else ROWS, :CHANNELS, ..., None].repeat(3, axis=-1)
    broken = np.asarray(~np.isfinite(kernel.transpose(3, 2, 0, 1)))
    mask = np.asarray(broken.any(axis=1, keepdims=True)) if channels == 3 else broken
    tiles[mask[: tiles.shape[0], : tiles.shape[1]]] = [1.0, 127 / 255, 14 / 255]  # ORANGE
    return tiles


class _Row(NamedTuple):
    """One row of feature maps: what a convolution with its activation, or a pool, gave."""

    name: str
    maps: np.ndarray  # [N, h, w, no more than are drawn]
    channels: int  # of the layer


def feature_maps_picture(
    path: str,
    net: Net,
    variables: Mapping[str, Any],
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str] | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    maps: int = 8,
    title: str = "",
) -> None:
    """Draws images, what each layer with a map made of them, and the probabilities of the classes.

    A row shows the first channels of a convolution after its normalisation and activation, of a pool, or of paths that
    were joined. They share one
    scale: black is the lowest and white the highest value that the row's layer has in all drawn channels of all images,
    and the side says which these are, and how many channels there are. Values that are not finite are orange.

    Args:
      path: path of the PNG to write.
      net: the classifier.
      variables: its variables.
      images: uint8 [N, H, W, C], N at least 1 (`cnn.reports.figure.drawable`).
      mean, std: mean and standard deviation of each channel, as in training (`cnn.data.normalise`).
      class_names: names of the classes; None: their numbers.
      labels: integer [N], if known.
      maps: channels of each layer that are drawn, at most.
      title: first line above the picture, such as the net and the data.

    Raises:
      ValueError: if there are no images, not one label for each, or maps is below 1.
      TypeError: if the images are not uint8.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"feature_maps_picture: images are {images.dtype}; give uint8 [N, H, W, C]")
    if not len(images) or maps < 1:
        raise ValueError(f"feature_maps_picture: {len(images)} images and maps (={maps}); both must be at least 1")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"feature_maps_picture: {len(labels)} labels for {len(images)} images")
    rows, probabilities = _forward(net, variables, images, mean, std, maps)
    names = class_names or []
    lines = max(len(rows), 2)  # beside the picture there is room for it and for the classes in any case
    tile = 0.62
    widest = max((row.maps.shape[-1] for row in rows), default=1)
    # The tallest map sets the height: one height for all rows keeps the blocks alike.
    tall = max((row.maps.shape[1] / row.maps.shape[2] for row in rows), default=1.0)
    size = (1.7 + 1.5 + tile * STEP * widest + 2.3, len(images) * (max(lines * tile * tall * 1.12, 1.9) + 0.45))
    heading = [line for line in (title, SHARED_SCALE if rows else "", channels_remark(images.shape[-1])) if line]
    with figure(path, (size[0], size[1] + 0.2 * len(heading))) as page:
        head(page, *heading)
        blocks = page.subfigures(len(images), 1, squeeze=False)[:, 0]
        for n, block in enumerate(blocks):
            label = None if labels is None else int(labels[n])
            ratios = [1.5, STEP * widest * tile + 1.5, 2.0]
            left, middle, right = block.add_gridspec(1, 3, width_ratios=ratios)
            axes = block.add_subplot(left)
            axes.set_axis_off()
            axes.set_anchor("N")
            show(axes, images[n])
            _title(axes, probabilities[n], names, label)
            if rows:
                grid = middle.subgridspec(len(rows), 1)
                for i, row in enumerate(rows):
                    _draw_maps(block.add_subplot(grid[i]), row, n, widest, tall)
            _draw_probabilities(block.add_subplot(right), probabilities[n], names, label)


def _forward(
    net: Net, variables: Mapping[str, Any], images: np.ndarray, mean: Sequence[float], std: Sequence[float], maps: int
) -> tuple[list[_Row], np.ndarray]:
    """The rows that are drawn, and the probabilities [N, K], of the mean over places where the net gives a map."""
    x = data.normalise(images, mean, std)
    logits, stages = _activations(net, variables, x)
    groups: list[list[str]] = []
    for name, layer in zip(geometry.layer_names(net.layers), net.layers, strict=True):
        if stages[name].ndim != 4:
            break
        if isinstance(layer, WindowLayer | Branches) or not groups:
            groups.append([])
        if not isinstance(layer, Dropout):
            groups[-1].append(name)
    rows = []
    for group in groups:
        if group:
            stage = np.asarray(stages[group[-1]], np.float32)
            rows.append(_Row(", ".join(group), stage[..., :maps], stage.shape[-1]))
    probabilities = np.asarray(outputs.probabilities(logits.astype(np.float32), net.output_activation))
    return rows, probabilities.reshape(len(images), -1, probabilities.shape[-1]).mean(axis=1)


@jit_net
def _activations(net: Net, variables: Mapping[str, Any], x: jax.Array) -> Any:
    return net.apply(variables, x, train=False, method="activations")


def _title(axes: "Axes", probabilities: np.ndarray, names: Sequence[str], label: int | None) -> None:
    """What the net says, and what it is where that differs."""
    if not np.isfinite(probabilities).all():
        axes.set_title("scores are not finite", fontsize=9, color=WARNING)
        return
    predicted = int(probabilities.argmax())
    text = class_name(names, predicted)
    if label is None or label == predicted:
        axes.set_title(shortened(text), fontsize=9)
    else:
        both = [shortened(text), f"is {shortened(class_name(names, label))}"]
        axes.set_title((", " if sum(map(len, both)) < 20 else ",\n").join(both), fontsize=9, color=WARNING)


def _limits(row: _Row) -> tuple[float, float]:
    finite = row.maps[np.isfinite(row.maps)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _draw_maps(axes: "Axes", row: _Row, n: int, widest: int, tall: float) -> None:
    """Draws the maps of one image beside each other, with the layer's name, size and scale on the left."""
    import matplotlib

    low, high = _limits(row)
    _, height, width, _ = row.maps.shape
    grey = matplotlib.colormaps["gray"].with_extremes(bad=ORANGE)
    for k in range(row.maps.shape[-1]):
        place = (k * STEP, k * STEP + 1, height / width, 0)
        picture = np.ma.masked_invalid(row.maps[n, ..., k])
        axes.imshow(picture, cmap=grey, vmin=low, vmax=high if high > low else low + 1, extent=place, aspect="equal")
    axes.set(xlim=(0, widest * STEP - (STEP - 1)), ylim=(tall, 0))
    axes.set_anchor("W")
    drawn = f"{row.maps.shape[-1]} of {row.channels} channel{'s' * (row.channels > 1)}"
    text = f"{row.name}\n{height}x{width}, {drawn}\n{low:.3g} to {high:.3g}"
    axes.text(-0.15, height / width / 2, text, ha="right", va="center", fontsize=7, linespacing=1.3)
    axes.set_axis_off()


def _draw_probabilities(axes: "Axes", probabilities: np.ndarray, names: Sequence[str], label: int | None) -> None:
    """Draws a bar for each class, or for the likeliest and the label where there are many; the label in orange."""
    probabilities = np.nan_to_num(probabilities)  # the title says that they are no numbers
    order = np.arange(len(probabilities))
    if len(order) > CLASSES:
        order = np.argsort(-probabilities, kind="stable")[:CLASSES]
        if label is not None and label not in order:
            order[-1] = label
    colours = [ORANGE if k == label else BLUE for k in order]
    axes.barh(range(len(order)), probabilities[order], color=colours, height=0.7)
    axes.set_yticks(range(len(order)), [shortened(class_name(names, int(k))) for k in order], fontsize=7)
    for y, value in enumerate(probabilities[order]):
        axes.text(value + 0.03, y, f"{value:.2f}", va="center", fontsize=7, color=GREY)
    axes.set(xlim=(0, 1.25), xticks=[])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_box_aspect(min(2.0, 0.14 * len(order) + 0.1))
    axes.set_anchor("N")
    title = "probability" if len(order) == len(probabilities) else f"{len(order)} of {len(probabilities)} classes"
    axes.set_title(title + ("" if label is None else "; orange: the label"), fontsize=8, loc="left")
    axes.tick_params(length=0, colors=INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
