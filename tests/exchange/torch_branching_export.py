"""`python torch_branching_export.py FOLDER dynamo|legacy NAME...` writes nets that branch as ONNX, with their scores.

It runs in a process of its own: the exporter leaves warnings and hooks behind.
"""

import pathlib
import sys
import warnings

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from tests.exchange import torch_branching as twins  # noqa: E402  the repository is not installed for scripts


def headed(*layers, maps):
    """Layers, a global mean, and a fully connected layer."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, 4))


NETS = {
    "residual": lambda: headed(twins.Block(3, 3, 1, 1), twins.Block(3, 6, 2, 1), twins.Block(6, 2, 2, 4), maps=8),
    "resnet18": lambda: twins.ResNet((2, 2, 2, 2), classes=5, width=8),
    "inception": lambda: headed(twins.Inception(3, 2, 3, 4, 2, 3, 2), twins.Inception(11, 2, 3, 4, 2, 3, 2), maps=11),
    "fire": lambda: headed(twins.Fire(3, 2, 4), nn.MaxPool2d(3, 2, ceil_mode=True), twins.Fire(8, 2, 4), maps=8),
    "dense": lambda: headed(twins.DenseBlock(3, 4, 2), nn.ReLU(), maps=11),
    "inverted": lambda: headed(twins.Inverted(3, 3, 1, 4), twins.Inverted(3, 5, 2, 4), maps=5),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, exporter = pathlib.Path(sys.argv[1]), sys.argv[2]
    for name in sys.argv[3:] or NETS:
        net = twins.settled(NETS[name](), 2, 48)
        images = torch.randn(2, 3, 48, 48)
        options = {"input_names": ["images"], "output_names": ["scores"], "verbose": False}
        options |= {"dynamic_axes": {"images": {0: "n"}}} if exporter == "legacy" else {}
        torch.onnx.export(net, (images,), folder / f"{name}.onnx", dynamo=exporter == "dynamo", **options)
        with torch.no_grad():
            np.savez(folder / f"{name}.npz", images=images.numpy(), scores=net(images).numpy())
