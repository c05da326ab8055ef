"""Computes the parts of an ONNX graph that depend on no image, within a bound of memory."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in.budget import Budget
from cnn.exchange.onnx_in.file import DTYPES, type_name
from cnn.exchange.onnx_in.node import Node

Arrays = list[np.ndarray]


def _whole(node: Node, array: np.ndarray) -> list[int]:
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise node.error(f"needs a list of whole numbers, and has {array.dtype} of the shape {array.shape}")
    return [int(v) for v in array.ravel()]


def axis_of(node: Node, axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
      ExchangeError: if there is none of that number.
    """
    if not -rank <= axis < rank:
        raise node.error(f"its axis (={axis}) is none of the {rank} of its input")
    return axis % rank


def reshaped(node: Node, shape: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    """The shape that Reshape gives: 0 keeps a size, -1 takes what is left.

    Args:
      node: the Reshape, for its attribute and the error.
      shape: of its input.
      wanted: the numbers that it is given.

    Raises:
      ExchangeError: if they do not fit.
    """
    keep = not node.attribute("allowzero", 0)
    sizes = [shape[i] if v == 0 and keep and i < len(shape) else v for i, v in enumerate(wanted)]
    known = math.prod(v for v in sizes if v != -1)
    count = math.prod(shape)
    if sizes.count(-1) == 1 and known > 0 and count % known == 0:
        sizes[sizes.index(-1)] = count // known
    if len(sizes) > 8 or any(v < 0 for v in sizes) or math.prod(sizes) != count:
        raise node.error(f"cannot turn {tuple(shape)} into {tuple(wanted)[:8]}")
    return tuple(sizes)


def squeezed(node: Node, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that Squeeze gives."""
    axes = node.integers(1, "axes")
    taken = (
        [i for i, size in enumerate(shape) if size == 1]
        if axes is None
        else [axis_of(node, a, len(shape)) for a in axes]
    )
    if any(shape[i] != 1 for i in taken):
        raise node.error(f"takes away axes {taken} of {tuple(shape)}, which are not of size 1")
    return tuple(size for i, size in enumerate(shape) if i not in taken)


def unsqueezed(node: Node, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that Unsqueeze gives."""
    axes = node.integers(1, "axes") or []
    rank = len(shape) + len(axes)
    places = {axis_of(node, a, rank) for a in axes}
    if len(places) != len(axes) or rank > 8:
        raise node.error(f"its axes (={axes[:8]}) do not fit an input {tuple(shape)}")
    sizes = iter(shape)
    return tuple(1 if i in places else next(sizes) for i in range(rank))


def flattened(node: Node, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that Flatten gives."""
    axis = node.attribute("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise node.error(f"its axis (={axis}) is none of the {len(shape)} of its input")
    axis = axis + len(shape) if axis < 0 else axis
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def permutation(node: Node, rank: int) -> list[int]:
    """The order of axes that Transpose gives."""
    perm = node.ints("perm")
    perm = list(range(rank))[::-1] if perm is None else perm
    if sorted(perm) != list(range(rank)):
        raise node.error(f"its perm (={perm[:8]}) is no order of {rank} axes")
    return perm


def aligned(node: Node, other: np.ndarray, rank: int) -> np.ndarray:
    """The second operand as versions before 7 align it: at `axis`, if `broadcast` is set."""
    broadcast, axis = node.attribute("broadcast", 0), node.attribute("axis", -1)
    if node.opset >= 7 or not broadcast or axis < 0 or not other.ndim:
        return other
    if axis + other.ndim > rank:
        raise node.error(f"its axis (={axis}) does not fit operands of {rank} and {other.ndim} axes")
    return other.reshape(other.shape + (1,) * (rank - axis - other.ndim))


def _divide(a: Any, b: Any) -> Any:
    if np.asarray(a).dtype.kind == "f":
        return np.divide(a, b)
    quotient = np.floor_divide(np.abs(a), np.maximum(np.abs(b), 1))  # towards zero
    return quotient * np.sign(a) * np.sign(b)


_BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Pow": np.power,
    "Mod": lambda a, b: np.mod(a, np.where(b == 0, 1, b)) if a.dtype.kind != "f" else np.fmod(a, b),
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
}
_MANY: dict[str, Callable[..., Any]] = {"Sum": np.add, "Max": np.maximum, "Min": np.minimum}
_UNARY: dict[str, Callable[..., Any]] = {
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Reciprocal": np.reciprocal,
    "Not": np.logical_not,
}
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}


def _elementwise(node: Node, arrays: Arrays, budget: Budget) -> Any:
    op = node.op
    if op in _BINARY and len(arrays) == 2:
        arrays = [arrays[0], aligned(node, arrays[1], arrays[0].ndim)]
    elif op in _BINARY or (op in _UNARY and len(arrays) != 1) or (op == "Where" and len(arrays) != 3) or not arrays:
        raise node.error(f"has {len(arrays)} inputs, which the operator does not take")
    shape = np.broadcast_shapes(*(one.shape for one in arrays))
    budget.take(node, math.prod(shape), 8)
    if op == "Where":
        return np.where(*arrays)
    if op in _UNARY:
        return _UNARY[op](arrays[0])
    total = arrays[0]
    for other in arrays[1:]:
        total = (_BINARY.get(op) or _MANY[op])(total, other)
    return total


def _constant(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    tensor = node.message("value")
    if tensor is not None:
        return node.file.array(tensor.t)
    for name, default, dtype in (("value_float", 0.0, np.float32), ("value_int", 0, np.int64)):
        if node.has(name):
            return np.array(node.attribute(name, default), dtype)
    for name, dtype in (("value_floats", np.float32), ("value_ints", np.int64)):
        if node.has(name):
            return np.array(node.attribute(name, None), dtype)
    raise node.error("holds no numbers; texts and sparse tensors are not read")


def _constant_of_shape(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    tensor = node.message("value")
    value = np.zeros(1, np.float32) if tensor is None else node.file.array(tensor.t)
    if value.size != 1:
        raise node.error(f"its value must be one number, and has {value.size}")
    return _spread(node, value.reshape(()), _whole(node, arrays[0]))


def _spread(node: Node, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A view of the shape, in which all numbers along a new axis share their memory."""
    if len(shape) > 8 or any(size < 0 for size in shape):
        raise node.error(f"its shape (={tuple(shape)[:8]}) is none")
    return np.broadcast_to(array, tuple(shape))


def _cast(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    to = node.attribute("to", 0) if not node.has("to") or node.message("to").type != 3 else 0  # a text in version 1
    if to not in DTYPES:
        raise node.error(f"casts to {type_name(to)}; only nets of float32 are read")
    budget.take(node, arrays[0].size, 8)
    return arrays[0].astype(DTYPES[to])


def _shape(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    return shape_of(node, arrays[0].shape)


def shape_of(node: Node, shape: Sequence[int]) -> np.ndarray:
    """What the operators Shape and Size give for an input of that shape, int64."""
    if node.op == "Size":
        return np.array(math.prod(shape), np.int64)
    rank = len(shape)
    start, end = node.attribute("start", 0), node.attribute("end", rank)
    return np.array(tuple(shape)[slice(start, end)], np.int64)


def _gather(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    data, indices = arrays[:2]
    axis = axis_of(node, node.attribute("axis", 0), data.ndim)
    if indices.dtype.kind not in "iu" or ((indices < -data.shape[axis]) | (indices >= data.shape[axis])).any():
        raise node.error(f"its indices are none of the {data.shape[axis]} places of its axis {axis}")
    budget.take(node, data.size // max(data.shape[axis], 1) * indices.size, 8)
    return np.take(data, indices, axis=axis)


def _concat(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    axis = axis_of(node, node.attribute("axis", 1), arrays[0].ndim)
    budget.take(node, sum(one.size for one in arrays), 8)
    return np.concatenate(arrays, axis=axis)


def _reshape(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    wanted = node.integers(1, "shape")
    if wanted is None:
        raise node.error("lacks its shape; the file is damaged")
    shape = reshaped(node, arrays[0].shape, wanted)
    budget.take(node, arrays[0].size, 8)  # a copy, where the array is not laid out in that order
    return arrays[0].reshape(shape)


def _slice(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    data = arrays[0]
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    if starts is None or ends is None:
        raise node.error("lacks its starts or ends; the file is damaged")
    axes, steps = node.integers(3, "axes"), node.integers(4, "steps")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.error("its starts, ends, axes and steps do not fit each other")
    cut = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(node, axis, data.ndim)
        size = data.shape[axis]
        # An end before the first place, counted from the back, means that the first is taken too.
        stop = None if step < 0 and end < -size else end
        cut[axis] = slice(start, stop, step)
    return data[tuple(cut)]


def _range(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    start, limit, delta = (one.reshape(-1)[0] for one in arrays)
    if delta == 0 or not np.isfinite([start, limit, delta]).all():
        raise node.error(f"its step (={delta}) or bounds are no numbers to count with")
    budget.take(node, max(0, math.ceil((float(limit) - float(start)) / float(delta))), 8)
    return np.arange(start, limit, delta, dtype=arrays[0].dtype)


def _expand(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    wanted = _whole(node, arrays[1])
    return _spread(node, arrays[0], np.broadcast_shapes(arrays[0].shape, tuple(wanted)))


def _reduce(node: Node, arrays: Arrays, budget: Budget) -> np.ndarray:
    axes = node.integers(1, "axes")
    keep, empty = bool(node.attribute("keepdims", 1)), bool(node.attribute("noop_with_empty_axes", 0))
    if not axes and empty:
        return arrays[0]
    taken = tuple(axis_of(node, a, arrays[0].ndim) for a in axes) if axes else None
    budget.take(node, arrays[0].size, 8)
    return np.asarray(_REDUCTIONS[node.op](arrays[0], axis=taken, keepdims=keep), arrays[0].dtype)


_OTHERS: dict[str, Callable[[Node, Arrays, Budget], np.ndarray]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda node, arrays, budget: arrays[0],
    "Cast": _cast,
    "Shape": _shape,
    "Size": _shape,
    "Gather": _gather,
    "Concat": _concat,
    "Reshape": _reshape,
    "Squeeze": lambda node, arrays, budget: arrays[0].reshape(squeezed(node, arrays[0].shape)),
    "Unsqueeze": lambda node, arrays, budget: arrays[0].reshape(unsqueezed(node, arrays[0].shape)),
    "Flatten": lambda node, arrays, budget: arrays[0].reshape(flattened(node, arrays[0].shape)),
    "Transpose": lambda node, arrays, budget: arrays[0].transpose(permutation(node, arrays[0].ndim)),
    "Slice": _slice,
    "Range": _range,
    "Expand": _expand,
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys((*_BINARY, *_MANY, *_UNARY, "Where"), _elementwise),
}
_COUNTS = {"Constant": 0, "Gather": 2, "Expand": 2, "Range": 3}  # inputs that an operator needs, where it is not one
_VIEWS = ("Squeeze", "Unsqueeze", "Flatten")  # they copy what is not laid out in order


def can_fold(op: str) -> bool:
    """Whether an operator on constants is known."""
    return op in _OTHERS


def fold(node: Node, budget: Budget) -> np.ndarray:
    """The one output of a node whose inputs are all constant.

    Args:
      node: the node.
      budget: what it may allocate.

    Returns:
      The array.

    Raises:
      ExchangeError: if the operator is not known, its inputs do not fit, or the result is too large.
    """
    arrays = [one.constant for one in node.inputs if one is not None and one.constant is not None]
    if len(arrays) < _COUNTS.get(node.op, 1):
        raise node.error(f"has {len(arrays)} inputs and needs {_COUNTS.get(node.op, 1)}; the file is damaged")
    if node.op in _VIEWS:
        budget.take(node, arrays[0].size if 0 in arrays[0].strides else 0, 8)
    try:
        with np.errstate(all="ignore"):
            made = np.asarray(_OTHERS[node.op](node, arrays, budget))
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        if isinstance(error, ExchangeError):
            raise
        shapes = ", ".join(str(one.shape) for one in arrays[:4])
        raise node.error(
            f"cannot be computed of constants of the shapes {shapes}: {str(error).splitlines()[0]}"
        ) from None
    node.check_all_read("consumed_inputs", "saturate", "fmod", "round_mode")
    return made
