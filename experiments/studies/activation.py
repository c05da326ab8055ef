"""The non-linearity."""

from experiments.ablation.study import Study

STUDY = Study(
    question="Does it matter which non-linearity follows each layer?",
    cells={name: {"net.options.activation": name} for name in ("relu", "elu", "gelu", "tanh", "sigmoid", "identity")},
    baseline="relu",
    tune={"train.learning_rate": (0.0125, 0.05, 0.2)},
    notes="Each cell has the best of three learning rates. Kernels start by He's rule, made for ReLU.",
)
