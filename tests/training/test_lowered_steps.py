"""The training step of every registered net is lowered on this host for accelerators."""

import jax
import jax.numpy as jnp
import optax
import pytest

from cnn import nets
from cnn.training.optimizer import make_optimizer
from cnn.training.steps import init_state, make_step
from tests.made import small_config
from tests.registered import ACCELERATORS, WINDOWS


@pytest.mark.parametrize("name", nets.names())
def test_every_nets_step_is_lowered_for_accelerators(name, monkeypatch):
    """Of a batch that on CPU is laid out with the images last, at the smallest window; no array is made."""
    window, config = WINDOWS[name], small_config(dtype="bfloat16" if name == "qa_net" else "float32")
    options = {"norm": True} if name.startswith("vgg") or name == "layer_pattern" else {}
    net = nets.create(name, num_classes=4, **options)
    optimizer = make_optimizer(config.train, optax.constant_schedule(0.1))
    state = jax.eval_shape(lambda: init_state(net, optimizer, window, 0))
    step = jax.jit(make_step(net, optimizer, config, (0.5,) * window[2], (0.25,) * window[2]))
    images, labels = jax.ShapeDtypeStruct((64, *window), jnp.uint8), jax.ShapeDtypeStruct((64,), jnp.int32)
    for asked in ("default_backend", "devices", "local_devices"):
        monkeypatch.setattr(jax, asked, None)  # whoever asks for the host's platform fails
    traced = step.trace(state, images, labels)
    programs = [traced.lower(lowering_platforms=(platform,)).as_text() for platform in ACCELERATORS]
    assert len(set(programs)) == 1
    assert programs[0].count("stablehlo.convolution") >= 2 and "LayoutConstraint" not in programs[0]
