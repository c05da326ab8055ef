"""Layers to compare with the reference and with PyTorch: fields as `cnn.layers` takes them, and the same spelt out.

The second form (stride, padding, ... as explicit pairs, PyTorch's and NumPy's way) is written by hand, so that how
`cnn` reads "same", one number for two axes, or no stride at all is tested too.
"""

# name: (height and width, channels, fields of the layer, spelt out where not the default)
CONVOLUTIONS = {
    "3x3": ((7, 9), 2, dict(kernel=3), {}),
    "1x1": ((5, 4), 3, dict(kernel=1), {}),
    "1x1 stride 2": ((5, 7), 3, dict(kernel=1, stride=2), dict(stride=(2, 2))),
    "whole map": ((4, 5), 2, dict(kernel=(4, 5)), {}),
    "rectangular": ((8, 9), 2, dict(kernel=(2, 5), stride=(1, 2)), dict(stride=(1, 2))),
    "even kernel": ((6, 5), 1, dict(kernel=4), {}),
    "floor": ((8, 10), 2, dict(kernel=3, stride=(2, 3), rounding="floor"), dict(stride=(2, 3))),
    "same": ((5, 6), 2, dict(kernel=(3, 2), padding="same"), dict(padding=((1, 1), (0, 1)))),
    "same stride 2": ((7, 8), 2, dict(stride=2, padding="same"), dict(stride=(2, 2), padding=((1, 1), (0, 1)))),
    "pad 2": ((5, 4), 2, dict(kernel=5, padding=2), dict(padding=((2, 2), (2, 2)))),
    "pad (1, 0)": ((5, 4), 2, dict(padding=(1, 0)), dict(padding=((1, 1), (0, 0)))),
    "asymmetric": ((5, 6), 2, dict(padding=((2, 0), (1, 3))), dict(padding=((2, 0), (1, 3)))),
    "edge": (
        (5, 6),
        2,
        dict(kernel=5, padding=((2, 3), (1, 2)), padding_mode="edge"),
        dict(padding=((2, 3), (1, 2)), mode="edge"),
    ),
    "reflect": (
        (5, 4),
        2,
        dict(padding=((2, 1), (1, 3)), padding_mode="reflect"),
        dict(padding=((2, 1), (1, 3)), mode="reflect"),
    ),
    "constant": (
        (5, 6),
        2,
        dict(kernel=(3, 2), padding=((1, 1), (0, 1)), stride=(2, 1), padding_mode="constant", padding_value=-1.5),
        dict(padding=((1, 1), (0, 1)), stride=(2, 1), mode="constant", value=-1.5),
    ),
    "mean": (
        (5, 6),
        2,
        dict(padding=((1, 2), (2, 1)), padding_mode="mean"),
        dict(padding=((1, 2), (2, 1)), mode="mean"),
    ),
    "mean, stride 2, same": (
        (5, 7),
        2,
        dict(kernel=3, stride=2, padding="same", padding_mode="mean"),
        dict(stride=(2, 2), padding=((1, 1), (1, 1)), mode="mean"),
    ),
    "groups": ((5, 6), 4, dict(groups=2, padding=1), dict(groups=2, padding=((1, 1), (1, 1)))),
    "1x1 groups": ((3, 4), 4, dict(kernel=1, groups=2), dict(groups=2)),
    "depthwise": (
        (7, 5),
        6,
        dict(groups=6, stride=(2, 1), padding=1),
        dict(groups=6, stride=(2, 1), padding=((1, 1), (1, 1))),
    ),
    "dilation": ((8, 9), 2, dict(kernel=(3, 2), dilation=(2, 3)), dict(dilation=(2, 3))),
    "edge, dilation, groups": (
        (6, 7),
        4,
        dict(padding=2, dilation=2, stride=(1, 2), groups=2, padding_mode="edge"),
        dict(padding=((2, 2), (2, 2)), dilation=(2, 2), stride=(1, 2), groups=2, mode="edge"),
    ),
    "many features": ((5, 6), 3, dict(features=64), {}),
    "many features, dilation": ((6, 5), 3, dict(features=64, dilation=(2, 1)), dict(dilation=(2, 1))),
    "many features, stride": ((7, 6), 3, dict(features=64, stride=(2, 3)), dict(stride=(2, 3))),
}

LOCAL = {
    "3x3": ((6, 7), 2, dict(kernel=3), {}),
    "1x1": ((3, 4), 3, dict(kernel=1), {}),
    "rectangular": ((6, 9), 3, dict(kernel=(2, 3), stride=(1, 2)), dict(stride=(1, 2))),
    "padded": ((5, 6), 2, dict(padding=((1, 0), (0, 2))), dict(padding=((1, 0), (0, 2)))),
    "dilated": ((7, 8), 2, dict(kernel=(2, 3), dilation=(3, 2)), dict(dilation=(3, 2))),
}

# name: (height and width, fields of the layer, spelt out)
POOLS = {
    "2x2": ((6, 8), {}, dict(kernel=(2, 2), stride=(2, 2))),
    "overlapping": ((7, 9), dict(kernel=3, stride=2), dict(kernel=(3, 3), stride=(2, 2))),
    "floor": ((8, 10), dict(kernel=3, stride=2, rounding="floor"), dict(kernel=(3, 3), stride=(2, 2))),
    "ceil": ((8, 10), dict(kernel=3, stride=2, rounding="ceil"), dict(kernel=(3, 3), stride=(2, 2), rounding="ceil")),
    "ceil, odd": ((7, 5), dict(rounding="ceil"), dict(kernel=(2, 2), stride=(2, 2), rounding="ceil")),
    "ceil, no window in the padding": (
        (5, 5),
        dict(kernel=2, stride=3, padding=1, rounding="ceil"),
        dict(kernel=(2, 2), stride=(3, 3), padding=((1, 1), (1, 1)), rounding="ceil"),
    ),
    "ceil, padded": (
        (6, 8),
        dict(kernel=(3, 4), stride=(2, 3), padding=1, rounding="ceil"),
        dict(kernel=(3, 4), stride=(2, 3), padding=((1, 1), (1, 1)), rounding="ceil"),
    ),
    "rectangular": ((5, 7), dict(kernel=(2, 3), stride=(1, 2)), dict(kernel=(2, 3), stride=(1, 2))),
    "padded": (
        (7, 9),
        dict(kernel=3, stride=2, padding=1),
        dict(kernel=(3, 3), stride=(2, 2), padding=((1, 1), (1, 1))),
    ),
    "same": (
        (6, 7),
        dict(kernel=3, stride=2, padding="same"),
        dict(kernel=(3, 3), stride=(2, 2), padding=((0, 1), (1, 1))),
    ),
    "asymmetric": (
        (5, 6),
        dict(kernel=3, stride=1, padding=((1, 0), (0, 2))),
        dict(kernel=(3, 3), stride=(1, 1), padding=((1, 0), (0, 2))),
    ),
    "dilated": (
        (7, 9),
        dict(kernel=(2, 3), stride=1, dilation=(3, 2)),
        dict(kernel=(2, 3), stride=(1, 1), dilation=(3, 2)),
    ),
    "gaps": ((8, 11), dict(kernel=2, stride=3), dict(kernel=(2, 2), stride=(3, 3))),
    "global": ((5, 6), dict(kernel=None), dict(kernel=(5, 6), stride=(5, 6))),
}
