"""A net as plain records, which JSON holds, and back: `to_config` and `from_config`.

A record is a dict: the kind of the layer, its name, and those of its fields that differ from the class's defaults, such
as {"kind": "conv", "name": "conv1", "features": 8, "kernel": [3, 5]}. Records come from files that anyone may have
written: whatever is not understood is refused in one line, and no number is larger than a net can have.
"""

import dataclasses
import difflib
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import flax.linen as nn

from cnn import geometry
from cnn.layers import (
    ACTIVATIONS,
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    BlurPool,
    Branches,
    ChannelShuffle,
    Conv,
    Crop,
    Dense,
    Dropout,
    Flatten,
    Gate,
    Layer,
    LocallyConnected,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
    StochasticDepth,
    SumPool,
)
from cnn.layers.base import HE_NORMAL, named
from cnn.layers.branches import JOINS
from cnn.layers.pointwise import FLATTEN_ORDERS
from cnn.nets import textbook_kernels
from cnn.nets.network import Net
from cnn.nets.outputs import check_activation
from cnn.ops import PADDING_MODES
from cnn.runtime.ranges import number, one_of, whole

CLASSES: tuple[type[Layer], ...] = (
    *(Activation, AvgPool, BatchNorm, BlurPool, Branches, ChannelShuffle, Conv, Crop, Dense, Dropout, Flatten),
    *(Gate, LocallyConnected, LRN, MaxPool, NMaxPool, PReLU, Scale, StochasticDepth, SumPool),
)
KINDS = {re.sub(r"\W", "_", made.kind): made for made in CLASSES}
# Functions that a field may hold, by name; the default of a field needs none.
INITIALISERS: dict[str, Callable[..., Any]] = {
    "he_normal": HE_NORMAL,
    "bank": textbook_kernels.bank_init,
    "zeros": nn.initializers.zeros,
    "ones": nn.initializers.ones,
}
MOST_LAYERS = 1_000  # those within paths counted too
DEEPEST = 16  # layers that branch, one within the other
MOST_PIXELS = 65_535  # of a kernel, stride, dilation or padding
MOST_VALUES = 10**8  # features, groups and inputs of a layer
LONGEST_NAME = 200  # characters

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 60, 60, 30
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 4


