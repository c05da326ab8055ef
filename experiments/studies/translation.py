"""Translation: what pooling and the head do to it."""

from experiments.ablation.measures import feature_distance, shifted
from experiments.ablation.study import TEST, Series, Study

_PIXELS = (1, 2, 4, 6)

STUDY = Study(
    question="Does pooling buy invariance to translation, and does a global average?",
    cells={
        "pool, flatten": {},
        "no pool, flatten": {"net.options.pool": None},
        "stride, flatten": {"net.options.pool": "stride"},
        "pool, global average": {"net.options.head": "global"},
        "no pool, global average": {"net.options.pool": None, "net.options.head": "global"},
    },
    baseline="pool, flatten",
    shared={"net.options.features": (8, 16)},
    measures=(shifted(*_PIXELS), feature_distance(*_PIXELS)),
    compared=(TEST, "shifted 2 px", "shifted 4 px", "feature distance 2 px", "feature distance 4 px"),
    series=(
        Series("shift, pixels", "test accuracy", {0: TEST} | {n: f"shifted {n} px" for n in _PIXELS}),
        Series("shift, pixels", "feature distance", {n: f"feature distance {n} px" for n in _PIXELS}),
    ),
    notes="Test pictures are shifted, training pictures are not; pictures reach the edge of their frame, so that a "
    "shift of 2 pixels also cuts off 2 % of their intensity, of 4 pixels 6 %, of 6 pixels 12 %. Features are "
    "those that the first fully connected layer sees; their distance is 0 for full invariance and 1 where a "
    "shifted picture is as far as another picture.",
)
