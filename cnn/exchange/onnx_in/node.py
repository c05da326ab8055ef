"""A node of an ONNX graph and the values that go through it, with errors that name the node."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.exchange.classifier import ExchangeError
from cnn.exchange.onnx_in.file import OnnxFile, one_line

LARGEST_NUMBER = 2**20  # of a kernel, stride, padding or count of channels: far above any that a net has
_KINDS = {1: ("f", float), 2: ("i", int), 3: ("s", str), 6: ("floats", list), 7: ("ints", list)}
_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs"}


@dataclasses.dataclass(eq=False)
class Value:
    """What one output of a node holds.

    Attributes:
      name: its name in the file.
      shape: its sizes, with a number for the batch also where the file leaves it open.
      constant: its values; None for what depends on the images.
      node: what makes it; None for the images and the tensors of the file.
      order: its place in the order of computation.
      used_by: the nodes that take it.
    """

    name: str
    shape: tuple[int, ...]
    constant: np.ndarray | None = None
    node: "Node | None" = None
    order: int = 0
    used_by: list["Node"] = dataclasses.field(default_factory=list)

    @property
    def scalar(self) -> float | None:
        """The one number that it holds everywhere, if it is constant and does."""
        if self.constant is None or not self.constant.size or self.constant.dtype.kind not in "fiu":
            return None
        first = self.constant.flat[0]
        return float(first) if self.constant.size == 1 or _all_equal(self.constant) else None


def _all_equal(array: np.ndarray) -> bool:
    shown = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
    return bool((shown == shown.flat[0]).all())


class Node:
    """An operator with its inputs and attributes.

    Attributes:
      op: the operator's name.
      inputs: the values that it takes; None where an optional one is left out.
      opset: version of the operators.
      file: the file that it stands in.
      result: its first output, as soon as that is known.
    """

    def __init__(self, proto: Any, inputs: Sequence[Value | None], file: OnnxFile) -> None:
        self.op, self.proto, self.inputs, self.file, self.opset = proto.op_type, proto, list(inputs), file, file.opset
        self._attributes = {one.name: one for one in proto.attribute}
        self._read: set[str] = set()
        self.result: Value | None = None

    @property
    def label(self) -> str:
        """The operator and its name, or that of its output."""
        name = self.proto.name or (self.proto.output[0] if self.proto.output else "")
        return f"{one_line(self.op)} {one_line(name)!r}"

    def error(self, text: str) -> ExchangeError:
        """An error that names the file and the node."""
        return self.file.error(f"{self.label}: {text}")

    def input(self, index: int) -> Value | None:
        """An input; None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def needed(self, index: int) -> Value:
        """An input that the operator cannot do without."""
        found = self.input(index)
        if found is None:
            raise self.error(f"lacks its input {index + 1}; the file is damaged")
        return found

    def constant(self, index: int, what: str) -> np.ndarray | None:
        """The values of an input that must be constant; None if it is left out.

        Args:
          index: the number of the input.
          what: what it holds, for the error.
        """
        found = self.input(index)
        if found is not None and found.constant is None:
            raise self.error(
                f"its {what} ({one_line(found.name)!r}) depends on the images; only constant ones are read"
            )
        return None if found is None else found.constant

    def parameter(self, index: int, what: str) -> np.ndarray | None:
        """Trained numbers: like `constant`, and float32."""
        found = self.constant(index, what)
        if found is not None and found.dtype != np.float32:
            raise self.error(f"its {what} is {found.dtype}; only nets of float32 are read: export the net in float32")
        return found

    def trained(self, index: int, what: str) -> np.ndarray:
        """Trained numbers that the operator cannot do without."""
        self.needed(index)
        found = self.parameter(index, what)
        return np.zeros(0, np.float32) if found is None else found

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """Whole numbers that old versions hold in an attribute, later ones in an input; None: neither is there."""
        found = self.constant(index, attribute)
        if found is None:
            return self.ints(attribute)
        if found.dtype.kind not in "iu" or found.ndim > 1:
            raise self.error(f"its {attribute} must be a list of whole numbers, and is {found.dtype} {found.shape}")
        self._read.add(attribute)
        return [int(v) for v in found.ravel()]

    def has(self, name: str) -> bool:
        """Whether an attribute is there."""
        return name in self._attributes

    def attribute(self, name: str, default: Any) -> Any:
        """The value of an attribute, of the same type as the default.

        Args:
          name: of the attribute.
          default: what it is where it is left out: a float, int, text or list; None for a list that may be left out.
        """
        self._read.add(name)
        found = self._attributes.get(name)
        if found is None:
            return default
        kind = found.type or next(
            (k for k, (field, _) in _KINDS.items() if found.ListFields() and _holds(found, field)), 0
        )
        field, made = _KINDS.get(kind, ("", object))
        wanted = list if default is None else type(default)
        if made is not wanted:
            raise self.error(f"its attribute {name} is of another type than the operator has; the file is damaged")
        value = getattr(found, field)
        if made is str:
            return value.decode("utf-8", "replace")
        return made(value)

    def ints(self, name: str) -> list[int] | None:
        """A list of whole numbers, None if it is left out."""
        found = self.attribute(name, None)
        if found is not None and not all(isinstance(v, int) for v in found):
            raise self.error(f"its attribute {name} must hold whole numbers; the file is damaged")
        return found

    def message(self, name: str) -> Any:
        """An attribute that is a tensor or a graph, as it stands in the file; None if it is left out."""
        self._read.add(name)
        found = self._attributes.get(name)
        held = {field.name for field, _ in found.ListFields()} & set(_FIELDS.values()) if found is not None else set()
        # Programs that go by the declared type read other bytes then.
        if found is not None and held and _FIELDS.get(found.type, next(iter(held))) not in held:
            raise self.error(f"its attribute {name} is of another type than it declares; the file is damaged")
        return found

    def sizes(self, name: str, count: int, default: int | None, minimum: int = 1) -> list[int]:
        """Kernel, strides, pads or dilations: so many whole numbers of a bounded size.

        Args:
          name: of the attribute.
          count: how many there must be.
          default: what all are where the attribute is left out; None: it must be there.
          minimum: the smallest value.
        """
        found = self.ints(name)
        if found is None:
            if default is None:
                raise self.error(f"lacks its attribute {name}; the file is damaged")
            return [default] * count
        if len(found) != count or not all(minimum <= v <= LARGEST_NUMBER for v in found):
            raise self.error(
                f"its {name} (={one_line(found)}) must be {count} numbers between {minimum} and {LARGEST_NUMBER:,}"
            )
        return found

    def check_all_read(self, *others: str) -> None:
        """Refuses attributes that nobody asked for: they might change what the node computes.

        Args:
          *others: names of those that change nothing.
        """
        left = sorted(set(self._attributes) - self._read - set(others))
        if left:
            raise self.error(
                f"has the attribute {one_line(left[0])}, which the operator does not have, or is not known here"
            )


def _holds(attribute: Any, field: str) -> bool:
    """Whether a field of an attribute without a type is set."""
    return any(descriptor.name == field for descriptor, _ in attribute.ListFields())


def short(number: float) -> float:
    """A float32 as the number that was meant: 0.2, not 0.20000000298."""
    return float(str(np.float32(number)))
