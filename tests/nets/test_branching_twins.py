"""Nets that branch against the same nets written in PyTorch as their papers and torchvision have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import geometry, nets
from cnn.layers import BatchNorm, Conv, Dense, Gate
from tests.made import draw

pytestmark = pytest.mark.slow

# Parameters and multiply-adds (of one 224x224 image) that torchvision publishes with its weights, rounded as there.
PUBLISHED = {
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "se_resnet18": (11_778_592, 1.814),
    "mobilenet_v2": (3_504_872, 0.301),
    "googlenet": (6_624_904, 1.498),
    "squeezenet": (1_235_496, 0.349),
    "densenet121": (7_978_856, 2.834),
}


@pytest.fixture(name="torch", scope="module")
def _torch():
    return pytest.importorskip("torch", reason="PyTorch is needed: python -m pip install -r requirements-peers.txt")


def unit(nn, inputs, outputs, kernel=1, stride=1, groups=1, epsilon=1e-5, act=None):
    """Convolution, normalisation, and an activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=epsilon), *([act] if act else [])]


def joint(nn, join, *paths):
    """A module whose paths see the same values."""

    class Joint(nn.Module):
        def __init__(self):
            super().__init__()
            self.paths = nn.ModuleList([nn.Sequential(*path) for path in paths])

        def forward(self, x):
            return join([path(x) for path in self.paths])

    return Joint()


def gate(nn, channels):
    """Squeeze and excitation."""
    factors = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // 16, 1), nn.ReLU()]
    factors += [nn.Conv2d(channels // 16, channels, 1), nn.Sigmoid()]
    return joint(nn, lambda outputs: outputs[0] * outputs[1], [], factors)


def resnet(nn, counts, wide, gated=False):
    layers = [*unit(nn, 3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(counts):
        for i in range(count):
            maps, stride = 64 * 2**stage, 2 if stage and not i else 1
            outputs = maps * wide
            if wide == 1:
                path = [*unit(nn, inputs, maps, 3, stride, act=nn.ReLU()), *unit(nn, maps, maps, 3)]
            else:
                path = [*unit(nn, inputs, maps, act=nn.ReLU()), *unit(nn, maps, maps, 3, stride, act=nn.ReLU())]
                path += unit(nn, maps, outputs)
            path += [gate(nn, outputs)] if gated else []
            short = unit(nn, inputs, outputs, 1, stride) if (inputs, stride) != (outputs, 1) else []
            layers += [joint(nn, sum, path, short), nn.ReLU()]
            inputs = outputs
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000)]


def googlenet(nn, cat):
    def conv(inputs, outputs, kernel=1, stride=1):
        return unit(nn, inputs, outputs, kernel, stride, epsilon=1e-3, act=nn.ReLU())

    def inception(inputs, one, three_in, three, five_in, five, pooled):
        paths = [conv(inputs, one), [*conv(inputs, three_in), *conv(three_in, three, 3)]]
        paths += [[*conv(inputs, five_in), *conv(five_in, five, 3)]]  # torchvision's "5x5" has 3x3
        paths += [[nn.MaxPool2d(3, 1, 1, ceil_mode=True), *conv(inputs, pooled)]]
        return joint(nn, cat, *paths)

    def pool(kernel):
        return nn.MaxPool2d(kernel, 2, ceil_mode=True)

    layers = [*conv(3, 64, 7, 2), pool(3), *conv(64, 64), *conv(64, 192, 3), pool(3)]
    layers += [inception(192, 64, 96, 128, 16, 32, 32), inception(256, 128, 128, 192, 32, 96, 64), pool(3)]
    layers += [inception(480, 192, 96, 208, 16, 48, 64), inception(512, 160, 112, 224, 24, 64, 64)]
    layers += [inception(512, 128, 128, 256, 24, 64, 64), inception(512, 112, 144, 288, 32, 64, 64)]
    layers += [inception(528, 256, 160, 320, 32, 128, 128), pool(2)]
    layers += [inception(832, 256, 160, 320, 32, 128, 128), inception(832, 384, 192, 384, 48, 128, 128)]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, 1000)]


