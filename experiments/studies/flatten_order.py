"""The order in which a map is laid out as a vector."""

from experiments.ablation.measures import flattening
from experiments.ablation.study import Study

STUDY = Study(
    question="Does the order of flattening matter, if it is kept?",
    cells={
        "pixel by pixel": {"net.options.flatten_order": "hwc"},
        "map by map": {"net.options.flatten_order": "chw"},
        "random": {"net.options.flatten_order": "random"},
    },
    baseline="pixel by pixel",
    measures=(flattening(),),
    notes="Two claims. With the rows of the kernel permuted along, the function is the same: its difference, where sums"
    " are exact, must be 0 to the bit. Trained afresh, the nets start from other numbers and are equal in "
    "distribution.",
)
