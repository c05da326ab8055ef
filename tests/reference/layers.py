"""The layers in NumPy float64, with a loop over every output position. Images are [N, H, W, C].

Nothing here comes from `cnn`: windows are counted by walking them, not by a formula. Pairs are (vertical, horizontal);
padding is ((top, bottom), (left, right)).
"""

import math

import numpy as np

PAD_MODES = {"zero": "constant", "constant": "constant", "edge": "edge", "reflect": "reflect", "mean": "mean"}


def window_starts(size, kernel, stride, low, high, dilation, ceil=False):
    """First pixel of each window along one axis, by walking from the padded edge; pixel 0 is the first real one."""
    extent = (kernel - 1) * dilation + 1
    starts, start, end = [], -low, -low
    while start + extent <= size + high:
        starts.append(start)
        end = start + extent
        start += stride
    # PyTorch: one more window may hang over the end, if something is left over and it starts left of the far padding.
    if ceil and end < size + high and start < size:
        starts.append(start)
    return starts


def taps(start, kernel, dilation):
    """Pixels that a window sees along one axis."""
    return [start + i * dilation for i in range(kernel)]


def convolution(
    images, kernel, bias, stride=(1, 1), padding=((0, 0), (0, 0)), mode="zero", dilation=(1, 1), groups=1, value=0.0
):
    """Cross-correlation; kernel [kh, kw, C / groups, K], bias [K]. Windows that do not fit are left out."""
    images, kernel, bias = (np.asarray(a, np.float64) for a in (images, kernel, bias))
    filled = {"constant_values": value} if mode == "constant" else {}
    padded = np.pad(images, ((0, 0), *padding, (0, 0)), mode=PAD_MODES[mode], **filled)
    kh, kw, depth, features = kernel.shape
    rows = window_starts(padded.shape[1], kh, stride[0], 0, 0, dilation[0])
    columns = window_starts(padded.shape[2], kw, stride[1], 0, 0, dilation[1])
    out = np.zeros((len(images), len(rows), len(columns), features))
    for a, y in enumerate(rows):
        for b, x in enumerate(columns):
            seen = padded[:, taps(y, kh, dilation[0])][:, :, taps(x, kw, dilation[1])]  # [N, kh, kw, C]
            for k in range(features):
                first = k // (features // groups) * depth  # the first channel of this feature's group
                volume = seen[..., first : first + depth] * kernel[..., k]
                out[:, a, b, k] = volume.sum(axis=(1, 2, 3)) + bias[k]
    return out


def locally_connected(images, kernel, bias, size, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)):
    """Each output pixel has its own kernel: [H', W', C * kh * kw, K], channel by channel; bias [H', W', K]."""
    images, kernel, bias = (np.asarray(a, np.float64) for a in (images, kernel, bias))
    padded = np.pad(images, ((0, 0), *padding, (0, 0)))
    height, width, _, features = kernel.shape
    out = np.zeros((len(images), height, width, features))
    for a in range(height):
        for b in range(width):
            for k in range(features):
                total = np.full(len(images), bias[a, b, k])
                for c in range(images.shape[3]):
                    for i in range(size[0]):
                        for j in range(size[1]):
                            pixel = padded[:, a * stride[0] + i * dilation[0], b * stride[1] + j * dilation[1], c]
                            total += pixel * kernel[a, b, (c * size[0] + i) * size[1] + j, k]
                out[:, a, b, k] = total
    return out


def pool(images, reduce, kernel, stride, padding=((0, 0), (0, 0)), dilation=(1, 1), rounding="floor"):
    """Applies `reduce` (a list of real pixel values -> a number) to each window of each map."""
    images = np.asarray(images, np.float64)
    count, height, width, channels = images.shape
    ceil = rounding == "ceil"
    rows = window_starts(height, kernel[0], stride[0], *padding[0], dilation[0], ceil)
    columns = window_starts(width, kernel[1], stride[1], *padding[1], dilation[1], ceil)
    out = np.zeros((count, len(rows), len(columns), channels))
    for a, top in enumerate(rows):
        for b, left in enumerate(columns):
            ys = [y for y in taps(top, kernel[0], dilation[0]) if 0 <= y < height]
            xs = [x for x in taps(left, kernel[1], dilation[1]) if 0 <= x < width]
            for n in range(count):
                for c in range(channels):
                    out[n, a, b, c] = reduce([images[n, y, x, c] for y in ys for x in xs])
    return out


def padded_mean_pool(images, kernel, stride, padding=((0, 0), (0, 0)), dilation=(1, 1), rounding="floor"):
    """Mean over each window of the image with zeros around it; what lies beyond those does not count."""
    images = np.asarray(images, np.float64)
    _, height, width, _ = images.shape
    ceil = rounding == "ceil"
    rows = window_starts(height, kernel[0], stride[0], *padding[0], dilation[0], ceil)
    columns = window_starts(width, kernel[1], stride[1], *padding[1], dilation[1], ceil)
    out = np.zeros((len(images), len(rows), len(columns), images.shape[3]))
    for a, top in enumerate(rows):
        for b, left in enumerate(columns):
            ys = [y for y in taps(top, kernel[0], dilation[0]) if y < height + padding[0][1]]
            xs = [x for x in taps(left, kernel[1], dilation[1]) if x < width + padding[1][1]]
            for y in (y for y in ys if 0 <= y < height):
                for x in (x for x in xs if 0 <= x < width):
                    out[:, a, b] += images[:, y, x]
            out[:, a, b] /= len(ys) * len(xs)
    return out


