"""What dense evaluation gains over a crop."""

from experiments.ablation.measures import Look, enlarged
from experiments.ablation.study import Contrast, Study

_LOOKS = (
    Look("centre crop"),
    Look("crops, coarse, probabilities", 4, "probabilities", "crop"),
    Look("dense, coarse, logits", 4, "logits"),
    Look("dense, coarse, probabilities", 4, "probabilities"),
    Look("dense, fine, logits", 2, "logits"),
    Look("dense, fine, probabilities", 2, "probabilities"),
)
_JITTER = {"augment.scale": (0.9, 1.4)}
_CELLS = {
    "padded": {},
    "padded, jitter": _JITTER,
    "unpadded": {"net.options.padding": "valid"},
    "unpadded, jitter": {"net.options.padding": "valid", **_JITTER},
}
_DENSE = "dense, coarse, probabilities"


def _contrasts(cell: str) -> list[Contrast]:
    pairs = [
        (_DENSE, "centre crop"),
        ("dense, fine, probabilities", _DENSE),
        ("dense, coarse, logits", _DENSE),
    ]
    # Without padding these two give the same scores, so that there is nothing to compare.
    pairs += [] if "unpadded" in cell else [(_DENSE, "crops, coarse, probabilities")]
    return [Contrast((cell, first), (cell, second)) for first, second in pairs]


STUDY = Study(
    question="On enlarged pictures, what does dense evaluation gain over one centre crop: in padded and unpadded nets, "
    "trained with and without scale jitter, at a coarse and a fine stride, averaging logits or probabilities?",
    cells=_CELLS,
    baseline="padded",
    shared={"net.options.kernel": 5},
    base="configs/ablation_cifar10.py",
    measures=(enlarged(40, _LOOKS, images=2000),),
    compared=("centre crop", _DENSE),
    contrasts=tuple(contrast for cell in _CELLS for contrast in _contrasts(cell)),
    notes="CIFAR-10 (JPEG), windows of 32x32; pictures enlarged to 40x40, the first 2,000 test pictures. Coarse: 3x3 "
    "windows at the native stride of 4; fine: 5x5 at stride 2. In a padded net a crop sees zeros at its border"
    " where the dense pass sees the picture: two measurements; without padding they are the same numbers. All "
    "kernels are 5x5, so that sizes divide without padding too.",
)
