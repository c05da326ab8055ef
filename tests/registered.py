"""What tests of all registered nets share: the smallest sensible window of each, and the accelerators."""

import pytest

from cnn import nets

BRANCHING = (
    *("resnet18", "resnet34", "resnet50", "se_resnet18", "preact_resnet", "mobilenet_v2"),
    *("resnet9", "whitened_resnet", "googlenet", "squeezenet", "densenet121"),
)
ACCELERATORS = ("cuda", "rocm", "tpu")
# (height, width, channels) of each registered net's images.
WINDOWS = {
    "alexnet": (67, 67, 3),
    "alexnet_owt": (63, 63, 3),
    "caffenet": (67, 67, 3),
    "cifar10_quick": (32, 32, 3),
    "full_cnn": (8, 8, 1),
    "giusti_n4": (95, 95, 3),
    "layer_pattern": (8, 8, 3),
    "lenet_caffe": (28, 28, 1),
    "lenet5": (32, 32, 1),
    "qa_net": (32, 32, 3),
    "sharing_net": (28, 28, 1),
    "zfnet512": (59, 59, 3),
} | dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19", *BRANCHING, "nin", "all_cnn"), (32, 32, 3))
# Names for tests of every net; deep ones whose programs take minutes are left to `--everything`.
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in BRANCHING and name != "preact_resnet" else name
    for name in nets.names()
]
