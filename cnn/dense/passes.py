"""One pass of a converted net by a schedule: dilated, on fragments, or as the net is (see `cnn.dense.lattice`)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn import geometry
from cnn.dense.lattice import Fork, Group, Mask, Route, Step
from cnn.layers import AvgPool, Branches, Conv, Layer, NMaxPool, Pool, Shape, SumPool, WindowLayer, joined
from cnn.nets import Net
from cnn.windows import GeometryError, Pair

Variables = Mapping[str, Any]


class Schedule(NamedTuple):
    """How each layer of a converted net runs along both axes; hashable, so that it can be a static argument of jit.

    Attributes:
      net: the fully convolutional net, from `cnn.convert.convolutional`.
      vertical, horizontal: the routes along both axes, from `cnn.dense.lattice` or `cnn.dense.fragments`.
    """

    net: Net
    vertical: Route
    horizontal: Route

    @property
    def extent(self) -> Pair:
        """(height, width) of the part of the image that is read, pixels."""
        return self.vertical.length, self.horizontal.length

    @property
    def count(self) -> Pair:
        """(height, width) of the map that is computed, scores."""
        return self.vertical.count, self.horizontal.count


class Placement(NamedTuple):
    """Where a pass lies in its image; a traced argument, so that one program serves all places and image sizes.

    Attributes:
      corner: position in the image of the schedule's position 0, pixels, int32 [2].
      limits: largest position of each layer's input that depends on the image, pixels, int32 [layers, 2]; a layer that
        branches has a row for each layer of its paths.
    """

    corner: Any
    limits: Any


class LayerWork(NamedTuple):
    """The work of one layer in a pass over one image.

    Attributes:
      name: name of the layer.
      kind: kind of the layer, such as "conv".
      macs: number of multiply-adds.
      inputs: number of values that it reads.
      outputs: number of values that it writes.
      workspace: number of temporary values.
    """

    name: str
    kind: str
    macs: int
    inputs: int
    outputs: int
    workspace: int


def run(schedule: Schedule, variables: Variables, images: jax.Array, placement: Placement | None = None) -> jax.Array:
    """Runs one pass.

    Args:
      schedule: how each layer runs.
      variables: the converted net's variables (`cnn.convert.fc_to_conv`).
      images: the pixels that are read, floating [N, *schedule.extent, C].
      placement: where the pass lies in its image; None: position 0 is the image's first pixel.

    Returns:
      Scores [N, *schedule.count, K].

    Raises:
      GeometryError: if an N-max pool would have to ignore values beyond the image's border.
    """
    x = images[None, None]  # (Fy, Fx, N, H, W, C)
    x, _ = _run_chain(
        schedule.net.layers, (schedule.vertical.steps, schedule.horizontal.steps), variables, x, placement, 0
    )
    x = _take(_take(x, schedule.vertical.order, 0), schedule.horizontal.order, 1)
    fy, fx, n, height, width, classes = x.shape
    scores = x.transpose(2, 3, 0, 4, 1, 5).reshape(n, height * fy, width * fx, classes)
    rows, columns = (slice(r.skip, r.skip + r.count) for r in (schedule.vertical, schedule.horizontal))
    return scores[:, rows, columns]


def work(schedule: Schedule, channels: int) -> list[LayerWork]:
    """The work of each layer in a pass, without running it.

    Args:
      schedule: how each layer runs in the pass.
      channels: number of channels of the images.

    Returns:
      One `LayerWork` for each layer, for one image.
    """
    steps = schedule.vertical.steps, schedule.horizontal.steps
    return _work_of_chain(schedule.net.layers, steps, (1, 1), (*schedule.extent, channels))[0]


_Steps = Sequence[Step | Fork]
_Size = tuple[Pair, Shape]  # the number of fragments along both axes, and the shape of one


def _work_of_chain(
    layers: Sequence[Layer], steps: tuple[_Steps, _Steps], fragments: Pair, shape: Shape
) -> tuple[list[LayerWork], _Size]:
    """The work of layers one after another, and the size of the last one's output."""
    result = []
    for layer, name, down, across in _with_steps(layers, steps):
        inputs = math.prod(fragments) * math.prod(shape)
        if isinstance(layer, Branches):
            macs, workspace, (fragments, shape) = _work_of_paths(layer, (down, across), fragments, shape)
        else:
            macs, workspace, (fragments, shape) = _work_of_layer(layer, (down, across), fragments, shape)
        outputs = math.prod(fragments) * math.prod(shape)
        result.append(LayerWork(name, layer.kind, macs, inputs, outputs, workspace))
    return result, (fragments, shape)


