"""Activations of an ONNX graph: operators of their own, and those written as several, recognised by their values."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cnn.exchange.onnx_in.node import Node, Value, short
from cnn.exchange.onnx_in.shapes import ACTIVATIONS

Options = dict[str, float]
LARGEST_REGION = 24  # operators that one function may be written as
# Points at which functions are compared: dense where they bend, and far out, where a bound shows.
_NEAR = np.concatenate([np.linspace(-12, 12, 481), np.geomspace(1e-4, 80, 40), -np.geomspace(1e-4, 80, 40)])
_FAR = np.array([-1e6, -1e3, 1e3, 1e6])
_POINTS = np.concatenate([_NEAR, _FAR])
_SLOPES = np.array([-80.0, -3.0, -1.0, -0.25, 0.25, 1.0, 3.0, 80.0])  # points of which the sign decides
TOLERANCE = 2e-6  # of the largest of 1 and the value: constants of a file are rounded to float32


class Function(NamedTuple):
    """A function of single values.

    Attributes:
      name: one of `cnn.layers.ACTIVATIONS`, or "prelu".
      options: the fields of the layer, beside its defaults.
      slope: for "prelu" the slopes below 0, in the shape of the file's constant.
      source: the value that it is a function of.
    """

    name: str
    options: Options
    source: Value
    slope: np.ndarray | None = None


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def _elu(x: np.ndarray, slope: float = 1.0) -> np.ndarray:
    return np.where(x > 0, x, slope * np.expm1(np.minimum(x, 0)))


def _hard_sigmoid(x: np.ndarray, slope: float = 1 / 6, offset: float = 0.5) -> np.ndarray:
    return np.clip(slope * x + offset, 0, 1)


# The activations of `cnn.layers` in float64.
FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "gelu_exact": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x, slope=1.0: x * _sigmoid(slope * x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "hard_sigmoid": _hard_sigmoid,
    "selu": lambda x, slope=1.6732632423543772, scale=1.0507009873554805: scale * _elu(x, slope),
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 / 3 * x),
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, slope * x),
    "elu": _elu,
    "celu": lambda x, slope=1.0: np.where(x > 0, x, slope * np.expm1(np.minimum(x, 0) / slope)),
    "thresholded_relu": lambda x, slope=1.0: np.where(x > slope, x, 0),
    "clip": lambda x, low=None, high=None: np.clip(x, low, high),
}


def activation(node: Node) -> tuple[str, Options] | None:
    """The function of an operator that is one by itself.

    Args:
      node: any node.

    Returns:
      Its name in `cnn.layers.ACTIVATIONS` and its fields; None if the operator is no such function.

    Raises:
      ExchangeError: if its attributes do not fit.
    """
    plain = {
        "Relu": "relu",
        "Softplus": "softplus",
        "Sigmoid": "sigmoid",
        "Tanh": "tanh",
        "Softsign": "softsign",
        "HardSwish": "hard_swish",
        "Mish": "mish",
    }
    # The operator's own default, whatever that of the layer is.
    sloped = {
        "LeakyRelu": ("leaky_relu", 0.01),
        "Elu": ("elu", 1.0),
        "Celu": ("celu", 1.0),
        "ThresholdedRelu": ("thresholded_relu", 1.0),
        "Swish": ("silu", 1.0),
    }
    found: tuple[str, Options]
    if node.op not in ACTIVATIONS:
        return None
    if node.op in plain:
        found = plain[node.op], {}
    elif node.op in sloped:
        name, default = sloped[node.op]
        slope = short(node.attribute("alpha", default))
        found = name, {} if slope == default else {"slope": slope}
    elif node.op == "Selu":  # versions before 6 have other defaults
        alpha, gamma = (1.67326319217681884765625, 1.05070102214813232421875) if node.opset >= 6 else (1.6732, 1.0507)
        options = {"slope": short(node.attribute("alpha", alpha)), "scale": short(node.attribute("gamma", gamma))}
        found = "selu", {} if node.opset >= 6 and not (node.has("alpha") or node.has("gamma")) else options
    elif node.op == "HardSigmoid":
        found = (
            "hard_sigmoid",
            {"slope": short(node.attribute("alpha", 0.2)), "offset": short(node.attribute("beta", 0.5))},
        )
    elif node.op == "Gelu":
        form = node.attribute("approximate", "none")
        if form not in ("none", "tanh"):
            raise node.error(f"its attribute approximate (={form[:20]!r}) must be none or tanh")
        found = ("gelu_exact" if form == "none" else "gelu_tanh"), {}
    else:
        found = _clip(node)
    node.check_all_read("consumed_inputs")
    if not all(map(math.isfinite, found[1].values())) or (found[0] == "celu" and found[1].get("slope") == 0):
        raise node.error(f"its attributes ({found[1]}) must be finite numbers, and alpha of Celu not 0")
    return found


def _clip(node: Node) -> tuple[str, Options]:
    """Bounds from attributes (before version 11) or inputs; those that bound nothing are left out."""
    bounds: Options = {}
    for index, attribute, field, nothing in ((1, "min", "low", -3.4e38), (2, "max", "high", 3.4e38)):
        given = node.parameter(index, attribute)
        if given is not None and given.size != 1:
            raise node.error(f"its {attribute} must be one number, and has {given.size}")
        value = short(node.attribute(attribute, nothing) if given is None else given.reshape(-1)[0])
        if math.isnan(value):
            raise node.error(f"its {attribute} is no number")
        if abs(value) < 3.4e38:
            bounds[field] = value
    if bounds.get("low", -math.inf) > bounds.get("high", math.inf):
        raise node.error(f"its bounds cross each other: min {bounds['low']}, max {bounds['high']}")
    if bounds == {"low": 0.0, "high": 6.0}:
        return "relu6", {}
    return ("clip", bounds) if bounds else ("identity", {})


_COMPUTED: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": lambda *xs: np.max(np.broadcast_arrays(*xs), axis=0),
    "Min": lambda *xs: np.min(np.broadcast_arrays(*xs), axis=0),
    "Sum": lambda *xs: np.sum(np.broadcast_arrays(*xs), axis=0),
    "Greater": np.greater,
    "Less": np.less,
    "Where": lambda c, a, b: np.where(np.asarray(c) != 0, a, b),
    "PRelu": lambda x, slope: np.where(x > 0, x, slope * x),
    "Erf": _erf,
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Abs": np.abs,
    "Reciprocal": np.reciprocal,
    "Identity": lambda x: x,
    "Cast": lambda x: x,
}


def can_compute(node: Node) -> bool:
    """Whether an operator is a function of single values that is computed here."""
    return node.op in ACTIVATIONS or node.op in _COMPUTED


def recognise(value: Value) -> Function | None:
    """The function that a value is of one before it, as several operators may write it.

    Args:
      value: what the last operator gives.

    Returns:
      The function, or None if there is none that has a layer.
    """
    if value.node is None or not can_compute(value.node):
        return None
    region, frontier = [value], _inputs(value)
    while len(region) <= LARGEST_REGION:
        if len(frontier) == 1:
            source = next(iter(frontier.values()))
            if source.shape == value.shape and (found := _function(region, source)):
                return found
        last = max(frontier.values(), key=lambda one: one.order)
        if last.node is None or not can_compute(last.node):
            return None
        del frontier[id(last)]
        region.append(last)
        frontier |= _inputs(last)
    return None


def _inputs(value: Value) -> dict[int, Value]:
    given = value.node.inputs if value.node else []
    return {id(one): one for one in given if one is not None and one.constant is None}


def _function(region: list[Value], source: Value) -> Function | None:
    """The function from a source to the first value of a region, if it has a layer."""
    single = all(
        one.scalar is not None
        for value in region
        for one in (value.node.inputs if value.node else ())
        if one is not None and one.constant is not None
    )
    points = _POINTS if single else _SLOPES
    with np.errstate(all="ignore"):
        try:
            values = _evaluate(region, source, points, single)
        except (ValueError, TypeError):
            return None
    if single:
        values = np.broadcast_to(values, points.shape)
        with np.errstate(all="ignore"):
            found = (one for one in _candidates(values) if _agree(values, FUNCTIONS[one[0]](points, **one[1]), points))
            named = next(found, None)
        return Function(*named, source) if named else None
    slope = (values[2] / -1.0)[None]  # at -1
    x = points.reshape(-1, *(1,) * (values.ndim - 1))
    if np.isfinite(slope).all() and _agree(values, np.where(x > 0, x, slope * x), x):
        return Function("prelu", {}, source, slope[0].astype(np.float32))
    return None


def _evaluate(region: list[Value], source: Value, points: np.ndarray, single: bool) -> np.ndarray:
    """A region's function at some points, float64; constants are numbers if `single`, else keep their shapes."""
    x = points if single else points.reshape(-1, *(1,) * len(source.shape))
    done = {id(source): x}
    for value in sorted(region, key=lambda one: one.order):
        node = value.node
        assert node is not None
        inputs: list[Any] = []
        for one in node.inputs:
            if one is None:
                continue
            if one.constant is None:
                inputs.append(done[id(one)])
            else:
                inputs.append(np.float64(one.scalar or 0) if single else one.constant.astype(np.float64))
        direct = activation(node)
        if direct is not None:
            done[id(value)] = FUNCTIONS[direct[0]](inputs[0], **direct[1])
        else:
            done[id(value)] = _COMPUTED[node.op](*inputs)
    return np.asarray(done[id(region[0])], np.float64)