def mean(values):
    """Mean of a list."""
    return sum(values) / len(values)


def n_largest_mean(n):
    """Mean of the n largest of a list, or of all if there are fewer."""
    return lambda values: mean(sorted(values, reverse=True)[:n])


def local_response_norm(images, size, k, alpha, beta):
    """AlexNet, section 3.3: a / (k + alpha * sum over neighbouring channels of a^2)^beta; alpha as it is."""
    images = np.asarray(images, np.float64)
    channels = images.shape[3]
    out = np.zeros_like(images)
    for c in range(channels):
        neighbours = [i for i in range(c - size // 2, c - size // 2 + size) if 0 <= i < channels]
        total = sum(images[..., i] ** 2 for i in neighbours)
        out[..., c] = images[..., c] / (k + alpha * total) ** beta
    return out


def batch_moments(x):
    """Mean and (biased) variance of each channel over everything else."""
    x = np.asarray(x, np.float64)
    channels = [x[..., c].ravel() for c in range(x.shape[-1])]
    means = [values.sum() / len(values) for values in channels]
    variances = [((values - m) ** 2).sum() / len(values) for values, m in zip(channels, means, strict=True)]
    return np.array(means), np.array(variances)


def batch_norm(x, mean, variance, scale, bias, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, channel by channel."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    for c in range(x.shape[-1]):
        normal = (x[..., c] - mean[c]) / math.sqrt(variance[c] + epsilon)
        out[..., c] = normal * scale[c] + bias[c]
    return out


def dense(x, kernel, bias):
    """x [N, inputs], kernel [inputs, K], bias [K]."""
    out = np.zeros((len(x), kernel.shape[1]))
    for n in range(len(x)):
        for k in range(kernel.shape[1]):
            out[n, k] = sum(float(x[n, i]) * float(kernel[i, k]) for i in range(kernel.shape[0])) + bias[k]
    return out


def flatten(images, order):
    """ "hwc": pixel by pixel, all channels of each; "chw": map by map, each left to right and top to bottom."""
    count, height, width, channels = images.shape
    ranges = {"h": range(height), "w": range(width), "c": range(channels)}
    rows = []
    for n in range(count):
        row = []
        for first in ranges[order[0]]:
            for second in ranges[order[1]]:
                for third in ranges[order[2]]:
                    at = dict(zip(order, (first, second, third), strict=True))
                    row.append(images[n, at["h"], at["w"], at["c"]])
        rows.append(row)
    return np.array(rows)


SQRT2 = math.sqrt(2)
ACTIVATIONS = {
    "relu": lambda v: max(v, 0.0),
    "leaky_relu": lambda v, slope=0.01: v if v >= 0 else slope * v,
    "relu6": lambda v: min(max(v, 0.0), 6.0),
    "thresholded_relu": lambda v, slope=1.0: v if v > slope else 0.0,
    "elu": lambda v, slope=1.0: v if v >= 0 else slope * (math.exp(v) - 1),
    "celu": lambda v, slope=1.0: max(v, 0.0) + min(0.0, slope * (math.exp(v / slope) - 1)),
    "selu": lambda v, slope=1.6732632423543772, scale=1.0507009873554805: (
        scale * (v if v >= 0 else slope * (math.exp(v) - 1))
    ),
    # The tanh form of GELU (Hendrycks, Gimpel, 2016), which is what Flax computes; the exact one differs by < 5e-4.
    "gelu": lambda v: 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    "gelu_tanh": lambda v: 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    "gelu_exact": lambda v: v * (1 + math.erf(v / SQRT2)) / 2,
    "silu": lambda v, slope=1.0: v / (1 + math.exp(-slope * v)),
    "mish": lambda v: v * math.tanh(math.log(1 + math.exp(v))),
    "softplus": lambda v: math.log(1 + math.exp(v)),
    "softsign": lambda v: v / (1 + abs(v)),
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "hard_sigmoid": lambda v, slope=1 / 6, offset=0.5: min(max(slope * v + offset, 0.0), 1.0),
    "hard_swish": lambda v: v * min(max(v / 6 + 0.5, 0.0), 1.0),
    "tanh": math.tanh,
    "scaled_tanh": lambda v: 1.7159 * math.tanh(2 * v / 3),
    "clip": lambda v, low=-math.inf, high=math.inf: min(max(v, low), high),
    "identity": lambda v: v,
}


def activation(x, function, **fields):
    """Value by value."""
    x = np.asarray(x, np.float64)
    return np.array([ACTIVATIONS[function](v, **fields) for v in x.ravel().tolist()]).reshape(x.shape)


def prelu(x, slope):
    """x above 0, and the slope of its channel (or of all) times x below."""
    x, slope = np.asarray(x, np.float64), np.broadcast_to(np.asarray(slope, np.float64), x.shape[-1:])
    out = np.zeros_like(x)
    for c in range(x.shape[-1]):
        flat = [v if v > 0 else slope[c] * v for v in x[..., c].ravel().tolist()]
        out[..., c] = np.array(flat).reshape(x.shape[:-1])
    return out


def softmax(x):
    """Along the last axis."""
    rows = np.asarray(x, np.float64).reshape(-1, np.shape(x)[-1]).tolist()
    out = [[math.exp(v - max(row)) / sum(math.exp(w - max(row)) for w in row) for v in row] for row in rows]
    return np.array(out).reshape(np.shape(x))