def _work_of_layer(layer: Layer, steps: tuple[Step, Step], fragments: Pair, shape: Shape) -> tuple[int, int, _Size]:
    """Multiply-adds, temporary values, and the size of the output of a layer that does not branch."""
    if not isinstance(layer, WindowLayer):
        return math.prod(fragments) * layer.macs(shape), 0, (fragments, layer.output_shape(shape))
    macs, workspace, largest = 0, 0, shape
    for down in steps[0].groups:
        for across in steps[1].groups:
            part = (down.stop - down.start, across.stop - across.start, shape[2])
            piece: Any = layer.clone(padding=(down.padding, across.padding))
            batch = len(down.fragments) * len(across.fragments)
            macs += batch * piece.macs(part)
            out = piece.output_shape(part)
            if isinstance(piece, Conv):
                workspace = max(workspace, piece.workspace(part, batch))
            largest = (out[0] + down.fill, out[1] + across.fill, out[2])
    rows, columns = (sum(len(group.fragments) for group in step.groups) for step in steps)
    return macs, workspace, ((rows, columns), largest)


def _work_of_paths(layer: Branches, forks: tuple[Fork, Fork], fragments: Pair, shape: Shape) -> tuple[int, int, _Size]:
    """`_work_of_layer` of one that branches: while a path runs, the outputs of those before it are kept."""
    macs, workspace, kept, sizes = 0, 0, 0, []
    for path, down, across in zip(layer.paths, forks[0].paths, forks[1].paths, strict=True):
        part = (down.stop - down.start, across.stop - across.start, shape[2])
        works, size = _work_of_chain(path, (down.steps, across.steps), fragments, part)
        macs += sum(work.macs for work in works)
        workspace = max([workspace, *(kept + work.inputs + work.outputs + work.workspace for work in works)])
        kept += math.prod(size[0]) * math.prod(size[1])
        sizes.append(size)
    made, largest = sizes[0]
    features = sum(size[1][2] for size in sizes) if layer.join == "concat" else largest[2]
    return macs, max(workspace, kept), (made, (*largest[:2], features))


def _run_chain(
    layers: Sequence[Layer],
    steps: tuple[_Steps, _Steps],
    variables: Variables,
    x: jax.Array,
    placement: Placement | None,
    index: int,
) -> tuple[jax.Array, int]:
    """Runs layers one after another; `index` counts those that do not branch, in the order of `Placement.limits`."""
    for layer, name, vertical, horizontal in _with_steps(layers, steps):
        own = {collection: tree[name] for collection, tree in variables.items() if name in tree}
        if isinstance(layer, Branches):
            outputs = []
            for path, down, across in zip(layer.paths, vertical.paths, horizontal.paths, strict=True):
                part = jax.lax.slice_in_dim(x, down.start, down.stop, axis=3)
                part = jax.lax.slice_in_dim(part, across.start, across.stop, axis=4)
                y, index = _run_chain(path, (down.steps, across.steps), own, part, placement, index)
                outputs.append(_take(_take(y, down.order, 0), across.order, 1))
            x = joined(outputs, layer.join)
            continue
        if isinstance(layer, WindowLayer):
            x = _windowed_in_image(layer, own, x, (vertical, horizontal), placement, index)
        else:
            x = _apply(layer, own, x)
        index += 1
    return x, index


