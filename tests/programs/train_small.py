"""Trains a small run; ends with an error if TensorFlow was imported: WORKDIR."""

import sys

from cnn.train import train_and_evaluate
from tests.made import small_config

train_and_evaluate(small_config(), sys.argv[1])
sys.exit("tensorflow" in sys.modules)
