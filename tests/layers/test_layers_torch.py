"""The layers, and whole nets with the same weights, against PyTorch: values and gradients.

PyTorch computes in float64, so that the tolerance is that of our float32 alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import nets
from cnn.layers import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LocallyConnected,
    MaxPool,
    NMaxPool,
    PReLU,
)
from tests.made import draw, shapes_of
from tests.reference.cases import CONVOLUTIONS, LOCAL, POOLS

torch = pytest.importorskip("torch", reason="compares with PyTorch: python -m pip install -r requirements-peers.txt")
functional = torch.nn.functional

TORCH_PADDING = {"zero": "constant", "constant": "constant", "edge": "replicate", "reflect": "reflect"}


def to_torch(array):
    """[N, H, W, C] -> [N, C, H, W]; anything else as it is. Float64, ready for gradients."""
    array = np.asarray(array, np.float64)
    return torch.tensor(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array, requires_grad=True)


def from_torch(tensor):
    """[N, C, H, W] -> [N, H, W, C]."""
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def kernel_to_torch(kernel):
    """[kh, kw, C, K] -> [K, C, kh, kw]; [inputs, K] -> [K, inputs]; the rest as it is."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(kernel.ndim, range(kernel.ndim))
    return torch.tensor(np.asarray(kernel, np.float64).transpose(axes), requires_grad=True)


def kernel_from_torch(gradient):
    array = gradient.numpy()
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, range(array.ndim)))


