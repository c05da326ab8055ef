"""Blocks of an ONNX graph: paths over one value that an operator joins again become `Branches`; slices become crops."""

from collections.abc import Callable, Sequence
from typing import Any

from cnn.exchange.onnx_in.chain import Step
from cnn.exchange.onnx_in.growth import Chain
from cnn.exchange.onnx_in.joins import JOINS, concat_axis
from cnn.exchange.onnx_in.node import Node
from cnn.exchange.onnx_in.shapes import cut
from cnn.layers import Branches, Crop

# Layouts that values which are joined may have, by their number of axes.
LAYOUTS = {1: ("n",), 2: ("nc",), 3: ("nhw",), 4: ("nchw", "nhwc")}


def block(chain: Chain, step: Step, add: Callable[[Chain, Sequence[Step]], None]) -> None:
    """Adds the layer of a join, with the layers of its paths.

    Args:
      chain: the layers so far, to which it is added.
      step: the join with its paths.
      add: adds the layers of a path to a chain.

    Raises:
      ExchangeError: naming the node, if its paths have other layouts, or are joined along another axis than channels.
    """
    node, join = step.node, JOINS[step.node.op]
    if len(chain.shape) != 3:
        raise node.error("joins vectors, behind a fully connected layer; blocks are read of images alone")
    paths = []
    for steps in step.paths:
        path = chain.path()
        add(path, steps)
        if path.head:
            raise node.error(f"joins what a {path.head} gives; nets end there, and no layer is one")
        paths.append(path)
    layout = _layout(node, join, paths)
    layer = Branches(tuple(tuple(path.layers) for path in paths), join)
    variables: dict[str, Any] = {}
    for path, layers in zip(paths, layer.checked(), strict=True):
        for inner, own in zip(layers, path.variables, strict=True):
            for collection, values in own.items():
                variables.setdefault(collection, {})[inner.name] = values
    chain.append(layer, variables, node)
    chain.stay(layout)
    wanted = tuple({"n": step.result.shape[0], **_sizes(chain)}[name] for name in layout)
    if wanted != step.result.shape:
        raise node.error(f"gives values of the shape {step.result.shape} in the file, and {wanted} here")


def _sizes(chain: Chain) -> dict[str, int]:
    return dict(zip("hwc", chain.shape, strict=True))


def _layout(node: Node, join: str, paths: Sequence[Chain]) -> str:
    """The layout that the values of all paths have."""
    rank = len(paths[0].axes.dims)
    axis = concat_axis(node) if join == "concat" else -1
    for layout in LAYOUTS.get(rank, ()):
        fits = all(len(path.axes.dims) == rank and path.axes.are(layout) for path in paths)
        if fits and all(len(path.shape) == 3 for path in paths) and (join != "concat" or layout.find("c") == axis):
            return layout
    held = ["".join(f"({' '.join(one)})" for one in path.axes.dims) for path in paths[:3]]
    along = f" along axis {axis}" if join == "concat" else ""
    raise node.error(
        f"joins values laid out as {', '.join(held)}{along}; images of one layout are joined, and concatenated along "
        "their channels"
    )


def crop(chain: Chain, step: Step) -> None:
    """Adds the layer of a Slice that cuts the same number of pixels off at both ends, and may take every n-th.

    Args:
      chain: the layers so far, to which it is added.
      step: the Slice.

    Raises:
      ExchangeError: naming the node, if it cuts anything else.
    """
    node = step.node
    cuts = cut(node, step.source.shape)
    if all(one == slice(0, size, 1) for one, size in zip(cuts, step.source.shape, strict=True)):
        return
    chain.image(node)
    amounts = []
    for one, size in zip(cuts, step.source.shape, strict=True):
        amounts.append((one.start, size - one.stop))
    if amounts[0] != (0, 0) or amounts[1] != (0, 0) or any(one.step != 1 for one in cuts[:2]):
        raise node.error("cuts images or channels apart; no layer does that: only pixels at the border are cut off")
    if any(before != after for before, after in amounts):
        raise node.error(
            f"cuts {amounts[2]} rows and {amounts[3]} columns off; only the same number at both ends is read"
        )
    chain.append(
        Crop(
            (amounts[2][0], amounts[3][0]),
            stride=(cuts[2].step, cuts[3].step),
            rounding="floor" if (cuts[2].step, cuts[3].step) != (1, 1) else "exact",
        ),
        {},
        node,
    )
    chain.stay()
    if chain.shape[:2] != step.result.shape[2:]:
        raise node.error(f"gives maps of {step.result.shape[2:]} in the file, and {chain.shape[:2]} here")
