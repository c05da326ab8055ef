"""The forms in which a classifier is written: as it is, as a convolutional net for any size, or at a finer stride.

The third form is the dilated pass of `cnn.dense.lattice` as a net of its own: the same layers with other strides,
dilations and padding, which do not depend on the size of the image. Along one axis, the values of a layer's input lie
`inner` pixels apart, and what the layer reads beyond the image's border is counted in those.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cnn import dense, geometry
from cnn.dense import dilation, lattice
from cnn.dense.prepared import PreparedNet, prepare_trained
from cnn.exchange.classifier import ExchangeError
from cnn.layers import AvgPool, BlurPool, Branches, Conv, Layer, NMaxPool, WindowLayer
from cnn.nets import Net
from cnn.windows import Pair, as_pair, shape_text

Variables = Mapping[str, Any]


class Form(NamedTuple):
    """A net as it is written.

    Attributes:
      net: the net that is written.
      variables: its variables.
      image_shape: (height, width, channels) that the classifier was trained on, pixels: the window.
      stride: distance between the windows of neighbouring scores, pixels; None: height and width of images are fixed.
      dilated: whether the net is one for a stride that was asked for, which takes images of all sizes.
      context: what a window sees beyond its own border: "both" (nothing), "image" or "crop" (see `cnn.dense.maps`).
      slack: rows and columns of pixels at the end of a window that its score does not see; at a stride that was asked
        for they are cut off, so that windows do not hang over the image's edge.
    """

    net: Net
    variables: Variables
    image_shape: tuple[int, int, int]
    stride: Pair | None
    dilated: bool
    context: str
    slack: Pair

    @property
    def window(self) -> Pair:
        """(height, width) of the window, pixels."""
        return self.image_shape[0], self.image_shape[1]

    @property
    def cut_pixels(self) -> Pair:
        """Rows and columns of pixels that are cut off at the end of the images."""
        return self.slack if self.dilated and self.context == "both" else (0, 0)

    @property
    def cuts_scores(self) -> bool:
        """Whether scores whose windows hang over the edge are cut off, where pixels beyond it would be padding."""
        return self.dilated and self.context != "both" and self.slack != (0, 0)

    def counts(self, height: Any, width: Any) -> tuple[Any, Any]:
        """Number of windows in an image of a size, at a stride that was asked for; sizes may be symbolic."""
        assert self.stride is not None
        return tuple((n - w) // s + 1 for n, w, s in zip((height, width), self.window, self.stride, strict=True))

    def apply(self, variables: Variables, images: jax.Array) -> Any:
        """The scores that the written net gives.

        Args:
          variables: the variables of `net`.
          images: [N, H, W, C], float32, normalised as in training.

        Returns:
          Scores [N, K], or [N, h, w, K].
        """
        rows, columns = self.cut_pixels
        if rows or columns:
            images = images[:, : images.shape[1] - rows, : images.shape[2] - columns]
        scores: Any = self.net.apply(variables, images, train=False)
        if self.cuts_scores:
            height, width = self.counts(*images.shape[1:3])
            scores = scores[:, :height, :width]
        return scores

    def expected(self, net: Net, variables: Variables, images: Any) -> Any:
        """The scores that a file in this form must give: those of this library, computed in another way where there is.

        Args:
          net: the classifier.
          variables: its variables.
          images: [N, H, W, C], float32.

        Returns:
          Scores [N, K], or [N, h, w, K].
        """
        if self.dilated:
            # Planned for each size by itself, where the net of this form is one for all sizes.
            context = None if self.context == "both" else "image"
            return dense.score_map(net, variables, images, self.window, self.stride, "atrous", context=context).scores
        return jax.jit(lambda variables, images: self.net.apply(variables, images, train=False))(
            self.variables, jnp.asarray(images)
        )

    def check_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes (N, H, W, C) of images that the form takes, to compare it with."""
        height, width, channels = self.image_shape
        if self.stride is None:
            return ((3, *self.image_shape),)
        down, across = (5, 3) if self.dilated else self.steps
        return (1, height, width + across, channels), (2, height + down, width, channels)

    def sizes_text(self) -> str:
        """In words, which sizes of images are taken."""
        window = shape_text(self.window)
        if self.stride is None:
            return f"{window} pixels"
        if self.steps == (1, 1):
            return f"at least {window} pixels"
        more = f"{shape_text(self.steps)} pixels more at a time"
        return f"at least {window} pixels, and {more}" + ("" if self.regular else ", or others that divide")

    def _strided(self) -> list[tuple[Any, Pair]]:
        """The layers with a stride, up to the last one that lets no pixel be left over, and strides up to each."""
        found, last = [], 0
        strides = {row.name: row.stride for row in geometry.flat(geometry.table(self.net, self.image_shape))}
        for layer, shape in geometry.leaves(self.net.layers, self.image_shape):
            if isinstance(layer, WindowLayer) and layer.window(shape).stride != (1, 1):
                found.append((layer, strides[str(layer.name)]))
                last = len(found) if self._exact(layer) else last
        return found[:last]

    def _exact(self, layer: Any) -> bool:
        """`is_exact`; cropped and strided paths are known to join only where no layer before leaves pixels over."""
        joins = self.context == "both" and any(isinstance(one, Branches) for one in self.net.layers)
        return is_exact(layer) or (joins and not self.dilated)

    @property
    def steps(self) -> Pair:
        """Images that are larger than a window by multiples of this fit all layers, pixels (vertical, horizontal)."""
        strides = [stride for layer, stride in self._strided() if self._exact(layer)]
        return math.lcm(*(down for down, _ in strides)), math.lcm(*(across for _, across in strides))

    @property
    def regular(self) -> bool:
        """Whether no other sizes fit."""
        return all(self._exact(layer) for layer, _ in self._strided())


