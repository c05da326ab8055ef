"""Pooling, or something in its place."""

from experiments.ablation.study import Study

STUDY = Study(
    question="Does it matter how a net pools: by the maximum, the mean, the largest few, or learned strides?",
    cells={
        "max": {"net.options.pool": "max"},
        "average": {"net.options.pool": "average"},
        "2-max": {"net.options.pool": "n_max"},
        "3-max": {"net.options.pool": "n_max", "net.options.pool_n": 3},
        "2x2 convolution, stride 2": {"net.options.pool": "conv"},
        "convolution with stride 2": {"net.options.pool": "stride"},
    },
    baseline="max",
    notes="N-max pooling is the mean of the N largest values of a 2x2 field.",
)
