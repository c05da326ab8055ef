"""Nets of PyTorch that are those of torchvision and timm, layer by layer, with random weights."""

import torch
from torch import nn


class Torchvision(nn.Module):
    """features, flatten, classifier: AlexNet and VGG as torchvision names them."""

    def __init__(self, features: list[nn.Module], classifier: list[nn.Module]):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class TimmVgg(nn.Module):
    """features, pre_logits (fully connected layers as convolutions), global pool, head.fc: VGG as timm names it."""

    def __init__(self, features: list[nn.Module], width: int, side: int, classes: int):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc1", nn.Conv2d(512, width, side))
        self.pre_logits.add_module("act1", nn.ReLU())
        self.pre_logits.add_module("fc2", nn.Conv2d(width, width, 1))
        self.pre_logits.add_module("act2", nn.ReLU())
        self.head = nn.Module()
        self.head.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head.fc(self.pre_logits(self.features(x)).mean((2, 3)))


def vgg_features(convs: tuple[int, ...], norm: bool = False) -> list[nn.Module]:
    """Five blocks of 3x3 convolutions, as torchvision and timm both number them."""
    layers: list[nn.Module] = []
    channels = 3
    for count, maps in zip(convs, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(channels, maps, 3, padding=1), *([nn.BatchNorm2d(maps)] if norm else []), nn.ReLU()]
            channels = maps
        layers.append(nn.MaxPool2d(2))
    return layers


def vgg(convs: tuple[int, ...], width: int, side: int, classes: int, norm: bool = False) -> Torchvision:
    """VGG as torchvision names it, for maps of `side` before the classifier."""
    classifier = [
        nn.Linear(512 * side * side, width), nn.ReLU(), nn.Dropout(), nn.Linear(width, width), nn.ReLU(), nn.Dropout(),
        nn.Linear(width, classes),
    ]  # fmt: skip
    return Torchvision(vgg_features(convs, norm), classifier)


def alexnet(classes: int) -> Torchvision:
    """AlexNet of 2012: two groups, normalisation over channels, 227x227 pixels."""
    pool, norm = nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    features = [
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm, pool,
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm, pool,
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), pool,
    ]  # fmt: skip
    classifier = [
        nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, classes),
    ]  # fmt: skip
    return Torchvision(features, classifier)


def alexnet_owt(classes: int) -> Torchvision:
    """The one-tower AlexNet that torchvision calls alexnet, 224x224 pixels."""
    pool = nn.MaxPool2d(3, 2)
    features = [
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), pool, nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), pool,
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), pool,
    ]  # fmt: skip
    classifier = [
        nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, classes),
    ]  # fmt: skip
    return Torchvision(features, classifier)


def lively(module: nn.Module, seed: int) -> nn.Module:
    """Random weights under which values keep their size, and statistics of a net that was trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.ndim > 1:
                value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.is_floating_point():
                value.normal_(0, 0.1, generator=generator)
    return module.eval()