def _with_steps(layers: Sequence[Layer], steps: tuple[_Steps, _Steps]) -> Iterator[tuple[Any, str, Any, Any]]:
    """Each layer with the stride and dilation of its steps, its name, and its vertical and horizontal step."""
    for layer, name, down, across in zip(layers, geometry.layer_names(layers), *steps, strict=True):
        if isinstance(down, Step) and isinstance(across, Step) and isinstance(layer, WindowLayer):
            layer = _with_spacing(layer, (down.stride, across.stride), (down.dilation, across.dilation))
        yield layer, name, down, across


def _with_spacing(layer: WindowLayer, stride: Pair, dilation: Pair) -> Layer:
    """A layer with another stride and dilation, and without padding: each group has padding of its own."""
    fields: dict[str, Any] = {"stride": stride, "dilation": dilation, "rounding": "exact", "padding": "valid"}
    if getattr(layer, "padding_mode", "constant") != "constant":
        fields["padding_mode"] = "zero"
    return layer.clone(**fields)


def _apply(layer: Layer, variables: Variables, x: jax.Array) -> jax.Array:
    """Applies a layer to all fragments [Fy, Fx, N, h, w, C] as one batch."""
    y: Any = layer.apply(variables, x.reshape(-1, *x.shape[3:]), train=False)
    return y.reshape(*x.shape[:3], *y.shape[1:])


def _take(x: jax.Array, fragments: tuple[int, ...], axis: int) -> jax.Array:
    """Selects fragments; without a copy if they are all fragments in order, and by a slice if they are consecutive."""
    if fragments == tuple(range(x.shape[axis])):
        return x
    first, last = fragments[0], fragments[-1]
    if fragments == tuple(range(first, last + 1)):
        return jax.lax.slice_in_dim(x, first, last + 1, axis=axis)
    return jnp.take(x, np.array(fragments), axis=axis)


def _windowed(layer: Layer, variables: Variables, x: jax.Array, down: Sequence[Group], across: Sequence[Group]) -> Any:
    """Applies a layer with a window to all its groups: [Fy, Fx, N, h, w, C] -> [Fy', Fx', N, h', w', C']."""
    rows = []
    for top in down:
        strip = jax.lax.slice_in_dim(_take(x, top.fragments, 0), top.start, top.stop, axis=3)
        row = []
        for left in across:
            part = jax.lax.slice_in_dim(_take(strip, left.fragments, 1), left.start, left.stop, axis=4)
            y = _apply(layer.clone(padding=(top.padding, left.padding)), variables, part)
            if top.fill or left.fill:
                y = jnp.pad(y, ((0, 0),) * 3 + ((0, top.fill), (0, left.fill), (0, 0)))
            row.append(y)
        rows.append(row[0] if len(row) == 1 else jnp.concatenate(row, axis=1))
    return rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=0)


def _positions(mask: Mask, length: int, placement: Placement | None, index: int, axis: int) -> tuple[Any, Any]:
    """Positions in the image of the values of a layer's fragments, int32 [F, length], and the largest that counts."""
    # int32, as all places are: sums of two dtypes are refused under strict promotion.
    positions = np.array(mask.starts, np.int32)[:, None] + np.arange(length, dtype=np.int32) * mask.spacing
    if placement is None:
        return positions, mask.limit
    return positions + placement.corner[axis], placement.limits[index, axis] + np.int32(mask.limit)


def _valid(steps: tuple[Step, Step], placement: Placement | None, index: int) -> Any:
    """Which values of a layer's input lie in the image: bool, broadcasts to [Fy, Fx, 1, h, w, 1]; None: all."""
    parts = []
    for axis, step in enumerate(steps):
        if step.mask is None:
            continue
        positions, limit = _positions(step.mask, step.mask.length, placement, index, axis)
        valid = (positions >= 0) & (positions <= limit)  # (F, length)
        shape = (valid.shape[0], 1, 1, valid.shape[1], 1, 1) if axis == 0 else (1, *valid.shape[:1], 1, 1, -1, 1)
        parts.append(valid.reshape(shape))
    if not parts:
        return None
    return parts[0] & parts[1] if len(parts) == 2 else parts[0]


