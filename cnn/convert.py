"""Fully connected layers as convolutions, and convolutions as one big matrix.

Source: the lecture notes' "converting FC layers to CONV layers"; Sermanet et al., "OverFeat" (2013); Long, Shelhamer,
Darrell, "Fully Convolutional Networks for Semantic Segmentation" (2015).
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry
from cnn.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Crop,
    Dense,
    Flatten,
    Gate,
    Layer,
    LocallyConnected,
    Pool,
    PReLU,
    Scale,
    Shape,
    WindowLayer,
    flatten_permutation,
    layers_of,
)
from cnn.nets import Net
from cnn.windows import GeometryError, as_image_shape, check_flag, shape_text

MATRIX_LIMIT_BYTES = 2 * 2**30
SLIDING_FIELDS = ("stride", "padding", "dilation", "rounding")  # fields that dense evaluation replaces in a layer


class Conversion(NamedTuple):
    """How a classifier becomes a fully convolutional net.

    Attributes:
      net: the convolutional net.
      views: for each fully connected layer, by name, the (height, width, channels) of the map that it sees as a
        convolution, and the order in which that map was flattened.
    """

    net: Net
    views: Mapping[str, tuple[Shape, str]]

    def variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The convolutional net's variables: the classifier's, with fully connected kernels in the shape of images.

        Args:
          variables: the classifier's variables.

        Returns:
          Variables with the same numbers under the same names.
        """
        params = dict(variables.get("params", {}))  # a net of pools alone has none
        for name, (seen, order) in self.views.items():
            params[name] = {**params[name], "kernel": _spatial_kernel(params[name]["kernel"], seen, order)}
        return {**variables, "params": params}


def fc_to_conv(
    net: Net, variables: Mapping[str, Any], image_shape: Sequence[int], position_invariant: bool = True
) -> tuple[Net, dict[str, Any]]:
    """Turns a classifier into a fully convolutional net that gives the same scores.

    Flatten is removed; the first fully connected layer becomes a convolution whose kernel is as large as the map that
    it saw, and every later one a 1x1 convolution. All other layers, and the names of all parameters, stay the same.

    Args:
      net: a net with a Flatten followed by fully connected layers. In a net without them only global pools change:
        they become pools as large as the map that they saw.
      variables: its variables.
      image_shape: (height, width, channels) that the net was trained on, pixels.
      position_invariant: whether the map of a part of an image must be, to the bit, a part of the image's map. If not,
        convolutions may use faster algorithms whose rounding depends on the position; scores are still exact within
        1e-5 of the largest logit (`cnn.ops.convolution`).

    Returns:
      The convolutional net and its variables. On images of `image_shape` it gives [N, 1, 1, K], the logits; on larger
      ones a map [N, h, w, K].

    Raises:
      GeometryError: if the image shape does not fit the net's trained kernels, or a layer cannot be slid over a larger
        image (locally connected, or parameters for flattened values: batch normalisation, `Scale`, `PReLU`; a `Gate`
        whose mean is that of a whole window, see `cnn.geometry.first_centred`).
    """
    geometry.parameters(layers_of(net), variables)
    conversion = plan(net, geometry.table(net, image_shape, variables), position_invariant)
    return conversion.net, conversion.variables(variables)


def convolutional(net: Net, image_shape: Sequence[int], position_invariant: bool = True) -> Net:
    """The net of `fc_to_conv` without its variables: convolutions take the place of fully connected layers.

    Args:
      net: the classifier.
      image_shape: (height, width, channels) that it is trained on, pixels.
      position_invariant: whether all convolutions round in the same way at every position, see `fc_to_conv`.

    Returns:
      The convolutional net.

    Raises:
      GeometryError: if the image shape does not fit the net, or a layer cannot be slid over a larger image.
    """
    return plan(net, geometry.table(net, image_shape), position_invariant).net