class _Rule(NamedTuple):
    """What a field of a record may be, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


def _up_to_two(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: test(value) or (isinstance(value, list | tuple) and len(value) == 2 and all(map(test, value)))


_PIXELS, _AMOUNT = whole(1, MOST_PIXELS), whole(0, MOST_PIXELS)
_SIZE = _Rule(_up_to_two(_PIXELS), f"one whole number or two, from 1 to {MOST_PIXELS:,}")
_PADDING = _Rule(
    lambda value: (isinstance(value, str) and value in ("valid", "same")) or _up_to_two(_up_to_two(_AMOUNT))(value),
    f"'valid', 'same', one whole number from 0 to {MOST_PIXELS:,}, two, or two pairs of them",
)
_COUNT = _Rule(whole(1, MOST_VALUES), f"a whole number from 1 to {MOST_VALUES:,}")
_NUMBER = _Rule(number(lambda value: abs(value) <= 1e30), "a finite number")
_FLAG = _Rule(lambda value: isinstance(value, bool), "true or false")
_ROUNDINGS = ("exact", "floor", "ceil")


def _hold_paths(value: Any) -> bool:
    """Whether a value is a list of paths, each a list of records: not too many, nor nested too deeply."""
    level, count = [value], 0
    for _ in range(DEEPEST):
        if not all(isinstance(paths, list | tuple) and paths for paths in level):
            return False
        records: list[Any] = [
            record for paths in level for path in paths for record in (path if _is_list(path) else [None])
        ]
        count += len(records)
        if count > MOST_LAYERS or not all(isinstance(record, Mapping) for record in records):
            return False
        level = [record["paths"] for record in records if "paths" in record]
        if not level:
            return True
    return False


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _word(words: Sequence[str]) -> _Rule:
    return _Rule(one_of(tuple(words)), f"one of {', '.join(words)}")


RULES = (
    dict.fromkeys(("kernel", "stride", "dilation"), _SIZE)
    | dict.fromkeys(("features", "groups", "inputs", "n", "size", "reduction", "hidden"), _COUNT)
    | dict.fromkeys(("use_bias", "position_invariant", "shared", "count_padding", "zero_init"), _FLAG)
    | dict.fromkeys(("rate", "k", "alpha", "beta", "momentum", "epsilon", "padding_value"), _NUMBER)
    | dict.fromkeys(("slope", "offset", "scale", "low", "high"), _NUMBER)
    | {"padding": _PADDING, "padding_mode": _word(PADDING_MODES), "rounding": _word(_ROUNDINGS)}
    | {"amount": _Rule(_up_to_two(_AMOUNT), f"one whole number or two, from 0 to {MOST_PIXELS:,}")}
    | {"join": _word(JOINS)}
    | {"paths": _Rule(_hold_paths, f"a list of paths, each a list of records, of {MOST_LAYERS:,} layers at most")}
    | dict.fromkeys(("function", "activation", "gate"), _word(tuple(ACTIVATIONS)))
    | {"order": _word(FLATTEN_ORDERS)}
    | {"kernel_init": _word(tuple(INITIALISERS))}
)


def to_config(net: Net) -> list[dict[str, Any]]:
    """A net's layers as plain records, which `json.dumps` takes.

    Args:
      net: the net; its output activation is not among the records.

    Returns:
      One dict for each layer: "kind", "name", and the fields that differ from the defaults of the layer's class.

    Raises:
      TypeError: if it is no net.
      ValueError: if a layer's class is not from `cnn.layers`, or a field holds a value that no record can, such as a
        function without a name; names the layer and the field.
    """
    if not isinstance(net, Net):
        raise TypeError(f"nets.to_config takes a net (nets.net, nets.create), not a {type(net).__name__}")
    return [_record(name, layer) for name, layer in zip(geometry.layer_names(net.layers), net.layers, strict=True)]


def from_config(records: Sequence[Mapping[str, Any]], output_activation: str = "softmax") -> Net:
    """The net that records describe; layers without a name are named as in `cnn.nets.net`.

    Args:
      records: one for each layer, in order, as `to_config` gives them.
      output_activation: what the scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`).

    Returns:
      A `Net`.

    Raises:
      ValueError: if the records are no list of dicts, a kind or field is unknown (says which are near), a value is
        none that the field can have, or two layers share a name; names the record.
    """
    check_activation(output_activation, "nets.from_config")
    if not isinstance(records, list | tuple):
        raise ValueError(f"layers (={_short(records)}) must be a list of records, one for each layer")
    if not 1 <= len(records) <= MOST_LAYERS:
        raise ValueError(f"layers hold {len(records):,} records; a net has 1 to {MOST_LAYERS:,} layers")
    layers = named([_layer(f"layers[{index}]", record) for index, record in enumerate(records)])
    return Net(layers, output_activation)


def _record(name: str, layer: Layer) -> dict[str, Any]:
    """One layer as a record."""
    kind = next((kind for kind, made in KINDS.items() if made is type(layer)), None)
    who = f"{name} ({layer.kind})"
    if kind is None:
        raise ValueError(
            f"{who}: class {type(layer).__name__} is not from cnn.layers, and no record can name it; a run keeps such "
            "a net by the function that builds it, my_nets.py:my_net"
        )
    record: dict[str, Any] = {"kind": kind, "name": name}
    for field in _fields(type(layer)):
        value = getattr(layer, field.name)
        if value is field.default:
            continue
        if field.name == "paths":
            record["paths"] = [[_record(str(inner.name), inner) for inner in path] for path in value]
            continue
        plain = bool(value) if field.type is bool and value in (0, 1) else _plain(value)
        if plain == field.default and type(plain) is type(field.default):
            continue
        record[field.name] = plain
        if callable(plain) or not _holds(field, plain):
            known = f"functions with a name: {', '.join(INITIALISERS)}" if callable(plain) else _words(field)
            raise ValueError(f"{who}: {field.name} (={_short(value)}) cannot be written in a record; {known}")
    return record


def _plain(value: Any) -> Any:
    """A field's value as JSON has it: lists for tuples, Python's numbers for NumPy's, a name for a known function."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return next((name for name, function in INITIALISERS.items() if function is value), value)


def _layer(where: str, record: Any) -> Layer:
    """One record as a layer; `where` says which it is, for the error."""
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} (={_short(record)}) must be a record such as {{'kind': 'conv', 'features': 8}}")
    kind, name = record.get("kind"), record.get("name")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where}: kind (={_short(kind)}) is none of a layer{_near(kind, KINDS)}")
    if name is not None and not (isinstance(name, str) and name.isprintable() and 1 <= len(name) <= LONGEST_NAME):
        raise ValueError(
            f"{where}: name (={_short(name)}) must be a text of 1 to {LONGEST_NAME} characters that can be printed"
        )
    who = f"{where} ({kind} {_short(name)})" if name else f"{where} ({kind})"
    known = {field.name: field for field in _fields(KINDS[kind])}
    values: dict[str, Any] = {}
    for given, value in record.items():
        if given in ("kind", "name"):
            continue
        if not isinstance(given, str) or given not in known:
            raise ValueError(f"{who}: there is no field {_short(given)}{_near(given, known)}")
        if not _holds(known[given], value):
            raise ValueError(f"{who}: {given} (={_short(value)}) must be {_words(known[given])}")
        values[given] = _value(given, value, where)
    return KINDS[kind](name=name, **values)


def _value(field: str, value: Any, where: str) -> Any:
    """A field's value, as its layer takes it."""
    if field == "paths":
        return tuple(
            tuple(_layer(f"{where}.paths[{i}][{j}]", record) for j, record in enumerate(path))
            for i, path in enumerate(value)
        )
    return INITIALISERS[value] if field == "kernel_init" else value


def _fields(made: type[Layer]) -> list[dataclasses.Field[Any]]:
    """The fields of a layer's class, without those of every Flax module."""
    return [field for field in dataclasses.fields(made) if field.name not in ("parent", "name")]


def _holds(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field can have a value of JSON; those that may be absent are known by their types."""
    try:
        return (value is None and "None" in str(field.type)) or RULES[field.name].holds(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _words(field: dataclasses.Field[Any]) -> str:
    return RULES[field.name].words + (", or null" if "None" in str(field.type) else "")


def _near(name: Any, known: Mapping[str, Any]) -> str:
    """The end of a message about an unknown name: the nearest that exist, or all of them."""
    near = difflib.get_close_matches(name[:LONGEST_NAME], known, n=3, cutoff=0.5) if isinstance(name, str) else []
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(known)}" if known else "; it has none"


def _short(value: Any) -> str:
    """A value as it is written in an error: at most a line, however large or deep it is."""
    try:
        text = " ".join(_SHORT.repr(value).split())
    except ValueError:  # Python does not write whole numbers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 200 else text[:197] + "..."
