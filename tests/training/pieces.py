"""A step of training in its parts, and a batch for it, for tests and for programs on two devices."""

import jax
import numpy as np
import optax

from cnn.runtime.devices import Devices
from cnn.training import dispatch, steps
from cnn.training import optimizer as optimizer_lib

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 4, 40).astype(np.int32)
INDICES = np.random.default_rng(2).integers(0, 40, (5, 8)).astype(np.int32)


def make_pieces(config, net, looped, devices=None, num_examples=None):
    optimizer = optimizer_lib.make_optimizer(config.train, optax.constant_schedule(config.train.learning_rate))
    devices = devices or Devices()
    state = devices.replicate(steps.init_state(net, optimizer, (8, 8, 1), config.seed))
    step = steps.make_step(net, optimizer, config, (0.5,), (0.25,), num_examples=num_examples)
    return state, dispatch.make_run_steps(step, devices, 6, looped=looped)


def numbers(state):
    """A state with its key as the integers behind it, which NumPy can hold."""
    return state._replace(key=jax.random.key_data(state.key))
