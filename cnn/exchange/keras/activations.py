"""Keras's activations, by name or as layers, as those of `cnn.layers`."""

from collections.abc import Mapping
from typing import Any

from cnn.exchange.classifier import ExchangeError
from cnn.layers import Activation

# Names of functions in Keras, and the fields of `Activation` that compute the same.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "relu": {"function": "relu"},
    "relu6": {"function": "relu6"},
    "leaky_relu": {"function": "leaky_relu", "slope": 0.2},
    "elu": {"function": "elu"},
    "celu": {"function": "celu"},
    "selu": {"function": "selu"},
    "gelu": {"function": "gelu_exact"},
    "silu": {"function": "silu"},
    "swish": {"function": "silu"},
    "mish": {"function": "mish"},
    "softplus": {"function": "softplus"},
    "softsign": {"function": "softsign"},
    "sigmoid": {"function": "sigmoid"},
    "tanh": {"function": "tanh"},
    "hard_sigmoid": {"function": "hard_sigmoid"},
    "hard_silu": {"function": "hard_swish"},
    "hard_swish": {"function": "hard_swish"},
    "hard_tanh": {"function": "clip", "low": -1.0, "high": 1.0},
}
ENDS = ("softmax", "log_softmax")  # of which the scores before them are taken
LAYERS = ("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")


def number(config: Mapping[str, Any], names: tuple[str, ...], default: float, label: str) -> float:
    """A number that versions of Keras write under different names.

    Args:
      config: the layer's fields.
      names: names of the field; the first that is there counts.
      default: what a missing field, or null, means.
      label: the layer, for the error.

    Returns:
      The number.

    Raises:
      ExchangeError: if it is none.
    """
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, Mapping):  # an array of NumPy, as Keras 2 writes it
            value = value.get("value", value.get("config"))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ExchangeError(f"{label}: {name} (={str(value)[:60]}) must be a number")
        return float(value)
    return default


def function_of(value: Any, label: str, major: int) -> dict[str, Any] | str | None:
    """What the field `activation` of a layer means.

    Args:
      value: a name, null, or what Keras writes for a function or a layer.
      label: the layer, for the error.
      major: version of Keras, 2 or 3.

    Returns:
      Fields of `Activation`; one of `ENDS`; None for the identity.

    Raises:
      ExchangeError: if there is no such activation here.
    """
    if isinstance(value, Mapping):
        kind, config = value.get("class_name"), value.get("config")
        if kind in LAYERS and isinstance(config, Mapping):
            return layer_fields(str(kind), config, label)
        value = config if kind == "function" else kind
        value = value.get("name") if isinstance(value, Mapping) else value
    if value in (None, "linear"):
        return None
    if value in ENDS:
        return str(value)
    if not isinstance(value, str) or value not in FUNCTIONS:
        known = ", ".join((*FUNCTIONS, *ENDS))
        raise ExchangeError(f"{label}: there is no activation {str(value)[:60]!r} here; known: {known}")
    if value == "hard_sigmoid" and major < 3:
        return {"function": "hard_sigmoid", "slope": 0.2}
    return FUNCTIONS[value]


def layer_fields(kind: str, config: Mapping[str, Any], label: str) -> dict[str, Any] | str:
    """What a layer that is an activation means.

    Args:
      kind: one of `LAYERS`.
      config: its fields.
      label: the layer, for the error.

    Returns:
      Fields of `Activation`, or "softmax".

    Raises:
      ExchangeError: if a field is beyond what layers here do.
    """
    if kind == "Softmax":
        axis = config.get("axis", -1)
        if axis not in (-1, [-1], 3):
            raise ExchangeError(f"{label}: axis (={axis}) must be -1, the classes")
        return "softmax"
    if kind == "LeakyReLU":
        return {"function": "leaky_relu", "slope": number(config, ("negative_slope", "alpha"), 0.3, label)}
    if kind == "ELU":
        return {"function": "elu", "slope": number(config, ("alpha",), 1.0, label)}
    if kind == "ThresholdedReLU":
        return {"function": "thresholded_relu", "slope": number(config, ("theta",), 1.0, label)}
    slope, threshold = number(config, ("negative_slope",), 0, label), number(config, ("threshold",), 0, label)
    highest = number(config, ("max_value",), float("inf"), label)
    if sum((slope != 0, threshold != 0, highest != float("inf"))) > 1:
        raise ExchangeError(f"{label}: max_value, negative_slope and threshold are read one at a time, not together")
    if highest != float("inf"):
        return {"function": "relu6"} if highest == 6 else {"function": "clip", "low": 0.0, "high": highest}
    if threshold:
        return {"function": "thresholded_relu", "slope": threshold}
    return {"function": "leaky_relu", "slope": slope} if slope else {"function": "relu"}


def named(fields: dict[str, Any], name: str) -> Activation:
    """The layer, with a name."""
    return Activation(**fields, name=name)
