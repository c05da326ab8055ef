"""The width of the hidden fully connected layer."""

from experiments.ablation.study import Study

STUDY = Study(
    question="How wide should the hidden fully connected layer be, which holds most of the parameters?",
    cells={f"{width}": {"net.options.width": width} for width in (64, 8, 32, 256)}
    | {"none": {"net.options.fc": 0}, "global average": {"net.options.head": "global"}},
    baseline="64",
    notes='"none": the map goes straight to the classes. "global average": the mean of each map goes to 64 values.',
)