def is_exact(layer: Any) -> bool:
    """Whether a layer refuses images of which its windows would leave pixels over."""
    return getattr(layer, "rounding", "exact") == "exact"


def of(run: Any, dense_form: Any, stride: Any, what: str) -> Form:
    """The form that was asked for.

    Args:
      run: the classifier (`cnn.exchange.written.Trained`).
      dense_form: whether for images of any size.
      stride: distance between windows, one number or (vertical, horizontal), pixels; None: the native stride.
      what: the file, for errors.

    Returns:
      The `Form`.

    Raises:
      ExchangeError: if the options contradict each other, or a layer cannot be written in this form.
      GeometryError: if a layer cannot be slid over a larger image.
    """
    if not isinstance(dense_form, bool):
        raise ExchangeError(f"{what}: dense (={dense_form!r}) must be True or False")
    if not dense_form:
        if stride is not None:
            raise ExchangeError(f"{what}: stride (={stride!r}) is for the dense form; give dense=True too")
        shape = tuple(int(size) for size in run.image_shape)
        return Form(run.net, run.variables, (shape[0], shape[1], shape[2]), None, False, "crop", (0, 0))
    prepared = prepare_trained(run.net, run.variables, run.image_shape[:2], run.image_shape[2])
    if prepared.centred_gate:
        raise ExchangeError(f"{what}: {prepared.centred_gate}; write it with dense=False, for images of one size")
    if stride is not None:
        return _dilated(prepared, run.variables, as_pair(stride, "stride", what), what)
    variables = prepared.converted.variables(run.variables)
    context = "image" if prepared.padded else "both"
    return Form(prepared.converted.net, variables, prepared.image_shape, prepared.native_stride, False, context, (0, 0))


def _dilated(prepared: PreparedNet, variables: Variables, stride: Pair, what: str) -> Form:
    """The converted net with every layer's stride, dilation and padding replaced by those of a dilated pass."""
    conversion = prepared.converted
    axes = prepared.axes(prepared.image_shape)
    _check_layers(prepared, axes, what)
    routes = [dilation.dilated(axis, 0, step, 2, clip=False) for axis, step in zip(axes, stride, strict=True)]
    layers, _ = _dilated_layers(conversion.net.layers, axes, [route.steps for route in routes], (1, 1))
    return Form(
        Net(layers, prepared.net.output_activation),
        conversion.variables(variables),
        prepared.image_shape,
        stride,
        True,
        "image" if prepared.padded else "both",
        (axes[0].limit, axes[1].limit),
    )


