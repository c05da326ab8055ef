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
_CELLS = {
    "padded": {},
    "padded, jitter": {"augment.scale": (0.9, 1.4)},
    "unpadded": {"net.options.padding": "valid", "net.options.kernel": (5,)},
    "unpadded, jitter": {"net.options.padding": "valid", "net.options.kernel": (5,), "augment.scale": (0.9, 1.4)},
}
_DENSE = "dense, coarse, probabilities"


def _contrasts(cell: str) -> list[Contrast]:
    pairs = [
        (_DENSE, "centre crop"),
        (_DENSE, "crops, coarse, probabilities"),
        ("dense, fine, probabilities", _DENSE),
        ("dense, coarse, logits", _DENSE),
    ]
    return [Contrast((cell, first), (cell, second)) for first, second in pairs]


STUDY = Study(
    question="On enlarged pictures, what does dense evaluation gain over one centre crop: in padded and unpadded nets, "
    "trained with and without scale jitter, at a coarse and a fine stride, averaging logits or probabilities?",
    cells=_CELLS,
    baseline="padded",
    base="configs/ablation_cifar10.py",
    measures=(enlarged(40, _LOOKS, images=2000),),
    compared=("centre crop", _DENSE),
    contrasts=tuple(contrast for cell in _CELLS for contrast in _contrasts(cell)),
    notes="CIFAR-10 (JPEG), windows of 32x32; pictures enlarged to 40x40, the first 2,000 test pictures. Coarse: 3x3 "
    "windows at the net's own stride of 4; fine: 5x5 at stride 2. In a padded net a crop sees zeros at its border"
    " where the dense pass sees the picture: two measurements. Unpadded nets have 5x5 kernels, so that their "
    "sizes divide.",
)
