"""Caffe's layers as those of `cnn.layers`, one at a time."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnn.exchange.assembly import Step, float32
from cnn.exchange.classifier import ExchangeError
from cnn.layers import LRN, Activation, AvgPool, BatchNorm, Conv, Dense, Dropout, MaxPool, PReLU, Scale

# Layers that a trained net is used without.
DATA = ("Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData", "Input", "Python")
DROPPED = (
    "Accuracy",
    "ArgMax",
    "Silence",
    "HDF5Output",
    "SoftmaxWithLoss",
    "MultinomialLogisticLoss",
    "HingeLoss",
    "InfogainLoss",
    "EuclideanLoss",
    "ContrastiveLoss",
    "SigmoidCrossEntropyLoss",
)
BRANCHES = ("Concat", "Eltwise", "Slice", "Crop")


def blob_array(blob: Any) -> np.ndarray:
    """The numbers of a blob, of either generation.

    Args:
      blob: a BlobProto.

    Returns:
      float32, of the blob's shape.

    Raises:
      ValueError: if shape and numbers do not fit; says both.
    """
    if blob.double_data:
        raw = blob.double_data
        flat = np.frombuffer(b"".join(raw), "<f8") if isinstance(raw[0], bytes) else np.fromiter(raw, np.float64)
    else:
        raw = blob.data
        packed = bool(raw) and isinstance(raw[0], bytes)
        flat = (
            np.frombuffer(raw[0] if len(raw) == 1 else b"".join(raw), "<f4") if packed else np.fromiter(raw, np.float32)
        )
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else tuple(max(size, 1) for size in old)
    if min(shape, default=1) < 0 or math.prod(shape) != flat.size:
        raise ValueError(f"declares {list(shape)}, which is {math.prod(shape):,} numbers, and holds {flat.size:,}")
    return flat.reshape(shape)


class Blobs:
    """The weights of one layer, taken one after another; what is wrong with them is collected, not raised."""

    def __init__(self, layer: str, blobs: Sequence[Any], problems: list[str]) -> None:
        """Begins at the first blob of a layer."""
        self._layer, self._blobs, self._problems, self._next = layer, list(blobs), problems, 0

    def take(self, what: str, shape: Sequence[int | None]) -> np.ndarray | None:
        """The next blob in a shape; None entries are free. None if it does not fit."""
        index, self._next = self._next, self._next + 1
        wanted = "x".join("?" if size is None else str(size) for size in shape)
        if index >= len(self._blobs):
            self._problems.append(f"{self._layer}: its {what} ({wanted}) is missing")
            return None
        try:
            array = blob_array(self._blobs[index])
        except ValueError as error:
            self._problems.append(f"{self._layer}: its {what} {error}")
            return None
        found = [size for size in array.shape if size != 1]
        fixed = math.prod(size for size in shape if size is not None)
        free = [index for index, size in enumerate(shape) if size is None]
        full = [size if size is not None else 1 for size in shape]
        if free and fixed and array.size % fixed == 0:
            full[free[0]] = array.size // fixed
        if found != [size for size in full if size != 1] or not array.size:
            shown = "x".join(map(str, array.shape))
            self._problems.append(f"{self._layer}: its {what} is {shown}, where {wanted} is needed")
            return None
        return float32(array.reshape(full), f"{self._layer}: its {what}")

    def finish(self) -> None:
        """Notes blobs that nobody took."""
        if self._next < len(self._blobs):
            left = len(self._blobs) - self._next
            self._problems.append(f"{self._layer}: has {len(self._blobs)} blobs of weights, {left} more than it needs")


def _pair(param: Any, repeated: str, tall: str, wide: str, default: int) -> tuple[int, int]:
    """A size that is written as one number, as a list, or as two fields."""
    if param.HasField(tall) or param.HasField(wide):
        return getattr(param, tall), getattr(param, wide)
    value = getattr(param, repeated)
    values = [value] if isinstance(value, int) else list(value)
    if len(values) > 2:
        raise ValueError(f"{repeated} has {len(values)} numbers; images have two axes")
    return (values[0], values[-1]) if values else (default, default)


def _convolution(layer: Any, blobs: Blobs) -> list[Step]:
    param = layer.convolution_param
    if param.axis != 1:
        raise ValueError(f"axis (={param.axis}) must be 1")
    kernel = _pair(param, "kernel_size", "kernel_h", "kernel_w", 0)
    pad, stride = _pair(param, "pad", "pad_h", "pad_w", 0), _pair(param, "stride", "stride_h", "stride_w", 1)
    dilation = tuple(param.dilation) if len(param.dilation) > 1 else (param.dilation[0] if param.dilation else 1,) * 2
    if param.num_output < 1 or min(kernel) < 1 or param.group < 1:
        raise ValueError(
            f"num_output (={param.num_output}), kernel (={kernel}) and group (={param.group}) must be above 0"
        )
    made = Conv(
        param.num_output,
        kernel,
        stride=stride,
        padding=pad,
        dilation=dilation,
        groups=param.group,
        use_bias=param.bias_term,
        rounding="floor",
        name=layer.name,
    )
    weights = blobs.take("kernel", (param.num_output, None, *kernel))
    return [_with_bias(made, weights, (2, 3, 1, 0), blobs, param)]


def _with_bias(made: Any, weights: np.ndarray | None, axes: tuple[int, ...], blobs: Blobs, param: Any) -> Step:
    """A convolution or fully connected layer with its arrays."""
    bias = blobs.take("bias", (param.num_output,)) if param.bias_term else None
    params = {} if weights is None else {"kernel": weights.transpose(axes)}
    return Step(made, params if bias is None else {**params, "bias": bias})


def _inner_product(layer: Any, blobs: Blobs) -> list[Step]:
    param = layer.inner_product_param
    if param.axis != 1:
        raise ValueError(f"axis (={param.axis}) must be 1")
    if param.num_output < 1:
        raise ValueError(f"num_output (={param.num_output}) must be above 0")
    made = Dense(param.num_output, use_bias=param.bias_term, name=layer.name)
    if getattr(param, "transpose", False):
        return [_with_bias(made, blobs.take("kernel", (None, param.num_output)), (0, 1), blobs, param)]
    return [_with_bias(made, blobs.take("kernel", (param.num_output, None)), (1, 0), blobs, param)]


def _pooling(layer: Any, blobs: Blobs) -> list[Step]:
    param = layer.pooling_param
    if param.pool not in (0, 1):
        raise ValueError("stochastic pooling is not a pool of this project; use MAX or AVE")
    fields: dict[str, Any] = {"count_padding": True} if param.pool == 1 else {}
    pool = AvgPool if param.pool == 1 else MaxPool
    if param.global_pooling:
        return [Step(pool(None, name=layer.name))]
    kernel = _pair(param, "kernel_size", "kernel_h", "kernel_w", 0)
    stride, pad = _pair(param, "stride", "stride_h", "stride_w", 1), _pair(param, "pad", "pad_h", "pad_w", 0)
    if min(kernel) < 1 or min(stride) < 1:
        raise ValueError(f"kernel (={kernel}) and stride (={stride}) must be above 0")
    if any(s > k for s, k in zip(stride, kernel, strict=True)):
        raise ValueError(
            f"stride (={stride}) is larger than its window (={kernel}), where Caffe may take a window that "
            "sees no pixel"
        )
    rounding = "floor" if param.round_mode == 1 else "ceil"
    return [Step(pool(kernel, stride=stride, padding=pad, rounding=rounding, name=layer.name, **fields))]


def _lrn(layer: Any, blobs: Blobs) -> list[Step]:
    param = layer.lrn_param
    if param.norm_region != 0:
        raise ValueError(
            "norm_region WITHIN_CHANNEL normalises over neighbouring pixels, which no layer here does; "
            "ACROSS_CHANNELS is read"
        )
    if param.local_size % 2 == 0:
        raise ValueError(f"local_size (={param.local_size}) must be odd")
    # Caffe divides alpha by the number of channels in the window.
    made = LRN(param.local_size, k=param.k, alpha=param.alpha / param.local_size, beta=param.beta, name=layer.name)
    return [Step(made)]


def _batch_norm(layer: Any, blobs: Blobs) -> list[Step]:
    param = layer.batch_norm_param
    mean, var, weight = blobs.take("mean", (None,)), blobs.take("variance", (None,)), blobs.take("factor", (1,))
    made = BatchNorm(momentum=param.moving_average_fraction, epsilon=param.eps, name=layer.name)
    if mean is None or var is None or weight is None:
        return [Step(made)]
    if mean.shape != var.shape:
        raise ValueError(f"has means of {mean.size} channels and variances of {var.size}")
    factor = 1 / weight[0] if weight[0] else 0.0  # the sums are kept beside the weight that they have gathered
    stats = {"mean": (mean * factor).astype(np.float32), "var": (var * factor).astype(np.float32)}
    if stats["var"].min() < 0:
        raise ValueError("has a variance below 0")
    params = {"scale": np.ones_like(stats["mean"]), "bias": np.zeros_like(stats["mean"])}
    return [Step(made, params, stats)]


def _scale(layer: Any, blobs: Blobs) -> list[Step]:
    param = layer.scale_param
    if param.axis != 1 or param.num_axes != 1 or len(layer.bottom) > 1:
        raise ValueError(
            f"scales with axis {param.axis}, num_axes {param.num_axes} and {len(layer.bottom)} inputs; one "
            "number for each channel (axis 1, num_axes 1, one input) is read"
        )
    scale = blobs.take("factors", (None,))
    bias = blobs.take("bias", (None,)) if param.bias_term else None
    params = {name: value for name, value in (("scale", scale), ("bias", bias)) if value is not None}
    return [Step(Scale(use_bias=param.bias_term, name=layer.name), params)]


def _bias(layer: Any, blobs: Blobs) -> list[Step]:
    param = layer.bias_param
    if param.axis != 1 or param.num_axes != 1 or len(layer.bottom) > 1:
        raise ValueError("adds something else than one number for each channel (axis 1, num_axes 1, one input)")
    bias = blobs.take("bias", (None,))
    return [Step(Scale(name=layer.name), {} if bias is None else {"scale": np.ones_like(bias), "bias": bias})]


def _prelu(layer: Any, blobs: Blobs) -> list[Step]:
    shared = layer.prelu_param.channel_shared
    slope = blobs.take("slopes", (1,) if shared else (None,))
    return [Step(PReLU(shared=shared, name=layer.name), {} if slope is None else {"slope": slope})]


def _relu(layer: Any, blobs: Blobs) -> list[Step]:
    slope = layer.relu_param.negative_slope
    made = Activation("leaky_relu", slope=slope, name=layer.name) if slope else Activation("relu", name=layer.name)
    return [Step(made)]


def _activation(function: str) -> Callable[[Any, Blobs], list[Step]]:
    return lambda layer, blobs: [Step(Activation(function, name=layer.name))]


def _elu(layer: Any, blobs: Blobs) -> list[Step]:
    return [Step(Activation("elu", slope=layer.elu_param.alpha, name=layer.name))]


def _dropout(layer: Any, blobs: Blobs) -> list[Step]:
    return [Step(Dropout(layer.dropout_param.dropout_ratio, name=layer.name))]


READERS: dict[str, Callable[[Any, Blobs], list[Step]]] = {
    "Convolution": _convolution,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "LRN": _lrn,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Bias": _bias,
    "PReLU": _prelu,
    "ReLU": _relu,
    "ELU": _elu,
    "Dropout": _dropout,
    "Sigmoid": _activation("sigmoid"),
    "TanH": _activation("tanh"),
    "BNLL": _activation("softplus"),
}


def steps_of(kind: str, layer: Any, blobs: Blobs) -> list[Step]:
    """One layer with its arrays.

    Args:
      kind: its type, as the later generation of layers has it.
      layer: a LayerParameter or V1LayerParameter.
      blobs: its weights; what is wrong with them is collected there.

    Returns:
      Its layers here.

    Raises:
      ExchangeError: naming the layer, if there is no such layer here, or it has another meaning.
    """
    label = f"{layer.name} ({kind})"
    if kind in BRANCHES:
        raise ExchangeError(f"{label}: joins or parts branches, and nets here are chains; cut the net before it")
    if kind not in READERS:
        raise ExchangeError(
            f"{label}: there is no such layer here; known: {', '.join(sorted(READERS))}, Flatten, Power, Softmax"
        )
    try:
        found = READERS[kind](layer, blobs)
    except ExchangeError:
        raise
    except (ValueError, AttributeError) as error:  # a field that the older generation of the layer has not
        raise ExchangeError(f"{label}: {error}") from None
    blobs.finish()
    return found
