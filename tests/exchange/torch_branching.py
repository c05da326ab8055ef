"""Nets of PyTorch that branch, with the names that torchvision and timm give to their modules, and random weights."""

from collections import OrderedDict

import torch
from torch import nn


def unit(inputs, outputs, kernel=1, stride=1, groups=1, act=None, eps=1e-5):
    """Convolution without bias, normalisation, activation, as an nn.Sequential that numbers them."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=eps), *([act] if act else []))


class Block(nn.Module):
    """A residual block: basic with two convolutions, or a bottleneck with three, the second of them strided."""

    def __init__(self, inputs, maps, stride, wide):
        super().__init__()
        self.convs = 2 if wide == 1 else 3
        kernels = (3, 3) if wide == 1 else (1, 3, 1)
        strides = (stride, 1) if wide == 1 else (1, stride, 1)
        sizes = (inputs, maps, maps * wide) if wide == 1 else (inputs, maps, maps, maps * wide)
        for i, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            conv = nn.Conv2d(sizes[i], sizes[i + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(sizes[i + 1]))
        self.downsample = unit(inputs, maps * wide, 1, stride) if stride > 1 or inputs != maps * wide else None

    def forward(self, x):
        y = x
        for i in range(1, self.convs + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = torch.relu(y) if i < self.convs else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, counts, wide=1, classes=10, width=64):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(counts):
            blocks = []
            for i in range(count):
                blocks.append(Block(inputs, width * 2**stage, 2 if stage and not i else 1, wide))
                inputs = width * 2**stage * wide
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class BasicConv(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, inputs, one, three_in, three, five_in, five, pooled):
        super().__init__()
        self.branch1 = BasicConv(inputs, one)
        self.branch2 = nn.Sequential(BasicConv(inputs, three_in), BasicConv(three_in, three, 3))
        self.branch3 = nn.Sequential(BasicConv(inputs, five_in), BasicConv(five_in, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv(inputs, pooled))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """With both auxiliary heads, which only training uses."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = BasicConv(3, 64, 7, 2), BasicConv(64, 64), BasicConv(64, 192, 3)
        rows = {
            "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
            "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
            "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
            "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
            "5b": (832, 384, 192, 384, 48, 128, 128),
        }  # fmt: skip
        for name, row in rows.items():
            self.add_module(f"inception{name}", Inception(*row))
        for name, inputs in (("aux1", 512), ("aux2", 528)):
            head = OrderedDict(conv=BasicConv(inputs, 128), fc1=nn.Linear(2048, 1024), fc2=nn.Linear(1024, classes))
            self.add_module(name, nn.Sequential(head))
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        def pool(x, kernel):
            return nn.functional.max_pool2d(x, kernel, 2, ceil_mode=True)

        x = pool(self.conv3(self.conv2(pool(self.conv1(x), 3))), 3)
        for names, kernel in ((("3a", "3b"), 3), (("4a", "4b", "4c", "4d", "4e"), 2), (("5a", "5b"), 0)):
            for name in names:
                x = self.get_submodule(f"inception{name}")(x)
            x = pool(x, kernel) if kernel else x
        return self.fc(x.mean((2, 3)))


class Fire(nn.Module):
    def __init__(self, inputs, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self, version="1.1", classes=10):
        super().__init__()

        def pool():
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        fires = [Fire(96 if version == "1.0" else 64, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128)]
        fires += [Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
        if version == "1.0":
            layers = [nn.Conv2d(3, 96, 7, 2), nn.ReLU(), pool(), *fires[:3], pool(), *fires[3:7], pool(), fires[7]]
        else:
            layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), *fires[:2], pool(), *fires[2:4], pool(), *fires[4:]]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.classifier(self.features(x)).flatten(1)


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, found):
        x = torch.cat(found, 1)
        return self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))


class DenseBlock(nn.Module):
    """As torchvision writes it: each layer takes a list of all maps before it."""

    def __init__(self, inputs, count, growth):
        super().__init__()
        for i in range(count):
            self.add_module(f"denselayer{i + 1}", DenseLayer(inputs + i * growth, growth))

    def forward(self, x):
        found = [x]
        for layer in self.children():
            found.append(layer(found))
        return torch.cat(found, 1)


class DenseNet(nn.Module):
    def __init__(self, counts=(6, 12, 24, 16), growth=32, classes=10):
        super().__init__()
        size = 2 * growth
        first = nn.Conv2d(3, size, 7, 2, 3, bias=False)
        layers = OrderedDict(conv0=first, norm0=nn.BatchNorm2d(size), relu0=nn.ReLU(), pool0=nn.MaxPool2d(3, 2, 1))
        for number, count in enumerate(counts, start=1):
            layers[f"denseblock{number}"] = DenseBlock(size, count, growth)
            size += count * growth
            if number < len(counts):
                conv = nn.Conv2d(size, size // 2, 1, bias=False)
                parts = OrderedDict(norm=nn.BatchNorm2d(size), relu=nn.ReLU(), conv=conv, pool=nn.AvgPool2d(2))
                layers[f"transition{number}"], size = nn.Sequential(parts), size // 2
        layers["norm5"] = nn.BatchNorm2d(size)
        self.features, self.classifier = nn.Sequential(layers), nn.Linear(size, classes)

    def forward(self, x):
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        layers = [unit(inputs, hidden, act=nn.ReLU6())] if expansion > 1 else []
        layers += [unit(hidden, hidden, 3, stride, hidden, nn.ReLU6())]
        self.conv = nn.Sequential(*layers, nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNet(nn.Module):
    ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, classes=10):
        super().__init__()
        layers, inputs = [unit(3, 32, 3, 2, act=nn.ReLU6())], 32
        for expansion, outputs, count, first in self.ROWS:
            for i in range(count):
                layers.append(Inverted(inputs, outputs, first if i == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, unit(320, 1280, act=nn.ReLU6()))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def settled(net, seed, side):
    """A net with random weights and the statistics that images of random numbers have in it, in inference."""
    torch.manual_seed(seed)
    for one in net.modules():
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.normal_(one.bias, std=0.3)
            one.momentum = None
        elif isinstance(one, nn.Conv2d):
            nn.init.kaiming_normal_(one.weight, nonlinearity="relu")
    with torch.no_grad():
        net.train()(torch.randn(4, 3, side, side))
    return net.eval()
