"""Keras's layers as those of `cnn.layers`, one after another."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnn.exchange.assembly import Step
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.keras import activations as keras_activations
from cnn.exchange.keras.activations import number
from cnn.exchange.keras.chain import Chain
from cnn.layers import Activation, AvgPool, BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool, PReLU

# Layers that change nothing once a net is trained.
DROPPED = (
    "InputLayer",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
    "RandomShear",
    "RandomHue",
    "RandomSaturation",
    "RandomColorJitter",
    "RandomErasing",
    "Identity",
)
BRANCHES = ("Add", "Concatenate", "Multiply", "Average", "Maximum", "Subtract", "Dot")
# Values that zeros around them leave as they are, in a max pool.
NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "softplus", "hard_sigmoid", "thresholded_relu")


def add(chain: Chain, layer: Mapping[str, Any]) -> None:
    """Reads the next layer.

    Args:
      layer: {"class_name", "config", ...}.

    Raises:
      ExchangeError: naming the layer, if there is none like it here.
    """
    kind, config = str(layer.get("class_name")), layer.get("config")
    if not isinstance(config, Mapping):
        raise ExchangeError(f"{chain.path}: a layer {kind} has no config")
    name = str(config.get("name") or layer.get("name") or kind)[:100]
    label = f"{chain.path}: {name} ({kind})"
    if config.get("data_format") == "channels_first":
        raise ExchangeError(f"{label}: is channels_first; save the model with data_format channels_last")
    if kind in DROPPED:
        if kind != "InputLayer":
            chain.notes.append(f"{name} ({kind}) was dropped: it changes nothing once the net is trained")
        return
    if chain.end and kind not in ("Flatten", "Dropout", "Activation"):
        raise ExchangeError(f"{label}: stands behind {chain.end[0]} ({chain.end[1]}), which must be the last layer")
    if chain.padding and kind not in ("Conv2D", "DepthwiseConv2D", "AveragePooling2D", "MaxPooling2D"):
        raise ExchangeError(f"{label}: stands behind ZeroPadding2D, which is read before a convolution or pool alone")
    if kind in BRANCHES:
        raise ExchangeError(f"{label}: joins branches, and nets here are chains; cut the model before it")
    if kind not in READERS:
        known = ", ".join(sorted(READERS))
        why = " and is never run, as its code lies in the file" if kind in ("Lambda", "TFOpLambda") else ""
        raise ExchangeError(f"{label}: there is no such layer here{why}; known: {known}")
    chain.label, chain.name, chain.config, chain.kind = label, name, config, kind
    READERS[kind](chain)
    if isinstance(config.get("activation"), str | Mapping) and kind not in ("Activation", "PReLU"):
        chain.activate(config["activation"], f"{name}_activation")


def _params(arrays: Sequence[np.ndarray] | None) -> dict[str, np.ndarray]:
    """Kernel and bias by name, as far as they are there."""
    return dict(zip(["kernel", "bias"], arrays or [], strict=False))


def _conv(chain: Chain) -> None:
    features, kernel = chain.whole("filters"), chain.pair("kernel_size", 3)
    stride, dilation = chain.pair("strides", 1), chain.pair("dilation_rate", 1)
    groups, bias = chain.whole("groups", 1), chain.flag("use_bias", True)
    made = Conv(
        features,
        kernel,
        stride=stride,
        padding=chain.amounts(stride),
        dilation=dilation,
        groups=groups,
        use_bias=bias,
        rounding="floor",
        name=chain.name,
    )
    wanted: list[Any] = [("kernel", (*kernel, None, features)), *([("bias", (features,))] if bias else [])]
    arrays = chain.arrays_of(wanted)
    chain.steps.append(Step(made, _params(arrays)))


def _depthwise(chain: Chain) -> None:
    kernel, stride = chain.pair("kernel_size", 3), chain.pair("strides", 1)
    several, bias = chain.whole("depth_multiplier", 1), chain.flag("use_bias", True)
    wanted: list[Any] = [("depthwise_kernel", (*kernel, None, several)), *([("bias", (None,))] if bias else [])]
    arrays = chain.arrays_of(wanted)
    channels = 1 if arrays is None else arrays[0].shape[2]
    chain.steps.append(_depthwise_step(chain, arrays, channels, several, kernel, stride, chain.name))


def _depthwise_step(
    chain: Chain, arrays: Any, channels: int, several: int, kernel: Any, stride: Any, name: str
) -> Step:
    """A convolution with a group for each channel."""
    made = Conv(
        channels * several,
        kernel,
        stride=stride,
        padding=chain.amounts(stride),
        groups=channels,
        dilation=chain.pair("dilation_rate", 1),
        use_bias=len(arrays or ()) > 1,
        rounding="floor",
        name=name,
    )
    if arrays is None:
        return Step(made)
    params = {"kernel": arrays[0].reshape(*kernel, 1, channels * several)}
    return Step(made, params | ({"bias": arrays[1]} if len(arrays) > 1 else {}))


def _separable(chain: Chain) -> None:
    features, kernel, stride = chain.whole("filters"), chain.pair("kernel_size", 3), chain.pair("strides", 1)
    several, bias = chain.whole("depth_multiplier", 1), chain.flag("use_bias", True)
    wanted: list[Any] = [("depthwise_kernel", (*kernel, None, several)), ("pointwise_kernel", (1, 1, None, features))]
    arrays = chain.arrays_of([*wanted, *([("bias", (features,))] if bias else [])])
    channels = 1 if arrays is None else arrays[0].shape[2]
    first = None if arrays is None else arrays[:1]
    chain.steps.append(_depthwise_step(chain, first, channels, several, kernel, stride, f"{chain.name}_depthwise"))
    made = Conv(features, 1, use_bias=bias, name=chain.name)
    chain.steps.append(Step(made, _params(None if arrays is None else arrays[1:])))


def _dense(chain: Chain) -> None:
    units, bias = chain.whole("units"), chain.flag("use_bias", True)
    if chain.config.get("quantization_config") or chain.config.get("quantization_mode"):
        raise ExchangeError(f"{chain.label}: is quantised; save the model in floating numbers")
    arrays = chain.arrays_of([("kernel", (None, units)), *([("bias", (units,))] if bias else [])])
    params = _params(arrays)
    if chain.flat:
        chain.steps.append(Step(Dense(units, use_bias=bias, name=chain.name), params))
        return
    if params:  # at each pixel of a map, which is a convolution of one pixel
        params["kernel"] = params["kernel"][None, None]
        chain.notes.append(f"{chain.name} (Dense) sees each pixel by itself: it became a 1x1 convolution")
    chain.steps.append(Step(Conv(units, 1, use_bias=bias, name=chain.name), params))


def _flatten(chain: Chain) -> None:
    if not chain.flat:
        chain.steps.append(Step(Flatten("hwc", name=chain.name)))
    chain.flat = True


def _reshape(chain: Chain) -> None:
    target = chain.config.get("target_shape")
    last = chain.steps[-1].layer if chain.steps else None
    if target == [-1] or (isinstance(target, list) and len(target) == 1):
        _flatten(chain)
    elif isinstance(target, list) and target[:2] == [1, 1] and len(target) == 3 and isinstance(last, Flatten):
        before = chain.steps[-2].layer if len(chain.steps) > 1 else None
        if not isinstance(before, AvgPool | MaxPool) or before.kernel is not None:
            raise ExchangeError(f"{chain.label}: makes an image of a vector that is no pooled map")
        chain.steps.pop()
        chain.flat = False
    else:
        raise ExchangeError(
            f"{chain.label}: target_shape (={str(target)[:60]}) must be [-1], a vector; or [1, 1, C] "
            "behind a global pool"
        )


def _pool(chain: Chain) -> None:
    kernel = chain.pair("pool_size", 2)
    stride = chain.pair("strides", kernel)
    padded, padding = chain.padding is not None, chain.amounts(stride)
    fields: dict[str, Any] = {"stride": stride, "padding": padding, "rounding": "floor", "name": chain.name}
    if chain.kind == "AveragePooling2D":
        chain.steps.append(Step(AvgPool(kernel, count_padding=padded, **fields)))
        return
    last = chain.steps[-1].layer if chain.steps else None
    if padded and not (isinstance(last, Activation) and last.function in NEVER_NEGATIVE):
        raise ExchangeError(
            f"{chain.label}: zeros from ZeroPadding2D count in this max pool, where values may be below "
            "0; use padding same, or a ReLU before it"
        )
    chain.steps.append(Step(MaxPool(kernel, **fields)))


def _global_pool(chain: Chain) -> None:
    pool = AvgPool if chain.kind == "GlobalAveragePooling2D" else MaxPool
    chain.steps.append(Step(pool(None, name=chain.name)))
    if not chain.flag("keepdims", False):
        chain.steps.append(Step(Flatten("hwc", name=f"{chain.name}_flatten")))
        chain.flat = True


def _batch_norm(chain: Chain) -> None:
    axis = chain.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in ((-1, 1) if chain.flat else (-1, 3)):
        raise ExchangeError(f"{chain.label}: axis (={str(axis)[:60]}) must be that of the channels, -1")
    names = [name for name, field in (("gamma", "scale"), ("beta", "center")) if chain.flag(field, True)]
    made = BatchNorm(
        momentum=number(chain.config, ("momentum",), 0.99, chain.label),
        epsilon=number(chain.config, ("epsilon",), 1e-3, chain.label),
        name=chain.name,
    )
    arrays = chain.arrays_of([(name, (None,)) for name in (*names, "moving_mean", "moving_variance")])
    if arrays is None:
        chain.steps.append(Step(made))
        return
    by_name = dict(zip((*names, "mean", "var"), arrays, strict=True))
    ones = np.ones_like(by_name["mean"])
    params = {"scale": by_name.get("gamma", ones), "bias": by_name.get("beta", 0 * ones)}
    if len({value.shape for value in (*params.values(), by_name["var"], ones)}) > 1 or by_name["var"].min() < 0:
        chain.problems.append(f"{chain.name}: its arrays differ in length, or a variance is below 0")
    chain.steps.append(Step(made, params, {"mean": by_name["mean"], "var": by_name["var"]}))


def _activation(chain: Chain) -> None:
    chain.activate(chain.config.get("activation"), chain.name)


def _activation_layer(chain: Chain) -> None:
    fields = keras_activations.layer_fields(chain.kind, chain.config, chain.label)
    chain.add_activation(fields, chain.name)


def _prelu(chain: Chain) -> None:
    if chain.flat:
        arrays = chain.arrays_of([("alpha", (None,))])
    else:
        if (chain.config.get("shared_axes") or [])[:2] != [1, 2]:
            raise ExchangeError(
                f"{chain.label}: has a slope for each pixel; share them over the map: shared_axes=[1, 2]"
            )
        arrays = chain.arrays_of([("alpha", (1, 1, None))])
    slope = np.zeros(2, np.float32) if arrays is None else arrays[0].ravel()
    chain.steps.append(Step(PReLU(shared=slope.size == 1, name=chain.name), {"slope": slope}))


def _dropout(chain: Chain) -> None:
    chain.steps.append(Step(Dropout(number(chain.config, ("rate",), 0.5, chain.label), name=chain.name)))
    if chain.end:
        chain.steps.pop()
    elif chain.kind == "SpatialDropout2D":
        chain.notes.append(f"{chain.name} dropped whole maps in training; here it is a Dropout of single values")


def _zero_padding(chain: Chain) -> None:
    value = chain.config.get("padding", 1)
    sides = [
        list(side) if isinstance(side, list | tuple) else [side, side]
        for side in (value if isinstance(value, list | tuple) else [value, value])
    ]
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for side in sides for v in side)
    if [len(side) for side in sides] != [2, 2] or not whole or chain.padding:
        raise ExchangeError(f"{chain.label}: padding (={str(value)[:60]}) must be pixels on each side, once")
    chain.padding = (sides[0][0], sides[0][1]), (sides[1][0], sides[1][1])
    chain.notes.append(f"{chain.name} (ZeroPadding2D) became padding of the layer behind it")


def _rescaling(chain: Chain) -> None:
    _in_front(chain)
    scale, offset = _list(chain, "scale", 1.0), _list(chain, "offset", 0.0)
    chain.factor, chain.offset = chain.factor * scale, chain.offset * scale + offset


def _normalization(chain: Chain) -> None:
    _in_front(chain)
    if chain.flag("invert", False) or chain.config.get("axis", -1) not in (-1, [-1], 3, [3]):
        raise ExchangeError(f"{chain.label}: must normalise each channel (axis -1), not inverted")
    if chain.config.get("mean") is None:
        found = dict(chain.arrays.get(chain.name, {}))
        arrays = list(found.values())[:2]
        chain.used.add(chain.name)
        if len(arrays) < 2 or any(one is None or not one.size for one in arrays):
            raise ExchangeError(f"{chain.label}: has neither mean and variance nor weights for them")
        mean, variance = (np.asarray(one, np.float64).ravel() for one in arrays)
    else:
        mean, variance = _list(chain, "mean", None), _list(chain, "variance", None)
    spread = np.maximum(np.sqrt(variance), 1e-7)  # Keras's epsilon
    chain.factor, chain.offset = chain.factor / spread, (chain.offset - mean) / spread


def _in_front(chain: Chain) -> None:
    if chain.steps:
        raise ExchangeError(
            f"{chain.label}: is read in front of all layers, where it tells how pixels are normalised; "
            "use BatchNormalization inside of a net"
        )


def _list(chain: Chain, field: str, default: float | None) -> np.ndarray:
    """Numbers of a field: one, or one for each channel."""
    value = chain.config.get(field, default)
    if isinstance(value, Mapping):
        value = value.get("value", (value.get("config") or {}).get("value"))
    try:
        numbers = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if not 1 <= numbers.size <= 64 or not all(map(math.isfinite, numbers)):
        raise ExchangeError(f"{chain.label}: {field} (={str(value)[:60]}) must be numbers, one for each channel")
    return numbers


READERS: dict[str, Callable[[Chain], None]] = {
    "Conv2D": _conv,
    "Convolution2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling2D": _global_pool,
    "BatchNormalization": _batch_norm,
    "Activation": _activation,
    "ReLU": _activation_layer,
    "LeakyReLU": _activation_layer,
    "ELU": _activation_layer,
    "ThresholdedReLU": _activation_layer,
    "Softmax": _activation_layer,
    "PReLU": _prelu,
    "Dropout": _dropout,
    "SpatialDropout2D": _dropout,
    "ZeroPadding2D": _zero_padding,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
}
