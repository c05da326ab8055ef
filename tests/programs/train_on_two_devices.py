"""Trains five steps on two devices and writes the losses and the variables: FILE.npz."""

import sys

import jax
import numpy as np

from cnn import nets
from cnn.runtime.devices import Devices
from configs import default
from tests.training.pieces import IMAGES, INDICES, LABELS, make_pieces, numbers

config = default.get_config()
config.augment.pad = 1
devices = Devices()
assert devices.count == 2
net = nets.create("layer_pattern", 4, features=4, width=8, norm=True, dropout=0.3)
state, run = make_pieces(config, net, False, devices)
state, found = run(state, *devices.replicate((IMAGES, LABELS)), INDICES)
np.savez(sys.argv[1], *[np.asarray(leaf) for leaf in jax.tree.leaves(numbers(state))], losses=found.loss)
try:
    devices.per_device(33, "train.batch_size")
except ValueError as error:
    assert "train.batch_size (=33) must be a positive multiple of the 2 local devices" in str(error), error
else:
    raise AssertionError("33 does not divide over 2 devices")
