"""PyTorch nets whose exports are known to differ between exporters: what each writes is in the names of the nets.

`python torch_nets.py FOLDER dynamo|legacy NAME...` writes each net to FOLDER/NAME.onnx, with images and the scores that
PyTorch gives in FOLDER/NAME.npz. It runs in a process of its own: the exporter leaves warnings and hooks behind.
"""

import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn


class Function(nn.Module):
    """A function of images, between layers."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


class Normalised(nn.Module):
    """A net whose first operation is (x - mean) / std."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, x: Any) -> Any:
        return self.net((x - self.mean) / self.std)


class Residual(nn.Module):
    """A shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Linear(3, 4),
        )

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.first(x))
        return self.last((y + self.second(y)).mean((2, 3)))


def _flat(*layers: nn.Module, inputs: int = 6, flatten: nn.Module | None = None) -> nn.Module:
    """Layers on images of 12x12 pixels, a global mean where nothing else is said, and a fully connected layer."""
    middle = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if flatten is None else [flatten]
    return nn.Sequential(*layers, *middle, nn.Linear(inputs, 4))


def _conv(**options: Any) -> nn.Module:
    return nn.Conv2d(3, 6, 3, **options)


def _alexnet() -> nn.Module:
    """The order of layers of torchvision's AlexNet, narrow."""
    features = [
        nn.Conv2d(3, 4, 11, 4, 2),
        nn.ReLU(True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 6, 5, padding=2),
        nn.ReLU(True),
    ]
    features += [nn.MaxPool2d(3, 2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(3, 2)]
    classifier = [nn.Dropout(), nn.Linear(8 * 36, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 10)]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(6), nn.Flatten(), *classifier)


NETS: dict[str, Callable[[], nn.Module]] = {
    "flatten": lambda: _flat(_conv(), nn.ReLU(), flatten=nn.Flatten(), inputs=600),
    "view": lambda: _flat(_conv(), nn.ReLU(), flatten=Function(lambda x: x.view(x.size(0), -1)), inputs=600),
    "view_count": lambda: _flat(_conv(), flatten=Function(lambda x: x.view(-1, 600)), inputs=600),
    "permuted": lambda: _flat(_conv(), flatten=Function(lambda x: x.permute(0, 2, 3, 1).flatten(1)), inputs=600),
    "dropout": lambda: _flat(_conv(), nn.Dropout2d(), nn.ReLU(), nn.Dropout()),
    "norm_after_conv": lambda: _flat(_conv(bias=False), nn.BatchNorm2d(6), nn.ReLU()),
    "norm_after_relu": lambda: _flat(_conv(), nn.ReLU(), nn.BatchNorm2d(6)),
    "norm_1d": lambda: nn.Sequential(_flat(_conv()), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)),
    "global_mean": lambda: _flat(_conv(), flatten=Function(lambda x: x.mean([2, 3]))),
    "identity_pool": lambda: _flat(_conv(), nn.AdaptiveAvgPool2d(10), flatten=nn.Flatten(), inputs=600),
    "dividing_pool": lambda: _flat(_conv(), nn.AdaptiveAvgPool2d(5), flatten=nn.Flatten(), inputs=150),
    "uneven_pool": lambda: _flat(_conv(), nn.AdaptiveAvgPool2d(3), flatten=nn.Flatten(), inputs=54),  # refused
    "mean_pool": lambda: _flat(_conv(), nn.AvgPool2d(2)),
    "padded_mean_pool": lambda: _flat(_conv(), nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)),
    "without_bias": lambda: nn.Sequential(_conv(bias=False), nn.Flatten(), nn.Linear(600, 4, bias=False)),
    "normalised": lambda: Normalised(_flat(_conv(), nn.ReLU())),
    "zero_pad": lambda: _flat(nn.ZeroPad2d((1, 2, 0, 1)), _conv(), nn.ReLU()),
    "same_even": lambda: _flat(nn.Conv2d(3, 6, 4, padding="same"), nn.ReLU()),
    "reflect": lambda: _flat(_conv(padding=1, padding_mode="reflect"), nn.ReLU()),
    "replicate": lambda: _flat(_conv(padding=1, padding_mode="replicate"), nn.ReLU()),
    "response": lambda: _flat(_conv(), nn.ReLU(), nn.LocalResponseNorm(5, alpha=0.5, k=2.0), nn.MaxPool2d(2)),
    "relu6": lambda: _flat(_conv(), nn.ReLU6()),
    "prelu": lambda: _flat(_conv(), nn.PReLU(6), nn.Conv2d(6, 6, 2), nn.PReLU()),
    "gelu_silu": lambda: _flat(_conv(), nn.GELU(), nn.Conv2d(6, 6, 2), nn.SiLU(), nn.Conv2d(6, 6, 2), nn.GELU("tanh")),
    "mish_hard": lambda: _flat(_conv(), nn.Mish(), nn.Conv2d(6, 6, 2), nn.Hardswish(), nn.Conv2d(6, 6, 2), nn.ELU(0.5)),
    "softmax": lambda: nn.Sequential(_flat(_conv(), nn.ReLU()), nn.Softmax(1)),
    "dilated_groups": lambda: _flat(
        _conv(groups=3, dilation=2, stride=2), nn.LeakyReLU(0.2), nn.MaxPool2d(2, ceil_mode=True)
    ),
    "alexnet": _alexnet,
    "residual": Residual,
}
SIZES = {"alexnet": 224}


def export(name: str, exporter: str, folder: pathlib.Path) -> None:
    """Writes one net, its images and its scores."""
    torch.manual_seed(len(name))
    net = NETS[name]().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    size = SIZES.get(name, 12)
    images = torch.randn(2, 3, size, size)
    options: dict[str, Any] = {"input_names": ["images"], "output_names": ["scores"], "verbose": False}
    options |= {"dynamic_axes": {"images": {0: "n"}}} if exporter == "legacy" else {}
    try:
        torch.onnx.export(net, (images,), folder / f"{name}.onnx", dynamo=exporter == "dynamo", **options)
    except Exception as error:
        print(name, "is not exported:", str(error).splitlines()[0][:100])
    with torch.no_grad():
        np.savez(folder / f"{name}.npz", images=images.numpy(), scores=net(images).numpy())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for one in sys.argv[3:] or NETS:
        export(one, sys.argv[2], pathlib.Path(sys.argv[1]))