def assert_close(actual, expected):
    """Equal up to float32 rounding: sums of up to 250 terms, each off by 6e-8 of its size, in random directions."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-6 * max(1.0, np.abs(expected).max()))


def compare(layer, params, x, peer):
    """Compares a layer with `peer(params, x)`; see `compare_functions`."""
    compare_functions(lambda params, x: layer.apply({"params": params}, x, train=False), params, x, peer)


def compare_functions(run, params, x, peer):
    """Compares two functions of (params, x): the output, and the gradients of a random weighted sum of it."""
    weights = draw(9, jax.eval_shape(run, params, x).shape)

    def output_and_gradients(params, x):
        y, transposed = jax.vjp(run, params, x)
        return y, transposed(jnp.asarray(weights))

    y, gradients = jax.jit(output_and_gradients)(params, x)
    peer_x, peer_params = to_torch(x), {name: kernel_to_torch(value) for name, value in params.items()}
    peer_y = peer(peer_params, peer_x)
    assert_close(y, from_torch(peer_y))
    (peer_y * to_torch(weights).detach()).sum().backward()
    assert_close(gradients[1], from_torch(peer_x.grad))
    for name, value in peer_params.items():
        assert_close(gradients[0][name], kernel_from_torch(value.grad))


def both_sides(padding):
    """((top, bottom), (left, right)) as `torch.nn.functional.pad` wants it."""
    (top, bottom), (left, right) = padding
    return left, right, top, bottom


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if not name.startswith("mean")])
def test_conv(name):
    size, channels, fields, spelt = CONVOLUTIONS[name]
    layer = Conv(**{"features": 6, **fields})
    x = draw(0, (2, *size, channels))
    params = {"kernel": draw(1, layer.kernel_shape(x.shape[1:])), "bias": draw(2, (layer.features,))}

    def peer(params, x):
        sides = both_sides(spelt.get("padding", ((0, 0), (0, 0))))
        filled = {"value": spelt["value"]} if "value" in spelt else {}
        padded = functional.pad(x, sides, mode=TORCH_PADDING[spelt.get("mode", "zero")], **filled)
        others = {key: spelt[key] for key in ("stride", "dilation", "groups") if key in spelt}
        return functional.conv2d(padded, params["kernel"], params["bias"], **others)

    compare(layer, params, x, peer)


@pytest.mark.parametrize("name", LOCAL)
def test_locally_connected(name):
    size, channels, fields, spelt = LOCAL[name]
    layer = LocallyConnected(4, use_bias=False, **fields)
    x = draw(0, (2, *size, channels))
    kernel = draw(1, layer.kernel_shape(x.shape[1:]))
    window = layer.window(x.shape[1:]).kernel

    def peer(params, x):
        padded = functional.pad(x, both_sides(spelt.get("padding", ((0, 0), (0, 0)))))
        others = {key: spelt[key] for key in ("stride", "dilation") if key in spelt}
        patches = functional.unfold(padded, window, **others)  # [N, C * kh * kw, H' * W'], channel by channel
        values = torch.einsum("npl,lpk->nkl", patches, params["flat"])
        return values.reshape(len(x), 4, *kernel.shape[:2])

    def run(params, x):
        return layer.apply({"params": {"kernel": params["flat"].reshape(kernel.shape)}}, x, train=False)

    compare_functions(run, {"flat": kernel.reshape(-1, *kernel.shape[2:])}, x, peer)


@pytest.mark.parametrize("name", POOLS)
def test_max_pool(name):
    size, fields, spelt = POOLS[name]
    x = draw(0, (2, *size, 3), shift=-2.0)  # no two values are equal: the gradient goes to one pixel

    def peer(_, x):
        padding = spelt.get("padding", ((0, 0), (0, 0)))
        ceil = spelt.get("rounding") == "ceil"
        if padding[0][0] == padding[0][1] and padding[1][0] == padding[1][1]:
            sides = (padding[0][0], padding[1][0])
            return functional.max_pool2d(
                x, spelt["kernel"], spelt["stride"], sides, spelt.get("dilation", 1), ceil_mode=ceil
            )
        padded = functional.pad(x, both_sides(padding), value=-torch.inf)
        return functional.max_pool2d(padded, spelt["kernel"], spelt["stride"], ceil_mode=ceil)

    compare(MaxPool(**fields), {}, x, peer)


@pytest.mark.parametrize("name", ["2x2", "overlapping", "floor", "ceil", "ceil, odd", "ceil, padded", "padded", "gaps"])
def test_average_pool(name):
    size, fields, spelt = POOLS[name]

    def peer(_, x):
        padding = spelt.get("padding", ((0, 0), (0, 0)))
        ceil = spelt.get("rounding") == "ceil"
        sides = (padding[0][0], padding[1][0])
        one = functional.avg_pool2d(x, spelt["kernel"], spelt["stride"], sides, ceil, count_include_pad=False)
        other = functional.avg_pool2d(x, spelt["kernel"], spelt["stride"], sides, ceil, count_include_pad=True)
        return torch.cat([one, other], dim=1)

    def run(_, x):
        pools = (AvgPool(**fields), AvgPool(count_padding=True, **fields))
        return jnp.concatenate([pool.apply({}, x, train=False) for pool in pools], axis=3)

    compare_functions(run, {}, draw(0, (2, *size, 3), shift=-2.0), peer)


def test_n_max_pool():
    def peer(_, x):
        windows = functional.unfold(x, (3, 2), stride=(2, 1)).reshape(2, 3, 6, -1)
        return windows.topk(4, dim=2).values.mean(dim=2).reshape(2, 3, 3, 5)

    compare(NMaxPool((3, 2), stride=(2, 1), n=4), {}, draw(0, (2, 7, 6, 3)), peer)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_lrn(size):
    # PyTorch divides alpha by the number of channels; the paper, and LRN, do not.
    def peer(_, x):
        return functional.local_response_norm(x, size, alpha=0.1 * size, beta=0.75, k=2.0)

    compare(LRN(size, alpha=0.1), {}, draw(0, (2, 3, 4, 7)) * 3, peer)


@pytest.mark.parametrize("order", ["chw", "hwc"])
def test_dense_after_flatten(order):
    x = draw(0, (2, 3, 4, 5))
    flat = np.asarray(Flatten(order).apply({}, x, train=False))
    expected = from_torch(to_torch(x)) if order == "hwc" else to_torch(x).detach().numpy()
    np.testing.assert_array_equal(flat, expected.reshape(2, -1))

    def peer(params, x):
        return functional.linear(x, params["kernel"], params["bias"])

    compare(Dense(7), {"kernel": draw(1, (60, 7)), "bias": draw(2, (7,))}, flat, peer)


ACTIVATIONS = [
    (Activation("relu"), functional.relu),
    (Activation("leaky_relu"), functional.leaky_relu),
    (Activation("leaky_relu", slope=0.3), lambda x: functional.leaky_relu(x, 0.3)),
    (Activation("relu6"), functional.relu6),
    (Activation("thresholded_relu", slope=0.5), lambda x: functional.threshold(x, 0.5, 0.0)),
    (Activation("elu"), functional.elu),
    (Activation("elu", slope=2.0), lambda x: functional.elu(x, 2.0)),
    (Activation("celu"), functional.celu),
    (Activation("celu", slope=0.5), lambda x: functional.celu(x, 0.5)),
    (Activation("selu"), functional.selu),
    (Activation("gelu"), lambda x: functional.gelu(x, approximate="tanh")),
    (Activation("gelu_tanh"), lambda x: functional.gelu(x, approximate="tanh")),
    (Activation("gelu_exact"), functional.gelu),
    (Activation("silu"), functional.silu),
    (Activation("mish"), functional.mish),
    (Activation("softplus"), functional.softplus),
    (Activation("softsign"), functional.softsign),
    (Activation("sigmoid"), torch.sigmoid),
    (Activation("hard_sigmoid"), functional.hardsigmoid),
    (Activation("hard_swish"), functional.hardswish),
    (Activation("tanh"), torch.tanh),
    (Activation("clip", low=-1, high=1), functional.hardtanh),
    (Activation("clip", low=0.5), lambda x: torch.clamp(x, min=0.5)),
]


def test_activations():
    """All in one program: each is a part of the channels."""

    def run(_, x):
        return jnp.concatenate([layer.apply({}, x, train=False) for layer, _ in ACTIVATIONS], axis=3)

    x = draw(0, (2, 3, 4, 5)) * 3
    compare_functions(run, {}, x, lambda _, x: torch.cat([peer(x) for _, peer in ACTIVATIONS], dim=1))
    # Values alone, which depend on no other: within 1e-6, as a fraction above 1.
    for layer, peer in ACTIVATIONS:
        found, expected = np.asarray(layer.apply({}, x, train=False)), from_torch(peer(to_torch(x)))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=str(layer))


@pytest.mark.parametrize("shared", [False, True])
def test_prelu(shared):
    slope = draw(1, (1 if shared else 5,))
    compare(
        PReLU(shared), {"slope": slope}, draw(0, (2, 3, 4, 5)), lambda params, x: functional.prelu(x, params["slope"])
    )


def test_batch_norm():
    x = draw(0, (3, 4, 5, 6), shift=1.0)
    scale, bias, mean, weights = draw(1, (6,)), draw(2, (6,)), draw(3, (6,)), draw(5, x.shape)
    variance = draw(4, (6,)) ** 2 + 0.5
    running = {"norm": {"mean": mean, "var": variance}}

    def run(norm, x):
        return BatchNorm().apply(
            {"params": {"norm": norm}, "batch_stats": running}, x, train=True, mutable=["batch_stats"]
        )

    norm = {"scale": scale, "bias": bias}
    y, updates = jax.jit(run)(norm, x)
    gradients = jax.jit(jax.grad(lambda norm, x: (run(norm, x)[0] * weights).sum(), argnums=(0, 1)))(norm, x)
    tensors = [to_torch(a) for a in (x, mean, variance, scale, bias)]
    peer_mean, peer_variance = tensors[1].detach().clone(), tensors[2].detach().clone()
    peer_y = functional.batch_norm(tensors[0], peer_mean, peer_variance, *tensors[3:], training=True)
    (peer_y * to_torch(weights).detach()).sum().backward()
    assert_close(y, from_torch(peer_y))
    assert_close(gradients[1], from_torch(tensors[0].grad))
    assert_close(gradients[0]["scale"], tensors[3].grad.numpy())
    assert_close(gradients[0]["bias"], tensors[4].grad.numpy())
    # PyTorch's momentum (0.1) is the weight of the new batch; its variance is the unbiased one, 60 / 59 of the batch's.
    stats = updates["batch_stats"]["norm"]
    assert_close(stats["mean"], peer_mean.numpy())
    assert_close((stats["var"] - 0.9 * variance) * 60 / 59 + 0.9 * variance, peer_variance.numpy())
    evaluated = BatchNorm().apply({"params": {"norm": norm}, "batch_stats": running}, x, train=False)
    with torch.no_grad():
        assert_close(evaluated, from_torch(functional.batch_norm(*tensors, training=False)))


def peer_net(net, params, x):
    """The same net in PyTorch, layer by layer; `params` as tensors in PyTorch's layouts."""
    for layer in net.layers:
        own = params.get(layer.name, {})
        if isinstance(layer, Conv):
            x = functional.conv2d(x, own["kernel"], own["bias"], layer.stride, layer.padding, groups=layer.groups)
        elif isinstance(layer, MaxPool):
            x = functional.max_pool2d(x, layer.kernel, layer.stride, ceil_mode=layer.rounding == "ceil")
        elif isinstance(layer, LRN):
            x = functional.local_response_norm(x, layer.size, layer.alpha * layer.size, layer.beta, layer.k)
        elif isinstance(layer, Flatten):
            assert layer.order == "chw"
            x = x.flatten(1)
        elif isinstance(layer, Dense):
            x = functional.linear(x, own["kernel"], own["bias"])
        else:
            assert isinstance(layer, Activation | Dropout)
            x = functional.relu(x) if isinstance(layer, Activation) else x
    return x


