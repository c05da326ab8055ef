"""Known kernels in the first layer, or learned ones."""

from experiments.ablation.study import Study

_FROZEN = {"train.frozen": ("conv1",)}

STUDY = Study(
    question="Are a first layer's kernels better learned than taken from the textbook: Sobel edges and Gaussian blur?",
    cells={
        "learned": {},
        "bank, fixed": {"net.options.first": "bank", **_FROZEN},
        "bank, then learned": {"net.options.first": "bank", **_FROZEN, "train.frozen_until": 0.5},
        "bank, learned from it": {"net.options.first": "bank"},
        "random, fixed": dict(_FROZEN),
    },
    baseline="learned",
    shared={"net.options.features": (6, 32), "net.options.kernel": (5,)},
    notes="Six 5x5 kernels: Sobel edges, vertical and horizontal, of both signs, Gaussian blur, and the picture less "
    'its blur. "Then learned": fixed for half of the run. The bank is quieter than a random start (norms of 0.27 '
    "and about 1.4) at the same learning rate: a part of its differences may be that. A fixed layer keeps its "
    "biases too, at 0.",
)
