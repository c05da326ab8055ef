"""Trains three seeds on two devices and writes their variables: FILE.npz."""

import sys

import jax
import numpy as np

from cnn import data
from cnn.training import many_seeds
from tests.made import regularised_config

dataset = data.load(**regularised_config().data)
runs = many_seeds.train_seeds(regularised_config(), dataset, [0, 1, 2]).runs
np.savez(sys.argv[1], *[leaf for run in runs for leaf in jax.tree.leaves(run.variables)])
print([run.seed for run in runs], len(jax.devices()))
