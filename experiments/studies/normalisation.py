"""Normalisation layers."""

from experiments.ablation.study import Study

STUDY = Study(
    question='Is the effect of local response normalisation "minimal, if any", and that of batch normalisation?',
    cells={
        "none": {},
        "LRN": {"net.options.norm": "lrn"},
        "batch norm": {"net.options.norm": "batch"},
    },
    baseline="none",
    base="configs/ablation_cifar10.py",
    tune={"train.learning_rate": (0.005, 0.0167, 0.05, 0.15)},
    notes="CIFAR-10 (JPEG). LRN as in AlexNet, after the activation, over 5 channels; batch norm before it. Each cell "
    "has the best of four learning rates.",
)