def _dilated_layers(
    layers: Sequence[Layer], axes: Sequence[lattice.Axis], steps: Sequence[Sequence[Any]], inner: Pair
) -> tuple[tuple[Layer, ...], Pair]:
    """Layers, those of paths among them, with the stride, dilation and padding of their steps along both axes.

    `inner` is the number of pixels between the values of the first layer's input; with the layers comes that of the
    last one's output.
    """
    made: list[Layer] = []
    for index, layer in enumerate(layers):
        both = [one[index] for one in steps]
        if isinstance(layer, Branches):
            paths, after = [], inner
            for k, path in enumerate(layer.paths):
                along = [axis.slides[index].paths[k] for axis in axes]
                own, after = _dilated_layers(path, along, [fork.paths[k].steps for fork in both], inner)
                paths.append(own)
            layer, inner = layer.clone(paths=tuple(paths)), after
        elif isinstance(layer, WindowLayer):
            beyond = [[n // inner[i] for n in _beyond(axis, index)] for i, axis in enumerate(axes)]
            fields: dict[str, Any] = {
                "stride": tuple(step.stride for step in both),
                "dilation": tuple(step.dilation for step in both),
                "padding": tuple(tuple(amounts) for amounts in beyond),
                "rounding": "floor",
            }
            layer = layer.clone(**fields)
            inner = (inner[0] * both[0].stride, inner[1] * both[1].stride)
        made.append(layer)
    return tuple(made), inner


def _with_places(
    layers: Sequence[Layer], all_axes: Sequence[Sequence[lattice.Axis]], block: str = ""
) -> Iterator[tuple[Layer, str, int, Sequence[Sequence[lattice.Axis]]]]:
    """The layers that do not branch, each with its name, its index in its chain, and the chain's axes for all sizes."""
    for index, (name, layer) in enumerate(zip(geometry.layer_names(layers), layers, strict=True)):
        if isinstance(layer, Branches):
            for k, path in enumerate(layer.paths):
                along = [[axis.slides[index].paths[k] for axis in both] for both in all_axes]
                yield from _with_places(path, along, f"{block}{name}/")
        else:
            yield layer, block + name, index, all_axes


def _beyond(axis: lattice.Axis, index: int) -> Pair:
    """How far before the image and behind it the windows of a layer reach, pixels."""
    slide = axis.slides[index]
    last = axis.output_limit(index) + (slide.extent - 1 - slide.low) * slide.spacing
    return slide.low * slide.spacing, last - slide.limit


def _check_layers(prepared: PreparedNet, axes: Sequence[lattice.Axis], what: str) -> None:
    """Refuses layers whose padding cannot be said without the size of the image."""
    height, width, _ = prepared.image_shape
    most = max(prepared.native_stride)
    larger = [
        lattice.axes(prepared.converted.net, prepared.converted_table, (height + n, width + n), prepared.padded)
        for n in range(1, min(most, 64) + 1)
    ]
    way = "write it without a stride, which takes sizes that fit" if prepared.padded else "write it without a stride"
    for layer, name, index, (own_axes, *others) in _with_places(prepared.converted.net.layers, [axes, *larger]):
        own = f"{what}: {name} ({layer.kind}):"
        reach = [_beyond(axis, index) for axis in own_axes]
        if not any(any(amounts) for amounts in reach):
            continue
        if any(n < 0 for amounts in reach for n in amounts):
            raise ExchangeError(f"{own} sees less of the image's end than the paths beside it; {way}")
        if any(_beyond(axis, index) != reach[i] for both in others for i, axis in enumerate(both)):
            raise ExchangeError(f"{own} its padding {_padding(layer)} depends on the size of the image; {way}")
        if isinstance(layer, Conv | BlurPool) and layer.padding_mode not in ("zero", "constant"):
            raise ExchangeError(
                f"{own} padding_mode {layer.padding_mode!r} is defined by the values of one pass, and a finer stride "
                f"has others; {way}"
            )
        if isinstance(layer, NMaxPool):
            raise ExchangeError(f"{own} a padded n-max pool cannot leave out single values; {way}")
        if isinstance(layer, AvgPool) and any(axis.slides[index].counted is not None for axis in own_axes):
            raise ExchangeError(f"{own} a last window hangs over padding that counts; {way}")


def _padding(layer: Any) -> str:
    return f"(={getattr(layer, 'padding', None)!r}, rounding {getattr(layer, 'rounding', 'exact')!r})"
