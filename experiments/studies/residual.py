"""What the identity beside convolutions does, at three depths."""

from experiments.ablation.study import TEST, Contrast, Study

_DEPTHS = (8, 14, 20)


def _cell(depth: int, identity: bool) -> str:
    return f"{depth} layers, {'residual' if identity else 'plain'}"


STUDY = Study(
    question="Does the identity beside a block's convolutions help, at three depths?",
    cells={
        _cell(depth, identity): {"net.options.depth": depth, "net.options.identity": identity}
        for depth in _DEPTHS
        for identity in (True, False)
    },
    baseline=_cell(8, True),
    shared={"net.name": "preact_resnet", "net.options": {"width": 8}, "data.image_size": 16, "train.epochs": 5.0},
    base="configs/ablation_cifar10.py",
    tune={"train.learning_rate": (0.02, 0.05, 0.125, 0.3, 0.8)},
    contrasts=tuple(Contrast((_cell(depth, True), TEST), (_cell(depth, False), TEST)) for depth in _DEPTHS[1:]),
    notes="CIFAR-10 (JPEG), 10,000 pictures resized to 16x16. Nets that normalise before their convolutions, with 8, "
    "16 and 32 maps in three stages; plain nets have the same layers without what is added beside them: the identity, "
    "and a 1x1 convolution where maps are halved. The originals have 16 maps, pictures of 32x32 and 20 to 110 layers. "
    "Other work ran on the machine, so that the seconds are not comparable.",
    seeds=5,
)