def _candidates(values: np.ndarray) -> Iterator[tuple[str, Options]]:
    """Functions that values might be of; fields are found from the values themselves."""
    plain = ("identity", "relu", "relu6", "sigmoid", "tanh", "softplus", "softsign", "gelu_exact", "gelu_tanh", "silu")
    for name in (*plain, "mish", "hard_swish", "hard_sigmoid", "selu", "scaled_tanh"):
        yield name, {}

    def at(x: float) -> float:
        return float(values[np.abs(_POINTS - x).argmin()])

    yield "leaky_relu", {"slope": short(-at(-1))}
    yield "elu", {"slope": short(-at(-80))}
    yield "hard_sigmoid", {"slope": short((at(0.05) - at(0)) / 0.05), "offset": short(at(0))}
    if 0 < at(1) < 1 and at(1) != 0.5:  # with a slope of 0 it would be x / 2
        yield "silu", {"slope": short(math.log(at(1) / (1 - at(1))))}
    bounds = {"low": short(at(-1e6)), "high": short(at(1e6))}
    bounds = {name: bound for name, bound in bounds.items() if math.isfinite(bound) and abs(bound) < 1e6}
    if bounds and bounds.get("low", -math.inf) <= bounds.get("high", math.inf):
        yield "clip", bounds


def _agree(values: np.ndarray, wanted: np.ndarray, points: np.ndarray) -> bool:
    """Whether two functions are equal; far out, where a written-out form overflows, only what is finite is compared."""
    with np.errstate(all="ignore"):
        close = np.abs(values - wanted) <= TOLERANCE * np.maximum(1, np.abs(wanted))
    return bool((close | ((np.abs(points) > 100) & ~np.isfinite(values))).all())
