"""A chain of Keras's layers while it is read: where it has come to, and what its layers' fields and arrays are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.exchange.assembly import Step, float32
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.keras import activations as keras_activations


class Chain:
    """The layers that were read, and where the chain has come to.

    Attributes:
      steps: layers with their arrays.
      notes: what was dropped or assumed.
      problems: weights that are missing, misshapen or too many.
      flat: whether values are a vector by now.
      factor, offset: what pixels from 0 to 1 become before the first layer, beside `given` constants: x * factor +
        offset, one for each channel.
      end: the layer that was the output's activation, and what it was.
    """

    def __init__(self, path: str, major: int, arrays: Mapping[str, Mapping[str, np.ndarray | None]]) -> None:
        """Begins at the image."""
        self.path, self.major, self.arrays = path, major, arrays
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.used: set[str] = set()
        self.flat = False
        self.factor, self.offset = np.ones(1), np.zeros(1)
        self.end: tuple[str, str] | None = None
        self.padding: tuple[tuple[int, int], tuple[int, int]] | None = None  # of a ZeroPadding2D before the next layer
        self.kind, self.name, self.label = "", "", path
        self.config: Mapping[str, Any] = {}

    def arrays_of(self, wanted: Sequence[tuple[str, tuple[int | None, ...]]]) -> list[np.ndarray] | None:
        """A layer's arrays in their order, by name where the file has names.

        Args:
          wanted: name and shape of each; None entries are free.

        Returns:
          float32 arrays; None if one does not fit, which is noted.
        """
        found = dict(self.arrays.get(self.name, {}))
        self.used.add(self.name)
        named = not all(key.isdigit() for key in found)
        missing = [name for name, _ in wanted if name not in found]
        if not named or (missing and len(found) == len(wanted)):  # the order is the same in all versions of Keras
            found = dict(zip([name for name, _ in wanted], found.values(), strict=False)) | dict.fromkeys(
                list(found)[len(wanted) :]
            )
        extra = [key for key in found if key not in dict(wanted)]
        if extra:
            self.problems.append(f"{self.name}: has {len(extra)} arrays more than it needs ({', '.join(extra[:4])})")
        result = []
        for name, shape in wanted:
            array = found.get(name)
            text = "x".join("?" if size is None else str(size) for size in shape)
            if name not in found:
                self.problems.append(f"{self.name}: its {name} ({text}) is missing")
            elif array is None:
                self.problems.append(f"{self.name}: its {name} is no array of floating numbers")
            elif (
                len(array.shape) != len(shape)
                or any(size not in (None, got) for size, got in zip(shape, array.shape, strict=True))
                or not array.size
            ):
                got = "x".join(map(str, array.shape))
                self.problems.append(f"{self.name}: its {name} is {got}, where {text} is needed")
            else:
                result.append(float32(array, f"{self.path}: {self.name}: its {name}"))
        return result if len(result) == len(wanted) else None

    def activate(self, value: Any, name: str) -> None:
        """Adds an activation, or ends the chain with it."""
        fields = keras_activations.function_of(value, self.label, self.major)
        self.add_activation(fields, name)

    def add_activation(self, fields: dict[str, Any] | str | None, name: str) -> None:
        if fields is None:
            return
        if self.end:
            raise ExchangeError(
                f"{self.label}: stands behind {self.end[0]} ({self.end[1]}), which must be the last layer"
            )
        if isinstance(fields, str):
            self.end = (name, fields)
            self.notes.append(f"{name} ({fields}) was dropped: scores are logits")
        else:
            self.steps.append(Step(keras_activations.named(fields, name)))

    def whole(self, field: str, default: int | None = None, minimum: int = 1) -> int:
        """A field that is a whole number."""
        value = self.config.get(field, default)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ExchangeError(
                f"{self.label}: {field} (={str(value)[:60]}) must be a whole number of at least {minimum}"
            )
        return value

    def flag(self, field: str, default: bool) -> bool:
        """A field that is true or false."""
        return bool(self.config.get(field, default))

    def pair(self, field: str, default: Any) -> tuple[int, int]:
        """A field that is one number or two."""
        value = self.config.get(field)
        value = default if value is None else value
        values = list(value) if isinstance(value, list | tuple) else [value, value]
        if len(values) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in values):
            raise ExchangeError(f"{self.label}: {field} (={str(value)[:60]}) must be one or two numbers of at least 1")
        return values[0], values[1]

    def amounts(self, stride: tuple[int, int]) -> Any:
        """The padding of a convolution or pool, with that of a ZeroPadding2D before it."""
        value = self.config.get("padding", "valid")
        if value not in ("valid", "same"):
            raise ExchangeError(f"{self.label}: padding (={str(value)[:60]}) must be valid or same")
        before, self.padding = self.padding, None
        if before is not None:
            if value == "same":
                raise ExchangeError(f"{self.label}: is padded by a ZeroPadding2D and by itself (same); use one of them")
            return before
        if value == "same" and max(stride) > 1:
            self.notes.append(f"{self.name}: padding 'same' with stride {max(stride)} depends on the image's size")
        return value
