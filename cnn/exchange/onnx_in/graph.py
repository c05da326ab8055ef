"""Walks an ONNX graph from its images to one output: folds what is constant, finds the shape of what is not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cnn.exchange.onnx_in.budget import Budget
from cnn.exchange.onnx_in.file import FLOAT, OnnxFile, one_line, type_name
from cnn.exchange.onnx_in.fold import can_fold, fold, shape_of
from cnn.exchange.onnx_in.node import Node, Value
from cnn.exchange.onnx_in.shapes import LARGEST_MAP, output_shape

LARGEST_BATCH = 2**16  # of a file that is made for one number of images
BATCH = 7919  # stands for a number of images that the file leaves open: a prime that no layer has
_BEFORE = ("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Sum")  # may come before the layout of images is changed


class Images(NamedTuple):
    """The input of a graph.

    Attributes:
      value: what enters.
      axes: what its axes are: "nchw", "nhwc", "nhw" (grey), "nc" or "n" (values, images of one pixel).
      open_batch: whether the file leaves the number of images open.
      open_size: whether it leaves height or width open.
    """

    value: Value
    axes: str
    open_batch: bool
    open_size: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        sizes = dict(zip(self.axes, self.value.shape, strict=True))
        return sizes.get("h", 1), sizes.get("w", 1), sizes.get("c", 1)


def walk(file: OnnxFile, output: str | None, image_size: Sequence[int] | None) -> tuple[Images, Value]:
    """Computes all constants and shapes on the way from the images to an output.

    Args:
      file: the file.
      output: name of a graph's output, of any value, or of a node; None: the only output.
      image_size: (height, width), pixels, where the file leaves them open.

    Returns:
      The images, and the output as a value whose nodes lead back to them.

    Raises:
      ExchangeError: if outputs or inputs are not one, a node is not read, or sizes do not fit.
    """
    name = _output_name(file, output)
    walker = _Walker(file)
    order = _in_order(file.graph, [name], file)
    images = _images(file, order, name, image_size)
    env = {images.value.name: images.value}
    found = walker.run(file.graph, order, env)
    result = walker.value(name, found)
    if result.constant is not None:
        raise file.error(f"its output {one_line(name)!r} does not depend on the images")
    return images, result


def _output_name(file: OnnxFile, output: str | None) -> str:
    outputs = [one.name for one in file.graph.output]
    listed = ", ".join(one_line(_described(one)) for one in file.graph.output[:8])
    if output is None:
        if len(outputs) != 1:
            raise file.error(f"has {len(outputs)} outputs: {listed}; choose one by output=NAME (--head=NAME)")
        return outputs[0]
    by_node = [one.output[0] for one in file.graph.node if one.name == output and one.output]
    every = {name for node in file.graph.node for name in node.output}
    if output in outputs or output in every:
        return output
    if by_node:
        return by_node[0]
    raise file.error(f"has no output or node {one_line(output)!r}; its outputs: {listed}")


def _described(info: Any) -> str:
    """A name with its sizes."""
    sizes = [one.dim_param or one.dim_value for one in info.type.tensor_type.shape.dim[:6]]
    return f"{info.name} [{', '.join(map(str, sizes))}]"


def _subgraphs(node: Any) -> list[Any]:
    return [one.g for one in node.attribute if one.type == 5]


def _taken(node: Any) -> Iterator[str]:
    """Names of all values that a node takes, those of its branches included."""
    yield from (name for name in node.input if name)
    for graph in _subgraphs(node):
        own = {name for inner in graph.node for name in inner.output} | {one.name for one in graph.initializer}
        yield from (name for inner in graph.node for name in _taken(inner) if name not in own)
        yield from (one.name for one in graph.output if one.name not in own)


def _in_order(graph: Any, names: Sequence[str], file: OnnxFile) -> list[Any]:
    """The nodes that some values need, each after those that it needs."""
    makers: dict[str, Any] = {}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in makers:
                raise file.error(f"two nodes make the value {one_line(name)!r}; it is damaged")
            makers[name] = node
    order: list[Any] = []
    state: dict[int, int] = {}  # 1: being visited, 2: done
    stack = [(makers[name], iter(_taken(makers[name]))) for name in names if name in makers][::-1]
    state.update({id(node): 1 for node, _ in stack[-1:]})
    while stack:
        node, rest = stack[-1]
        if state.get(id(node)) == 2:
            stack.pop()
            continue
        state[id(node)] = 1
        before = next((makers[name] for name in rest if name in makers and state.get(id(makers[name])) != 2), None)
        if before is None:
            state[id(node)] = 2
            order.append(node)
            stack.pop()
        elif state.get(id(before)) == 1:
            raise file.error(
                f"goes in a circle through {one_line(before.op_type)} {one_line(before.name)!r}; it is damaged"
            )
        else:
            stack.append((before, iter(_taken(before))))
    return order


def _images(file: OnnxFile, order: Sequence[Any], output: str, image_size: Sequence[int] | None) -> Images:
    """The one input that the output needs, with its axes and sizes."""
    tensors = {one.name for one in file.graph.initializer} | {one.values.name for one in file.graph.sparse_initializer}
    taken = {name for node in order for name in _taken(node)} | {output}
    inputs = [one for one in file.graph.input if one.name not in tensors and one.name in taken]
    if len(inputs) != 1:
        listed = ", ".join(one_line(_described(one)) for one in inputs[:8])
        raise file.error(
            f"its output {one_line(output)!r} depends on {len(inputs)} inputs ({listed}); nets of one are read"
        )
    info = inputs[0]
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        raise file.error(f"its input {one_line(info.name)!r} has no declared shape; export it with one")
    kind = info.type.tensor_type.elem_type
    if kind != FLOAT:
        raise file.error(
            f"its input {one_line(_described(info))} is {type_name(kind)}; export the net with float32 images"
        )
    sizes = [one.dim_value if one.HasField("dim_value") else None for one in info.type.tensor_type.shape.dim]
    if not 1 <= len(sizes) <= 4:
        raise file.error(
            f"its input {one_line(_described(info))} has {len(sizes)} axes; images are [N, C, H, W] or [N, H, W, C]"
        )
    axes = _axes(order, info.name, sizes)
    wanted = dict(zip("hw", image_size or (), strict=False))
    open_batch, open_size = sizes[0] is None, any(a in "hw" and n is None for a, n in zip(axes, sizes, strict=True))
    for i, axis in enumerate(axes):
        sizes[i] = _size(file, info, axis, sizes[i], wanted, order)
    shape = tuple(int(n or 0) for n in sizes)
    images = Images(Value(info.name, shape), axes, open_batch, open_size)
    if not open_batch and shape[0] > LARGEST_BATCH:
        raise file.error(f"its input is for {shape[0]:,} images at once; up to {LARGEST_BATCH:,} are read")
    if min(shape) < 1 or images.shape[0] * images.shape[1] > LARGEST_MAP or images.shape[2] > 2**16:
        raise file.error(
            f"its input {one_line(_described(info))} is {shape}; images have between 1 and {LARGEST_MAP:,} pixels"
        )
    return images


def _axes(order: Sequence[Any], name: str, sizes: Sequence[int | None]) -> str:
    """What the axes of the images are, as the first operators show."""
    if len(sizes) < 4:
        return ("n", "nc", "nhw")[len(sizes) - 1]
    for node in order:
        if name not in node.input:
            continue
        if node.op_type in _BEFORE and node.output:
            name = node.output[0]
        elif node.op_type == "Transpose":
            perm = next((list(one.ints) for one in node.attribute if one.name == "perm"), [])
            return "nhwc" if perm == [0, 3, 1, 2] else "nchw"
        elif node.op_type == "Reshape":  # tf2onnx reshapes images of one channel instead of transposing them
            return "nhwc" if sizes[3] == 1 and sizes[1] != 1 else "nchw"
        else:
            break
    return "nchw"


def _size(
    file: OnnxFile, info: Any, axis: str, size: int | None, wanted: Mapping[str, int], order: Sequence[Any]
) -> int:
    """The size of one axis of the images: as declared, or where that is open as the caller or the kernels say."""
    if axis == "n":
        return BATCH if size is None else size
    if axis == "c":
        if size is None:
            dims = {one.name: one.dims for one in file.graph.initializer}
            for node in order:
                if node.op_type == "Conv" and len(node.input) > 1 and len(dims.get(node.input[1], ())) == 4:
                    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
                    return int(dims[node.input[1]][1]) * groups
            raise file.error(f"its input {one_line(_described(info))} leaves the number of channels open")
        return size
    if size is None and axis not in wanted:
        raise file.error(
            f"its input {one_line(_described(info))} leaves height or width open; give the size that the net was "
            "trained on: image_size=(H, W)"
        )
    if size is not None and axis in wanted and wanted[axis] != size:
        raise file.error(
            f"its input {one_line(_described(info))} has {'height' if axis == 'h' else 'width'} {size}, and image_size "
            f"asks for {wanted[axis]}; leave image_size out"
        )
    return int(wanted[axis]) if size is None else size


class _Walker:
    """Makes the values of a graph, branch by branch."""

    def __init__(self, file: OnnxFile) -> None:
        self.file, self.budget, self.count = file, Budget(file.size), 0

    def run(self, graph: Any, order: Sequence[Any], env: Mapping[str, Any]) -> dict[str, Any]:
        """All values of a graph by name; those of tensors are read when they are first asked for."""
        if graph.sparse_initializer:
            raise self.file.error("holds sparse tensors; export it with dense ones")
        found: dict[str, Any] = {**env}
        found |= {one.name: one for one in graph.initializer if one.name not in found}
        for proto in order:
            inputs = [self.value(name, found) if name else None for name in proto.input]
            node = Node(proto, inputs, self.file)
            if proto.domain not in ("", "ai.onnx"):
                raise node.error(f"comes from {one_line(proto.domain)!r}; only standard operators are read")
            if not proto.output:
                continue
            made = self._branch(node, found) if node.op == "If" else [self._made(node)]
            for name, value in zip(proto.output, made, strict=False):
                found[name] = value
        return found

    def value(self, name: str, found: dict[str, Any]) -> Value:
        """The value of a name."""
        if name not in found:
            raise self.file.error(
                f"needs the value {one_line(name)!r}, which is no input, tensor or first output of a node; the file is "
                "damaged, or uses what is not read (masks, indices, running statistics)"
            )
        one = found[name]
        if not isinstance(one, Value):
            array = self.file.array(one)
            found[name] = one = Value(name, array.shape, array)
        return one

    def _made(self, node: Node) -> Value:
        """The first output of a node."""
        given = [one for one in node.inputs if one is not None]
        self.count += 1
        name = node.proto.output[0]
        if node.op in ("Shape", "Size") and given:
            array = shape_of(node, given[0].shape)
            return Value(name, array.shape, array)
        if all(one.constant is not None for one in given):
            if not can_fold(node.op):
                raise node.error(
                    "takes constants alone, of which it is not computed here; export the net with folded constants"
                )
            array = fold(node, self.budget)
            return Value(name, array.shape, array)
        made = node.result = Value(name, output_shape(node), None, node, self.count)
        for one in given:
            one.used_by.append(node)
        return made

    def _branch(self, node: Node, found: dict[str, Any]) -> list[Value]:
        """The outputs of the branch that a constant condition takes."""
        condition = node.constant(0, "condition")
        if condition is None or condition.size != 1:
            raise node.error("has a condition that is not one truth value; the file is damaged")
        name = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        attribute = node.message(name)
        if attribute is None:
            raise node.error(f"lacks its {name}; the file is damaged")
        names = [one.name for one in attribute.g.output]
        inner = self.run(attribute.g, _in_order(attribute.g, names, self.file), found)
        return [self.value(one, inner) for one in names]
