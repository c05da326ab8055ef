"""What stands beyond the border of a map."""

from experiments.ablation.study import Study

STUDY = Study(
    question="Does it matter what a convolution sees beyond the border: nothing, zeros, or the picture continued?",
    cells={
        "zero": {"net.options.padding": "same", "net.options.padding_mode": "zero"},
        "valid": {"net.options.padding": "valid"},
        "edge": {"net.options.padding": "same", "net.options.padding_mode": "edge"},
        "reflect": {"net.options.padding": "same", "net.options.padding_mode": "reflect"},
        "mean": {"net.options.padding": "same", "net.options.padding_mode": "mean"},
    },
    baseline="zero",
    base="configs/ablation_cifar10.py",
    notes="CIFAR-10 (JPEG), whose pictures go on beyond their frame. Without padding maps shrink, so that this cell has"
    " fewer parameters and multiply-adds too.",
)
