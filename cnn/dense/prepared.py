"""A classifier prepared for dense evaluation: everything that depends on net, window and channels only, computed once.

The functions of this package take a `PreparedNet`, so that native stride, padding and the converted net are derived in
one place. `prepare` keeps the latest ones, so that the second score map of a net starts at once.
"""

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import jax

from cnn import convert, geometry
from cnn.dense import lattice
from cnn.dense.arguments import named
from cnn.layers import Branches, Conv, Flatten, Gate, Layer, PReLU, Scale, changed
from cnn.nets import Net
from cnn.ops.winograd import LEAST_CHANNELS
from cnn.windows import GeometryError, Pair, as_pair, shape_text

Variables = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PreparedNet:
    """A classifier, the window it was trained on, and what follows from the two.

    Attributes:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: number of channels of its images.
      position_invariant: whether the converted net rounds every score in the same way at every position, so that the
        map of a part of an image is, to the bit, a part of the image's map (see `cnn.convert.fc_to_conv`).
    """

    net: Net
    window: Pair
    channels: int
    position_invariant: bool

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one window."""
        return *self.window, self.channels

    @functools.cached_property
    def table(self) -> geometry.Table:
        """The classifier's geometry at its window."""
        return geometry.table(self.net, self.image_shape)

    @property
    def native_stride(self) -> Pair:
        """The native stride: the distance between neighbouring scores of one pass of the converted net, pixels."""
        return self.table[-1].stride

    @functools.cached_property
    def padded(self) -> bool:
        """Whether a window that is cut out by itself sees padding in any layer (or the edge of a "ceil" pool).

        Also if it is weighed by its own mean where a larger image has another one (`centred_gate`).
        """
        if self.centred_gate:
            return True
        for layer, shape in geometry.leaves(self.net.layers, self.image_shape):
            output = layer.output_shape(shape)
            if len(shape) == 3 and len(output) == 3 and not isinstance(layer, Gate):
                seen = layer.window(shape)
                for axis in range(2):
                    last = (output[axis] - 1) * seen.stride[axis] + seen.extent[axis]
                    if seen.padding[axis][0] or last > shape[axis]:
                        return True
        return False

    @functools.cached_property
    def centred_gate(self) -> str | None:
        """The first `Gate` that does not slide exactly, and why (`cnn.geometry.first_centred`)."""
        return geometry.first_centred(self.net.layers, self.table)

    @functools.cached_property
    def converted(self) -> convert.Conversion:
        """The converted net and how its variables are made; raises `GeometryError` if a layer cannot slide."""
        return convert.plan(self.net, self.table, self.position_invariant, centred_gates=True)

    @functools.cached_property
    def converted_table(self) -> geometry.Table:
        """The converted net's geometry at the window."""
        return geometry.table(self.converted.net, self.image_shape)

    def axes(self, image_shape: Sequence[int]) -> tuple[lattice.Axis, lattice.Axis]:
        """Where the values of every layer lie in an image (`cnn.dense.lattice.axes`).

        Args:
          image_shape: (height, width, channels) of the image, pixels.

        Returns:
          The vertical and the horizontal axis.
        """
        return _axes(self, (int(image_shape[0]), int(image_shape[1])))

    @functools.cached_property
    def classifier(self) -> Net:
        """The classifier as it is run on windows that are cut out; position-invariant if the whole is."""
        if not self.position_invariant:
            return self.net

        def invariant(layer: Layer) -> Layer:
            return layer.clone(position_invariant=True) if isinstance(layer, Conv) else layer

        return Net(changed(self.net.layers, invariant))


@named()
def prepare(net: Net, window: int | Sequence[int], channels: int, position_invariant: bool = False) -> PreparedNet:
    """Prepares a classifier for dense evaluation.

    Args:
      net: the classifier.
      window: (height, width) that it was trained on, pixels.
      channels: number of channels of its images.
      position_invariant: whether every score is rounded in the same way at every position, see `PreparedNet`.

    Returns:
      The `PreparedNet`; the same object for the same arguments.

    Raises:
      GeometryError: if the window does not fit the net.
    """
    pair = as_pair(window, "window", "dense")
    return _prepare(cast(Hashable, net), pair, int(channels), bool(position_invariant))


def may_spread(prepared: PreparedNet) -> bool:
    """Whether a pixel that is not finite may reach the scores of windows that do not see it.

    Args:
      prepared: the classifier and its window.

    Returns:
      Whether a convolution is wide enough for Winograd's algorithm, which adds pixels of neighbouring windows and
      subtracts them again.
    """
    layers = () if prepared.position_invariant else geometry.leaves(prepared.net.layers, prepared.image_shape)
    return any(isinstance(layer, Conv) and layer.features >= LEAST_CHANNELS for layer, _ in layers)


