"""One large kernel, or several small ones."""

from experiments.ablation.study import Study

STUDY = Study(
    question="At an equal receptive field, one large kernel or several small ones?",
    cells={
        "one 7x7": {"net.options.kernel": 7, "net.options.convs": 1},
        "5x5, 3x3": {"net.options.kernel": (5, 3), "net.options.convs": 2},
        "three 3x3": {"net.options.kernel": 3, "net.options.convs": 3},
    },
    baseline="one 7x7",
    shared={"net.options.features": (8, 16)},
    tune={"train.learning_rate": (0.03, 0.08, 0.2)},
    notes="In each of two blocks, before its pool; every cell sees 7x7 pixels before the first pool. Each cell has the "
    "best of three learning rates.",
)