def squeezenet(nn, cat):
    def fire(inputs, squeeze, expand):
        paths = [[nn.Conv2d(squeeze, expand, 1), nn.ReLU()], [nn.Conv2d(squeeze, expand, 3, padding=1), nn.ReLU()]]
        return [nn.Conv2d(inputs, squeeze, 1), nn.ReLU(), joint(nn, cat, *paths)]

    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, *fire(64, 16, 64), *fire(128, 16, 64), pool]
    layers += [*fire(128, 32, 128), *fire(256, 32, 128), pool, *fire(256, 48, 192), *fire(384, 48, 192)]
    layers += [*fire(384, 64, 256), *fire(512, 64, 256), nn.Dropout(0.5), nn.Conv2d(512, 1000, 1), nn.ReLU()]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def densenet(nn, cat):
    def norm(channels):
        return [nn.BatchNorm2d(channels), nn.ReLU()]

    layers, channels = [*unit(nn, 3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)], 64
    for stage, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            path = [*norm(channels), nn.Conv2d(channels, 128, 1, bias=False)]
            path += [*norm(128), nn.Conv2d(128, 32, 3, padding=1, bias=False)]
            layers.append(joint(nn, cat, [], path))
            channels += 32
        layers += norm(channels)
        if stage < 3:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000)]


def mobilenet(nn):
    layers, inputs = unit(nn, 3, 32, 3, 2, act=nn.ReLU6()), 32
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, count, first in rows:
        for stride in [first] + [1] * (count - 1):
            hidden = inputs * expansion
            path = unit(nn, inputs, hidden, act=nn.ReLU6()) if expansion > 1 else []
            path += [*unit(nn, hidden, hidden, 3, stride, hidden, act=nn.ReLU6()), *unit(nn, hidden, outputs)]
            layers += [joint(nn, sum, path, [])] if stride == 1 and inputs == outputs else path
            inputs = outputs
    layers += unit(nn, 320, 1280, act=nn.ReLU6())
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1000)]


def twin(torch, name):
    def cat(outputs):
        return torch.cat(outputs, 1)

    nn = torch.nn
    made = {
        "resnet18": lambda: resnet(nn, (2, 2, 2, 2), 1),
        "resnet34": lambda: resnet(nn, (3, 4, 6, 3), 1),
        "resnet50": lambda: resnet(nn, (3, 4, 6, 3), 4),
        "se_resnet18": lambda: resnet(nn, (2, 2, 2, 2), 1, gated=True),
        "googlenet": lambda: googlenet(nn, cat),
        "squeezenet": lambda: squeezenet(nn, cat),
        "densenet121": lambda: densenet(nn, cat),
        "mobilenet_v2": lambda: mobilenet(nn),
    }
    return nn.Sequential(*made[name]())


def variables_of(net, image_shape, module, torch):
    """The module's numbers at the places of the net's variables; both have their layers in one order."""
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
    modules = [one for one in module.modules() if isinstance(one, kinds)]
    leaves = []
    for layer, _ in geometry.leaves(net.layers, image_shape):
        if isinstance(layer, Conv | BatchNorm | Dense):
            leaves.append(layer)
        elif isinstance(layer, Gate):
            leaves += [Conv(name=f"{layer.name}/squeeze"), Conv(name=f"{layer.name}/excite")]
    tree = {"params": {}, "batch_stats": {}}
    for layer, one in zip(leaves, modules, strict=True):
        *block, name = layer.name.split("/")
        own = {part: value.detach().numpy() for part, value in one.state_dict().items()}
        if isinstance(layer, BatchNorm):
            params = {"norm": {"scale": own["weight"], "bias": own["bias"]}}
            stats = {"norm": {"mean": own["running_mean"], "var": own["running_var"]}}
        else:
            weight = own["weight"]
            params = {"kernel": weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T}
            params |= {"bias": own["bias"]} if "bias" in own else {}
            stats = {}
        for collection, found in (("params", params), ("batch_stats", stats)):
            place = tree[collection]
            for part in block:
                place = place.setdefault(part, {})
            if found:
                place[name] = found
    return jax.tree.map(jnp.asarray, tree if tree["batch_stats"] else {"params": tree["params"]})


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_counts_and_logits_are_those_of_the_twin(torch, name):
    net = nets.create(name)
    table = geometry.table(net, (224, 224, 3))
    module = twin(torch, name)
    assert (table.params, round(table.macs / 1e9, 3)) == PUBLISHED[name]
    assert table.params == sum(parameter.numel() for parameter in module.parameters())
    # Statistics of a batch, as after training: values neither vanish nor explode on their way through the layers.
    torch.manual_seed(3)
    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(one.weight, 0.5, 1.5)
            torch.nn.init.normal_(one.bias, std=0.3)
            one.momentum = None
        elif isinstance(one, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(one.weight, nonlinearity="relu")
    images = draw(1, (3, 64, 64, 3))
    with torch.no_grad():
        module.train()(torch.randn(8, 3, 64, 64))
        expected = module.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    variables = variables_of(net, (64, 64, 3), module, torch)
    found = np.asarray(jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, images))
    assert np.abs(expected).max() > 0.1 and np.ptp(expected, axis=0).max() > 0.01  # the images differ
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