def plan(net: Net, table: geometry.Table, position_invariant: bool = True, centred_gates: bool = False) -> Conversion:
    """Plans the conversion of a net whose geometry is known already.

    Args:
      net: the classifier.
      table: its geometry for the images that it is trained on (`cnn.geometry.table`).
      position_invariant: whether all convolutions round in the same way at every position, see `fc_to_conv`.
      centred_gates: whether a `Gate` that does not slide exactly (`cnn.geometry.first_centred`) becomes one whose mean
        at each place is that of the values around it, as many as the map has at the window. That is another net, which
        does not give the classifier's scores, not even at the window. If not, such a gate is an error.

    Returns:
      The convolutional net, and how its variables follow from the classifier's.

    Raises:
      GeometryError: if a layer cannot be slid over a larger image.
    """
    check_flag(position_invariant, "position_invariant", "convert")
    check_flag(centred_gates, "centred_gates", "convert")
    if not isinstance(table, geometry.Table):
        raise TypeError(f"convert.plan: table (={table!r}) must be a cnn.geometry.table of the net")
    if not hasattr(net, "layers"):
        raise TypeError(f"convert.plan: net (={net!r}) must be a net, such as cnn.nets.net(layers) makes")
    centred = None if centred_gates else geometry.first_centred(net.layers, table)
    if centred:
        raise GeometryError(f"{centred}; take backend='crops', context='crop', which cuts every window out")
    views = _dense_views(net, table)
    layers: list[Layer] = []

    def slid(layer: Layer, shape: Shape) -> Layer:
        """A layer that takes images, as it slides over larger ones; `shape` is that of its input at the window."""
        if isinstance(layer, Branches):
            paths = [
                tuple(slid(inner, seen) for inner, (_, seen) in zip(path, layer.walk(i, shape), strict=True))
                for i, path in enumerate(layer.paths, start=1)
            ]
            taken = {inner.name for path in paths for inner in path}
            # A path without a window has one value of its own, so that all paths are planned alike.
            free = [name for i in range(2 * len(paths) + sum(map(len, paths))) if (name := f"path{i}") not in taken]
            through = [() if any(map(_slides, path)) else (Crop(0, name=free[i]),) for i, path in enumerate(paths)]
            return layer.clone(paths=tuple(path + end for path, end in zip(paths, through, strict=True)))
        if isinstance(layer, Gate):
            return layer.sliding(shape, position_invariant)
        if isinstance(layer, Pool) and layer.kernel is None:
            return layer.clone(kernel=shape[:2], stride=1)  # it pools what was the whole image in training: a window
        return layer.clone(position_invariant=position_invariant) if isinstance(layer, Conv) else layer

    exact = geometry.exact_gates(net.layers, table)
    waiting: list[Layer] = []  # gates until the mean over the window that comes behind them
    shape = table.input_shape
    for row, layer in zip(table, net.layers, strict=True):
        if row.name in exact:
            # The mean of x * g is g times the mean of x, and the mean of that one value is itself.
            waiting.append(slid(layer, (1, 1, shape[2])).clone(name=row.name))
            continue
        if isinstance(layer, Dense):
            kernel = views[row.name][0][:2]
            layer = Conv(layer.features, kernel, use_bias=layer.use_bias, kernel_init=layer.kernel_init)
        if not isinstance(layer, Flatten):
            layers.append(slid(layer, shape).clone(name=row.name))
        if isinstance(layer, AvgPool):
            layers += waiting
            waiting = []
        shape = row.output_shape
    return Conversion(Net(tuple(layers), net.output_activation), views)


def _dense_views(net: Net, table: geometry.Table) -> dict[str, tuple[Shape, str]]:
    """The `views` of a `Conversion`; raises `GeometryError` for a layer that cannot slide."""
    views: dict[str, tuple[Shape, str]] = {}
    shape = table.input_shape
    flattened: tuple[Shape, str] | None = None  # the map that Flatten saw and its order, until a Dense takes it
    for row, layer in zip(table, net.layers, strict=True):
        if len(shape) == 3:
            _check_slides(layer.clone(name=row.name), shape)
        if isinstance(layer, Flatten):
            flattened = (shape, layer.order)
        elif isinstance(layer, Dense):
            views[row.name] = flattened or ((1, 1, shape[0]), "hwc")
            flattened = None
        elif flattened and (isinstance(layer, BatchNorm | Scale) or (isinstance(layer, PReLU) and not layer.shared)):
            does, do = ("normalises", "normalise") if isinstance(layer, BatchNorm) else ("has parameters for", "do so")
            raise GeometryError(
                f"{row.name} ({row.kind}): {does} {shape[0]} flattened values, each by itself; it cannot be slid "
                f"over a larger image; {do} before Flatten or after a Dense"
            )
        shape = row.output_shape
    if flattened and flattened[0][:2] != (1, 1):
        raise GeometryError(f"the net ends with a flattened {shape_text(flattened[0])} map and no Dense to convert")
    return views


def _slides(layer: Layer) -> bool:
    return isinstance(layer, WindowLayer | Branches | Gate)


