"""The number of training examples."""

from experiments.ablation.study import Study

_SIZES = (10_000, 500, 1_000, 2_000, 5_000, 20_000)

STUDY = Study(
    question="What does twice the data buy?",
    cells={f"{size:,}": {"data.train_examples": size} for size in _SIZES},
    baseline="10,000",
    shared={"train.epochs": None, "train.steps": 800},
    notes="Every cell takes the same 800 steps of 64 examples, so that smaller sets are seen more often. Fewer "
    "examples are among more.",
)