def prepare_trained(
    net: Net, variables: Variables, window: int | Sequence[int], channels: int, position_invariant: bool = False
) -> PreparedNet:
    """`prepare` for a net with its variables, which must be those of the net and fit the window and the channels.

    Args:
      net: the classifier.
      variables: its variables.
      window: (height, width) that it was trained on, pixels.
      channels: number of channels of its images.
      position_invariant: whether every score is rounded in the same way at every position, see `PreparedNet`.

    Returns:
      The `PreparedNet`.

    Raises:
      GeometryError: if the window does not fit the net, or the variables are others; names the layer, both numbers and,
        where another window would do, that window.
    """
    # Before `prepare`, which does not know the kernels and would recommend windows that they do not fit.
    shape = (*as_pair(window, "window", "dense"), int(channels))
    leaves, structure = jax.tree.flatten(variables)
    if all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        _check_shapes(cast(Any, net), shape, structure, tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves))
    else:
        geometry.table(net, shape, variables)  # names what is no array
    return prepare(net, window, channels, position_invariant)


@functools.lru_cache(maxsize=256)
def _check_shapes(net: Net, shape: tuple[int, int, int], structure: Any, leaves: tuple[tuple[Any, Any], ...]) -> None:
    """Checks variables by their shapes and dtypes; kept, because a small map takes no longer than this check."""
    arrays = [jax.ShapeDtypeStruct(*leaf) for leaf in leaves]
    geometry.table(net, shape, jax.tree.unflatten(structure, arrays))


def input_channels(net: Net, variables: Variables) -> int | None:
    """Number of channels of the images that a net takes.

    Args:
      net: the classifier.
      variables: its variables.

    Returns:
      The number that its first layer with parameters takes; None if that is no convolution, nor a layer with a number
      for each channel.

    Raises:
      GeometryError: if the variables are only a part of those of the net.
    """
    return _input_channels(net.layers, geometry.parameters(net.layers, variables))


def _input_channels(layers: Sequence[Layer], trained: Mapping[str, Any]) -> int | None:
    for name, layer in zip(geometry.layer_names(layers), layers, strict=True):
        if isinstance(layer, Branches):
            inner = trained.get(name, {})
            found = [_input_channels(path, geometry.parameters(path, inner)) for path in layer.paths if path]
            return next((count for count in found if count is not None), None)
        own = trained.get(name, {}).get("params", {})
        if isinstance(layer, Flatten):
            return None
        if not own or (isinstance(layer, PReLU) and layer.shared):  # one slope tells nothing of the channels
            continue
        if isinstance(layer, Scale | PReLU):
            numbers = own.get("scale" if isinstance(layer, Scale) else "slope")
            return None if numbers is None else numbers.shape[0]
        kernel = own.get("kernel")
        return kernel.shape[2] * layer.groups if isinstance(layer, Conv) and kernel is not None else None
    return None


@functools.lru_cache(maxsize=64)
def _prepare(net: Any, window: Pair, channels: int, position_invariant: bool) -> PreparedNet:
    made = PreparedNet(net, window, channels, position_invariant)
    if not made.table:
        raise GeometryError("the net has no layers")
    last = made.table[-1]
    if len(last.output_shape) == 3 and last.output_shape[:2] != (1, 1):
        size = shape_text(last.output_shape[:2])
        raise GeometryError(
            f"{last.name} ({last.kind}): the net gives {size} scores for a window of {shape_text(window)} pixels, and "
            f"dense evaluation takes one; {_way_to_one_score(made)}"
        )
    return made


def _way_to_one_score(prepared: PreparedNet) -> str:
    """What a user can do about a net that gives several scores for one window."""
    ways = "end it with AvgPool(None), or with Flatten and Dense"
    seen = prepared.table[-1].receptive_field
    try:
        shape = geometry.table(prepared.net, (*seen, prepared.channels))[-1].output_shape
    except GeometryError:
        return ways
    return f"take window={seen}, what one score sees, or {ways}" if shape[:2] == (1, 1) else ways


@functools.lru_cache(maxsize=256)
def _axes(prepared: PreparedNet, size: Pair) -> tuple[lattice.Axis, lattice.Axis]:
    return lattice.axes(prepared.converted.net, prepared.converted_table, size, prepared.padded)
