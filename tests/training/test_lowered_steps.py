"""The training step of every registered net is exported on this host for accelerators, at the size of its paper."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import export

from benchmarks.accelerators_programs import image_of
from cnn import geometry, nets
from cnn.layers import Conv, Dense
from cnn.training.optimizer import make_optimizer
from cnn.training.steps import init_state, make_step
from tests.made import small_config
from tests.registered import ACCELERATORS, NAMES


def operations(net, image):
    """Convolutions and matrix products of a step: a layer's output, and the gradients of its kernel and its images.

    A convolution of one pixel, or one that covers its whole image, is a matrix product; so is each of its gradients.
    """
    convolutions = products = 0
    for layer, shape in geometry.leaves(net.layers, image):
        if not isinstance(layer, Conv | Dense):
            continue
        many = 3 if convolutions + products else 2  # nobody asks for the gradient of the first layer's images
        whole = isinstance(layer, Conv) and layer.window(shape).kernel in ((1, 1), shape[:2])
        convolutions, products = (
            (convolutions, products + many) if whole or isinstance(layer, Dense) else (convolutions + many, products)
        )
    return convolutions, products


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_nets_step_is_exported_for_accelerators(name, monkeypatch):
    """Of a batch that on CPU is laid out with the images last; no array is made, also of nets of a gigabyte."""
    image, config = image_of(name, None), small_config(dtype="bfloat16" if name == "qa_net" else "float32")
    options = {"norm": True} if name.startswith("vgg") or name == "layer_pattern" else {}
    net = nets.create(name, num_classes=4, **options)
    optimizer = make_optimizer(config.train, optax.constant_schedule(0.1))
    state = jax.eval_shape(lambda: init_state(net, optimizer, image, 0))
    step = jax.jit(make_step(net, optimizer, config, (0.5,) * image[2], (0.25,) * image[2]))
    arguments = (state, jax.ShapeDtypeStruct((64, *image), jnp.uint8), jax.ShapeDtypeStruct((64,), jnp.int32))
    for asked in ("default_backend", "devices", "local_devices"):
        monkeypatch.setattr(jax, asked, None)  # whoever asks for the host's platform fails
    exported = export.export(step, platforms=ACCELERATORS)(*arguments)
    assert exported.platforms == ACCELERATORS and "LayoutConstraint" not in exported.mlir_module()
    traced = step.trace(*arguments)
    programs = [traced.lower(lowering_platforms=(platform,)).as_text() for platform in ACCELERATORS]
    assert len(set(programs)) == 1 and "LayoutConstraint" not in programs[0]
    # Neither Winograd's algorithm nor a sum of shifted images, which are for CPUs, has these numbers of both.
    found = tuple(programs[0].count(f"stablehlo.{kind}") for kind in ("convolution", "dot_general"))
    assert found == operations(net, image)