def _check_slides(layer: Layer, shape: Shape) -> None:
    """Refuses layers that cannot be slid, with another stride and dilation, over images larger than the window."""
    if isinstance(layer, Branches):
        for inner, seen in layer.leaves(shape):
            if isinstance(inner, Pool) and inner.kernel is None:
                raise GeometryError(
                    f"{inner.label}: pools the whole window within a layer that branches: no two windows share what it "
                    f"gives, so that the net cannot be slid; take context='crop'"
                )
            _check_slides(inner, seen)
        return
    if not layer.mixes_pixels or isinstance(layer, Flatten | Dense | Gate):
        return
    if isinstance(layer, LocallyConnected):
        raise GeometryError(
            f"{layer.label}: its kernels belong to fixed places of a {shape_text(shape)} map; it cannot be slid over a "
            f"larger image"
        )
    missing = [name for name in SLIDING_FIELDS if name not in type(layer).__dataclass_fields__]
    if isinstance(layer, WindowLayer) and not missing:
        return
    wanted = f"fields {', '.join(missing)}" if isinstance(layer, WindowLayer) else "cnn.layers.WindowLayer as its base"
    raise GeometryError(
        f"{layer.label}: mixes pixels, and cannot be slid at another stride: class {type(layer).__name__} "
        f"lacks {wanted} (see cnn.layers.MaxPool)"
    )


def _spatial_kernel(kernel: jax.Array, seen: Shape, order: str) -> jax.Array:
    """[inputs, K] -> [height, width, channels, K], undoing the order of flattening."""
    permutation = flatten_permutation(order, seen)
    rows = kernel if permutation is None else kernel[np.argsort(permutation)]
    return rows.reshape(*seen, -1)


def conv_to_fc(
    layer: Conv, layer_variables: Mapping[str, Any], input_shape: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """Writes a convolution as a fully connected layer, which it is: one large matrix, mostly of zeros.

    The layer may have any stride, dilation, groups and padding. All padding modes are linear but "constant", of which
    what the kernel makes of the padding is added to the bias.

    Args:
      layer: the convolution.
      layer_variables: the layer's variables, {"kernel": ..., "bias": ...} or {"params": {...}}.
      input_shape: (height, width, channels) of the layer's input.

    Returns:
      matrix [H * W * C, H' * W' * K] and bias [H' * W' * K], float32, such that
      `layer(x).reshape(N, -1) == x.reshape(N, -1) @ matrix + bias` (both flattened channel-last, "hwc").

    Raises:
      TypeError: if the layer is not a convolution.
      GeometryError: if the sizes do not fit, the variables are not those of the layer, or the matrix would be larger
        than `MATRIX_LIMIT_BYTES`.
    """
    if not isinstance(layer, Conv):
        raise TypeError(f"conv_to_fc takes a Conv layer, got {type(layer).__name__}")
    if not isinstance(layer_variables, Mapping):
        raise TypeError(f"conv_to_fc: layer_variables (={layer_variables!r}) must be the dict of the layer's variables")
    params = layer_variables.get("params", layer_variables)
    shape = as_image_shape(input_shape)
    named = layer if layer.name else layer.clone(name="conv1")
    output_shape = geometry.table([named], shape, {"params": {named.name: params}})[-1].output_shape
    rows, columns = math.prod(shape), math.prod(output_shape)
    if 4 * rows * columns > MATRIX_LIMIT_BYTES:
        raise GeometryError(
            f"{layer.label}: the matrix of {shape_text(shape)} -> {shape_text(output_shape)} is {rows:,} x "
            f"{columns:,}, {4 * rows * columns / 2**30:.1f} GiB; more than {MATRIX_LIMIT_BYTES / 2**30:.1f} GiB "
            f"(convert.MATRIX_LIMIT_BYTES). Take a smaller input"
        )
    # The rows of a linear map's matrix are its values at the unit vectors: row p is the response to pixel p alone.
    plain = layer.clone(use_bias=False, position_invariant=True, padding_value=0.0)

    def run(layer: Conv, pixels: Any) -> Any:
        return layer.apply({"params": {"kernel": params["kernel"]}}, pixels, train=False)

    respond = jax.jit(functools.partial(run, plain))
    block = max(1, min(rows, 2**24 // max(rows, columns)))
    parts = []
    for start in range(0, rows, block):
        unit = np.zeros((block, rows), np.float32)
        count = min(block, rows - start)
        unit[np.arange(count), np.arange(start, start + count)] = 1
        parts.append(np.asarray(respond(unit.reshape(block, *shape))).reshape(block, columns)[:count])
    bias = params["bias"] if layer.use_bias else jnp.zeros(layer.features, jnp.float32)
    biases = jnp.tile(bias, output_shape[0] * output_shape[1])
    if layer.padding_value:
        filled = plain.clone(padding_value=layer.padding_value)
        biases += jax.jit(functools.partial(run, filled))(np.zeros((1, *shape), np.float32)).reshape(-1)
    return jnp.asarray(np.concatenate(parts)), biases
