"""Dense evaluation of a net by the definition, position by position: NumPy, float64, slow and obviously right.

A layer's value at pixel position p looks at its input's positions p + (tap - padding) * N, N being the product of the
strides before it. Positions below 0 or above the input's last one are padding. Where paths are joined, a position has
what every path has there. No pass, no dilation, no fragments.
"""

import numpy as np

from cnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    BlurPool,
    Branches,
    ChannelShuffle,
    Conv,
    Crop,
    Dropout,
    MaxPool,
    NMaxPool,
    PReLU,
    Scale,
    StochasticDepth,
)
from tests.reference import layers


def window_scores(conv_net, variables, image, window, stride, size):
    """Scores of windows that are cut out and classified one by one, each with the net's padding at its own border.

    Args:
      conv_net: a converted net: no Flatten, no Dense.
      variables: its variables.
      image: [H, W, C].
      window: (height, width), pixels.
      stride: (vertical, horizontal), pixels.
      size: windows along each axis.

    Returns:
      float64 [*size, K].
    """
    rows = []
    for i in range(size[0]):
        y, xs = i * stride[0], [j * stride[1] for j in range(size[1])]
        cuts = [image[y : y + window[0], x : x + window[1]] for x in xs]
        rows.append([score_map(conv_net, variables, cut, (1, 1), (1, 1))[0, 0] for cut in cuts])
    return np.asarray(rows)


def score_map(conv_net, variables, image, stride, size):
    """Scores at positions (i * stride[0], j * stride[1]) of one image.

    Args:
      conv_net: a converted net: no Flatten, no Dense.
      variables: its variables.
      image: [H, W, C].
      stride: (vertical, horizontal), pixels.
      size: scores along each axis.

    Returns:
      float64 [*size, K].
    """
    x = np.asarray(image, np.float64)
    spacing = [1, 1]
    for layer in conv_net.layers:
        x, spacing = _layer(layer, variables, x, spacing)
    return x[:: stride[0], :: stride[1]][: size[0], : size[1]]


def _joined(block, variables, x, spacing):
    """A layer that branches: each path by itself, joined at the positions that all of them have."""
    own = {collection: tree.get(block.name, {}) for collection, tree in variables.items()}
    outputs = []
    for path in block.paths:
        y, behind = x, spacing
        for layer in path:
            y, behind = _layer(layer, own, y, behind)
        outputs.append(y)
    height, width = (min(y.shape[axis] for y in outputs) for axis in range(2))
    outputs = [y[:height, :width] for y in outputs]
    if block.join == "concat":
        return np.concatenate(outputs, axis=-1), behind
    return {"sum": np.sum, "mean": np.mean, "max": np.max, "product": np.prod}[block.join](outputs, axis=0), behind


def _layer(layer, variables, x, spacing):
    if isinstance(layer, Branches):
        return _joined(layer, variables, x, spacing)
    if isinstance(layer, Activation):
        quick = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}.get(layer.function)
        return (quick(x) if quick else layers.activation(x, layer.function, **layer.options())), spacing
    if isinstance(layer, Dropout | StochasticDepth):
        return x, spacing
    if isinstance(layer, ChannelShuffle):
        return x[..., layer.order(x.shape[2])], spacing
    if isinstance(layer, PReLU):
        slope = np.asarray(variables["params"][layer.name]["slope"], np.float64)
        return np.where(x > 0, x, slope * x), spacing
    if isinstance(layer, Scale):
        own = variables["params"][layer.name]
        bias = np.asarray(own["bias"], np.float64) if layer.use_bias else 0
        return x * np.asarray(own["scale"], np.float64) + bias, spacing
    if isinstance(layer, BatchNorm):
        scale, stats = variables["params"][layer.name]["norm"], variables["batch_stats"][layer.name]["norm"]
        scale, stats = ({k: np.asarray(v, np.float64) for k, v in tree.items()} for tree in (scale, stats))
        normal = (x - stats["mean"]) / np.sqrt(stats["var"] + layer.epsilon)
        return normal * scale["scale"] + scale["bias"], spacing
    # In values of one pass: what the layer itself would see.
    seen = layer.window((*((n - 1) // s + 1 for n, s in zip(x.shape, spacing, strict=False)), x.shape[2]))
    positions, counted = [], []
    for axis in range(2):
        n, (low, high) = spacing[axis], seen.padding[axis]
        last = x.shape[axis] - 1 + (low + high - (seen.extent[axis] - 1)) * n
        if getattr(layer, "rounding", "") == "ceil":
            last = max(last, min(last + (seen.stride[axis] - 1) * n, x.shape[axis] - 1 + low * n))
        taps = (np.arange(seen.kernel[axis]) * seen.dilation[axis] - low) * n
        positions.append(np.arange(last + 1)[:, None] + taps)  # (positions, taps)
        counted.append(positions[axis] <= x.shape[axis] - 1 + high * n)  # within the image and its padding
    rows, columns = positions
    inside = [(p >= 0) & (p < m) for p, m in zip(positions, x.shape, strict=False)]
    real = inside[0][:, None, :, None] & inside[1][None, :, None, :]  # (h, w, kh, kw)
    taps = x[np.clip(rows, 0, x.shape[0] - 1)[:, None, :, None], np.clip(columns, 0, x.shape[1] - 1)[None, :, None, :]]
    if isinstance(layer, AvgPool) and layer.count_padding:
        divisor = counted[0].sum(axis=1)[:, None, None] * counted[1].sum(axis=1)[:, None]
        y = np.where(real[..., None], taps, 0).sum(axis=(2, 3)) / divisor
    else:
        y = _combine(layer, variables, taps, real)
    return y, [n * s for n, s in zip(spacing, seen.stride, strict=True)]


def _combine(layer, variables, taps, real):
    """Windows [h, w, kh, kw, C], and which of their pixels are real, to values [h, w, C']."""
    real = real[..., None]
    if isinstance(layer, Conv):
        params = variables["params"][layer.name]
        kernel = np.asarray(params["kernel"], np.float64)
        taps = np.where(real, taps, layer.padding_value)
        inputs, outputs = kernel.shape[2], kernel.shape[3] // layer.groups
        parts = []
        for g in range(layer.groups):
            seen = taps[..., g * inputs : (g + 1) * inputs]
            parts.append(np.einsum("hwijc,ijck->hwk", seen, kernel[..., g * outputs : (g + 1) * outputs]))
        return np.concatenate(parts, axis=-1) + (np.asarray(params["bias"], np.float64) if layer.use_bias else 0)
    if isinstance(layer, BlurPool):
        return np.einsum("hwijc,ijc->hwc", np.where(real, taps, 0), layer.weights(taps.shape[-1])[:, :, 0])
    if isinstance(layer, Crop):
        return taps[:, :, taps.shape[2] // 2, taps.shape[3] // 2]
    flat = np.where(real, taps, -np.inf).reshape(*taps.shape[:2], -1, taps.shape[-1])
    count = real.sum(axis=(2, 3))
    if isinstance(layer, MaxPool):
        return flat.max(axis=2)
    if isinstance(layer, AvgPool):
        inside = np.where(real, taps, 0).reshape(flat.shape)
        return inside.sum(axis=2) / count
    assert isinstance(layer, NMaxPool)
    largest = -np.sort(-flat, axis=2)[:, :, : layer.n]
    counted = np.arange(layer.n)[None, None, :, None] < count[:, :, None]
    undefined = np.isnan(flat).any(axis=2)
    return np.where(undefined, np.nan, np.where(counted, largest, 0).sum(axis=2) / np.minimum(count, layer.n))