SMALL_ALEXNET = nets.net(
    [Conv(8, 11, stride=4, padding=0), Activation("relu"), LRN(), MaxPool(3, stride=2)],
    [Conv(16, 5, padding=2, groups=2), Activation("relu"), LRN(), MaxPool(3, stride=2)],
    [Conv(12, 3, padding=1, groups=2), Activation("relu"), MaxPool(2, rounding="ceil")],
    [Flatten("chw"), Dropout(0.5), Dense(20), Activation("relu"), Dropout(0.5), Dense(9)],
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nets.create("full_cnn", flatten_order="chw", dropout=0.5), (3, 28, 28, 1)),
        (nets.create("full_cnn", features=(8, 12), width=20, flatten_order="chw"), (2, 21, 18, 3)),
        (SMALL_ALEXNET, (2, 67, 67, 3)),
    ],
    ids=["full_cnn", "full_cnn, odd size", "small AlexNet"],
)
def test_whole_net(net, shape):
    x, labels = draw(0, shape), np.arange(shape[0])
    shapes = shapes_of(net, x.shape)["params"]
    # Scaled as He et al. do, so that the values keep their size from layer to layer.
    params = jax.tree.map(lambda a: draw(1, a.shape) * np.float32(np.sqrt(2 / max(1, np.prod(a.shape[:-1])))), shapes)

    def loss(params):
        logits = net.apply({"params": params}, x, train=False)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean(), logits

    (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    peer_params = jax.tree.map(kernel_to_torch, params)
    peer_logits = peer_net(net, peer_params, to_torch(x))
    peer_loss = functional.cross_entropy(peer_logits, torch.tensor(labels))
    peer_loss.backward()
    assert_close(logits, peer_logits.detach().numpy())
    assert_close(value, np.asarray(peer_loss.detach()))
    for name, own in gradients.items():
        for key, gradient in own.items():
            expected = kernel_from_torch(peer_params[name][key].grad)
            # Relative to the largest entry: sums over up to 784 positions and all the layers after. A max pool whose
            # two largest values round to equal would send its gradient elsewhere; these have none.
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
