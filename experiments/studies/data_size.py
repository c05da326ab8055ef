"""The number of training examples."""

from experiments.ablation.study import TEST, Contrast, Study

_DOUBLED = (("1,000", "500"), ("2,000", "1,000"), ("5,000", "2,000"))

STUDY = Study(
    question="What does twice the data buy?",
    # Ten evaluations in each run: with more, validation would cost more than training on small sets.
    cells={
        f"{size:,}": {"data.train_examples": size, "eval.every_epochs": 5120.0 / size}
        for size in (10_000, 500, 1_000, 2_000, 5_000, 20_000)
    },
    baseline="10,000",
    contrasts=tuple(Contrast((more, TEST), (less, TEST)) for more, less in _DOUBLED),
    shared={"train.epochs": None, "train.steps": 800},
    notes="Every cell takes the same 800 steps of 64 examples, so that smaller sets are seen more often. Fewer "
    "examples are among more.",
)