def _windowed_in_image(
    layer: Layer, variables: Variables, x: jax.Array, steps: tuple[Step, Step], placement: Placement | None, index: int
) -> jax.Array:
    """`_windowed` with values beyond the image's border taken as padding: as a convolution fills it, ignored by a pool.

    Padding is put where the layer reads it, by position, so that it does not matter what the layers before make of
    zeros.
    """
    valid = _valid(steps, placement, index)
    down, across = (step.groups for step in steps)
    if isinstance(layer, AvgPool) and layer.count_padding:
        x = x if valid is None else jnp.where(valid, x, 0)
        if steps[0].counted is None and steps[1].counted is None:
            return _windowed(layer, variables, x, down, across)
        add = SumPool(layer.kernel, layer.stride, dilation=layer.dilation)
        rows, columns = (_counts(add, step, placement, index, axis) for axis, step in enumerate(steps))
        counts = rows[:, None, None, :, None, None] * columns[None, :, None, None, :, None]
        return _windowed(add, {}, x, down, across) / counts.astype(x.dtype)
    if valid is None:
        return _windowed(layer, variables, x, down, across)
    if not isinstance(layer, Pool):
        fill = layer.padding_value if isinstance(layer, Conv) else 0
        return _windowed(layer, variables, jnp.where(valid, x, fill), down, across)
    if isinstance(layer, NMaxPool):
        raise GeometryError(
            f"{layer.label}: a padded n-max pool cannot leave out single values; take backend='atrous' or 'shift' on "
            f"a whole image, or context='crop'"
        )
    real = jnp.broadcast_to(valid, (*x.shape[:2], 1, *x.shape[3:5], 1)).astype(x.dtype)
    if isinstance(layer, AvgPool):
        add = SumPool(layer.kernel, layer.stride, dilation=layer.dilation)
        total = _windowed(add, {}, jnp.where(valid, x, 0), down, across)
        return total / jnp.maximum(_windowed(add, {}, real, down, across), 1)  # pixels beyond the border do not count
    y = _windowed(layer, variables, jnp.where(valid, x, -jnp.inf), down, across)
    # No kept score depends on a window wholly beyond the border; its -inf is replaced so that no gradient becomes NaN.
    # The -inf of a window with pixels of the image is a value: it comes from pixels that are -inf.
    return jnp.where(_windowed(layer, {}, real, down, across) > 0, y, 0)


def _counts(pool: SumPool, step: Step, placement: Placement | None, index: int, axis: int) -> Any:
    """Length of each window along an axis, cut at the end of the padding: in values, int32 [F', outputs], at least 1.

    The padding before the image is counted in full: no kept score depends on a window that begins before it.
    """
    window = pool.window((1, 1, 1))
    taps = np.arange(window.kernel[axis], dtype=np.int32) * window.dilation[axis]
    rows = []
    for group in step.groups:
        before, after = group.padding
        outputs = (group.stop - group.start + before + after - window.extent[axis]) // window.stride[axis] + 1
        outputs += group.fill  # no score depends on those
        if step.counted is None:
            rows.append(np.full((len(group.fragments), outputs), window.kernel[axis], np.int32))
            continue
        mask = step.counted._replace(starts=tuple(step.counted.starts[f] for f in group.fragments))
        positions, limit = _positions(mask, 1, placement, index, axis)  # of the first value of each fragment
        first = group.start - before + np.arange(outputs, dtype=np.int32) * window.stride[axis]
        places = positions[:, :, None] + np.int32(mask.spacing) * (first[:, None] + taps)[None]
        rows.append((places <= limit).sum(axis=2).astype(np.int32).clip(min=1))
    return rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=0)
